import pytest
from typer.testing import CliRunner

from proctor.cli import app
from proctor.runtime import selfcheck
from proctor.runtime.fake import FakeRuntime
from proctor.runtime.selfcheck import Bench, fake_script


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 1)])
def test_the_exit_code_says_whether_a_runtime_passed(monkeypatch, passed, code):
    asked = []

    def check(kind, say):
        asked.append(kind)
        say("ok      success")
        return passed

    monkeypatch.setattr(selfcheck, "check_runtime", check)
    result = CliRunner().invoke(app, ["runtime", "check", "process"])
    assert (result.exit_code, asked) == (code, ["process"])
    assert "ok      success" in result.output


def test_an_unknown_runtime_is_an_error_in_words():
    result = CliRunner().invoke(app, ["runtime", "check", "vm"])
    assert result.exit_code == 1 and "choose auto, docker or process" in result.output


def test_a_failed_check_is_said_and_does_not_hide_the_others(tmp_path):

    class Broken(FakeRuntime):
        def find(self, *name):
            return None

    runtime, said = Broken(tmp_path), []
    bench = Bench(runtime, tmp_path, script=fake_script(runtime))
    checks = (selfcheck.check_success, selfcheck.check_start_twice, selfcheck.check_logs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selfcheck, "CHECKS", checks)
        assert not selfcheck.run_all(bench, said.append)
    assert [line.split()[0] for line in said] == ["FAILED", "FAILED", "ok"]
    assert "find gives None" in said[0]
