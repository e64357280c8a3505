"""Which results may become baselines, and what an answer at a gate makes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from proctor.records.book import Accepted, Answered, Book, Entry, Identity
from proctor.records.measured import Found, measured
from proctor.records.model import Line
from proctor.records.store import RecordStore, RunRecord
from proctor_steps.contract import Approval


@dataclass(frozen=True)
class Candidates:
    """What of a run could become a baseline. ``refused``: what could not, with the reason."""

    accepted: tuple[Accepted, ...]
    refused: tuple[tuple[Found, str], ...]

    @property
    def identities(self) -> tuple[Identity, ...]:
        """All that was measured."""
        every = {each.identity for each in self.accepted}
        return tuple(sorted(every | {found.identity for found, _ in self.refused}))


def why_not(found: Found) -> str:
    """Why a result may not be a baseline, in words without a full stop; "" where it may."""
    told = found.measured
    if found.taken_over:
        return f"it was not measured in this run, but taken over from {told.of}"
    if told.valid is None:
        return "there is no performance run of it that LoadGen has judged"
    if not told.valid:
        return "LoadGen calls it INVALID"
    if told.disturbed:
        return f"the machine was disturbed: {'; '.join(told.disturbed)}"
    return ""


def candidates(
    store: RecordStore, record: RunRecord, steps: Collection[str] | None = None
) -> Candidates:
    """The newest good result of each identity that a run measured.

    Args:
        steps: only what these measured; ``None``: all of the run.

    Raises:
        RecordError: the record cannot be read, or was edited.
    """
    accepted: dict[Identity, Accepted] = {}
    refused: dict[Identity, tuple[Found, str]] = {}
    for found in sorted(measured(store, record, anew=True), key=lambda each: each.measured.at):
        if steps is not None and found.step not in steps:
            continue
        if why := why_not(found):
            refused[found.identity] = (found, why)
        else:
            accepted[found.identity] = Accepted(identity=found.identity, measured=found.measured)
    left = {identity: each for identity, each in refused.items() if identity not in accepted}
    return Candidates(
        tuple(accepted[identity] for identity in sorted(accepted)),
        tuple(left[identity] for identity in sorted(left)),
    )


def line_digest(line: Line) -> str:
    """sha256 of a record's line, byte for byte as it stands there."""
    return hashlib.sha256(line.model_dump_json().encode()).hexdigest()


def meant(line: Line) -> dict[str, list[str]]:
    """What an answer at a gate of baselines must have left in the book, by its own line.

    ``set``: the results that it accepted; ``opened``: those that a finding is open for. Empty
    where it leaves nothing.
    """
    answer, told = line.data.get("answer"), line.data.get("baselines")
    if not isinstance(answer, dict) or not isinstance(told, dict):
        return {}
    results, refused = told.get("results"), told.get("refused")
    good = [str(each) for each in results] if isinstance(results, list) else []
    other = list(refused) if isinstance(refused, dict) else []
    if answer.get("decision") == "kept" and (good or other):
        return {"opened": sorted([*good, *other])}
    if answer.get("decision") == "approved" and answer.get("answered_via") != "cli-yes" and good:
        return {"set": good}
    return {}


def settle(book: Book, record: RunRecord, line: Line, told: Candidates) -> Entry | None:
    """Write into the book what an answer at a gate of baselines means, once for each answer.

    An approval makes results baselines; one by ``--yes`` does not, as nobody has looked. An answer
    that keeps the old ones opens a finding. ``None`` where there is nothing to write.

    Raises:
        RecordError: the book was changed.
    """
    answer = Approval.model_validate(line.data.get("answer"))
    of = Answered(
        pipeline=record.pipeline,
        run=record.run,
        gate=line.step,
        line=line_digest(line),
        via=answer.answered_via,
    )
    if answer.decision == "kept" and told.identities:
        identities = told.identities
        return book.add(
            "opened", by=answer.by, why=answer.comment, identities=identities, answer=of
        )
    if answer.decision == "approved" and answer.answered_via != "cli-yes" and told.accepted:
        return book.add("set", by=answer.by, why=answer.comment, accepted=told.accepted, answer=of)
    return None
