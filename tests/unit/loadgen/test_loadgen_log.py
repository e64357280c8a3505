"""LoadGen's logs as data, and each rule of the round missed once.

The logs are of real short runs; what a run of ten minutes on the whole dataset would have written
differently is put in, so that every rule is met, and then one thing at a time is changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proctor_steps import rounds
from proctor_steps.loadgen import log
from proctor_steps.loadgen.log import DETAIL, SUMMARY, LoadgenRun
from proctor_steps.loadgen.rules import judge
from proctor_steps.stage import DataError

from .conftest import loadgen_run, make_dataset, make_model

_PREFIX = ":::MLLOG "
_FULL: dict[str, Any] = {
    "qsl_reported_total_count": 1525,
    "effective_performance_sample_count": 64,
    "effective_min_duration_ms": 600000,
    "power_begin": "12-31-2026 23:55:00.000",
    "power_end": "01-01-2027 00:05:00.001",
    "result_validity": "VALID",
    "result_min_duration_met": True,
    "result_min_queries_met": True,
    "early_stopping_met": True,
    "result_perf_constraints_met": True,
}
_MORE: dict[str, dict[str, Any]] = {
    "SingleStream": {"result_query_count": 20000},
    "MultiStream": {"result_query_count": 662},
    "Server": {"result_query_count": 20000, "result_99.00_percentile_latency_ns": 14e6},
    "Offline": {"effective_samples_per_query": 1525, "result_query_count": 1},
}


def entry(key: str, value: Any, *, error: bool = False) -> str:
    """A line of the detail log."""
    metadata = {"is_error": error, "is_warning": False}
    return _PREFIX + json.dumps({"key": key, "value": value, "metadata": metadata}) + "\n"


def with_values(text: str, values: dict[str, Any]) -> str:
    """The log with other values; a key that is not there is added at the end."""
    lines = text.splitlines(keepends=True)
    left = dict(values)
    for number, line in enumerate(lines):
        key = json.loads(line.removeprefix(_PREFIX))["key"]
        if key in left:
            lines[number] = entry(key, left.pop(key))
    return "".join(lines) + "".join(entry(k, v) for k, v in left.items())


@pytest.fixture(scope="session")
def short_runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a real short performance run of yolo in a scenario."""
    root = tmp_path_factory.mktemp("short-runs")
    data = make_dataset(root / "data", images=9, white=None)
    model = make_model(root / "model", classes=80)
    made: dict[str, Path] = {}

    def run(scenario: str) -> Path:
        if scenario not in made:
            ran = loadgen_run(
                root / scenario, data, model, benchmark="yolo", scenario=scenario,
                mode="performance", performance_seconds=0.2, target_qps=200, min_query_count=64,
            )  # fmt: skip
            assert ran.result.status == "ok", ran.result.message
            made[scenario] = ran.logs
        return made[scenario]

    return run


