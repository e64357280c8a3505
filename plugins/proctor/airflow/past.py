"""What a step with ``history: true`` is told: one ``history.json`` for each of its attempts.

It is written before the attempt is started and never again: whoever takes the attempt up after a
crash finds the file that its container reads. It lies in the record's own folder, where no step
can publish over it.
"""

from __future__ import annotations

from pathlib import Path

from proctor.plan.model import PlanStep
from proctor.records.book import Book, current
from proctor.records.history import history
from proctor.records.store import RunRecord
from proctor.site.home import Home
from proctor_steps.contract import canonical_json, write_atomically
from proctor_steps.history import HISTORY_FILE


def place(record: RunRecord, step: str, attempt: int) -> Path:
    """Where an attempt's history lies, or will."""
    return record.own / "history" / step / str(attempt) / HISTORY_FILE


def told(home: Home, record: RunRecord, step: PlanStep, attempt: int) -> bytes:
    """What an attempt is told, or would be told if it were to start now.

    Raises:
        RecordError: the run's own record, or the book of baselines, cannot be read.
    """
    path = place(record, step.id, attempt)
    if path.is_file():
        return path.read_bytes()
    known = current(Book(home.path).entries()).items()
    baselines = {identity: baseline.measured for identity, baseline in known}
    made = history(home.records, record, baselines)
    return canonical_json(made.model_dump(mode="json")) + b"\n"


def keep(home: Home, record: RunRecord, step: PlanStep, attempt: int) -> None:
    """Write down what an attempt is told, before it is started.

    A file of an attempt that was never recorded is of a start that a crash cut short: made anew.
    """
    path = place(record, step.id, attempt)
    mine = ("attempt", step.id, attempt)
    if any((line.kind, line.step, line.attempt) == mine for line in record.lines()):
        if path.is_file():
            return
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, told(home, record, step, attempt))
