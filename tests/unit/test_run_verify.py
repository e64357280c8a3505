"""``proctor runs show`` and ``verify``: what was changed behind a record is found, all of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proctor.airflow.attempts import StepRun
from proctor.airflow.evidence import evidence_digest
from proctor.cli import app
from proctor.plan.model import Gate, Plan, PlannedOutput, PlanStep, Source
from proctor.records.approvals import SigningKey, record_answer
from proctor.records.origin import spec_origin, versions
from proctor.records.store import RunRecord
from proctor.runtime.artifacts import LocalArtifacts
from proctor.runtime.base import Handle
from proctor.runtime.fake import FakeRuntime
from proctor.site.home import Home
from proctor.site.verify import Checked, verify
from proctor_steps.contract import Approval

OUT = (PlannedOutput(name="data", mount_path="/proctor/out/data"),)
FETCH = PlanStep(
    id="fetch", step="fetch", image="proctor/steps", command=("dataset", "fetch"), outputs=OUT,
    publish=("data/*",),
)  # fmt: skip
GATE = PlanStep(
    id="look", step="look", kind="approval", upstream=("fetch",),
    gate=Gate(question="Good?", evidence=(Source(step="fetch", output="data"),)),
)  # fmt: skip
PLAN = Plan(pipeline="p", steps=(FETCH, GATE))


class Done:
    """A run that fetched something and was approved, on the fake runtime."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.home.create()
        self.record: RunRecord = self.home.records.run("p", "r")
        self.home.records.save_plan(PLAN)
        key = SigningKey(self.home.path)
        data = {
            "params": {"n": 1, "m": None},
            "given": {"n": 1},
            "public_key": key.public(),
            "versions": versions(),
            "runtime": "fake",
        }
        self.record.append("header", plan_digest=PLAN.digest, data=data)
        self.run_step(3)
        self.answer(key)

    def run_step(self, generation: int) -> None:
        fake = FakeRuntime(self.home.path)
        step = StepRun(self.home, PLAN, FETCH, self.record, fake, generation)
        handle = step.take_up_or_start()
        assert isinstance(handle, Handle)
        step.finish(handle)

    def answer(self, key: SigningKey) -> None:
        approval = Approval(
            gate="look", decision="approved", by="ada", at="2026-01-01T00:00:00+00:00",
            answered_via="ui", evidence_reviewed=True, comment="fine",
            evidence_digest=evidence_digest(self.record, PLAN, GATE),
        )  # fmt: skip
        record_answer(self.record, key, approval, attempt=1, plan_digest=PLAN.digest)

    def file(self, attempt: int = 1) -> Path:
        root = LocalArtifacts(self.home.path).path(f"artifact:p/r/fetch/{attempt}/data")
        return next(p for p in sorted(root.rglob("*")) if p.is_file())

    def checked(self) -> dict[str, Checked]:
        return {f"{x.what} {x.name}": x for x in verify(self.home, self.record)}

    def bad(self) -> dict[str, str]:
        return {name: x.message for name, x in self.checked().items() if x.state == "bad"}


@pytest.fixture
def done(tmp_path: Path) -> Done:
    return Done(tmp_path)


def edit(path: Path, text: str) -> None:
    path.chmod(0o644)
    path.write_text(text)


def test_what_nobody_touched_is_good(done: Done) -> None:
    found = done.checked()
    assert {x.what for x in found.values()} == {"record", "plan", "output", "published", "approval"}
    assert {x.state for x in found.values()} == {"good"}


def test_a_changed_byte_of_an_output_is_found(done: Done) -> None:
    edit(done.file(), "something else")
    bad = done.bad()
    assert "its bytes have changed" in bad["output fetch.data, attempt 1"]
    assert f"published {done.file().name}" in bad  # the copy is not that of the output any more


def test_a_missing_output_is_bad_and_that_of_a_replaced_attempt_is_gone(done: Done) -> None:
    done.run_step(4)
    done.answer(SigningKey(done.home.path))
    old = done.file(1)
    old.parent.chmod(0o755)
    old.parent.parent.chmod(0o755)
    old.parent.parent.rename(done.home.path / "moved")
    found = done.checked()
    assert found["output fetch.data, attempt 1"].state == "gone"
    assert found["output fetch.data, attempt 2"].state == "good"
    newer = done.file(2)
    newer.parent.parent.chmod(0o755)
    newer.parent.parent.rename(done.home.path / "moved-too")
    assert "no such artifact" in done.bad()["output fetch.data, attempt 2"]


def test_a_published_file_that_was_edited_is_found(done: Done) -> None:
    edit(done.record.folder / done.file().name, "a nicer figure")
    assert list(done.bad()) == [f"published {done.file().name}"]


