"""What was measured before: read from records alone, kept beside them, told to a step once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from history_kit import PLAN, Run, accuracy, loadgen, plan_of, step
from proctor.airflow import past
from proctor.airflow.attempts import StepRun
from proctor.plan.compile import compile
from proctor.plan.model import Input, Plan, PlanStep, Source
from proctor.records import measured as measured_module
from proctor.records.book import Identity
from proctor.records.history import LONGEST, history
from proctor.records.measured import CACHE_FILE, Found, measured
from proctor.records.store import RecordError, RunRecord
from proctor.records.summary import summarise
from proctor.runtime.attempt import HISTORY_MOUNT, Attempt
from proctor.runtime.base import Handle, RequestRefused, StartRequest
from proctor.runtime.container import settings
from proctor.runtime.fake import FakeRuntime
from proctor.runtime.process import ProcessRuntime
from proctor.site.gc import remove_run
from proctor.site.home import Home
from proctor.site.trust import wish_of
from proctor.site.verify import verify
from proctor.spec.load import parse_pipeline
from proctor_steps.contract import load_contract
from proctor_steps.history import HISTORY_FILE, History
from proctor_steps.packages import installed

OFFLINE = Identity("digits", "Offline", "bench-1", "openvino", "float32")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.create()
    return made


def only(home: Home, record: RunRecord) -> Found:
    (found,) = measured(home.records, record)
    return found


def figures(found: Found) -> dict[str, float]:
    return {each.name: each.value for each in found.measured.figures}


# --- one run -------------------------------------------------------------------------------------


def test_a_run_is_one_measurement_with_all_that_made_it(home: Home) -> None:
    found = only(home, Run(home).scored(low=0.5, high=0.58).performed().write())
    assert found.identity == OFFLINE
    assert figures(found) == {"throughput": 100, "latency_p90": 9e6, "accuracy": 0.54}
    told = found.measured
    score = next(each for each in told.figures if each.name == "accuracy")
    assert (score.samples, score.low, score.high, score.better) == (72, 0.5, 0.58, "higher")
    assert (told.of, told.valid, told.disturbed) == ("p/r/performance/1", True, ())
    assert told.output_sha256 == "a" * 64
    made = told.made_by
    assert made["image"]["digest"] == "sha256:" + "1" * 64
    assert made["packages"]["openvino"] == "2026.1"
    assert (made["packages"]["proctor"], made["packages"]["LoadGen"]) == ("0.1.0", "5.1.2")
    assert (made["host"]["kernel"], made["host"]["governor"]) == ("6.8.0", "performance")
    assert made["parameters"] == {"threads": "2", "backend": "openvino"}
    assert made["settings"]["min_duration_ms"] == "8000"
    assert made["settings"]["HINT"] == "LATENCY"
    assert made["inputs"]["dataset"] == "d" * 64
    assert made["inputs"]["scoring: dataset"] == "d" * 64
    assert "scoring: logs" not in made["inputs"]  # they are others each time


def test_what_a_system_came_to_is_not_what_it_was_set_to(home: Home) -> None:
    sut = loadgen()["sut"] | {"calibrated": {"target_qps": 99.0, "expected_latency_ms": 1.0}}
    told = only(home, Run(home).performed(sut=sut).write()).measured.made_by["settings"]
    assert not {"service_ms", "peak_rss_bytes", "calibrated", "target_qps"} & set(told)
    given = only(home, Run(home, "given").performed().write()).measured.made_by["settings"]
    assert given["target_qps"] == "100.0"  # where nothing was calibrated, it was asked for


def test_what_was_measured_before_it_is_no_cause(home: Home) -> None:
    """A tuning has other bytes each time, and LoadGen's settings follow it."""
    tuning = Input(name="tuning", mount_path="/in", sources=(Source(step="tune", output="logs"),))
    tuned = step("performance", tuning, exclusive=True, upstream=("tune",))
    plan = Plan(pipeline="t", steps=(step("tune", exclusive=True), tuned))
    inputs = {"tuning/": "7" * 64, "dataset/": "d" * 64}
    run = Run(home, plan=plan).result("performance", {"loadgen": loadgen()}, inputs=inputs)
    made = only(home, run.write()).measured.made_by
    assert made["inputs"] == {"dataset": "d" * 64}
    assert "target_qps" not in made["settings"]


@pytest.mark.parametrize(("scenario", "samples"), [("Offline", 640), ("Server", 1)])
def test_percentiles_are_of_queries_and_of_samples_where_one_query_is_all(
    home: Home, scenario: str, samples: int
) -> None:
    told = only(home, Run(home).performed(scenario=scenario).write()).measured
    assert next(f.samples for f in told.figures if f.name == "latency_p90") == samples


