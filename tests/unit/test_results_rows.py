"""Rows of a summary: which accuracy belongs to which performance run, and what is not known."""

from __future__ import annotations

from typing import Any

from proctor.records.comparison import _numbers
from proctor.records.figures import machine
from proctor.records.rows import Compliance, Row, rows
from results_kit import accuracy, loadgen


def measured(step: str, scenario: str = "Offline", benchmark: str = "yolo") -> dict[str, Any]:
    figures = loadgen(benchmark, scenario, 0, ())
    first = {key: figures.pop(key) for key in ("scenario", "mode", "valid")}
    return {"step": step, **first, "metrics": figures}


def scored(step: str, number: int = 0, scenario: str = "Offline") -> dict[str, Any]:
    return {"step": step, **accuracy("yolo", scenario, number)}


def told(results: list[dict[str, Any]], scores: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    found = rows({"results": results, "accuracy": scores})
    return [(row.step, row.score and row.score.value) for row in found]


def test_the_only_accuracy_of_a_scenario_is_its_performance_runs() -> None:
    assert told([measured("measure")], [scored("judge", 1)]) == [("measure", 0.5371)]


def test_of_a_matrix_each_cell_has_its_own() -> None:
    runs = [measured("performance.torch"), measured("performance.onnx")]
    scores = [scored("score.onnx", 2), scored("score.torch", 1)]
    expected = [("performance.onnx", 0.5381), ("performance.torch", 0.5371)]
    assert told(runs, scores) == expected


def test_an_accuracy_that_may_be_of_either_stands_alone() -> None:
    runs = [measured("first"), measured("second")]
    expected = [("first", None), ("judge", 0.5361), ("second", None)]
    assert told(runs, [scored("judge")]) == expected


def test_a_compliance_test_belongs_to_the_only_performance_run_of_its_scenario() -> None:
    test = {"test": "TEST01", "verdict": "pass", "scenario": "Offline"}
    verdicts = [{"step": "t1", **test}, {"step": "t4", **test, "test": "TEST04", "verdict": "fail"}]
    runs = [measured("performance.Offline"), measured("performance.Server", "Server")]
    offline, server = rows({"results": runs, "accuracy": [], "compliance": verdicts})
    assert [(each.test, each.verdict) for each in offline.compliance] == [
        ("TEST01", "pass"),
        ("TEST04", "fail"),
    ]
    assert server.compliance == ()
    assert str(Compliance("TEST01", "pass", False)) == "TEST01: pass, in a run that misses rules"
    runs.append(measured("performance.other"))
    found = rows({"results": runs, "accuracy": [], "compliance": verdicts})
    assert [row.step for row in found if row.compliance] == ["t1", "t4"]


def test_accuracy_runs_of_loadgen_measure_nothing() -> None:
    run = measured("accuracy.Offline") | {"mode": "accuracy", "valid": None}
    assert told([run], []) == []


def test_no_rule_and_no_figure_is_not_known_rather_than_good() -> None:
    bare = {"step": "s", "scenario": "Offline", "mode": "performance", "metrics": {}}
    (row,) = rows({"results": [bare], "accuracy": []})
    assert row == Row("s", "", "Offline")
    assert row.valid is None and row.official is None


def test_a_disturbed_run_is_one_where_a_step_says_why() -> None:
    def row(**metrics: Any) -> Row:
        run = measured("performance.Offline")
        (found,) = rows({"results": [run | {"metrics": run["metrics"] | metrics}], "accuracy": []})
        return found

    assert row().disturbed is None
    assert row(disturbed=None).disturbed is None
    assert row(disturbed="yes").disturbed is None
    assert row(disturbed=[]).disturbed == ()
    assert row(disturbed=["others took 1.00 of 2 processors"]).disturbed == (
        "others took 1.00 of 2 processors",
    )
    words = [machine(row(disturbed=each).disturbed) for each in (None, [], ["a", "b"])]
    assert words == ["not looked at", "quiet", "not quiet: a; b"]


def test_numbers_of_other_units_are_not_subtracted() -> None:
    assert _numbers("m", 5.0, 6.0, "ns", "samples/s").change == ""
    assert _numbers("m", 5.0, None, "ns", "ns").change == ""
    assert _numbers("m", 0.0, 6.0, "", "").change == "from 0"
    pair = _numbers("m", 4.0, 5.0, "tokens/s", "tokens/s")
    assert (pair.change, pair.better) == ("+25.0%", "second")
    assert _numbers("m", 4.0, 5.0, "ns", "ns").better == "first"