@pytest.fixture
def full(short_runs: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """Logs as of a full run, with some values changed and lines appended."""

    def make(scenario: str, changed: dict[str, Any] | None = None, appended: str = "") -> Path:
        source = short_runs(scenario)
        values = _FULL | _MORE[scenario] | (changed or {})
        text = with_values((source / DETAIL).read_text(), values) + appended
        (tmp_path / DETAIL).write_text(text)
        (tmp_path / SUMMARY).write_text((source / SUMMARY).read_text())
        return tmp_path

    return make


def missed(folder: Path, name: str = "yolo") -> set[str]:
    run = judge(folder, rounds.load("v6.1"), name, {})
    assert run.official is (not [r for r in run.rules if not r.met])
    return {rule.rule for rule in run.rules if not rule.met}


@pytest.mark.parametrize("scenario", ["SingleStream", "MultiStream", "Offline"])
def test_a_run_that_meets_every_rule_is_official(scenario: str, full: Callable[..., Path]) -> None:
    run = judge(full(scenario), rounds.load("v6.1"), "yolo", {"backend": "x"})
    assert [rule.rule for rule in run.rules if not rule.met] == []
    assert run.official is True
    assert run.valid is True
    assert run.scenario_in_round is True
    assert run.duration_s == pytest.approx(600.001)
    assert run.sut == {"backend": "x"}


@pytest.mark.parametrize(
    ("scenario", "changed", "rule"),
    [
        ("SingleStream", {"result_validity": "INVALID"}, "result_validity"),
        # Ten minutes were configured, but the run did not last them.
        ("SingleStream", {"power_end": "01-01-2027 00:04:59.999"}, "min_duration"),
        ("SingleStream", {"effective_min_duration_ms": 599999}, "min_duration"),
        ("SingleStream", {"result_min_duration_met": False}, "min_duration"),
        ("SingleStream", {"result_query_count": 99}, "min_queries"),
        ("MultiStream", {"result_query_count": 661}, "min_queries"),
        ("MultiStream", {"result_min_queries_met": False}, "min_queries"),
        ("Offline", {"effective_samples_per_query": 1524}, "min_queries"),
        ("MultiStream", {"effective_samples_per_query": 4}, "samples_per_query"),
        ("SingleStream", {"early_stopping_met": False}, "early_stopping"),
        ("MultiStream", {"early_stopping_met": False}, "early_stopping"),
        ("Offline", {"effective_performance_sample_count": 63}, "performance_sample_count"),
        ("Offline", {"qsl_reported_total_count": 1524}, "dataset_size"),
        ("Offline", {"effective_qsl_rng_seed": 1}, "seed_qsl"),
        ("Offline", {"effective_sample_index_rng_seed": 1}, "seed_sample_index"),
        ("Offline", {"effective_schedule_rng_seed": 1}, "seed_schedule"),
        ("Offline", {"loadgen_version": "5.1.3 @ abc"}, "loadgen_version"),
        ("Offline", {"num_errors": 2}, "loadgen_errors"),
        ("SingleStream", {"effective_target_latency_percentile": 0.5}, "percentile"),
        ("SingleStream", {"effective_performance_issue_same": True}, "no_audit_settings"),
        ("SingleStream", {"effective_accuracy_log_probability": 0.1}, "no_audit_settings"),
        ("SingleStream", {"effective_max_query_count": 500}, "max_query_count"),
    ],
)
def test_each_rule_missed(
    scenario: str, changed: dict[str, Any], rule: str, full: Callable[..., Path]
) -> None:
    assert missed(full(scenario, changed)) == {rule}


def test_an_error_line_is_a_rule_missed_although_the_run_is_valid(
    full: Callable[..., Path],
) -> None:
    folder = full("Offline", appended=entry("error_runtime", "Sample twice.", error=True))
    run = judge(folder, rounds.load("v6.1"), "yolo", {})
    assert run.valid is True
    assert run.official is False
    assert run.errors == ("error_runtime: Sample twice.",)
    assert missed(folder) == {"loadgen_errors"}


def test_a_benchmark_that_the_round_does_not_have(full: Callable[..., Path]) -> None:
    folder = full("SingleStream")
    assert missed(folder, "digits") == {"benchmark_in_round"}
    run = judge(folder, rounds.load("v6.1"), "digits", {})
    assert run.scenario_in_round is False
    # Measured against the rules that are the scenario's own.
    assert {"min_duration", "min_queries", "early_stopping"} <= {r.rule for r in run.rules}
    assert "dataset_size" not in {r.rule for r in run.rules}


@pytest.mark.parametrize(("mode", "size"), [("AccuracyOnly", 4395), ("PerformanceOnly", 6396)])
def test_a_dataset_of_its_own_for_the_accuracy(
    mode: str, size: int, full: Callable[..., Path]
) -> None:
    for found in (4395, 6396):
        values = {"effective_test_mode": mode, "qsl_reported_total_count": found}
        folder = full("Offline", values)
        (folder / "mlperf_log_accuracy.json").write_text("[\n]\n")
        run = judge(folder, rounds.load("v6.1"), "gpt-oss-120b", {})
        (rule,) = (rule for rule in run.rules if rule.rule == "dataset_size")
        assert rule.met is (found == size)


def test_what_a_round_does_not_publish_is_not_judged(full: Callable[..., Path]) -> None:
    """v4.0 is known as far as its page goes: no seeds, no durations, no LoadGen."""
    run = judge(full("SingleStream"), rounds.load("v4.0"), "resnet", {})
    unknown = {rule.rule for rule in run.rules if rule.met is None}
    assert unknown == {
        "loadgen_version", "seed_qsl", "seed_sample_index", "seed_schedule", "min_duration",
        "min_queries", "samples_per_query", "percentile",
    }  # fmt: skip
    seed = next(rule for rule in run.rules if rule.rule == "seed_qsl")
    assert seed.message.endswith("which is not known: the page does not publish it")
    assert run.official is False
    assert missed_of(run) == {"dataset_size", "performance_sample_count", "scenario_in_round"}
    offline = judge(full("Offline"), rounds.load("v4.0"), "resnet", {})
    assert "min_queries" in {rule.rule for rule in offline.rules if rule.met is None}


def missed_of(run: LoadgenRun) -> set[str]:
    return {rule.rule for rule in run.rules if rule.met is False}


def test_server_is_labelled_as_not_of_the_round(full: Callable[..., Path]) -> None:
    folder = full("Server")
    assert missed(folder) == {"scenario_in_round"}


@pytest.mark.parametrize(
    "changed",
    [
        {"result_99.00_percentile_latency_ns": 100_000_001},
        {"result_perf_constraints_met": False},
        {"result_99.00_percentile_latency_ns": 16_000_000, "limit": 15.0},
        {"effective_target_latency_ns": 15_000_001, "limit": 15.0},
    ],
)
def test_the_latency_bound_of_server(changed: dict[str, Any], full: Callable[..., Path]) -> None:
    """The round has no bound for yolo; one is put in to see that it counts."""
    limit = changed.pop("limit", None)
    round_ = rounds.load("v6.1")
    if limit:
        data = round_.model_dump(mode="json")
        figure = {"stated": {"policy": limit}, "in_force": "policy"}
        data["benchmarks"]["yolo"]["latency"] = {"Server": {"latency_ms": figure}}
        edge = {"stated": {"policy": ["Server"]}, "in_force": "policy"}
        data["benchmarks"]["yolo"]["scenarios"]["edge"] = edge
        round_ = rounds.Round.model_validate(data)
        good = judge(
            full("Server", {"effective_target_latency_ns": 15_000_000}), round_, "yolo", {}
        )
        assert good.official is True
        changed = {"effective_target_latency_ns": 15_000_000} | changed
    run = judge(full("Server", changed), round_, "yolo", {})
    assert {r.rule for r in run.rules if not r.met} - {"scenario_in_round"} == {"latency_bound"}


def test_an_accuracy_run_must_log_every_sample(dataset: Path, model: Path, tmp_path: Path) -> None:
    ran = loadgen_run(tmp_path, dataset, model, scenario="Offline", mode="accuracy")
    path = ran.logs / "mlperf_log_accuracy.json"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:1] + lines[2:]))
    assert missed(ran.logs, "digits") == {"benchmark_in_round", "accuracy_samples"}


