"""Permitted, to be filtered, or refused: what a dataset's metadata comes to for a purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from proctor_steps.policy import licences
from proctor_steps.policy.clauses import Asked, Clause, blocking, once, open_points
from proctor_steps.policy.metadata import Metadata, Part
from proctor_steps.policy.terms import Rule, licence_clauses, usage_clauses

FILE = "usage.json"  # in a dataset that was made for a stated purpose
FORMAT = "proctor.usage/1"


@dataclass(frozen=True)
class LeftOut:
    """What may not be used (``part``, or all that is of none), and the terms for which."""

    clauses: tuple[Clause, ...]
    part: Part | None = None

    @property
    def what(self) -> str:
        """For people: ``2 records of texts``."""
        return self.part.what if self.part else "all other files"

    @property
    def count(self) -> int:
        """How many records, or other parts."""
        return self.part.count if self.part else 0


@dataclass(frozen=True)
class Answer:
    """``clauses``: for which terms it is refused, or which permit it, with conditions that are met.

    ``duties``: what comes with the use. ``accepted``: what a person has taken on, as the terms
    leave it open. ``kept`` of ``total``: of the parts that have terms of their own, 0 where none.
    ``rest``: what is of none of the parts may be used, too. ``dated``: on another day the terms
    may say something else.
    """

    ask: Asked
    verdict: Literal["permitted", "filter", "refused"]
    clauses: tuple[Clause, ...]
    duties: tuple[Clause, ...] = ()
    accepted: tuple[Clause, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    kept: int = 0
    total: int = 0
    rest: bool = True
    dated: bool = False

    def as_json(self) -> dict[str, Any]:
        """As ``usage.json`` has it."""
        return {
            "format": FORMAT,
            "purpose": self.ask.purpose,
            # A day that no term asks for is left out: the same data give the same bytes every day.
            "date": self.ask.date if self.dated else "",
            "verdict": self.verdict,
            "clauses": [clause.as_json() for clause in self.clauses],
            "duties": [clause.as_json() for clause in self.duties],
            "accepted": [clause.as_json() for clause in self.accepted],
            "reason_accepted": self.ask.accept if self.accepted else "",
            "left_out": [
                {
                    "what": each.what,
                    "count": each.count,
                    "clauses": [clause.as_json() for clause in each.clauses],
                }
                for each in self.left_out
            ],
            "kept": self.kept,
            "total": self.total,
        }

    @property
    def refusal(self) -> str:
        """Why it is refused, each term on a line, and what can be done."""
        lines = [f"  {clause}" for clause in self.clauses]
        what = "use other data, or state another purpose"
        if all(clause.says == "undecided" for clause in self.clauses):
            what = (
                "mend the metadata or, where you know that the use is permitted, give the reason "
                "as the step's parameter 'accept'"
            )
        head = f"the data may not be used for {self.ask.purpose}:"
        return "\n".join([head, *lines, what[0].upper() + what[1:] + "."])


def answer(
    found: Sequence[Metadata], ask: Asked, where: str, rule: Rule = licences.clauses
) -> Answer:
    """What all metadata of a dataset come to.

    ``where``: the place that is named where there is none. ``rule``: what counts for licences.
    """
    made = _answer(found, ask, where, rule)
    undated = replace(ask, date="")
    return replace(made, dated=made != replace(_answer(found, undated, where, rule), ask=made.ask))


def _answer(found: Sequence[Metadata], ask: Asked, where: str, rule: Rule) -> Answer:
    place = ", ".join(f"{each.where}: $" for each in found) or where
    licence = [c for each in found for c in licence_clauses(each.terms.licences, ask, rule)]
    ask = replace(ask, asset=frozenset(name for each in found for name in each.asset))
    usage = [c for each in found for c in usage_clauses(each.terms.usage, ask)]
    whole = _Judged(None, [*licence, *usage], place)
    blocked = whole.blocked(ask)
    # What the whole says of its use counts for every part; its licence where a part has none.
    parts = [
        _Judged(part, _of_part(part, licence, usage, ask, rule), part.where)
        for each in found
        for part in each.parts
    ]
    counted = parts if any(each.covered for each in found) else [*parts, whole]
    out = [each for each in counted if each.blocked(ask)]
    left_out = tuple(LeftOut(each.blocked(ask), each.part) for each in out)
    if len(out) == len(counted):
        why = tuple(once(clause for each in left_out for clause in each.clauses))
        return Answer(ask, "refused", why, left_out=left_out if parts else ())
    used = [each for each in counted if each not in out]
    clauses = [clause for each in used for clause in each.clauses]
    return Answer(
        ask,
        "filter" if out else "permitted",
        tuple(once(c for c in clauses if c.says in ("permits", "met"))),
        tuple(once(c for c in clauses if c.says == "duty")),
        tuple(once(c for each in used for c in open_points(each.clauses, each.where))),
        left_out,
        sum(each.count for each in used),
        sum(each.count for each in counted),
        rest=not blocked,
    )


@dataclass(frozen=True)
class _Judged:
    """A part, or the whole, with what all terms that count for it say."""

    part: Part | None
    clauses: list[Clause]
    where: str

    @property
    def count(self) -> int:
        return self.part.count if self.part else 0

    def blocked(self, ask: Asked) -> tuple[Clause, ...]:
        return tuple(once(blocking(self.clauses, ask, self.where)))


def _of_part(
    part: Part, licence: Sequence[Clause], usage: Sequence[Clause], ask: Asked, rule: Rule
) -> list[Clause]:
    own = licence_clauses(part.terms.licences, ask, rule) or list(licence)
    if part.unread:
        reason = "the licence of each record stands in a file of the data, which is not read"
        own = [Clause("license", part.name, part.where, "undecided", reason)]
    return [*own, *usage, *usage_clauses(part.terms.usage, ask)]