@pytest.mark.parametrize(
    ("told", "wanted"),
    [([], ()), (["load 3.1"], ("load 3.1",)), (None, None), ("yes", None), (True, None)],
)
def test_disturbed_is_what_the_run_says(home: Home, told: Any, wanted: Any) -> None:
    run = Run(home).performed(disturbed=told).write()
    assert only(home, run).measured.disturbed == wanted


def test_a_latency_metric_keeps_loadgens_name(home: Home) -> None:
    metric = {"name": "early_stopping_latency_ss", "value": 5e6, "unit": "ns"}
    told = only(home, Run(home).performed(scenario="SingleStream", metric=metric).write()).measured
    first = told.figures[0]
    assert (first.name, first.better, first.samples) == ("early_stopping_latency_ss", "lower", 1)


def test_one_accuracy_stands_in_each_performance_run_of_its_identity(home: Home) -> None:
    record = Run(home).scored().performed(100).performed(90, "performance-2").write()
    found = measured(home.records, record)
    assert [figures(each)["throughput"] for each in found] == [100, 90]
    assert [figures(each)["accuracy"] for each in found] == [0.54, 0.54]


def test_it_does_in_each_run_of_a_cell_too(home: Home) -> None:
    """A spec that measures again has a step of the same cell for each time."""
    cell = "matrix: {scenario: [Offline, Server]}, image: i, command: c, outputs: {logs: directory}"
    ids = ("accuracy", "score", "performance", "performance-2")
    more = {"score": "inputs: {logs: accuracy.logs}, "}
    steps = "".join(f"  - {{id: {id}, {more.get(id, '')}{cell}}}\n" for id in ids)
    plan = compile(parse_pipeline(f"pipeline: p\nsteps:\n{steps}", "p.yaml"), {})
    run = Run(home, plan=plan)
    for value, name in ((0.54, "Offline"), (0.5, "Server")):
        log = loadgen(mode="accuracy", valid=None, metric=None, latency_ns={}, scenario=name)
        run.result(f"accuracy.{name}", {"loadgen": log})
        run.result(f"score.{name}", {"accuracy": accuracy(value, scenario=name)}, host={})
        for id in ("performance", "performance-2"):
            run.performed(step=f"{id}.{name}", scenario=name)
    found = measured(home.records, run.write())
    assert [(each.identity.scenario, figures(each)["accuracy"]) for each in found] == [
        ("Offline", 0.54),
        ("Offline", 0.54),
        ("Server", 0.5),
        ("Server", 0.5),
    ]
    first, again, *_ = (each.measured.made_by for each in found)
    assert first == again


def test_an_accuracy_of_another_backend_stands_alone(home: Home) -> None:
    record = Run(home).scored().performed(sut={"backend": "torch"}).performed(
        90, "performance-2", sut={"backend": "torch"}
    ).write()  # fmt: skip
    found = measured(home.records, record)
    assert {(each.identity.backend, "accuracy" in figures(each)) for each in found} == {
        ("torch", False),
        ("openvino", True),
    }


def test_without_a_log_of_the_run_the_accuracy_goes_by_its_scenario(home: Home) -> None:
    run = Run(home).result("score", {"accuracy": accuracy()}, host={}).performed()
    assert figures(only(home, run.write()))["accuracy"] == 0.54


def test_the_newest_attempt_counts_and_what_was_left_out_since_does_not(home: Home) -> None:
    run = Run(home).performed(100).performed(70, "performance-2")
    run.result("performance", {"loadgen": loadgen(101)}, attempt=2).skipped("performance-2")
    record = run.write()
    assert only(home, record).measured.of == "p/r/performance/2"
    assert len(summarise(home.records, record)["results"]) == 1


def test_what_stands_behind_a_repeated_measurement_counts_once_it_is_repeated_too(
    home: Home,
) -> None:
    """As after *run again*: the first judge is not told of the second run of the round before."""

    def begun() -> Run:
        run = Run(home, f"r{next(numbers)}").scored().performed(100).performed(70, "performance-2")
        return run.result("performance", {"loadgen": loadgen(101)}, attempt=2)

    numbers = iter(range(9))
    found = only(home, begun().write())
    assert found.measured.of == "p/r0/performance/2"
    assert figures(found)["accuracy"] == 0.54  # nothing before it was repeated
    again = begun().result("performance-2", {"loadgen": loadgen(102)}, attempt=2).write()
    assert [each.measured.of for each in measured(home.records, again)] == [
        "p/r1/performance/2",
        "p/r1/performance-2/2",
    ]
    log = loadgen(mode="accuracy", valid=None, metric=None, latency_ns={})
    run = Run(home, "scored-again").scored().performed(100)
    run.result("accuracy", {"loadgen": log}, attempt=2)
    assert set(figures(only(home, run.write()))) == {"throughput", "latency_p90"}


