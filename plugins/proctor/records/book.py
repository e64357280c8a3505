"""The accepted results of a home, and the findings that a person left open: ``baselines/``.

One file of lines, only ever appended to, each chained to the one before and signed with the site's
key: over all that stands in it, so also over its place in the chain. A line holds the whole
measurement, so a baseline outlives its run.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from proctor.records import chain
from proctor.records.approvals import ApprovalInvalid, SigningKey, check_signature
from proctor.records.store import RecordError, now
from proctor_steps.contract import Model, canonical_json, digest
from proctor_steps.history import Measured

_SHORT = 12  # digits of a digest that people read and type


@dataclass(frozen=True, order=True)
class Identity:
    """What results must have in common to be compared. ``system``: the host's name.

    ``precision`` is empty where the backend does not tell it.
    """

    benchmark: str
    scenario: str
    system: str
    backend: str = ""
    precision: str = ""

    def __str__(self) -> str:
        parts = (self.benchmark, self.scenario, self.system, self.backend, self.precision)
        return " · ".join(part for part in parts if part)


class Accepted(Model):
    """A result that is the baseline of its identity."""

    identity: Identity
    measured: Measured


class Answered(Model):
    """The answer at a gate that an entry follows from. ``line``: sha256 of the record's line."""

    pipeline: str
    run: str
    gate: str
    line: str
    via: str


class Entry(Model):
    """One line.

    ``set``: ``accepted`` are the baselines of their identities from now on. ``retired``:
    ``identities`` have none any more. ``opened``: a finding, ``identities`` differ from their
    baselines and a person kept those. ``closed``: the finding ``closes`` is settled.
    ``by`` and ``why``: who said so, and in which words. ``answer``: at which gate, else by hand.
    """

    format: Literal["proctor.baselines/1"] = "proctor.baselines/1"
    seq: int
    prev_digest: str
    at: str
    host: str
    kind: Literal["set", "retired", "opened", "closed"]
    by: str
    why: str = ""
    accepted: tuple[Accepted, ...] = ()
    identities: tuple[Identity, ...] = ()
    closes: str = ""
    answer: Answered | None = None
    signature: str = ""

    @property
    def id(self) -> str:
        """The name of an entry, for people."""
        return digest(self._signed())[:_SHORT]

    def message(self) -> bytes:
        """What is signed: all but the signature."""
        return canonical_json(self._signed())

    def _signed(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"signature"})


@dataclass(frozen=True)
class Baseline:
    """The accepted result of an identity, and the entry that made it so."""

    entry: Entry
    identity: Identity
    measured: Measured

    @property
    def id(self) -> str:
        """Its name, for people: an entry may accept several results."""
        return digest([self.entry.id, self.measured.of])[:_SHORT]


class Book:
    """The book of a home. Whoever reads it checks every line."""

    def __init__(self, home: Path) -> None:
        self.path = home / "baselines" / "lines.jsonl"
        self._key = SigningKey(home)

    def entries(self) -> list[Entry]:
        """Every entry, in order.

        Raises:
            RecordError: the chain does not hold, or a line is not signed with the site's key.
        """
        found = [self._parsed(n, raw) for n, raw in enumerate(chain.raw_lines(self.path), start=1)]
        problems = chain.problems(self.path, Entry.model_validate_json) if found else []
        problems += [f"{self.path}:{e.seq}: {why}" for e in found if (why := self._unsigned(e))]
        if problems:
            raise RecordError(
                f"the baselines were changed: {'; '.join(problems[:3])}; restore the file, or "
                "move it away and set them anew"
            )
        return found

    def add(
        self,
        kind: Literal["set", "retired", "opened", "closed"],
        *,
        by: str,
        why: str = "",
        accepted: Iterable[Accepted] = (),
        identities: Iterable[Identity] = (),
        closes: str = "",
        answer: Answered | None = None,
    ) -> Entry:
        """Write an entry; of one answer, only once: whoever comes again gets the first.

        Raises:
            RecordError: the book was changed; nothing is written behind that.
        """
        with chain.appending(self.path) as (last, write):
            known = self.entries()
            for entry in known:
                if answer and entry.answer and entry.answer.line == answer.line:
                    return entry
            made = Entry(
                seq=len(known) + 1,
                prev_digest=chain.follows(last),
                at=now(),
                host=platform.node(),
                kind=kind,
                by=by,
                why=why,
                accepted=tuple(accepted),
                identities=tuple(identities),
                closes=closes,
                answer=answer,
            )
            signed = made.model_copy(update={"signature": self._key.sign(made.message())})
            write(signed.model_dump_json().encode())
        return signed

    def _parsed(self, number: int, raw: bytes) -> Entry:
        try:
            return Entry.model_validate_json(raw)
        except ValidationError as error:
            first = error.errors()[0]
            raise RecordError(
                f"{self.path}:{number}: no entry that this version reads ({first['msg']}); the "
                "file was damaged or edited: restore it, or move it away"
            ) from error

    def _unsigned(self, entry: Entry) -> str:
        if not self._key.exists():
            return "the site's key is gone, so nothing tells who signed it"
        try:
            check_signature(self._key.public(), entry.signature, entry.message())
        except ApprovalInvalid as error:
            return str(error)
        return ""


def current(entries: Iterable[Entry]) -> dict[Identity, Baseline]:
    """The baseline of each identity that has one, in the order of identities."""
    found: dict[Identity, Baseline] = {}
    for entry in entries:
        for each in entry.accepted:
            found[each.identity] = Baseline(entry, each.identity, each.measured)
        if entry.kind == "retired":
            for identity in entry.identities:
                found.pop(identity, None)
    return dict(sorted(found.items()))


def every(entries: Iterable[Entry]) -> list[Baseline]:
    """Every result that was ever a baseline, oldest first."""
    return [Baseline(entry, a.identity, a.measured) for entry in entries for a in entry.accepted]


def ever(entries: Iterable[Entry], of: Identity) -> list[Baseline]:
    """Those of an identity."""
    return [each for each in every(entries) if each.identity == of]


def open_findings(entries: Iterable[Entry]) -> list[tuple[Entry, tuple[Identity, ...]]]:
    """Findings that nobody has settled, oldest first, and for which identities they are open.

    A later baseline settles them for its identity, as a person's word does for all.
    """
    found: dict[str, tuple[Entry, set[Identity]]] = {}
    for entry in entries:
        if entry.kind == "opened":
            found[entry.id] = (entry, set(entry.identities))
        elif entry.kind == "closed":
            found.pop(entry.closes, None)
        settled = {each.identity for each in entry.accepted}
        for _, left in found.values():
            left -= settled
    return [(entry, tuple(sorted(left))) for entry, left in found.values() if left]
