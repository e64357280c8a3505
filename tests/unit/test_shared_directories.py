"""MedPerf's shared directories: which they are, what steps get of them, what an approval holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proctor.airflow.attempts import StepRun
from proctor.airflow.evidence import (
    StepRefused,
    approvals_for,
    evidence_digest,
    shared_digests,
)
from proctor.cli import app
from proctor.plan.compile import compile
from proctor.plan.model import Plan
from proctor.records.approvals import SigningKey, record_answer
from proctor.records.store import RunRecord
from proctor.records.summary import summarise
from proctor.runtime.artifacts import LocalArtifacts
from proctor.runtime.base import Handle, InputSource, Outcome, OutputTarget, RequestRefused
from proctor.runtime.fake import FakeRuntime
from proctor.runtime.mount_points import make
from proctor.runtime.process import ProcessRuntime
from proctor.runtime.selfcheck import Bench as RuntimeBench
from proctor.site.home import Home
from proctor.site.verify import verify
from proctor.spec.load import parse_pipeline
from proctor_steps.contract import Approval, load_contract

STEP = """
  - id: {id}
    type: container
    image: proctor/steps
    command: selfcheck act {id}
    mounts:
      input_volumes: {{{inputs}}}
      output_volumes: {{{outputs}}}
    next: {next}
