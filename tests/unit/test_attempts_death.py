"""A process that dies between any two writes of a step's way: the next one finishes it."""

from __future__ import annotations

from pathlib import Path

from crash_points import begun, dies_at, drive
from proctor.airflow import recorded
from proctor.airflow.attempts import StepRun
from proctor.records.store import RunRecord
from proctor.runtime.attempt import Attempt
from proctor.runtime.fake import FakeRuntime

EFFECTS = [
    (RunRecord, "append"),
    (Attempt, "prepare"),
    (FakeRuntime, "start"),
    (FakeRuntime, "collect"),
    (FakeRuntime, "remove"),
    (StepRun, "_publish"),
    (recorded, "refresh_summary"),
]


def test_wherever_the_process_dies_the_step_runs_once_and_ends_well(tmp_path: Path) -> None:
    point, died = 0, True
    while died:
        point += 1
        home, record = begun(tmp_path / str(point), "r")
        runtime = FakeRuntime(home.path)
        runtime.script({"fetch": {"outputs": {"dataset": {"a.txt": "a"}}}})
        died = dies_at(point, EFFECTS, lambda: drive(home, record, runtime))  # noqa: B023
        assert drive(home, record, runtime).failure is None, point
        assert len(runtime.starts()) == 1, point
        assert (record.folder / "a.txt").read_text() == "a", point
        assert runtime.ours() == [], point
        assert record.verify_chain() == [], point
        assert [x.attempt for x in record.lines() if x.kind == "result"] == [1], point
    assert point > 20  # one behind the last point: it was passed alive
