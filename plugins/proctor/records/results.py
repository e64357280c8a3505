"""What all runs of a home measured and scored, as rows; kept in memory, read anew where it changed.

A run's ``summary.json`` is read where it is not older than the record: a record that was written to
since is the truth, and is summed up instead. So a damaged record shows as such, and a thousand runs
cost a look at a thousand files' times.
"""

from __future__ import annotations

import functools
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proctor.records.judged import Answer, Limits, answers, limits
from proctor.records.rows import Row, rows, text
from proctor.records.store import RecordError, RecordStore, RunRecord
from proctor.records.summary import SUMMARY_FILE, SUMMARY_FORMAT, summarise

DAMAGED = "damaged"
# What reading a file that was edited, or came from elsewhere, may raise.
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


@dataclass(frozen=True)
class RunResults:
    """A run with its rows. ``problem``: why its record cannot be read; then there are no rows.

    ``begun``: the steps that it has come to. ``answers``: those that count, in the order in which
    they were given. ``limits``: as its drift steps judged its figures.
    """

    pipeline: str
    run: str
    state: str
    began: str = ""
    runtime: str = ""
    plan_digest: str = ""
    begun: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    answers: tuple[Answer, ...] = ()
    limits: tuple[Limits, ...] = ()
    problem: str = ""

    @property
    def name(self) -> str:
        """``pipeline/run``, for people."""
        return f"{self.pipeline}/{self.run}"


_Stamp = tuple[int, int, int, int]


class Results:
    """The results of a home. Every call looks at the files' times, and reads what changed."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._known: dict[tuple[str, str], tuple[_Stamp, RunResults]] = {}
        self._lock = threading.Lock()

    def pipelines(self) -> list[str]:
        """The pipelines that have runs here."""
        return sorted(each.name for each in _folders(self._home / "runs"))

    def of(self, pipelines: list[str]) -> list[RunResults]:
        """All runs of these pipelines that measured or scored something, and damaged ones.

        Newest first.
        """
        with self._lock:
            found = [each for name in pipelines for each in self._of(name)]
        shown = [each for each in found if each.rows or each.problem]
        return sorted(shown, key=lambda each: (each.began, each.name), reverse=True)

    def _of(self, pipeline: str) -> Iterator[RunResults]:
        there = set()
        for folder in _folders(self._home / "runs" / pipeline):
            key = (pipeline, folder.name)
            stamp = _stamp(folder.path)
            if stamp is None:
                continue
            there.add(key)
            known = self._known.get(key)
            if known is None or known[0] != stamp:
                record = RunRecord(Path(folder.path), pipeline, folder.name)
                known = self._known[key] = (stamp, read(RecordStore(self._home), record))
            yield known[1]
        for gone in [key for key in self._known if key[0] == pipeline and key not in there]:
            del self._known[gone]


@functools.cache
def results_of(home: Path) -> Results:
    """The results of a home; one for the process."""
    return Results(home)


def read(store: RecordStore, record: RunRecord) -> RunResults:
    """A run's results, from its summary or, where that is no use, from its record."""
    try:
        return _told(record, _written(record))
    except (OSError, *_MALFORMED):
        pass
    try:
        return _told(record, summarise(store, record))
    except (RecordError, OSError) as error:
        problem = str(error)
    except _MALFORMED as error:
        problem = f"{record.path}: not as Proctor writes it ({error!r})"
    return RunResults(record.pipeline, record.run, DAMAGED, _time_of(record), problem=problem)


def _written(record: RunRecord) -> dict[str, Any]:
    path = record.folder / SUMMARY_FILE
    if path.stat().st_mtime_ns < record.path.stat().st_mtime_ns:
        raise ValueError("the record was written to since")
    found = json.loads(path.read_bytes())
    if not isinstance(found, dict) or found.get("format") != SUMMARY_FORMAT:
        raise ValueError("no summary that this version reads")
    return found


def _told(record: RunRecord, summary: Mapping[str, Any]) -> RunResults:
    return RunResults(
        pipeline=record.pipeline,
        run=record.run,
        state=str(summary["state"]),
        began=str(summary["began"]),
        runtime=text(summary.get("runtime")),
        plan_digest=str(summary["plan_digest"]),
        begun=tuple(s["id"] for s in summary["steps"] if s["state"] not in ("pending", "skipped")),
        rows=rows(summary),
        answers=answers(summary),
        limits=limits(summary),
    )


def _folders(place: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            return [e for e in entries if e.is_dir() and not e.name.startswith(".")]
    except FileNotFoundError:
        return []


def _stamp(folder: str) -> _Stamp | None:
    """Times and sizes of record and summary; ``None`` where no run has begun."""
    try:
        record = os.stat(f"{folder}/record/lines.jsonl")  # noqa: PTH116 - thousands of them
    except OSError:
        return None
    try:
        summary = os.stat(f"{folder}/{SUMMARY_FILE}")  # noqa: PTH116
    except OSError:
        return record.st_mtime_ns, record.st_size, 0, 0
    return record.st_mtime_ns, record.st_size, summary.st_mtime_ns, summary.st_size


def _time_of(record: RunRecord) -> str:
    """When a run that cannot be read began, as far as its file tells."""
    from datetime import UTC, datetime

    try:
        at = record.path.stat().st_mtime
    except OSError:
        return ""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