"""


def spec(*steps: tuple[str, str, str, str]) -> Plan:
    text = "".join(
        STEP.format(id=id, inputs=inputs, outputs=outputs, next=after)
        for id, inputs, outputs, after in steps
    )
    return compile(parse_pipeline(f"pipeline: p\nsteps:\n{text}", "p.yaml"))


def read(name: str, step: str, volume: str, place: str = "/data") -> str:
    return f"{name}: {{mount_path: {place}, from: {{step: {step}, mount: {volume}}}}}"


DATA = "output_path: {mount_path: /data, type: directory}"


def shares(plan: Plan) -> dict[str, list[str]]:
    found = {}
    for step in plan.steps:
        names = {o.name for o in step.outputs if o.shared}
        names |= {i.shared for i in step.inputs if i.shared}
        found[step.id] = sorted(names)
    return found


# --- which they are ------------------------------------------------------------------------------


def test_volumes_of_one_name_are_one_directory() -> None:
    plan = spec(
        ("a", "", DATA, "b"),
        ("b", read("x", "a", "output_path"), f"{DATA}, own: {{mount_path: /own}}", "c"),
        ("c", read("x", "b", "own"), "", "null"),
    )
    assert shares(plan) == {"a": ["output_path"], "b": ["output_path"], "c": []}
    assert [plan.step(id).reuse for id in "abc"] == ["never", "never", "across_runs"]
    assert plan.step("c").inputs[0].sources


def test_one_steps_own_volume_is_its_own() -> None:
    plan = spec(("a", "", DATA, "b"), ("b", read("x", "a", "output_path"), "", "null"))
    assert shares(plan) == {"a": [], "b": []}


def test_a_volume_that_another_step_names_without_from_is_that_directory() -> None:
    plan = spec(("a", "", DATA, "b"), ("b", "output_path: {mount_path: /data}", "", "null"))
    assert shares(plan) == {"a": ["output_path"], "b": ["output_path"]}
    (given,) = plan.step("b").inputs
    assert (given.bound, given.sources, given.shared) == ("", (), "output_path")
    assert plan.bound() == {}


def test_a_directory_in_which_something_is_mounted_has_to_be_writable() -> None:
    file = "statistics_file: {mount_path: /data/statistics.yaml, type: file}"
    plan = spec(("a", "", DATA, "b"), ("b", read("x", "a", "output_path"), file, "null"))
    assert shares(plan) == {"a": ["output_path"], "b": ["output_path"]}
    beside = "statistics_file: {mount_path: /database.yaml, type: file}"
    plan = spec(("a", "", DATA, "b"), ("b", read("x", "a", "output_path"), beside, "null"))
    assert shares(plan) == {"a": [], "b": []}


def test_files_of_one_name_are_one_file() -> None:
    file = "report: {mount_path: /report.yaml, type: file}"
    plan = spec(("a", "", file, "b"), ("b", read("x", "a", "report", "/report.yaml"), file, "null"))
    (output,), (given,) = plan.step("b").outputs, plan.step("b").inputs
    assert (output.shared, output.type, given.shared, given.type) == (
        True,
        "file",
        "report",
        "file",
    )


# --- what steps get ------------------------------------------------------------------------------

GATED = (
    ("a", "", f"{DATA}, own: {{mount_path: /own}}", "b"),
    ("b", read("x", "a", "output_path"), DATA, "look"),
)
BEHIND = "  - {id: look, type: manual_approval, next: c}\n" + STEP.format(
    id="c", inputs=read("x", "b", "output_path"), outputs=DATA, next="null"
)


class Bench:
    """A run of a, b, a gate and c, all but the gate in one directory, on the fake runtime."""

    def __init__(self, tmp_path: Path) -> None:
        text = "".join(STEP.format(id=i, inputs=n, outputs=o, next=x) for i, n, o, x in GATED)
        self.plan = compile(parse_pipeline(f"pipeline: p\nsteps:\n{text}{BEHIND}", "p.yaml"))
        self.home = Home(tmp_path / "home")
        self.home.create()
        self.fake = FakeRuntime(self.home.path)
        outputs = {i: {"outputs": {"output_path": {f"{i}.txt": i}}} for i in "abc"}
        self.fake.script(outputs)
        self.record: RunRecord = self.home.records.run("p", "r")
        self.home.records.save_plan(self.plan)
        self.record.append("header", plan_digest=self.plan.digest, data={"params": {}})
        self.shared = LocalArtifacts(self.home.path).shared("p", "r", "output_path")

    def run(self, id: str, generation: int = 3) -> Outcome:
        step = self.plan.step(id)
        run = StepRun(self.home, self.plan, step, self.record, self.fake, generation)
        handle = run.take_up_or_start()
        assert isinstance(handle, Handle)
        return run.finish(handle)

    def ask_and_approve(self) -> str:
        gate = self.plan.step("look")
        shared = shared_digests(self.home, self.record, self.plan, gate)
        shown = evidence_digest(self.record, self.plan, gate, shared)
        asked = {"evidence_digest": shown, "shared": shared}
        self.record.append("asked", step="look", attempt=1, data=asked)
        approval = Approval(
            gate="look", decision="approved", by="ada", at="2026-01-01T00:00:00+00:00",
            answered_via="ui", evidence_reviewed=True, evidence_digest=shown,
        )  # fmt: skip
        key = SigningKey(self.home.path)
        record_answer(self.record, key, approval, attempt=1, plan_digest=self.plan.digest)
        return shown

    def now(self) -> str:
        gate = self.plan.step("look")
        shared = shared_digests(self.home, self.record, self.plan, gate)
        return evidence_digest(self.record, self.plan, gate, shared)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_steps_work_in_one_directory_and_nothing_of_it_is_recorded(bench: Bench) -> None:
    bench.run("a")
    bench.run("b")
    assert sorted(p.name for p in bench.shared.iterdir()) == ["a.txt", "b.txt"]
    line = bench.record.last("result", "a")
    assert line is not None
    outputs = line.data["outputs"]
    assert isinstance(outputs, dict)
    assert list(outputs) == ["own"]
    (request,) = bench.fake.starts("b")
    assert [(i["shared"], i["mount_path"]) for i in request["inputs"]] == [("output_path", "/data")]
    assert [(o["shared"], o["mount_path"]) for o in request["outputs"]] == [(True, "/data")]
    assert not list((bench.home.path / "artifacts/p/r/b/1").iterdir())
    bench.shared.joinpath("a.txt").write_text("changed since")
    assert {each.state for each in verify(bench.home, bench.record)} == {"good"}


def test_a_step_waits_for_those_whose_directory_it_reads(bench: Bench) -> None:
    with pytest.raises(StepRefused, match="step 'a' has not succeeded in this run"):
        bench.run("b")


def test_summary_and_runs_show_say_that_an_attempt_shares(bench: Bench) -> None:
    bench.run("a")
    rows = {row["id"]: row for row in summarise(bench.home.records, bench.record)["steps"]}
    assert rows["a"]["shares"] is True
    assert "shares" not in rows["look"]
    shown = CliRunner().invoke(app, ["runs", "show", "r", "--home", str(bench.home.path)])
    assert shown.exit_code == 0
    assert "shares" in shown.stdout


def test_subjects_share_with_their_run(bench: Bench) -> None:
    store = LocalArtifacts(bench.home.path)
    assert store.shared("p", f"r~{'0a' * 8}", "output_path") == bench.shared


def test_a_process_works_in_it_too(tmp_path: Path) -> None:
    made = RuntimeBench(ProcessRuntime(tmp_path / "home"), tmp_path / "home")
    out = (
        OutputTarget(name="data", mount_path="/data", shared=True),
        OutputTarget(name="note", mount_path="/data/note", type="file", shared=True),
    )
    try:
        first = made.start("first", {"files": {"data": {"a.txt": "A"}}}, outputs=out)
        outcome = made.finish(first)
        assert outcome.failure is None
        assert (outcome.outputs, outcome.result and outcome.result.outputs) == ({}, ())
        given = (InputSource(name="x", shared="data", mount_path="/data"),)
        second = made.start("second", inputs=given)
        result = made.finish(second).result
        assert result is not None
        seen: Any = result.metrics["seen"]
        assert seen["inputs"] == {"input/x": {"a.txt": "A"}}
        mounts = load_contract(Path(first.folder) / "step").mounts
        assert all(Path(mount.path).parent.name == "shared" for mount in mounts)
        assert [Path(m.path).is_file() for m in mounts] == [False, True]
    finally:
        made.clean()


# --- what an approval is bound to ----------------------------------------------------------------


def test_an_approval_is_bound_to_what_the_directory_held_at_the_gate(bench: Bench) -> None:
    bench.run("a")
    bench.run("b")
    shown = bench.ask_and_approve()
    assert bench.now() == shown
    bench.shared.joinpath("b.txt").write_text("B")
    assert bench.now() != shown  # so an answer given now would not count


def test_steps_behind_it_may_change_the_directory(bench: Bench) -> None:
    bench.run("a")
    bench.run("b")
    bench.ask_and_approve()
    assert bench.run("c").failure is None
    assert bench.shared.joinpath("c.txt").exists()
    step = bench.plan.step("c")
    (approval,) = approvals_for(bench.home, bench.record, bench.plan, step)
    assert approval.by == "ada"
    assert {each.state for each in verify(bench.home, bench.record)} == {"good"}


def test_a_step_before_it_that_is_done_anew_voids_the_answer(bench: Bench) -> None:
    bench.run("a")
    bench.run("b")
    bench.ask_and_approve()
    bench.run("b", generation=4)  # the very same bytes
    with pytest.raises(StepRefused, match="the evidence at the gate 'look' has changed"):
        bench.run("c")


def test_a_recorded_digest_that_was_changed_voids_the_answer(bench: Bench) -> None:
    bench.run("a")
    bench.run("b")
    bench.ask_and_approve()
    asked = bench.record.last("asked", "look")
    assert asked is not None
    forged = asked.data | {"shared": {"output_path": "0" * 64}}
    bench.record.append("asked", step="look", attempt=1, data=forged)
    with pytest.raises(StepRefused, match="the evidence at the gate 'look' has changed"):
        bench.run("c")


def test_what_no_gate_has_seen_is_not_worked_on_behind_it(bench: Bench) -> None:
    step = bench.plan.step("c")
    alone = bench.plan.step("look").model_copy(update={"upstream": ()})
    steps = tuple(alone if each.id == "look" else each for each in bench.plan.steps)
    plan = Plan(pipeline="p", steps=steps)
    run = StepRun(bench.home, plan, step, bench.record, bench.fake, 3)
    with pytest.raises(StepRefused, match="which no gate has seen"):
        list(run._inputs(step.inputs))


# --- mounts inside mounts ------------------------------------------------------------------------


def _me() -> tuple[int, int]:
    return os.geteuid(), os.getegid()


def mount(target: str, source: Path, *, read_only: bool = False) -> dict[str, Any]:
    return {"Target": target, "Source": str(source), "ReadOnly": read_only}


def test_places_inside_a_shared_directory_are_made_for_its_user(tmp_path: Path) -> None:
    outer, inner, file = tmp_path / "outer", tmp_path / "inner", tmp_path / "file"
    outer.mkdir()
    inner.mkdir()
    file.touch()
    places = (
        mount("/data", outer), mount("/data/a/b", inner), mount("/data/a/c.yaml", file),
        mount("/database", inner),
    )  # fmt: skip
    for _ in range(2):
        make(places, _me())
    assert sorted(p.relative_to(outer).as_posix() for p in outer.rglob("*")) == [
        "a", "a/b", "a/c.yaml",
    ]  # fmt: skip
    assert (outer / "a/c.yaml").is_file()


@pytest.mark.parametrize("read_only", [True, False])
def test_no_link_that_a_step_left_is_followed(tmp_path: Path, read_only: bool) -> None:
    outer, elsewhere, file = tmp_path / "outer", tmp_path / "elsewhere", tmp_path / "file"
    outer.mkdir()
    elsewhere.mkdir()
    file.touch()
    (outer / "a").symlink_to(elsewhere)
    (outer / "b").symlink_to(elsewhere / "new")
    for place in ("/data/a/x.yaml", "/data/b"):
        places = (mount("/data", outer, read_only=read_only), mount(place, file))
        with pytest.raises(RequestRefused, match="something else has this name there, or a link"):
            make(places, _me())
    assert list(elsewhere.iterdir()) == []


def test_what_is_read_only_has_to_have_the_place(tmp_path: Path) -> None:
    outer, file = tmp_path / "outer", tmp_path / "file"
    outer.mkdir()
    file.touch()
    places = (mount("/data", outer, read_only=True), mount("/data/x.yaml", file))
    with pytest.raises(RequestRefused, match="no such place in it, and it is read-only; give it"):
        make(places, _me())
    (outer / "x.yaml").touch()
    make(places, _me())
    inside_a_file = (mount("/x.yaml", file), mount("/x.yaml/y", outer))
    with pytest.raises(RequestRefused, match=r"cannot be mounted inside /x\.yaml"):
        make(inside_a_file, _me())
