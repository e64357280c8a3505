"""Whether a run's record, and every byte that it names, are as they were left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from proctor.airflow import past
from proctor.airflow.evidence import StepRefused, evidence_digest
from proctor.plan.model import Plan, PlanStep
from proctor.records.approvals import GOES_ON, ApprovalInvalid, SigningKey, signed_answer
from proctor.records.baselines import line_digest, meant
from proctor.records.book import Book
from proctor.records.model import Line
from proctor.records.store import RecordError, RunRecord
from proctor.runtime.artifacts import ArtifactError, LocalArtifacts
from proctor.site.home import Home
from proctor_steps.contract import Approval, file_sha256, tree_digest

# Reading and hashing leave the interpreter's lock; more readers than this do not help one disk.
_READERS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class Checked:
    """One thing that was looked at.

    ``state``: ``good``; ``gone``: of an attempt that a later one replaced, and not here any more;
    ``bad``: ``message`` says what is wrong.
    """

    what: Literal["record", "plan", "output", "published", "history", "approval", "baseline"]
    name: str
    state: Literal["good", "gone", "bad"] = "good"
    message: str = ""


def verify(home: Home, record: RunRecord) -> list[Checked]:
    """Check the chain of lines, plan, outputs, published files and signatures of a run.

    The records of its subjects' parts are checked, too. Every problem is told, not the first. A
    record whose lines cannot be read ends there.

    Raises:
        RecordError: the run has no record at all.
    """
    broken = record.verify_chain()
    checked = [Checked("record", record.path.name, "bad", text) for text in broken]
    checked = checked or [Checked("record", record.path.name)]
    try:
        lines = record.lines()
        header = record.header()
    except RecordError:
        if not broken:
            raise
        return checked
    try:
        plan = home.records.plan(header.plan_digest)
    except RecordError as error:
        return [*checked, Checked("plan", header.plan_digest[:12], "bad", str(error))]
    checked += _plans(lines, plan)
    with ThreadPoolExecutor(_READERS) as pool:
        outputs = _outputs(lines)
        checked += pool.map(lambda each: _output(home, *each), outputs)
    checked += _published(home, record, plan)
    checked += _histories(record, lines)
    checked += _approvals(home, record, plan, lines)
    checked += _baselines(home, lines)
    for part in record.subjects():
        of_it = verify(home, part)
        checked += [replace(each, name=f"{part.partition}: {each.name}") for each in of_it]
    return checked


def _plans(lines: list[Line], plan: Plan) -> list[Checked]:
    strangers = [
        Checked("plan", f"line {line.seq}", "bad", f"of another plan, {line.plan_digest[:12]}")
        for line in lines
        if line.plan_digest not in ("", plan.digest)
    ]
    return strangers or [Checked("plan", plan.digest[:12])]


def _outputs(lines: list[Line]) -> list[tuple[str, str, str, bool]]:
    """(name, URI, sha256, whether it is the step's newest) of every output of a good result."""
    good = [x for x in lines if x.kind == "result" and x.data.get("state") == "succeeded"]
    newest = {line.step: line.seq for line in lines if line.kind == "result"}
    found = []
    for line in good:
        outputs = line.data.get("outputs")
        for name, entry in (outputs if isinstance(outputs, dict) else {}).items():
            if isinstance(entry, dict):
                place = f"{line.step}.{name}, attempt {line.attempt}"
                uri, sha256 = str(entry.get("uri")), str(entry.get("sha256"))
                found.append((place, uri, sha256, newest[line.step] == line.seq))
    return found


def changed(recorded: str, found: str) -> str:
    """What is said of bytes that are not those of a digest."""
    return f"its bytes have changed: recorded {recorded[:12]}, found {found[:12]}"


def _output(home: Home, name: str, uri: str, sha256: str, newest: bool) -> Checked:
    try:
        found = tree_digest(LocalArtifacts(home.path).path(uri))[0]
    except ArtifactError as error:
        if newest:
            return Checked("output", name, "bad", str(error))
        return Checked("output", name, "gone", "replaced by a later attempt, and removed")
    except (OSError, ValueError) as error:
        return Checked("output", name, "bad", str(error))
    if found != sha256:
        return Checked("output", name, "bad", changed(sha256, found))
    return Checked("output", name)


def _published(home: Home, record: RunRecord, plan: Plan) -> Iterator[Checked]:
    """What people take away is still what the step left."""
    store = LocalArtifacts(home.path)
    for step in plan.steps:
        if bool(step.partition) != bool(record.partition):
            continue
        outputs = _newest_outputs(record, step)
        for pattern in step.publish:
            output, _, files = pattern.partition("/")
            try:
                root = store.path(outputs[output])
            except (KeyError, ArtifactError):
                continue  # not run, or told of above
            for found in sorted(p for p in root.glob(files or "*") if p.is_file()):
                yield _same(record.folder / found.name, found)


def _same(copy: Path, original: Path) -> Checked:
    try:
        same = file_sha256(copy) == file_sha256(original)
    except OSError as error:
        return Checked("published", copy.name, "bad", f"cannot be read: {error.strerror}")
    message = "" if same else "differs from the step's output; it was changed by hand"
    return Checked("published", copy.name, "good" if same else "bad", message)


def _histories(record: RunRecord, lines: list[Line]) -> Iterator[Checked]:
    """What steps were told of earlier runs is still what their identities are the digest of."""
    seen = set()
    for line in lines:
        parts = line.data.get("identity_parts")
        wanted = parts.get("history") if isinstance(parts, dict) else None
        if not wanted or (line.step, line.attempt) in seen:
            continue
        seen.add((line.step, line.attempt))
        name, message = f"{line.step}, attempt {line.attempt}", ""
        try:
            if file_sha256(past.place(record, line.step, line.attempt)) != wanted:
                message = "is not what the step was told; it was changed by hand"
        except OSError as error:
            message = f"cannot be read: {error.strerror}"
        yield Checked("history", name, "bad" if message else "good", message)


def _newest_outputs(record: RunRecord, step: PlanStep) -> dict[str, str]:
    line = record.last("result", step.id)
    outputs = line.data.get("outputs") if line and line.data.get("state") == "succeeded" else None
    entries = outputs.items() if isinstance(outputs, dict) else ()
    return {name: str(entry["uri"]) for name, entry in entries if isinstance(entry, dict)}


def _approvals(home: Home, record: RunRecord, plan: Plan, lines: list[Line]) -> Iterator[Checked]:
    key = SigningKey(home.path)
    own = str(record.header().data.get("public_key") or "")
    trusted = key.public() if key.exists() else own
    answers = [line for line in lines if line.kind == "approval"]
    for line in answers:
        name = f"{line.step}, line {line.seq}"
        try:
            answer = signed_answer(record, line, trusted)
        except ApprovalInvalid as error:
            yield Checked("approval", name, "bad", str(error))
            continue
        last = line.seq == max(x.seq for x in answers if x.step == line.step)
        old = stale(record, plan, answer) if last and answer.decision in GOES_ON else ""
        yield Checked("approval", name, "bad" if old else "good", old)


def _baselines(home: Home, lines: list[Line]) -> Iterator[Checked]:
    """What answers have made baselines, or left open, stands in the book, signed, as it was."""
    answers = [x for x in lines if x.kind == "approval" and "baselines" in x.data]
    if not answers:
        return
    try:
        entries = Book(home.path).entries()
    except RecordError as error:
        yield Checked("baseline", "book", "bad", str(error))
        return
    made = {each.answer.line: each for each in entries if each.answer}
    for line in answers:
        wanted, entry = meant(line), made.get(line_digest(line))
        name = f"{line.step}, line {line.seq}"
        if wanted and entry is None:
            message = "the answer was never carried out; clear the gate and answer it again"
            yield Checked("baseline", name, "bad", message)
        elif entry and [each.measured.of for each in entry.accepted] != wanted.get("set", []):
            yield Checked("baseline", name, "bad", "the book accepts other results than the answer")
        elif wanted:
            yield Checked("baseline", name)


def stale(record: RunRecord, plan: Plan, answer: Approval) -> str:
    """What is wrong where the evidence is not that of the answer any more; else empty."""
    try:
        now = evidence_digest(record, plan, plan.step(answer.gate))
    except (StepRefused, KeyError) as error:
        return f"its evidence is not there any more: {error}"
    if now != answer.evidence_digest:
        return f"the evidence has changed since {answer.by} answered; the gate has to be asked anew"
    return ""