def test_a_measurement_that_was_taken_over_is_named_after_its_maker(home: Home) -> None:
    run = Run(home, "second").result(
        "performance", {"loadgen": loadgen()}, reused_from="p/first/performance/1", measurement=True
    )
    found = only(home, run.write())
    assert found.taken_over
    assert found.measured.of == "p/first/performance/1"


@pytest.mark.parametrize(
    "metrics",
    [
        {"loadgen": {"scenario": "Offline", "mode": "performance", "metric": 3}},
        {"loadgen": {"scenario": "Offline", "mode": "performance", "sut": "x", "settings": []}},
        {"loadgen": {"scenario": "Offline", "mode": "performance", "latency_ns": {"p9": "x"}}},
        {"loadgen": "fast"},
        {"accuracy": {"metric": "mAP", "value": True}},
    ],
)
def test_an_image_may_write_what_it_likes(home: Home, metrics: dict[str, Any]) -> None:
    record = Run(home).result("performance", metrics).performed(step="performance-2").write()
    assert any(each.identity == OFFLINE for each in measured(home.records, record))


def test_a_package_that_is_not_there_has_no_version() -> None:
    assert list(installed("pydantic", "no-such-package")) == ["pydantic"]


# --- all runs ------------------------------------------------------------------------------------


def test_series_hold_the_history_oldest_first_and_the_asking_run_apart(home: Home) -> None:
    for number, run in enumerate(("b", "a", "c")):
        Run(home, run, hours=number).performed(100 + number).write()
    asking = Run(home, "now", hours=9).performed(50).write()
    Run(home, "other", plan_of("q"), hours=4).performed(benchmark="yolo").write()
    told = history(home.records, asking, {})
    (first,) = told.series  # of what it did not measure itself, a run is told nothing
    assert [each.of for each in first.history] == [f"p/{n}/performance/1" for n in ("b", "a", "c")]
    assert [each.of for each in first.now] == ["p/now/performance/1"]
    assert first.baseline is None
    again = history(home.records, asking, {})
    assert again.model_dump_json() == told.model_dump_json()


def test_another_system_backend_or_precision_is_another_series(home: Home) -> None:
    Run(home, "a").performed().write()
    Run(home, "b").performed(sut={"backend": "torch"}).write()
    Run(home, "c").performed(sut={"backend": "openvino", "precision": "i8"}).write()
    Run(home, "d").result("performance", {"loadgen": loadgen()}, host={"host": "bench-2"}).write()
    asking = Run(home, "now").performed().write()
    (series,) = history(home.records, asking, {}).series
    assert [each.of for each in series.history] == ["p/a/performance/1"]


def test_what_was_taken_over_counts_once(home: Home) -> None:
    Run(home, "first").performed().write()
    taken = {"reused_from": "p/first/performance/1", "measurement": True}
    Run(home, "second").result("performance", {"loadgen": loadgen()}, **taken).write()
    asking = Run(home, "now").result("performance", {"loadgen": loadgen()}, **taken).write()
    (series,) = history(home.records, asking, {}).series
    assert [each.of for each in series.now] == ["p/first/performance/1"]
    assert series.history == ()  # it is not compared with itself


def test_a_baseline_outlives_the_history(home: Home) -> None:
    base = only(home, Run(home, "base").performed(120).write())
    remove_run(home.records.run("p", "base"))
    asking = Run(home, "now").performed().write()
    other = Identity("digits", "Server", "bench-1")
    told = history(home.records, asking, {base.identity: base.measured, other: base.measured})
    (series,) = told.series
    assert (series.baseline, series.history) == (base.measured, ())


def test_only_the_newest_of_a_series_are_told(home: Home) -> None:
    for number in range(LONGEST + 5):
        Run(home, f"r{number}", hours=number).performed(number + 1).write()
    asking = Run(home, "now", hours=999).performed().write()
    (series,) = history(home.records, asking, {}).series
    assert len(series.history) == LONGEST
    assert series.history[-1].of == f"p/r{LONGEST + 4}/performance/1"


