"""Images that are not Proctor's: their exit code is their word, their entrypoint stays."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from foreign_kit import NAME, failure_of, shell
from proctor.airflow.attempts import StepRun
from proctor.airflow.evidence import StepRefused
from proctor.plan.model import Plan, PlannedOutput, PlanStep
from proctor.runtime.artifacts import LocalArtifacts
from proctor.runtime.base import Handle, OutputTarget, RequestRefused
from proctor.runtime.docker import DockerRuntime
from proctor.runtime.selfcheck import Bench
from proctor.site.home import Home
from proctor_steps.contract import tree_digest

pytestmark = pytest.mark.docker
OUT = (OutputTarget(name="made", mount_path="/made"),)


def test_exit_code_0_is_success_and_what_it_made_is_looked_at_here(bench: Bench) -> None:
    script = "mkdir /made/sub && echo A > /made/a.txt && echo B > /made/sub/b.txt; id -u"
    handle = shell(bench, "good", script, outputs=OUT)
    outcome = bench.finish(handle)
    assert outcome.failure is None
    assert outcome.result is not None
    (output,) = outcome.result.outputs
    store = LocalArtifacts(bench.home)
    uri = outcome.outputs["made"]
    assert store.files(uri) == ["a.txt", "sub/b.txt"]
    assert (output.sha256, output.bytes) == tree_digest(store.path(uri)) == (output.sha256, 4)
    for path in (store.path(uri), *store.path(uri).rglob("*")):
        assert not path.stat().st_mode & 0o222
    assert bench.runtime.collect(handle) == outcome


def test_its_entrypoint_stays_and_the_command_is_appended(bench: Bench) -> None:
    handle = bench.start("entry", command=("sh", "-c", "pwd; echo $0 $1", "one", "two words"))
    assert bench.finish(handle).failure is None
    assert bench.runtime.logs(handle).lines == (
        "stand-in: sh -c pwd; echo $0 $1 one two words", "/project", "one two words",
    )  # fmt: skip


@pytest.mark.parametrize("code", [1, 3, 128, 255])
def test_any_other_exit_code_is_its_failure_with_its_last_words(bench: Bench, code: int) -> None:
    script = f"echo A > /made/a; echo no such scan; echo see the manual >&2; exit {code}"
    kind, message = failure_of(bench.finish(shell(bench, "bad", script, outputs=OUT)))
    assert kind == "step"
    assert message.startswith(f"it ended with exit code {code}; its last lines: ")
    assert "no such scan" in message
    assert "see the manual" in message
    with pytest.raises(ValueError, match="no such artifact"):
        LocalArtifacts(bench.home).path(f"artifact:selfcheck/{bench.run}/bad/1/made")


def test_a_crash_is_told_by_its_signal(bench: Bench) -> None:
    kind, message = failure_of(bench.finish(shell(bench, "crash", "echo x; kill -SEGV $$")))
    assert kind == "step"
    assert "crashed with SIGSEGV; its last line: x" in message


def test_its_deadline_counts_even_where_it_ends_with_0(bench: Bench) -> None:
    script = "trap 'exit 0' TERM; echo waiting; sleep 600 & wait"
    handle = shell(bench, "late", script, deadline_seconds=2)
    bench.wait_for_line(handle, "waiting")
    time.sleep(2)
    bench.runtime.stop(handle, grace_seconds=5)
    assert bench.runtime.poll(handle).exit_code == 0
    kind, message = failure_of(bench.runtime.collect(handle))
    assert (kind, "raise `deadline`" in message) == ("deadline", True)


def test_one_that_was_told_to_end_has_not_succeeded(bench: Bench) -> None:
    script = "trap 'exit 0' TERM; echo waiting; sleep 600 & wait"
    handle = shell(bench, "stopped", script)
    bench.wait_for_line(handle, "waiting")
    bench.runtime.stop(handle, grace_seconds=5)
    assert failure_of(bench.runtime.collect(handle))[0] == "cancelled"


def test_too_little_memory_is_told_even_where_it_goes_on(bench: Bench) -> None:
    eat = "python3 -c 'x = bytearray(256 * 2**20)'"
    small = {"memory": 64 * 2**20}
    kind, message = failure_of(bench.finish(shell(bench, "hungry", eat, resources=small)))
    assert (kind, "resources.memory" in message) == ("out_of_memory", True)
    handle = shell(bench, "hungry-child", f"{eat}; exit 0", resources=small)
    assert failure_of(bench.finish(handle))[0] == "out_of_memory"


def test_a_link_in_an_output_is_refused(bench: Bench) -> None:
    handle = shell(bench, "link", "ln -s /etc/passwd /made/x", outputs=OUT)
    kind, message = failure_of(bench.finish(handle))
    assert kind == "step"
    assert "output 'made': x is a symbolic link" in message


RESULT = '{"format": "proctor.result/1", "status": "%s", "message": "%s", "outputs": []}'


@pytest.mark.parametrize(
    ("text", "code", "kind", "words"),
    [
        (RESULT % ("data_error", "scan 3 is empty"), 0, "data", "scan 3 is empty"),
        (RESULT % ("ok", ""), 0, "step", "output 'made' is not in its result"),
        (RESULT % ("ok", ""), 4, "step", "its result says ok, but it ended with exit code 4"),
        ("{}", 0, "step", "its result.json is unusable"),
    ],
)
def test_one_that_writes_a_result_is_held_to_it(
    bench: Bench, text: str, code: int, kind: str, words: str
) -> None:
    script = f"cat > $PROCTOR_STEP_DIR/result.json <<'END'\n{text}\nEND\nexit {code}"
    found = failure_of(bench.finish(shell(bench, "told", script, outputs=OUT)))
    assert found[0] == kind
    assert words in found[1]


# --- which image that is -------------------------------------------------------------------------


def test_a_local_image_is_found_by_its_digest(bench: Bench, foreign: str) -> None:
    runtime = bench.runtime
    for name in (NAME, "prep", "no/such:name"):
        assert runtime.identity("theirs/prep:1", f"{name}@{foreign}") == foreign
    handle = bench.start(
        "mapped", image="theirs/prep:1", local_image=f"{NAME}@{foreign}", command=("true",)
    )
    assert bench.finish(handle).failure is None
    assert (handle.image, handle.local_image) == ("theirs/prep:1", f"{NAME}@{foreign}")
    assert handle.image_digest == foreign


def test_another_digest_or_none_is_refused_with_the_remedy(bench: Bench, foreign: str) -> None:
    wrong = "sha256:" + "0" * 64
    with pytest.raises(RequestRefused) as mismatch:
        bench.runtime.identity("theirs/prep:1", f"{NAME}@{wrong}")
    assert str(mismatch.value) == (
        f"image 'theirs/prep:1': the site's profile runs {NAME}@{wrong} for it, but {NAME} is "
        f"{foreign} here, and no other image has this digest; build, pull or load the image, or "
        "correct `images:` in site.yaml"
    )
    with pytest.raises(RequestRefused, match="no image with this digest is here"):
        bench.runtime.identity("theirs/prep:1", f"no/such:name@{wrong}")


def test_a_run_names_both_images(foreign: str, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    out = PlannedOutput(name="made", mount_path="/made")
    step = PlanStep(
        id="s", step="s", image="theirs/prep:1", command=("touch", "/made/x"), outputs=(out,)
    )
    plan = Plan(pipeline="p", steps=(step,))
    home.records.save_plan(plan)
    record = home.records.run("p", "r")
    record.append("header", plan_digest=plan.digest, data={"params": {}})
    run = StepRun(home, plan, step, record, DockerRuntime(home.path))
    with pytest.raises(StepRefused, match="'theirs/prep:1' is not here; pull or build it"):
        run.take_up_or_start()
    (home.path / "site.yaml").write_text(f"images:\n  theirs/prep:1: {NAME}@{foreign}\n")
    handle = run.take_up_or_start()
    assert isinstance(handle, Handle)
    while run.runtime.poll(handle).phase == "running":
        time.sleep(0.05)
    assert run.finish(handle).failure is None
    line = record.last("result", "s")
    assert line is not None
    assert line.data["image"] == "theirs/prep:1"
    assert line.data["local_image"] == f"{NAME}@{foreign}"
    assert line.data["image_digest"] == foreign
    assert line.data["outputs"]["made"]["media_type"] == "inode/directory"
