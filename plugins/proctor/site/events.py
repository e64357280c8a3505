"""What happens that people may be told of: questions, answers, timeouts, ends of runs.

Whoever tells has a :class:`Watch` of its own: what it has told is written down beside the record
and in the home, so that it finds each event once, whatever dies in between.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from proctor.airflow.subjects import parse_run_id
from proctor.plan.model import Gate
from proctor.records.judged import findings
from proctor.records.model import Line
from proctor.records.store import RecordError, RunRecord
from proctor.site.client import AirflowUnavailable
from proctor.site.instance import Instance
from proctor.site.rework import asked
from proctor_steps.contract import write_atomically

EVENT_FORMAT = "proctor.event/1"
# Runs that end at almost the same time need not come into the database in that order.
_OVERLAP = timedelta(minutes=5)
# One run's damaged record keeps nothing else from being told; what Airflow misses comes next time.
_TROUBLES = (AirflowUnavailable, httpx.HTTPError, RecordError, OSError, ValueError, KeyError)


@dataclass(frozen=True)
class Event:
    """What is to be told, and the place and content that say that it was told.

    ``id``: the same whoever finds it, and of no other event.
    """

    at: str
    id: str
    content: dict[str, Any]
    told: Path
    mark: dict[str, Any]

    def mark_told(self) -> None:
        """Write down that it was told; it is not found again."""
        write_atomically(self.told, json.dumps(self.mark).encode())


@dataclass
class Watch:
    """Finds events. ``marks``: the file's name for what was told to whom this watch is for."""

    instance: Instance
    marks: str
    _seen: dict[Path, int] = field(default_factory=dict)

    def find(self, since: datetime) -> list[Event]:
        """What has happened since and is not marked as told, in the order of time."""
        return sorted(self._find(since), key=lambda event: event.at)

    def _find(self, since: datetime) -> Iterator[Event]:
        for record in self.instance.home.records.runs():
            with contextlib.suppress(*_TROUBLES):
                yield from self._in_record(record, since)
        with contextlib.suppress(*_TROUBLES):
            yield from self._ends(since)

    def _in_record(self, record: RunRecord, since: datetime) -> Iterator[Event]:
        written = record.path.stat()
        if written.st_mtime < since.timestamp() or self._seen.get(record.path) == written.st_size:
            return
        self._seen[record.path] = written.st_size
        told = record.own / self.marks
        heard = int(_read(told).get("line", 0))
        at, drift = "", dict[str, Any]()
        for line in record.lines():
            at = max(at, line.at)  # the marks are in the lines' order, whatever became of the clock
            if line.kind == "result" and isinstance(judged := _drift(line), dict):
                drift = judged
            if line.seq <= heard or datetime.fromisoformat(line.at) < since:
                continue
            if more := _of_line(line):
                if line.kind == "asked":
                    more["findings"] = list(findings(drift))
                content = self._content(record, line.step, line.at, more)
                yield Event(at, f"{record.name}#{line.seq}", content, told, {"line": line.seq})

    def _ends(self, since: datetime) -> Iterator[Event]:
        told = self.instance.home.path / "airflow" / self.marks
        heard = {str(run): str(at) for run, at in _read(told).items()}
        latest = max((datetime.fromisoformat(at) for at in heard.values()), default=since)
        since = max(since, latest - _OVERLAP)
        for run in self.instance.client.ended(since.isoformat()):
            name, at = f"{run['dag_id']}/{run['dag_run_id']}", str(run["end_date"])
            record = self.instance.home.records.run(run["dag_id"], run["dag_run_id"])
            if heard.get(name) == at or parse_run_id(run["dag_run_id"])[1]:
                continue
            if run["state"] == "success" and not record.exists():
                continue  # a tick that was left out: nothing ran
            if run["state"] == "failed" and _goes_back(record):
                continue
            heard = {n: t for n, t in heard.items() if datetime.fromisoformat(t) >= since}
            heard[name] = at
            content = self._content(record, "", at, {"event": "run_ended", "state": run["state"]})
            yield Event(at, f"{name}@{at}", content, told, dict(heard))

    def _content(
        self, record: RunRecord, gate: str, at: str, more: dict[str, Any]
    ) -> dict[str, Any]:
        link = (
            f"{self.instance.url}/dags/{quote(record.pipeline)}/runs/{quote(record.run, safe='')}"
        )
        if gate:
            link += f"/tasks/{quote(gate)}/required_actions"
        planned = self._gate(record, gate) if gate else None
        return {
            "format": EVENT_FORMAT,
            "at": at,
            "pipeline": record.pipeline,
            "run": record.run,
            "gate": gate,
            "question": planned.question if planned else "",
            "approvers": list(planned.approvers) if planned else [],
            "findings": [],
            "link": link,
            **more,
        }

    def _gate(self, record: RunRecord, gate: str) -> Gate | None:
        plan = self.instance.home.records.plan(record.header().plan_digest)
        return plan.step(gate).gate


def _goes_back(record: RunRecord) -> bool:
    """Whether a run is about to go back to an earlier step; what cannot be read goes nowhere."""
    with contextlib.suppress(*_TROUBLES):
        return bool(asked(record))
    return False


def changed(path: Path) -> datetime:
    """When a file, its rights or its owner were changed last."""
    return datetime.fromtimestamp(path.stat().st_ctime, UTC)


def _drift(line: Line) -> Any:
    metrics = line.data.get("metrics")
    return metrics.get("drift") if isinstance(metrics, dict) else None


def _of_line(line: Line) -> dict[str, Any]:
    """The event that a record's line is; empty where it is none."""
    if line.kind == "asked":
        return {"event": "question_asked"}
    if line.kind == "refused" and line.data.get("reason") == "timeout":
        return {"event": "timed_out"}
    answer = line.data.get("answer")
    if line.kind == "approval" and isinstance(answer, dict):
        return {"event": "answered", "by": str(answer["by"]), "decision": str(answer["decision"])}
    return {}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