@pytest.mark.parametrize("scenario", ["SingleStream", "MultiStream", "Offline"])
def test_the_figures_are_loadgens(scenario: str, short_runs: Callable[[str], Path]) -> None:
    folder = short_runs(scenario)
    run = judge(folder, rounds.load("v6.1"), "yolo", {})
    summary = (folder / SUMMARY).read_text()
    assert f"Mean latency (ns)               : {run.latency_ns['mean']:.0f}" in summary
    assert f"99.00 percentile latency (ns)   : {run.latency_ns['p99']:.0f}" in summary
    assert set(run.latency_ns) == {
        "mean", "min", "max", "p50", "p90", "p95", "p97", "p99", "p999",
    }  # fmt: skip
    assert run.settings["effective"]["qsl_rng_seed"] == 2085463073848966840
    assert run.percentile is not None
    assert run.percentile.name == {"MultiStream": "p99"}.get(scenario, "p90")


@pytest.mark.parametrize("name", [SUMMARY, DETAIL])
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_logs_that_are_not_there(name: str, how: str, full: Callable[..., Path]) -> None:
    folder = full("Offline")
    if how == "absent":
        (folder / name).unlink()
    else:
        (folder / name).write_text("")
    with pytest.raises(DataError, match=f"{name} is missing or empty"):
        log.read(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[:-40], r"detail\.txt:\d+: malformed .* cut off"),
        (lambda t: t[: t.index(':::MLLOG {"key": "result_validity')], "does not tell result_val"),
        (lambda t: "hello\n" + t, r"detail\.txt:1: no line of a LoadGen log"),
        (lambda t: ":::MLLOG []\n" + t, r"detail\.txt:1: malformed"),
        (lambda t: ':::MLLOG {"key": 1, "value": 1, "metadata": {}}\n' + t, "wrong type"),
        (lambda t: t.replace("power_end", "power_gone"), "does not tell power_end"),
        (lambda t: t.replace("PerformanceOnly", "FindPeak"), "mode FindPeak is not known"),
        (lambda t: t.replace('"Offline"', '"Online"'), "scenario 'Online' is not known"),
        (lambda t: "\x00\xff\n" + t, r"detail\.txt:1: no line"),
    ],
)
def test_damaged_logs_name_the_line(
    change: Callable[[str], str], message: str, full: Callable[..., Path]
) -> None:
    folder = full("Offline")
    path = folder / DETAIL
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message):
        judge(folder, rounds.load("v6.1"), "yolo", {})
