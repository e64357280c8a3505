"""A step in its run: taken up after a crash at every point, refused where it must be."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proctor.airflow.attempts import StepRun
from proctor.airflow.cleanup import remove_orphans, stop_running
from proctor.airflow.evidence import StepRefused, StepSkipped
from proctor.plan.model import Gate, Input, Param, Plan, PlannedOutput, PlanStep, Select, Source
from proctor.runtime.base import EngineError, Handle, Outcome
from proctor.runtime.fake import FakeRuntime
from proctor.site.client import AirflowUnavailable
from proctor.site.home import Home
from proctor.site.reaper import Reaper

OUT = (PlannedOutput(name="data", mount_path="/proctor/out/data"),)


def plan_of(*steps: PlanStep, params: tuple[Param, ...] = ()) -> Plan:
    return Plan(pipeline="p", params=params, steps=steps)


def fetch(**more: Any) -> PlanStep:
    values: dict[str, Any] = {
        "id": "fetch", "step": "fetch", "image": "proctor/steps", "outputs": OUT,
        "command": ("dataset", "fetch"),
    }  # fmt: skip
    return PlanStep(**(values | more))


class Bench:
    """A run that has begun, on the fake runtime."""

    def __init__(self, tmp_path: Path, plan: Plan, params: dict[str, Any] | None = None) -> None:
        self.home, self.plan = Home(tmp_path), plan
        self.home.create()
        self.fake = FakeRuntime(tmp_path)
        self.record = self.home.records.run("p", "r")
        self.home.records.save_plan(plan)
        self.record.append("header", plan_digest=plan.digest, data={"params": params or {}})

    def step(self, id: str = "fetch", generation: int = 3) -> StepRun:
        step = self.plan.step(id)
        return StepRun(self.home, self.plan, step, self.record, self.fake, generation)

    def started(self, id: str = "fetch", generation: int = 3) -> Handle:
        taken = self.step(id, generation).take_up_or_start()
        assert isinstance(taken, Handle)
        return taken

    def statuses(self) -> list[str]:
        return [str(x.data["status"]) for x in self.record.lines() if x.kind == "attempt"]


def test_a_finished_step_is_recorded_and_removed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch()))
    outcome = bench.step().finish(bench.started())
    assert outcome.failure is None
    assert bench.statuses() == ["running", "running", "finished"]
    line = bench.record.last("result", "fetch")
    assert line is not None
    assert line.identity
    assert line.data["state"] == "succeeded"
    assert json.loads((bench.record.folder / "summary.json").read_text())["state"] == "succeeded"


def test_a_crash_while_it_runs_is_taken_up_not_started_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch()))
    first = bench.started()
    assert bench.started() == first
    assert len(bench.fake.starts()) == 1


def test_a_crash_between_start_and_record_is_found_by_its_labels(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch()))
    first = bench.started()
    lines = bench.record.path.read_bytes().splitlines(keepends=True)
    bench.record.path.write_bytes(b"".join(lines[:-1]))  # the handle was never written down
    assert bench.started().id == first.id
    assert len(bench.fake.starts()) == 1


def test_a_crash_after_the_result_runs_nothing_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch()))
    bench.step().finish(bench.started())
    lines = bench.record.path.read_bytes().splitlines(keepends=True)
    bench.record.path.write_bytes(b"".join(lines[:-1]))  # "finished" was never written down
    taken = bench.step().take_up_or_start()
    assert isinstance(taken, Outcome)
    assert taken.failure is None
    assert len(bench.fake.starts()) == 1


def test_a_cancelled_attempt_is_replaced(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch()))
    bench.fake.script({"fetch": {"outcome": "hang"}})
    first = bench.started()
    bench.step().cancel(first)
    assert bench.fake.poll(first).phase != "running"
    second = bench.started()
    assert second.attempt == 2


class Deaf(FakeRuntime):
    """An engine that does not answer when it is to stop something, for a while."""

    deaf = True

    def stop(self, handle: Handle, grace_seconds: float = 10.0) -> None:
        if self.deaf:
            raise EngineError("no answer")
        super().stop(handle, grace_seconds)


def test_a_cancellation_that_the_engine_did_not_hear_is_tried_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch()))
    bench.fake.script({"fetch": {"outcome": "hang"}})
    first = bench.started()
    bench.fake = deaf = Deaf(tmp_path)
    with pytest.raises(EngineError):
        bench.step().end_attempt()
    assert bench.statuses()[-1] == "cancelled"
    assert deaf.poll(first).phase == "running"
    deaf.deaf = False
    assert bench.step().unended() is not None
    assert bench.step().end_attempt()
    assert deaf.ours() == []
    assert bench.statuses()[-2:] == ["cancelled", "finished"]
    assert bench.step().unended() is None
    assert bench.started().attempt == 2


def test_a_start_that_failed_does_not_count_as_running_for_ever(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch()))
    bench.fake.script({"fetch": {"outcome": "engine"}})
    with pytest.raises(EngineError):
        bench.started()
    assert bench.statuses() == ["running"]
    assert not bench.step().end_attempt()  # there was nothing to stop
    assert bench.statuses() == ["running", "cancelled", "finished"]
    assert bench.step().unended() is None
    assert json.loads((bench.record.folder / "summary.json").read_text())["state"] == "interrupted"


def test_what_a_deleted_run_left_running_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, plan_of(fetch()))
    bench.fake.script({"fetch": {"outcome": "hang"}})
    first = bench.started()
    states: dict[str, Any] = {"run": "running", "fetch": {"state": "deferred", "max_tries": 3}}
    client = SimpleNamespace(
        run_state=lambda pipeline, run: states["run"],
        task_states=lambda pipeline, run: {"fetch": states["fetch"]},
    )
    reaper = Reaper(SimpleNamespace(home=bench.home, runtime="fake", client=client))  # type: ignore[arg-type]
    monkeypatch.setattr("proctor.site.reaper.LOOK_SECONDS", 0)
    monkeypatch.setattr("proctor.site.reaper.GRACE_SECONDS", 0)
    assert [reaper.look(), reaper.look()] == [[], []]
    states["run"] = None
    assert [name for _ in range(3) for name in reaper.look()] == ["p/r/fetch"]
    assert bench.fake.poll(first).phase != "running"


def test_a_subject_that_airflow_does_not_give_up_holds_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, given_up = Bench(tmp_path, plan_of(fetch())), []

    def give_up(dag_id: str, run_id: str) -> None:
        if dag_id == "gone":
            raise AirflowUnavailable("answered 404")
        given_up.append((dag_id, run_id))

    monkeypatch.setattr(
        "proctor.site.reaper.left_alone", lambda: [("gone", "r~1"), ("here", "r~2")]
    )
    client = SimpleNamespace(give_up=give_up)
    Reaper(SimpleNamespace(home=bench.home, runtime="fake", client=client)).look()  # type: ignore[arg-type]
    assert given_up == [("here", "r~2")]


def test_a_finished_step_is_not_run_again_unless_somebody_clears_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch()))
    bench.step().finish(bench.started())
    assert isinstance(bench.step().take_up_or_start(), Outcome)
    assert bench.started(generation=4).attempt == 2


def test_clearing_a_running_step_ends_it_and_starts_another(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch()))
    bench.fake.script({"fetch": {"outcome": "hang"}})
    first = bench.started()
    second = bench.started(generation=4)
    assert second.attempt == 2
    assert bench.fake.poll(first).phase != "running"
    bench.step().cancel(first)  # the trigger of the first notices late
    assert bench.started(generation=4) == second
    assert json.loads((bench.record.folder / "summary.json").read_text())["state"] == "running"


def test_an_engine_failure_is_tried_anew(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch()))
    bench.fake.script({"fetch": {"attempts": [{"outcome": "gone"}, {"outcome": "ok"}]}})
    assert bench.step().finish(bench.started()).failure is not None
    assert bench.started().attempt == 2


def test_an_attempt_that_the_engine_lost_is_replaced(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch()))
    bench.fake.script({"fetch": {"attempts": [{"outcome": "gone"}, {"outcome": "ok"}]}})
    bench.started()
    assert bench.started().attempt == 2


def test_an_attempt_is_not_given_up_for_an_engine_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, plan_of(fetch()))
    first = bench.started()

    def silent(_: object, handle: Handle) -> None:
        raise EngineError("does not answer")

    monkeypatch.setattr(FakeRuntime, "poll", silent)
    assert bench.started() == first
    assert len(bench.fake.starts()) == 1


def test_the_day_of_the_run_is_a_parameter_and_in_the_identity(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch(params={"date": "${run.date}", "on": "on ${run.date}"})))
    day = bench.record.header().at[:10]
    parts = bench.step().parts()
    assert parts["params"] == {"date": day, "on": f"on {day}"}


def test_what_the_parameters_leave_out_is_skipped(tmp_path: Path) -> None:
    step = fetch(select=(Select(param="scenarios", value="A"),))
    with pytest.raises(StepSkipped, match="'A' is not in scenarios"):
        Bench(tmp_path, plan_of(step), {"scenarios": ["B"]}).step().check_selected()


def test_another_plan_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch()))
    bench.plan = plan_of(fetch(seed=1))
    with pytest.raises(StepRefused, match="the spec changed since this run began"):
        bench.step().check_plan()


def test_an_input_without_a_recorded_output_is_refused(tmp_path: Path) -> None:
    source = Source(step="fetch", output="data")
    reads = Input(name="dataset", mount_path="/proctor/in/dataset", sources=(source,))
    step = PlanStep(id="use", step="use", image="proctor/steps", inputs=(reads,), outputs=OUT)
    bench = Bench(tmp_path, plan_of(fetch(), step))
    with pytest.raises(StepRefused, match="no recorded output 'data'"):
        bench.step("use").take_up_or_start()


def test_file_parameters_are_bound_only_below_allowed_roots(tmp_path: Path) -> None:
    inside, outside = tmp_path / "data" / "a.zip", tmp_path / "secret" / "b.zip"
    for path in (inside, outside):
        path.parent.mkdir()
        path.write_text("x")
    param = Param(name="uri", type="uri")
    step = fetch(params={"source": "${params.uri}"})

    def bench(name: str, uri: str) -> Bench:
        made = Bench(tmp_path / name, plan_of(step, params=(param,)), {"uri": uri})
        made.home.allow_for_run(made.record, [inside.parent])
        return made

    bench("good", f"file://{inside}").started()
    with pytest.raises(StepRefused, match="does not allow reading there"):
        bench("bad", f"file://{outside}").started()
    with pytest.raises(StepRefused, match="does not allow reading there"):
        bench("dots", f"file://{inside.parent}/../secret/b.zip").started()
    (inside.parent / "link.zip").symlink_to(outside)
    with pytest.raises(StepRefused, match="does not allow reading there"):
        bench("link", f"file://{inside.parent}/link.zip").started()
    with pytest.raises(StepRefused, match="no such file"):
        bench("gone", f"file://{inside.parent}/none.zip").started()


def test_published_files_never_land_in_the_record(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch(publish=("data/*",))))
    outputs = {"data": {"report.html": "<p>", "summary.json": "{}", "record": "x"}}
    bench.fake.script({"fetch": {"outputs": outputs}})
    bench.step().finish(bench.started())
    assert (bench.record.folder / "report.html").read_text() == "<p>"
    assert json.loads((bench.record.folder / "summary.json").read_text())["run"] == "r"
    assert bench.record.own.is_dir()


def test_the_home_and_what_holds_it_are_no_sources(tmp_path: Path) -> None:
    param = Param(name="uri", type="uri")
    step = fetch(params={"source": "${params.uri}"})
    for number, place in enumerate((tmp_path, tmp_path / str(1) / "keys")):
        home = tmp_path / str(number)
        bench = Bench(home, plan_of(step, params=(param,)), {"uri": f"file://{place}"})
        bench.home.allow_for_run(bench.record, [tmp_path])
        with pytest.raises(StepRefused, match="Proctor's own home"):
            bench.started()


@pytest.mark.parametrize("value", ["file:///etc/passwd", "FILE:///etc/passwd"])
def test_only_a_uri_parameter_may_name_a_file_of_this_machine(tmp_path: Path, value: str) -> None:
    param = Param(name="text", type="string")
    step = fetch(params={"uri": "${params.text}"})
    bench = Bench(tmp_path, plan_of(step, params=(param,)), {"text": value})
    with pytest.raises(StepRefused, match="only a parameter of type uri may"):
        bench.started()


def test_what_no_gate_has_seen_is_not_read_behind_it(tmp_path: Path) -> None:
    reads = Input(
        name="d", mount_path="/proctor/in/d", sources=(Source(step="fetch", output="data"),)
    )
    gate = PlanStep(id="ok", step="ok", kind="approval", gate=Gate(question="?"))
    use = PlanStep(
        id="use", step="use", image="proctor/steps", inputs=(reads,), outputs=OUT,
        upstream=("ok", "fetch"), required_approvals=("ok",),
    )  # fmt: skip
    bench = Bench(tmp_path, plan_of(fetch(), gate, use))
    bench.step().finish(bench.started())
    with pytest.raises(StepRefused, match="which no gate has seen"):
        bench.started("use")


def test_what_a_launcher_left_is_removed_unless_it_is_wanted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch()))
    bench.record.path.write_text(
        bench.record.path.read_text().replace('"params"', '"runtime":"fake","params"')
    )
    bench.fake.script({"fetch": {"outcome": "hang"}})
    handle = bench.started()
    assert remove_orphans(bench.home, bench.fake) == []
    assert stop_running(bench.home, "fake") == ["stopped p/r/fetch"]
    assert bench.fake.poll(handle).phase != "running"
    assert bench.fake.ours() == []


def test_what_has_ended_when_the_launcher_stops_is_collected_and_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, plan_of(fetch(), fetch(id="other", step="other")))
    bench.fake.script({"fetch": {"outputs": {"data": {"a": "one"}}}, "other": {"outcome": "hang"}})
    bench.started()
    bench.started("other")

    def full(self: FakeRuntime, handle: Handle) -> Outcome:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(FakeRuntime, "collect", full)
        said = stop_running(bench.home, "fake")
    assert said == ["p/r/fetch: [Errno 30] Read-only file system", "stopped p/r/other"]
    assert [handle.step for handle in bench.fake.ours()] == ["fetch"]  # for whoever comes next
    assert stop_running(bench.home, "fake") == ["collected p/r/fetch, which had ended"]
    assert bench.fake.ours() == []
    again = bench.step().take_up_or_start()
    assert isinstance(again, Outcome) and again.failure is None
    assert len(bench.fake.starts("fetch")) == 1


def test_a_record_that_cannot_be_read_stops_nothing_else(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch()))
    other = bench.home.records.run("p", "broken")
    other.own.mkdir(parents=True)
    other.path.write_text("nonsense\n")
    (said,) = stop_running(bench.home, "fake")
    assert "no record line" in said