def test_an_edited_line_breaks_the_chain(done: Done) -> None:
    text = done.record.path.read_text()
    done.record.path.write_text(text.replace('"succeeded"', '"succeeded "'))
    assert any("does not follow the line before it" in message for message in done.bad().values())


def test_an_answer_signed_with_another_key_is_found(done: Done) -> None:
    (done.home.path / "keys" / "approvals.key").unlink()
    SigningKey(done.home.path).public()
    [(name, message)] = done.bad().items()
    assert name.startswith("approval look") and "not signed with this site's key" in message


def test_a_record_away_from_its_site_is_checked_with_the_key_in_its_header(done: Done) -> None:
    (done.home.path / "keys" / "approvals.key").unlink()
    assert done.bad() == {}
    assert not (done.home.path / "keys" / "approvals.key").exists()


def test_an_approval_of_other_evidence_is_told(done: Done) -> None:
    line = done.record.last("result", "fetch")
    assert line is not None
    outputs = {"data": {**line.data["outputs"]["data"], "sha256": "0" * 64}}  # type: ignore[index,call-overload,dict-item]
    data = {**line.data, "outputs": outputs}
    done.record.append("result", step="fetch", attempt=1, plan_digest=PLAN.digest, data=data)
    assert any("the evidence has changed since ada" in message for message in done.bad().values())


def test_a_changed_plan_and_lines_of_another_are_found(done: Done) -> None:
    done.record.append("refused", step="fetch", plan_digest="f" * 64, data={"message": "no"})
    assert "of another plan" in " ".join(done.bad().values())
    edit(done.home.path / "plans" / f"{PLAN.digest}.json", "{}")
    assert "was changed: its digest is not its name" in done.bad()[f"plan {PLAN.digest[:12]}"]


@pytest.mark.parametrize("cut", range(1, 400, 37))
def test_a_record_cut_at_any_byte_is_read_up_to_there(done: Done, cut: int) -> None:
    whole = done.record.path.read_bytes()
    done.record.path.write_bytes(whole[:-cut])
    assert not [name for name in done.bad() if name.startswith("record")]
    assert (
        CliRunner().invoke(app, ["runs", "show", "r", "--home", str(done.home.path)]).exit_code == 0
    )


def test_show_tells_parameters_attempts_outputs_and_answers(done: Done) -> None:
    said = CliRunner(env={"COLUMNS": "200"}).invoke(
        app, ["runs", "show", "r", "--home", str(done.home.path)]
    )
    assert said.exit_code == 0
    line = done.record.last("result", "fetch")
    assert line is not None
    for word in ("p/r", "succeeded", line.identity[:12], "→ data", PLAN.digest, "proctor "):
        assert word in said.output
    assert "look #1: approved, by ada" in said.output
    assert "evidence reviewed, signature good): fine" in said.output
    as_json = CliRunner().invoke(app, ["runs", "show", "--json", "--home", str(done.home.path)])
    kinds = [json.loads(text)["kind"] for text in as_json.output.splitlines()]
    assert kinds == [x.kind for x in done.record.lines()]


def test_verify_ends_with_1_and_names_what_is_wrong(done: Done) -> None:
    words = ["runs", "verify", "r", "--home", str(done.home.path)]
    assert CliRunner().invoke(app, words).exit_code == 0
    edit(done.file(), "something else")
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 1
    assert "fetch.data, attempt 1: its bytes have changed" in said.output


def test_the_home_may_be_named_before_the_command(done: Done) -> None:
    said = CliRunner().invoke(app, ["runs", "--home", str(done.home.path), "verify", "none"])
    assert said.exit_code == 2
    assert "there is no run 'none'" in said.output


def test_an_attempt_keeps_what_its_identity_is_the_digest_of(done: Done) -> None:
    line = next(x for x in done.record.lines() if x.kind == "attempt")
    parts = line.data["identity_parts"]
    assert isinstance(parts, dict)
    assert parts["command"] == ["dataset", "fetch"]


def test_the_origin_of_a_spec_names_its_commit_and_whether_it_differs(tmp_path: Path) -> None:
    spec = tmp_path / "a.yaml"
    spec.write_text("pipeline: a\n")
    assert set(spec_origin(spec)) == {"name", "sha256"}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "a.yaml"], ["commit", "-qm", "a"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    clean = spec_origin(spec)
    assert len(str(clean["git_commit"])) == 40 and clean["dirty"] is False
    spec.write_text("pipeline: b\n")
    assert spec_origin(spec)["dirty"] is True
    assert spec_origin(tmp_path / "none.yaml") == {"name": "none.yaml"}
