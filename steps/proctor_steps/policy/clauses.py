"""What one term of a licence or policy says of a purpose, and what all of them come to.

Nothing is permitted that is not stated: where no term permits, or one cannot be judged, a person
has to accept that, with a reason. What a term forbids, nobody can accept here.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from proctor_steps.contract import Purpose

Says = Literal["permits", "met", "duty", "undecided", "forbids"]


@dataclass(frozen=True)
class Clause:
    """One term, and what it says of the purpose.

    ``id``: ``CC-BY-NC-4.0``, ``DUO:0000046``, ``odrl:prohibition``. ``label``: its name, or what
    it holds. ``where``: file and JSON path. ``says``: it ``permits`` the use; it is a condition
    that is ``met``; a ``duty`` that comes with the use; ``undecided``: only a person can tell; it
    ``forbids`` the use. ``reason``: why, for a person.
    """

    id: str
    label: str
    where: str
    says: Says
    reason: str = ""

    @property
    def words(self) -> str:
        """The term and what it says, without its place."""
        named = f"{self.id} ({self.label})" if self.label else self.id
        return f"{named}: {self.reason}" if self.reason else named

    def __str__(self) -> str:
        return f"{self.words} [{self.where}]"

    def as_json(self) -> dict[str, Any]:
        """As ``usage.json`` has it."""
        return asdict(self)


@dataclass(frozen=True)
class Asked:
    """The question: may the data be used for ``purpose`` on ``date`` (``YYYY-MM-DD``, or empty)?

    ``accept``: a person's reason to go on where the terms leave it open; empty: none was given.
    ``asset``: the names of the dataset, where it has some.
    """

    purpose: Purpose
    date: str = ""
    accept: str = ""
    asset: frozenset[str] = frozenset()


def is_date(text: str) -> bool:
    """Whether a text is a day of the calendar, YYYY-MM-DD."""
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def blocking(clauses: Sequence[Clause], ask: Asked, where: str) -> list[Clause]:
    """The terms for which the data may not be used; none where they may.

    ``where``: where a permission was looked for.
    """
    forbidden = [clause for clause in clauses if clause.says == "forbids"]
    if forbidden or ask.accept:
        return forbidden
    return [clause for clause in open_points(clauses, where) if clause.says == "undecided"]


def open_points(clauses: Sequence[Clause], where: str) -> list[Clause]:
    """What only a person can tell: terms that cannot be judged, and that nothing permits."""
    undecided = [clause for clause in clauses if clause.says == "undecided"]
    if not undecided and not any(clause.says == "permits" for clause in clauses):
        reason = "what is not stated is not permitted"
        undecided = [Clause("none", "no permission is stated", where, "undecided", reason)]
    return undecided


def once(clauses: Iterable[Clause]) -> list[Clause]:
    """Each clause once, in order."""
    return list(dict.fromkeys(clauses))
