"""Where records are kept: ``runs/<pipeline>/<run>/record/lines.jsonl`` below the home folder.

The folder ``record`` is ours alone; what a step publishes lands beside it, never in it.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError

from proctor.plan.model import RUN_DATE, Plan, whole_run
from proctor.records import chain
from proctor.records.model import Line, LineKind
from proctor_steps.contract import write_atomically

_NAME = re.compile(r"[A-Za-z0-9_.~:+-]+")
# The part of one subject in a run has a record of its own, so that hundreds of them do not write
# and read one file. Its run is called <run>~<key>, and its folder is runs/.../<run>/subjects/<key>.
_SUBJECT = re.compile(r"(?P<whole>.+)~(?P<key>[0-9a-f]{16})")
_SUBJECTS = "subjects"


class RecordError(Exception):
    """A record is missing or damaged; the message names the file and the line."""


def subject_key(subject: str) -> str:
    """A subject's name in ids and folders: subjects may be called anything."""
    return hashlib.sha256(subject.encode()).hexdigest()[:16]


def now() -> str:
    """The time as records spell it: UTC, ISO 8601, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class RunRecord:
    """The record of one run, or of one subject's part in it.

    ``named``: the subject, where it is known without reading the record.
    """

    folder: Path
    pipeline: str
    run: str
    named: str = ""

    @cached_property
    def partition(self) -> str:
        """The subject; "" for a whole run."""
        if self.named or whole_run(self.run) == self.run or not self.exists():
            return self.named
        return self.header().partition

    @property
    def whole(self) -> RunRecord:
        """The record of the run that this is a part of; a run is whole itself."""
        run = whole_run(self.run)
        return self if run == self.run else RunRecord(self.folder.parents[1], self.pipeline, run)

    def subject(self, name: str) -> RunRecord:
        """The record of a subject's part in this run, begun or not."""
        key = subject_key(name)
        return RunRecord(self.folder / _SUBJECTS / key, self.pipeline, f"{self.run}~{key}", name)

    def subjects(self) -> list[RunRecord]:
        """The records of all subjects' parts that have begun, in the order of their keys."""
        folders = [p.parent.parent for p in (self.folder / _SUBJECTS).glob("*/record/lines.jsonl")]
        parts = [RunRecord(f, self.pipeline, f"{self.run}~{f.name}") for f in sorted(folders)]
        return [part for part in parts if part.exists()]

    @property
    def name(self) -> str:
        """``pipeline/run``, for people."""
        return f"{self.pipeline}/{self.run}"

    @property
    def own(self) -> Path:
        """The folder that only the orchestrator writes to."""
        return self.folder / "record"

    @property
    def path(self) -> Path:
        """The record's file."""
        return self.own / "lines.jsonl"

    def waits_at(self, step: str) -> Path:
        """The file that is there while a step waits for what a person finishes."""
        return self.own / f"waiting-{step}.json"

    def exists(self) -> bool:
        """Whether the run has begun: a header that a crash cut short is none."""
        try:
            with self.path.open("rb") as file:
                return file.readline().endswith(b"\n")
        except FileNotFoundError:
            return False

    @property
    def began(self) -> str:
        """When the run began, as its header says; "" where that cannot be read."""
        try:
            with self.path.open("rb") as file:
                return Line.model_validate_json(file.readline()).at
        except (OSError, ValidationError):
            return ""

    def append(
        self,
        kind: LineKind,
        *,
        step: str = "",
        attempt: int = 0,
        identity: str = "",
        plan_digest: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> Line:
        """Write one line and fsync it."""
        with chain.appending(self.path) as (last, write):
            line = Line(
                seq=_seq(last) + 1,
                prev_digest=chain.follows(last),
                at=now(),
                kind=kind,
                run=self.run,
                step=step,
                partition=self.partition,
                attempt=attempt,
                identity=identity,
                host=platform.node(),
                plan_digest=plan_digest,
                data=dict(data or {}),
            )
            write(line.model_dump_json().encode())
        return line

    def lines(self) -> list[Line]:
        """Every whole line, in order.

        Raises:
            RecordError: a line is not one of ours; it says which.
        """
        return list(self._read())

    def _read(self) -> Iterator[Line]:
        for number, raw in enumerate(chain.raw_lines(self.path), start=1):
            try:
                yield Line.model_validate_json(raw)
            except ValidationError as error:
                raise RecordError(
                    f"{self.path}:{number}: no record line ({error.errors()[0]['msg']}); "
                    "the file was damaged or edited: restore it, or move the run's folder away"
                ) from error

    def header(self) -> Line:
        """The first line.

        Raises:
            RecordError: the run has not begun.
        """
        for line in self._read():
            if line.kind == "header":
                return line
            break
        raise RecordError(f"run {self.run} of {self.pipeline} has no record in {self.folder}")

    def params(self) -> dict[str, JsonValue]:
        """The run's resolved parameters."""
        params = self.header().data.get("params")
        return params if isinstance(params, dict) else {}

    def values(self) -> dict[str, JsonValue]:
        """What a plan's references are filled in with: the parameters, and the day it began.

        The day is that of the whole run, in UTC: a step that is tried again the next day is asked
        the same.
        """
        return {**self.params(), RUN_DATE: self.whole.header().at[:10]}

    def last(self, kind: LineKind, step: str) -> Line | None:
        """The newest line of a kind for a step."""
        found = [x for x in self._read() if x.kind == kind and x.step == step]
        return found[-1] if found else None

    def verify_chain(self) -> list[str]:
        """What is wrong with the chain of digests, in words; empty where nothing is."""
        return chain.problems(self.path, Line.model_validate_json)


@dataclass(frozen=True)
class RecordStore:
    """All records of a home folder, and the plans they name."""

    home: Path

    def run(self, pipeline: str, run: str) -> RunRecord:
        """The record of a run, begun or not.

        Raises:
            ValueError: a name that could lead out of the home folder.
        """
        for name in (pipeline, run):
            if not _NAME.fullmatch(name) or set(name) <= {"."}:
                raise ValueError(f"{name!r} is no pipeline or run id ({_NAME.pattern})")
        part = _SUBJECT.fullmatch(run)
        if part is None:
            return RunRecord(self.home / "runs" / pipeline / run, pipeline, run)
        folder = self.home / "runs" / pipeline / part["whole"] / _SUBJECTS / part["key"]
        return RunRecord(folder, pipeline, run)

    def runs(self) -> list[RunRecord]:
        """Every run that has begun, oldest first."""
        folders = [p.parent.parent for p in (self.home / "runs").glob("*/*/record/lines.jsonl")]
        records = [RunRecord(f, f.parent.name, f.name) for f in folders]
        begun = [r for r in records if not r.run.startswith(".") and r.exists()]
        return sorted(begun, key=lambda r: (r.began, r.run))

    def all(self) -> list[RunRecord]:
        """Every run that has begun, each followed by its subjects' parts."""
        return [record for run in self.runs() for record in (run, *run.subjects())]

    def find(self, wanted: str) -> RunRecord:
        """A run by its id, the beginning of it, ``pipeline/run``, or ``latest``.

        Raises:
            LookupError: none, or several.
        """
        runs = self.runs()
        if wanted == "latest" and runs:
            return runs[-1]
        found = [r for r in runs if wanted in (r.name, r.run)]
        found = found or [r for r in runs if r.run.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        names = ", ".join(r.name for r in (found or runs)[-8:]) or "none yet"
        problem = "several runs match" if found else "there is no run"
        raise LookupError(f"{problem} {wanted!r} in {self.home}; runs: {names}")

    def save_plan(self, plan: Plan) -> None:
        """Keep a plan under its digest."""
        path = self._plan_path(plan.digest)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, plan.canonical())

    def plan(self, digest: str) -> Plan:
        """The plan of that digest.

        Raises:
            RecordError: it is not here, or its bytes are not what the digest says.
        """
        path = self._plan_path(digest)
        if not path.is_file():
            raise RecordError(f"plan {digest[:12]} is not in {path.parent}")
        raw = path.read_bytes()
        if hashlib.sha256(raw).hexdigest() != digest:
            raise RecordError(f"{path} was changed: its digest is not its name")
        try:
            return Plan.model_validate_json(raw)
        except ValidationError as error:
            raise RecordError(f"{path} is no plan that this version reads") from error

    def _plan_path(self, digest: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise RecordError(f"{digest[:80]!r} is no plan's digest; the record was damaged")
        return self.home / "plans" / f"{digest}.json"


def _seq(raw: bytes) -> int:
    try:
        return Line.model_validate_json(raw).seq if raw else 0
    except ValidationError as error:
        raise RecordError(
            "the record's last line is none of ours, so nothing can follow it; the file was "
            "damaged or edited: restore it, or move the run's folder away"
        ) from error