def test_the_first_since_the_baseline_are_told_however_many_follow(home: Home) -> None:
    for number in range(LONGEST + 30):
        Run(home, f"r{number}", hours=number).performed(number + 1).write()
    asking = Run(home, "now", hours=999).performed().write()
    every = history(home.records, asking, {}).series[0]
    baseline = every.history[0]  # r30, the oldest that is told without one
    identity = Identity(
        every.benchmark, every.scenario, every.system, every.backend, every.precision
    )
    (series,) = history(home.records, asking, {identity: baseline}).series
    told = [each.of.split("/")[1] for each in series.history]
    assert len(told) == LONGEST and told[-1] == f"r{LONGEST + 29}"
    assert told[:100] == [f"r{number}" for number in range(30, 130)]


def edit(record: RunRecord, old: bytes, new: bytes) -> None:
    raw = record.path.read_bytes()
    assert old in raw
    record.path.write_bytes(raw.replace(old, new, 1))


@pytest.mark.parametrize("kind", ["line", "figure", "plan"])
def test_a_damaged_record_is_left_out_and_named(home: Home, kind: str) -> None:
    Run(home, "good").performed().write()
    plan = plan_of("q")
    bad = Run(home, "bad", plan).performed().write()
    if kind == "line":
        edit(bad, b'{"format"', b'{"form')
    elif kind == "figure":  # it still reads as a record, but the chain does not hold
        edit(bad, b'"value":100', b'"value":900')
    else:
        (home.path / "plans" / f"{plan.digest}.json").unlink()
    asking = Run(home, "now").performed().write()
    told = history(home.records, asking, {})
    assert [each.of for each in told.series[0].history] == ["p/good/performance/1"]
    (why,) = told.left_out
    assert why.startswith("q/bad: ")


def test_the_asking_runs_own_record_must_be_whole(home: Home) -> None:
    asking = Run(home, "now").performed().write()
    edit(asking, b'"value":100', b'"value":900')
    with pytest.raises(RecordError, match="does not follow"):
        history(home.records, asking, {})


# --- what is kept beside a record ----------------------------------------------------------------


