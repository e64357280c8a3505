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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proctor.records.store import RecordError, RecordStore, RunRecord
from proctor.records.summary import SUMMARY_FILE, SUMMARY_FORMAT, summarise

DAMAGED = "damaged"
# Of a text that a step wrote; any image may write what it likes.
_LONGEST = 200
# What reading a file that was edited, or came from elsewhere, may raise.
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Missed:
    """A rule of the round that a performance run does not meet."""

    rule: str
    message: str


@dataclass(frozen=True)
class Score:
    """Accuracy. ``target`` and ``met`` are ``None`` where the round sets no target."""

    metric: str
    value: float | None
    unit: str = ""
    target: float | None = None
    met: bool | None = None
    samples: int | None = None
    expected: int | None = None


@dataclass(frozen=True)
class Row:
    """One scenario of a run: its performance run, its accuracy, or both.

    ``valid``: LoadGen's own verdict; ``official``: whether every rule of the round is met; both
    ``None`` where nothing was measured. ``latency_ns``: percentile (``p99``) to nanoseconds.
    ``measured_in``: the other run that the figure was taken over from.
    """

    step: str
    benchmark: str
    scenario: str
    metric: str = ""
    value: float | None = None
    unit: str = ""
    valid: bool | None = None
    official: bool | None = None
    missed: tuple[Missed, ...] = ()
    latency_ns: Mapping[str, float] = field(default_factory=dict)
    measured_in: str = ""
    score: Score | None = None


@dataclass(frozen=True)
class RunResults:
    """A run with its rows. ``problem``: why its record cannot be read; then there are no rows.

    ``begun``: the steps that it has come to.
    """

    pipeline: str
    run: str
    state: str
    began: str = ""
    runtime: str = ""
    plan_digest: str = ""
    begun: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
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
        runtime=_text(summary.get("runtime")),
        plan_digest=str(summary["plan_digest"]),
        begun=tuple(s["id"] for s in summary["steps"] if s["state"] not in ("pending", "skipped")),
        rows=rows(summary),
    )


def rows(summary: Mapping[str, Any]) -> tuple[Row, ...]:
    """The rows of a summary: each performance run with the accuracy of its scenario."""
    runs = [each for each in summary["results"] if each.get("mode") == "performance"]
    scores = list(summary["accuracy"])
    found = []
    for run in runs:
        score = _score_of(run, runs, scores)
        if score is not None:
            scores.remove(score)
        found.append(_row(run, score))
    alone = (Row(_text(s["step"]), *_where(s), score=_score(s)) for s in scores)
    return tuple(sorted((*found, *alone), key=lambda row: (row.benchmark, row.scenario, row.step)))


def _score_of(
    run: Mapping[str, Any], runs: list[Any], scores: list[dict[str, Any]]
) -> dict[str, Any] | None:
    """The accuracy that belongs to a performance run: of the same cell of a matrix, or the only
    one of its scenario."""
    key = (_text(run["metrics"].get("benchmark")), _text(run["scenario"]))
    mine = [s for s in scores if _where(s) == key]
    cell = _cell(run)
    of_cell = [s for s in mine if cell and _cell(s) == cell]
    if len(of_cell) == 1:
        return of_cell[0]
    rivals = [r for r in runs if (_text(r["metrics"].get("benchmark")), r["scenario"]) == key]
    return mine[0] if len(mine) == 1 and len(rivals) == 1 else None


def _cell(each: Mapping[str, Any]) -> str:
    return str(each["step"]).partition(".")[2]


def _where(score: Mapping[str, Any]) -> tuple[str, str]:
    return _text(score.get("benchmark")), _text(score.get("scenario"))


def _row(run: Mapping[str, Any], score: Mapping[str, Any] | None) -> Row:
    told = run["metrics"]
    metric = told.get("metric")
    metric = metric if isinstance(metric, dict) else {}
    latency = told.get("latency_ns")
    percentiles = latency.items() if isinstance(latency, dict) else ()
    rules = told.get("rules")
    return Row(
        step=_text(run["step"]),
        benchmark=_text(told.get("benchmark")),
        scenario=_text(run["scenario"]),
        metric=_text(metric.get("name")),
        value=_number(metric.get("value")),
        unit=_text(metric.get("unit")),
        valid=_verdict(run.get("valid")),
        official=_verdict(told.get("official")),
        missed=tuple(_missed(rules if isinstance(rules, list) else [])),
        latency_ns={_text(k): n for k, v in percentiles if (n := _number(v)) is not None},
        measured_in=_text(run.get("measured_in")),
        score=_score(score) if score else None,
    )


def _missed(rules: list[Any]) -> Iterator[Missed]:
    for rule in rules:
        if isinstance(rule, dict) and rule.get("met") is False:
            yield Missed(_text(rule.get("rule")), _text(rule.get("message")))


def _score(score: Mapping[str, Any]) -> Score:
    samples, expected = (_number(score.get(key)) for key in ("samples", "expected_samples"))
    return Score(
        metric=_text(score["metric"]),
        value=_number(score.get("value")),
        unit=_text(score.get("unit")),
        target=_number(score.get("target")),
        met=_verdict(score.get("met")),
        samples=None if samples is None else int(samples),
        expected=None if expected is None else int(expected),
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value)[:_LONGEST]


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if good and abs(value) < float("inf") else None


def _verdict(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


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
