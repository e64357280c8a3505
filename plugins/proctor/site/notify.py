"""The owner's hook: a program in the home that hears of questions, answers and ends of runs.

``hooks/notify`` is the site owner's and nobody else's: no spec names it, no task and no container
runs it. It hears of what happens after it was put there or changed, of one event at a time, of
each once: that it is about to be told is written down before it is, so that a launcher that is
killed tells it nothing twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import httpx

from proctor.airflow.subjects import parse_run_id
from proctor.records.model import Line
from proctor.records.store import RecordError, RunRecord
from proctor.site.client import AirflowUnavailable
from proctor.site.home import Home
from proctor.site.instance import Instance
from proctor.site.processes import end_with_parent
from proctor.site.rework import asked
from proctor_steps.contract import write_atomically

EVENT_FORMAT = "proctor.event/1"
HOOK_SECONDS = 30.0
# Runs that end at almost the same time need not come into the database in that order.
_OVERLAP = timedelta(minutes=5)
_LONGEST_NOTE = 300
_TOLD = "told.json"
# One run's damaged record keeps nothing else from being told; what Airflow misses comes next time.
_TROUBLES = (AirflowUnavailable, httpx.HTTPError, RecordError, OSError, ValueError, KeyError)


@dataclass(frozen=True)
class Event:
    """What the hook is to be told, and the place and content that say that it was told."""

    at: str
    content: dict[str, Any]
    told: Path
    mark: dict[str, Any]


@dataclass
class Notifier:
    """Call :meth:`look` from the launcher's loop; it never waits for the hook."""

    instance: Instance
    _events: list[Event] = field(default_factory=list)
    _running: _Hook | None = None
    _seen: dict[Path, int] = field(default_factory=dict)
    _complained: str = ""

    def look(self, due: bool) -> list[str]:
        """Tell the hook what it has not heard of; what went wrong with it, in lines.

        ``due``: whether to look for events, or only after the hook that runs.
        """
        said: list[str] = []
        if self._running:
            ended = self._running.ended()
            if ended is None:
                return []
            self._running = None
            said += [f"the hook notify {ended}"] if ended else []
        hook = self.instance.home.path / "hooks" / "notify"
        if not hook.is_symlink() and not hook.exists():
            return said
        if problem := unusable(hook):
            first, self._complained = problem != self._complained, problem
            return said + ([f"{hook} is not run: {problem}"] if first else [])
        if due and not self._events:
            self._events = sorted(self._find(_changed(hook)), key=lambda event: event.at)
        if self._events:
            event = self._events.pop(0)
            write_atomically(event.told, json.dumps(event.mark).encode())
            self._running = _Hook(hook, event.content)
        return said

    def finish(self) -> list[str]:
        """Tell the rest; as long as the hook may take, and no longer."""
        give_up, said = time.monotonic() + HOOK_SECONDS, self.look(True)
        while self._running and time.monotonic() < give_up:
            time.sleep(0.1)
            said += self.look(True)
        return said

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
        told = record.own / _TOLD
        heard = int(_read(told).get("line", 0))
        at = ""
        for line in record.lines():
            at = max(at, line.at)  # the marks are in the lines' order, whatever became of the clock
            if line.seq <= heard or datetime.fromisoformat(line.at) < since:
                continue
            if more := _of_line(line):
                content = self._content(record, line.step, line.at, more)
                yield Event(at, content, told, {"line": line.seq})

    def _ends(self, since: datetime) -> Iterator[Event]:
        told = self.instance.home.path / "airflow" / _TOLD
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
            if run["state"] == "failed" and asked(record):
                continue  # it is about to go back to an earlier step
            heard = {n: t for n, t in heard.items() if datetime.fromisoformat(t) >= since}
            heard[name] = at
            content = self._content(record, "", at, {"event": "run_ended", "state": run["state"]})
            yield Event(at, content, told, dict(heard))

    def _content(
        self, record: RunRecord, gate: str, at: str, more: dict[str, str]
    ) -> dict[str, str]:
        link = (
            f"{self.instance.url}/dags/{quote(record.pipeline)}/runs/{quote(record.run, safe='')}"
        )
        if gate:
            link += f"/tasks/{quote(gate)}/required_actions"
        return {
            "format": EVENT_FORMAT,
            "at": at,
            "pipeline": record.pipeline,
            "run": record.run,
            "gate": gate,
            "question": _question(self.instance.home, record, gate) if gate else "",
            "link": link,
            **more,
        }


class _Hook:
    """The hook, running for one event; ended with all its children when it takes too long."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        # Files, not pipes: neither side ever waits for the other.
        self._given: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._given.write(json.dumps(content).encode() + b"\n")
        self._given.seek(0)
        self._give_up = time.monotonic() + HOOK_SECONDS
        self._process: subprocess.Popen[bytes] | None = None
        self._problem = ""
        ours = ("AIRFLOW", "PROCTOR_")
        try:
            self._process = subprocess.Popen(
                [path],
                stdin=self._given,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                cwd=path.parent,
                env={k: v for k, v in os.environ.items() if not k.startswith(ours)},
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        except OSError as error:
            self._problem = f"could not be started: {error.strerror}"

    def ended(self) -> str | None:
        """What went wrong, "" where nothing did; ``None`` while it runs."""
        if self._process is None:
            return self._problem
        code = self._process.poll()
        if code is None and time.monotonic() < self._give_up:
            return None
        if code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            return f"was ended: it took over {HOOK_SECONDS:g} s"
        return f"failed (exit code {code}){self._last_words()}" if code else ""

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read(1 << 16).decode(errors="replace").split("\n")
        words = [line.strip() for line in lines if line.strip()]
        return f": {words[-1][:_LONGEST_NOTE]}" if words else ""


def unusable(hook: Path) -> str:
    """Why a hook is not run; "" where it is its owner's program and nobody else can change it."""
    for path in (hook.parent, hook):
        found = path.lstat()
        kind = stat.S_ISDIR(found.st_mode) if path == hook.parent else stat.S_ISREG(found.st_mode)
        if not kind:
            return (
                f"{path} must be no link, but the {'folder' if path != hook else 'program'} itself"
            )
        if found.st_uid not in (os.geteuid(), 0):
            return f"{path} belongs to another user; make it your own"
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"others may write to {path}; chmod go-w it"
    return "" if os.access(hook, os.X_OK) else "it is not executable; chmod u+x it"


def _changed(hook: Path) -> datetime:
    return datetime.fromtimestamp(hook.stat().st_ctime, UTC)


def _of_line(line: Line) -> dict[str, str]:
    """The event that a record's line is; empty where it is none."""
    if line.kind == "asked":
        return {"event": "question_asked"}
    if line.kind == "refused" and line.data.get("reason") == "timeout":
        return {"event": "timed_out"}
    answer = line.data.get("answer")
    if line.kind == "approval" and isinstance(answer, dict):
        return {"event": "answered", "by": str(answer["by"]), "decision": str(answer["decision"])}
    return {}


def _question(home: Home, record: RunRecord, gate: str) -> str:
    planned = home.records.plan(record.header().plan_digest).step(gate).gate
    return planned.question if planned else ""


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