def test_a_record_is_read_once_until_it_changes(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Run(home).performed().write()
    first = measured(home.records, record)
    monkeypatch.setattr(measured_module, "_Reader", None)  # nobody may read it again
    assert measured(home.records, record) == first
    monkeypatch.undo()
    record.append("skipped", step="performance", data={"message": "not wanted"})
    assert measured(home.records, record) == ()


@pytest.mark.parametrize("kept", [b"", b"{}", b"not json", b'{"format":"proctor.measured/9"}'])
def test_what_is_kept_and_cannot_be_used_is_made_anew(home: Home, kept: bytes) -> None:
    record = Run(home).performed().write()
    first = measured(home.records, record)
    (record.own / CACHE_FILE).write_bytes(kept)
    assert measured(home.records, record) == first


# --- told to a step ------------------------------------------------------------------------------

JUDGE = PLAN.step("judge")


def judging(home: Home, record: RunRecord, generation: int = 3) -> StepRun:
    return StepRun(home, PLAN, JUDGE, record, FakeRuntime(home.path), generation)


def asking(home: Home) -> RunRecord:
    Run(home, "before").performed(99).write()
    run = Run(home, "now", hours=1).scored().performed()
    return run.performed(101, "performance-2").write()


def told(handle: Handle) -> tuple[Path, History]:
    made = load_contract(Path(handle.folder) / "step")
    (mount,) = (each for each in made.mounts if each.kind == "history")
    assert mount.name == "history"
    return Path(mount.path), History.model_validate_json(Path(mount.path).read_bytes())


def started(run: StepRun) -> Handle:
    taken = run.take_up_or_start()
    assert isinstance(taken, Handle)
    return taken


def identity_history(record: RunRecord, attempt: int) -> str:
    lines = [x for x in record.lines() if (x.step, x.attempt) == ("judge", attempt)]
    parts = next(x.data["identity_parts"] for x in lines if "identity_parts" in x.data)
    assert isinstance(parts, dict)
    return str(parts["history"])


def test_a_step_reads_it_and_its_digest_is_in_the_identity(home: Home) -> None:
    record = asking(home)
    path, seen = told(started(judging(home, record)))
    assert path == past.place(record, "judge", 1)
    assert path.is_relative_to(record.folder)
    (series,) = seen.series
    assert [each.of for each in series.history] == ["p/before/performance/1"]
    assert [each.of for each in series.now] == ["p/now/performance/1", "p/now/performance-2/1"]
    assert identity_history(record, 1) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_each_attempt_has_its_own(home: Home) -> None:
    record = asking(home)
    run = judging(home, record)
    first, seen = told(started(run))
    run.finish(started(run))
    Run(home, "meanwhile", hours=2).performed(98).write()
    second, now = told(started(judging(home, record, generation=4)))
    assert first != second
    assert len(seen.series[0].history) == 1
    assert len(now.series[0].history) == 2
    assert identity_history(record, 1) != identity_history(record, 2)


def test_who_takes_up_a_half_started_attempt_finds_the_same_file(home: Home) -> None:
    record = asking(home)
    path, _ = told(started(judging(home, record)))
    before = path.read_bytes()
    lines = record.path.read_bytes().splitlines(keepends=True)
    record.path.write_bytes(b"".join(lines[:-1]))  # the handle was never written down
    Run(home, "meanwhile", hours=2).performed(98).write()
    again = StepRun(home, PLAN, JUDGE, record, FakeRuntime(home.path), 3)
    again._start(1)
    assert path.read_bytes() == before


def test_the_file_of_a_start_that_was_never_recorded_is_made_anew(home: Home) -> None:
    record = asking(home)
    stale = past.place(record, "judge", 1)
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of long ago")
    _, seen = told(started(judging(home, record)))
    assert seen.series


def test_asking_what_would_run_writes_nothing(home: Home) -> None:
    record = asking(home)
    assert judging(home, record).parts()["history"]
    assert not past.place(record, "judge", 1).exists()


def test_it_is_never_taken_over(home: Home) -> None:
    assert judging(home, asking(home)).choice().why == "reuse is never"


def test_verify_finds_a_history_that_was_changed_or_removed(home: Home) -> None:
    record = asking(home)
    path, _ = told(started(judging(home, record)))

    def bad() -> list[str]:
        return [x.message for x in verify(home, record) if x.what == "history" and x.message]

    assert bad() == []
    path.write_bytes(path.read_bytes().replace(b"99", b"98"))
    assert "changed by hand" in bad()[0]
    path.unlink()
    assert "cannot be read" in bad()[0]


# --- runtimes ------------------------------------------------------------------------------------


def request(history: str, command: tuple[str, ...] = ("selfcheck", "run")) -> StartRequest:
    return StartRequest(
        pipeline="p", run="r", step="s", attempt=1, image="proctor/steps", command=command,
        history=history,
    )  # fmt: skip


def test_a_container_sees_it_read_only_at_its_own_place(home: Home, tmp_path: Path) -> None:
    file = tmp_path / HISTORY_FILE
    file.write_text("{}")
    wanted = request(str(file))
    runtime = FakeRuntime(home.path)
    attempt = Attempt.of(home.path, wanted)
    attempt.prepare(wanted, runtime.store, container=True)
    mounts = load_contract(attempt.step_dir).mounts
    assert [(m.kind, m.path) for m in mounts] == [("history", HISTORY_MOUNT)]
    bound = settings(attempt, wanted, runtime.store, "sha256:1", own=True)["mounts"]
    (mine,) = (m for m in bound if m["Target"] == HISTORY_MOUNT)
    assert (mine["Source"], mine["ReadOnly"]) == (str(file), True)


def test_a_file_that_is_gone_is_refused_before_the_start(home: Home, tmp_path: Path) -> None:
    wanted = request(str(tmp_path / "gone.json"))
    with pytest.raises(RequestRefused, match="the history: there is no file"):
        Attempt.of(home.path, wanted).prepare(wanted, FakeRuntime(home.path).store, container=False)


def test_a_process_sees_it_where_it_lies(home: Home, tmp_path: Path) -> None:
    file = tmp_path / HISTORY_FILE
    file.write_text("{}")
    runtime = ProcessRuntime(home.path)
    handle = runtime.start(request(str(file)))
    try:
        mounts = load_contract(Path(handle.folder) / "step").mounts
        assert [(m.kind, m.path) for m in mounts] == [("history", str(file))]
    finally:
        runtime.stop(handle)
        runtime.remove(handle)


# --- specs ---------------------------------------------------------------------------------------

SPEC = """\
pipeline: p
steps:
  - {id: judge, image: proctor/steps, command: drift judge, history: true, REST}
"""


def planned(rest: str = "outputs: {verdict: directory}") -> PlanStep:
    return compile(parse_pipeline(SPEC.replace("REST", rest), "p.yaml")).step("judge")


def test_a_spec_asks_for_it_and_such_a_step_always_runs() -> None:
    assert planned().history
    assert planned().reuse == "never"
    assert planned("reuse: never").reuse == "never"


def test_a_data_site_is_asked_before_it_hands_it_out() -> None:
    assert "measured" in wish_of(step("judge", history=True))
    assert wish_of(step("judge")) == ""
