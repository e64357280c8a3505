"""Real LoadGen runs on a machine that is disturbed, or said to be: marked, and made again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proctor_steps.contract import Finding
from proctor_steps.loadgen import quiet
from proctor_steps.loadgen import run as stage

from .conftest import Ran, loadgen_run

RUN: dict[str, Any] = {
    "scenario": "SingleStream", "mode": "performance", "performance_seconds": 0.4,
}  # fmt: skip
BUSY = "import time\nuntil = time.monotonic() + 120\nwhile time.monotonic() < until: pass"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a quiet moment: this machine may have none."""
    monkeypatch.setattr(quiet, "QUIET", replace(quiet.QUIET, wait=0.0))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What is found of the machine, run after run."""

    def say(*found: Sequence[str]) -> None:
        given = iter(found)
        monkeypatch.setattr(quiet, "disturbed", lambda machine, probes: tuple(next(given)))

    return say


def rules(ran: Ran) -> list[str]:
    return [finding.rule for finding in ran.result.findings]


def finding(ran: Ran, rule: str) -> Finding:
    (found,) = (each for each in ran.result.findings if each.rule == rule)
    return found


def test_a_disturbed_run_is_made_again_until_it_is_quiet(
    dataset: Path, model: Path, tmp_path: Path, said: Callable[..., None]
) -> None:
    said(["others took 1.00"], ["it was hot", "it was slow"], [], ["nobody asks"])
    ran = loadgen_run(tmp_path, dataset, model, disturbed_repeats=3, **RUN)
    assert ran.result.status == "ok", ran.result.message
    assert ran.run["disturbed"] == []
    first, second = ran.run["left_out"]
    assert (first["logs"], first["disturbed"]) == ("disturbed/1", ["others took 1.00"])
    assert second["disturbed"] == ["it was hot", "it was slow"]
    assert second["metric"]["value"] > 0
    for number, reasons in (("1", first), ("2", second)):
        kept = ran.logs / "disturbed" / number
        assert (kept / "mlperf_log_detail.txt").stat().st_size
        assert (kept / "latencies.npy").stat().st_size
        run = json.loads((kept / "run.json").read_bytes())
        assert run["disturbed"] == reasons["disturbed"]
        assert run["metric"] == reasons["metric"]
    assert json.loads((ran.logs / "run.json").read_bytes()) == ran.run
    assert rules(ran).count("run_left_out") == 2
    assert "disturbed" not in rules(ran)
    logs = {(path / "mlperf_log_detail.txt").read_bytes() for path in
            (ran.logs, ran.logs / "disturbed" / "1", ran.logs / "disturbed" / "2")}  # fmt: skip
    assert len(logs) == 3


def test_the_last_run_counts_where_none_was_quiet(
    dataset: Path, model: Path, tmp_path: Path, said: Callable[..., None]
) -> None:
    said(["the first"], ["the last"], ["one too many"])
    ran = loadgen_run(tmp_path, dataset, model, disturbed_repeats=1, **RUN)
    assert ran.run["disturbed"] == ["the last"]
    assert [each["disturbed"] for each in ran.run["left_out"]] == [["the first"]]
    found = finding(ran, "disturbed")
    assert (found.severity, found.where) == ("warning", "SingleStream performance")
    assert found.message == "the machine was not quiet: the last"


def test_a_disturbed_run_is_not_made_again_unasked(
    dataset: Path, model: Path, tmp_path: Path, said: Callable[..., None]
) -> None:
    said(["the only one"], ["one too many"])
    ran = loadgen_run(tmp_path, dataset, model, watch_machine=True, **RUN)
    assert (ran.run["disturbed"], ran.run["left_out"]) == (["the only one"], [])
    assert not (ran.logs / "disturbed").exists()


def test_what_the_deadline_has_no_room_for_is_not_made_again(
    dataset: Path, model: Path, tmp_path: Path, said: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(stage, "_ROOM", 1e6)
    said(["the only one"], ["one too many"])
    ran = loadgen_run(tmp_path, dataset, model, disturbed_repeats=3, **RUN)
    assert (ran.run["disturbed"], ran.run["left_out"]) == (["the only one"], [])
    assert "give the step a longer deadline" in finding(ran, "disturbed_not_repeated").message


def test_a_compliance_tests_run_is_looked_at_too(
    dataset: Path, model: Path, tmp_path: Path, said: Callable[..., None]
) -> None:
    said(["others took 1.00"])
    ran = loadgen_run(tmp_path, dataset, model, watch_machine=True, test="TEST04", **RUN)
    run: Any = ran.result.metrics["compliance_run"]
    assert run["disturbed"] == ["others took 1.00"]


def test_what_was_seen_is_told_with_the_run(dataset: Path, model: Path, tmp_path: Path) -> None:
    ran = loadgen_run(tmp_path, dataset, model, watch_machine=True, **RUN)
    assert ran.result.status == "ok", ran.result.message
    assert isinstance(ran.run["disturbed"], list)
    machine, probe = ran.run["machine"], ran.run["probe"]
    for when in ("before", "after"):
        assert machine[when]["memory_available_bytes"] > 0
        assert probe[when]["one_core"]["seconds"] > 0
        assert probe[when]["one_core"]["repetitions"] >= 5
        assert probe[when]["all_threads"] is None  # the run has one thread
    assert machine["processors"] == len(os.sched_getaffinity(0))
    assert machine["others"] is not None, machine["why_unknown"]
    assert machine["limits"]["others"] == quiet.QUIET.others


@pytest.mark.parametrize("seconds", [0.4, 9.9])
def test_nobody_looks_at_a_short_run(seconds: float) -> None:
    given: dict[str, Any] = {"benchmark": "digits", "backend": "onnxruntime", **RUN}
    params = stage.Params(**given | {"performance_seconds": seconds})
    assert not params.watched
    assert stage.Params(**given | {"performance_seconds": 10}).watched
    assert not stage.Params(**given | {"performance_seconds": 10, "watch_machine": False}).watched
    assert params.model_copy(update={"disturbed_repeats": 1}).watched


def test_a_short_run_says_that_nobody_looked(dataset: Path, model: Path, tmp_path: Path) -> None:
    ran = loadgen_run(tmp_path, dataset, model, **RUN)
    assert [ran.run[name] for name in ("disturbed", "machine", "probe")] == [None] * 3


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"mode": "accuracy", "disturbed_repeats": 1}, "an accuracy run measures no time"),
        ({"mode": "accuracy", "watch_machine": True}, "an accuracy run measures no time"),
        ({"watch_machine": False, "disturbed_repeats": 1}, "else nobody looks"),
        ({"disturbed_repeats": 6}, "disturbed_repeats: Input should be less than or equal to 5"),
    ],
)
def test_what_makes_no_sense_is_refused(
    params: dict[str, Any], words: str, dataset: Path, model: Path, tmp_path: Path
) -> None:
    ran = loadgen_run(tmp_path, dataset, model, **RUN | params)
    assert ran.result.status == "step_error"
    assert words in ran.result.message


def test_an_accuracy_run_is_not_looked_at(dataset: Path, model: Path, tmp_path: Path) -> None:
    ran = loadgen_run(tmp_path, dataset, model, scenario="Offline", mode="accuracy")
    assert ran.run["disturbed"] is None


def test_a_busy_process_beside_a_real_run_marks_it(
    dataset: Path, model: Path, tmp_path: Path
) -> None:
    """A program that uses a core, as many as there are processors, while LoadGen measures."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in os.sched_getaffinity(0)]
    try:
        given = RUN | {"performance_seconds": 2}
        ran = loadgen_run(tmp_path, dataset, model, watch_machine=True, **given)
    finally:
        for each in busy:
            each.kill()
            each.wait()
    assert ran.result.status == "ok", ran.result.message
    assert ran.run["machine"]["others"] > quiet.QUIET.others
    assert any("during the run" in reason for reason in ran.run["disturbed"])
    assert "disturbed" in rules(ran)
