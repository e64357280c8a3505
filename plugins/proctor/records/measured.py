"""What one run has measured, each figure with all that made it: from its record alone.

Of a thousand runs nobody wants to read a thousand records, so what was found in one is kept beside
it (``record/measured.json``), and counts as long as the record is as it was.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from proctor.plan.model import Plan
from proctor.records.book import Identity
from proctor.records.model import Line
from proctor.records.rows import Row, Score, disturbed, rows, text
from proctor.records.store import RecordError, RecordStore, RunRecord
from proctor.records.summary import figures
from proctor_steps.contract import Model, canonical_json
from proctor_steps.history import Figure, Measured

CACHE_FILE = "measured.json"
# Of what a step wrote; any image may write what it likes.
_MOST = 200
# What a system under test came to, not what it was set to.
_CAME_TO = {"service_ms", "calibrated", "peak_rss_bytes", "image", "url", "requests", "retries"}
_CAME_TO |= {"retried_for", "timeouts", "failures"}
# What LoadGen derives from the speed that a calibration or a tuning found: it follows what is
# measured.
_CALIBRATED = {"target_qps", "min_query_count", "min_sample_count"}
# What reading a record that was edited, or came from elsewhere, may raise.
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


class Found(Model):
    """One measurement of a run. ``taken_over``: another run made it."""

    step: str
    identity: Identity
    measured: Measured
    taken_over: bool = False


class _Kept(Model):
    """``measured.json``. ``record``: time and size of the record that it was made from.

    The format's number changes with what is found in a record.
    """

    format: Literal["proctor.measured/2"] = "proctor.measured/2"
    record: tuple[int, int]
    found: tuple[Found, ...]


def measured(store: RecordStore, record: RunRecord, *, anew: bool = False) -> tuple[Found, ...]:
    """The newest measurement of each step of a run, by benchmark, scenario and step.

    Not one whose step was left out since, or that stands behind another which was repeated since.

    A performance run with the accuracy of its scenario, or an accuracy alone. Where one accuracy
    stands beside several performance runs of its identity, it stands in each of them.

    Args:
        anew: read the record, whatever is kept beside it: nothing signs that.

    Raises:
        RecordError: the record, or its plan, is missing, damaged or was edited.
    """
    cache = record.own / CACHE_FILE
    now = stamp(record)
    with contextlib.suppress(OSError, ValidationError):
        kept = _Kept.model_validate_json(cache.read_bytes())
        if kept.record == now and not anew:
            return kept.found
    if problems := record.verify_chain():
        raise RecordError("; ".join(problems[:3]))
    try:
        found = tuple(_Reader(store, record).found())
    except _MALFORMED as error:
        raise RecordError(f"{record.path}: not as Proctor writes it ({error!r})") from error
    _keep(cache, _Kept(record=now, found=found))
    return found


def _keep(cache: Path, kept: _Kept) -> None:
    """It is only the faster way: no reader waits for the disk, and a cut-off file is made anew."""
    scratch = cache.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    with contextlib.suppress(OSError):
        scratch.write_bytes(canonical_json(kept.model_dump()))
        scratch.replace(cache)


def stamp(record: RunRecord) -> tuple[int, int]:
    """Time and size of a record: another where it was written to since.

    Raises:
        RecordError: it cannot be read.
    """
    try:
        now = record.path.stat()
    except OSError as error:
        raise RecordError(f"{record.path} cannot be read: {error.strerror}") from error
    return now.st_mtime_ns, now.st_size


class _Reader:
    """One record, read once."""

    def __init__(self, store: RecordStore, record: RunRecord) -> None:
        self._record = record
        header = record.header()
        self._plan: Plan = store.plan(header.plan_digest)
        self._orchestrator = _texts(header.data.get("versions")).get("proctor", "")
        self._results: dict[str, Line] = {}
        self._parts: dict[tuple[str, int], dict[str, Any]] = {}
        by_step: dict[str, list[Line]] = {}
        for line in record.lines():
            by_step.setdefault(line.step, []).append(line)
            if line.kind == "result":
                self._results[line.step] = line
            parts = line.data.get("identity_parts")
            if isinstance(parts, dict):
                self._parts[line.step, line.attempt] = parts
        self._rows = [
            row for each in rows(figures(self._plan, by_step)) if (row := self._fresh(each))
        ]

    def _fresh(self, row: Row) -> Row | None:
        """A row without what was measured before a measurement that it stands behind was repeated.

        When a run goes back, what follows is not done anew at once: who asks in between is told
        nothing of the round before.
        """
        if row.score and self._superseded(row.score.step):
            row = replace(row, score=None)
        only_score = row.value is None and not row.latency_ns
        if self._superseded(row.step) or (only_score and row.score is None):
            return None
        return row

    def _superseded(self, step: str) -> bool:
        mine = self._results[step].seq
        before = self._plan.ancestors(step) & set(self._results)
        return any(self._metrics(each) and self._results[each].seq > mine for each in before)

    def found(self) -> Iterator[Found]:
        """Everything measured."""
        runs = [row for row in self._rows if row.value is not None or row.latency_ns]
        scored = [(row, self._scored(row.score)) for row in self._rows if row.score]
        taken = set()
        for row in runs:
            identity, score = self._identity(row), row.score
            mine = [other for other, of in scored if of == identity]
            # One that belongs to the first run of a matrix's cell is that of the next ones, too.
            if score is None and len(mine) == 1:
                score = mine[0].score
                taken.add(mine[0].step)
            yield self._found(row, identity, score)
        for row, of in scored:
            if _only_score(row) and row.step not in taken:
                yield self._found(row, of, row.score)

    def _found(self, row: Row, identity: Identity, score: Score | None) -> Found:
        line = self._results[row.step]
        run = line.data.get("reused_from")
        of = str(run) if run else f"{self._record.name}/{row.step}/{line.attempt}"
        logs, made = "", self._made_by(row.step)
        reasons = disturbed(self._metrics(row.step))
        if score:
            for kind, values in self._made_by_scoring(score, row.step).items():
                made[kind] = made.get(kind, {}) | values
            logs = self._input_of(score.step, "logs")
        told = Measured(
            of=of,
            at=str(line.data.get("started_at") or line.at),
            valid=row.valid,
            disturbed=reasons and reasons[:_MOST],
            figures=tuple(_figures(row, self._metrics(row.step), score)),
            made_by={kind: dict(sorted(made[kind].items())) for kind in sorted(made) if made[kind]},
            output_sha256=logs,
        )
        return Found(step=row.step, identity=identity, measured=told, taken_over=bool(run))

    def _identity(self, row: Row) -> Identity:
        return self._named(row.step, row.benchmark, row.scenario)

    def _scored(self, score: Score | None) -> Identity:
        """Whose accuracy it is: the identity of the run that wrote the log which was scored."""
        assert score is not None  # noqa: S101 - only asked of rows that have one
        accuracy = self._metrics(score.step, "accuracy")
        of = self._log_of(score.step) or score.step
        return self._named(of, text(accuracy.get("benchmark")), text(accuracy.get("scenario")))

    def _named(self, step: str, benchmark: str, scenario: str) -> Identity:
        sut = _mapping(self._metrics(step).get("sut"))
        host = _mapping(self._parts_of(step).get("host")).get("host")
        return Identity(
            benchmark,
            scenario,
            text(host or self._results[step].host),
            text(sut.get("backend")),
            text(sut.get("precision")),
        )

    def _log_of(self, scored: str) -> str:
        """The step whose log was scored, where there is one in this run."""
        inputs = [item for item in self._plan.step(scored).inputs if item.name == "logs"]
        sources = [source.step for item in inputs for source in item.sources]
        known = [step for step in sources if step in self._results]
        return known[0] if len(known) == 1 else ""

    # --- what made it ----------------------------------------------------------------------------

    def _made_by(self, step: str) -> dict[str, dict[str, str]]:
        line, parts, metrics = self._results[step], self._parts_of(step), self._metrics(step)
        packages = _texts(line.data.get("versions")) | {"proctor": self._orchestrator}
        packages |= {"LoadGen": text(metrics.get("loadgen_version"))}
        image = {"name": line.data.get("image"), "digest": line.data.get("image_digest")}
        sut = _mapping(metrics.get("sut"))
        effective = _mapping(_mapping(metrics.get("settings")).get("effective"))
        measured_before = self._measured_inputs(step)
        if sut.get("calibrated") or measured_before:
            effective = {k: v for k, v in effective.items() if k not in _CALIBRATED}
        sut = {k: v for k, v in _flat(sut).items() if k not in _CAME_TO}
        return {
            "image": _texts(image | {"local": line.data.get("local_image")}),
            "packages": {name: version for name, version in packages.items() if version},
            "host": _texts(_flat(parts.get("host"))),
            "parameters": _texts(parts.get("params")),
            "settings": _texts(effective) | _texts(sut),
            "inputs": {
                name.rstrip("/"): sha256
                for name, sha256 in _texts(parts.get("inputs")).items()
                if name.partition("/")[0] not in measured_before
            },
        }

    def _measured_inputs(self, step: str) -> set[str]:
        """Inputs that a measuring step of the run made (logs, a tuning): other bytes each time."""
        inputs = self._plan.step(step).inputs
        return {
            item.name
            for item in inputs
            if any(self._plan.step(source.step).exclusive for source in item.sources)
        }

    def _made_by_scoring(self, score: Score, measured: str) -> dict[str, dict[str, str]]:
        """What made the accuracy: the run of the log and the step that scored it."""
        found: dict[str, dict[str, str]] = {}
        for who, step in (("accuracy run", self._log_of(score.step)), ("scoring", score.step)):
            made = self._made_by(step) if step and step != measured else {}
            for kind in ("image", "packages", "inputs"):
                told = {f"{who}: {name}": value for name, value in made.get(kind, {}).items()}
                found[kind] = found.get(kind, {}) | told
        return found

    def _input_of(self, step: str, name: str) -> str:
        inputs = _texts(self._parts_of(step).get("inputs"))
        return next((v for k, v in inputs.items() if k.partition("/")[0] == name), "")

    def _metrics(self, step: str, key: str = "loadgen") -> dict[str, Any]:
        line = self._results.get(step)
        return _mapping(_mapping(line.data.get("metrics")).get(key)) if line else {}

    def _parts_of(self, step: str) -> dict[str, Any]:
        return self._parts.get((step, self._results[step].attempt), {})


def _only_score(row: Row) -> bool:
    return row.score is not None and row.value is None and not row.latency_ns


def _figures(row: Row, metrics: Mapping[str, Any], score: Score | None) -> Iterator[Figure]:
    samples, queries = (_count(metrics.get(key)) for key in ("samples", "queries"))
    if row.value is not None and row.unit.endswith("/s"):
        yield Figure(
            name="throughput", value=row.value, unit=row.unit, better="higher", samples=samples
        )
    elif row.value is not None:
        better: Literal["lower", ""] = "lower" if row.unit == "ns" else ""
        yield Figure(
            name=row.metric, value=row.value, unit=row.unit, better=better, samples=queries
        )
    # The one query of an Offline run is all of its samples.
    timed = samples if row.scenario == "Offline" else queries
    for name, value in sorted(row.latency_ns.items()):
        if name[:1] == "p":
            yield Figure(
                name=f"latency_{name}", value=value, unit="ns", better="lower", samples=timed
            )
    if score is not None and score.value is not None:
        yield Figure(
            name="accuracy",
            value=score.value,
            unit=score.unit,
            better="higher",
            samples=score.samples,
            low=score.low,
            high=score.high,
        )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _flat(value: Any) -> dict[str, Any]:
    """A mapping whose mappings are part of it; their own names are enough to tell them apart."""
    found: dict[str, Any] = {}
    for key, each in _mapping(value).items():
        inner = {key: each} if not isinstance(each, dict) or key in _CAME_TO else _flat(each)
        found |= inner
    return found


def _texts(value: Any) -> dict[str, str]:
    """Names and values as people read them; without those that are not told."""
    given = list(_mapping(value).items())[:_MOST]
    return {text(k): _shown(v) for k, v in given if v not in (None, "")}


def _shown(value: Any) -> str:
    return text(value if isinstance(value, str) else canonical_json(value).decode())
