"""Constraints of ODRL rules: whether they hold for a purpose on a date.

ODRL Information Model 2.2 (https://www.w3.org/TR/odrl-model/), 2.5 Constraint. ``purpose`` and
``dateTime`` can be judged; whatever else a constraint asks, only a person can tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from proctor_steps.policy import duo
from proctor_steps.policy.clauses import Asked, Clause, is_date
from proctor_steps.policy.jsonld import Node
from proctor_steps.policy.purposes import all_of, any_of, is_a, negated

_MEANS = {"permits": True, "met": True, "duty": True, "forbids": False, "undecided": None}
_ANY = ("eq", "isA", "isPartOf", "isAnyOf")
_NONE = ("neq", "isNoneOf")
_BEFORE: dict[str, Callable[[str, str], bool]] = {
    "lt": lambda date, limit: date < limit,
    "lteq": lambda date, limit: date <= limit,
    "gt": lambda date, limit: date > limit,
    "gteq": lambda date, limit: date >= limit,
    "eq": lambda date, limit: date == limit,
    "neq": lambda date, limit: date != limit,
}
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(T[0-9:.]+)?(Z|[+-]\d\d:\d\d)?")


@dataclass(frozen=True)
class Judged:
    """Whether a constraint holds (``None``: it cannot be judged), and its words with their place.

    ``note``: what it was compared with, where the words do not tell. ``duties``: what it asks for
    after the use, as DUO has terms for that.
    """

    holds: bool | None
    text: str
    where: str
    note: str = ""
    duties: tuple[Clause, ...] = ()


def judge(constraints: Iterable[Node], ask: Asked) -> list[Judged]:
    """Each constraint of a rule; all of them have to hold."""
    return [_one(node, ask) for node in constraints]


def together(found: Sequence[Judged]) -> bool | None:
    """Whether all of them hold."""
    return all_of(judged.holds for judged in found)


def _one(node: Node, ask: Asked) -> Judged:
    for name in ("and", "andSequence", "or", "xone"):
        if parts := node.get(name):
            return _logical(name, judge(parts, ask), node.where)
    left, operator = node.one("leftOperand"), node.one("operator")
    right, sign = node.get("rightOperand"), operator.name if operator else ""
    words = [part.word for part in right]
    name = left.name if left else ""
    text = " ".join(filter(None, (name, sign, ", ".join(words)))) or "a constraint without words"
    holds, note = None, ""
    duties: tuple[Clause, ...] = ()
    # What stands under rightOperandReference has no words either: nothing is fetched.
    if not words or not all(words):
        return Judged(holds, text, node.where, note, duties)
    if name == "purpose" or (not name and all(map(duo.is_duo, words))):
        holds = _purpose(sign, words, ask)
        terms = [duo.clause(word, node.where, ask) for word in words if duo.is_duo(word)]
        duties = tuple(term for term in terms if term.says == "duty" and sign in _ANY)
    elif name == "dateTime" and len(words) == 1:
        holds = _date(sign, words[0], ask)
        note = f"the date of use is {ask.date or 'not given'}"
    return Judged(holds, text, node.where, note, duties)


def _logical(name: str, parts: Sequence[Judged], where: str) -> Judged:
    holds = [part.holds for part in parts]
    duties = tuple(duty for part in parts for duty in part.duties)
    text = f" {name} ".join(part.text for part in parts)
    note = ", ".join(dict.fromkeys(part.note for part in parts if part.note))
    if name == "or":
        return Judged(any_of(holds), text, where, note, duties)
    if name == "xone":
        one = None if None in holds else holds.count(True) == 1
        return Judged(False if holds.count(True) > 1 else one, text, where, note, duties)
    return Judged(all_of(holds), text, where, note, duties)


def _purpose(sign: str, words: Sequence[str], ask: Asked) -> bool | None:
    each = [is_purpose(word, ask) for word in words]
    if sign in _ANY:
        return any_of(each)
    if sign == "isAllOf":
        return all_of(each)
    return negated(any_of(each)) if sign in _NONE else None


def is_purpose(word: str, ask: Asked) -> bool | None:
    """Whether the purpose is what a word says, a DUO term or another."""
    return _MEANS[duo.clause(word, "", ask).says] if duo.is_duo(word) else is_a(ask.purpose, word)


def _date(sign: str, limit: str, ask: Asked) -> bool | None:
    """By days, as the date of use is one: of a limit at some hour of that day nobody can tell."""
    found = _DATE.fullmatch(limit.strip())
    if found is None or not is_date(found[1]) or sign not in _BEFORE or not ask.date:
        return None
    day, hour = found[1], found[2]
    return None if hour and day == ask.date else _BEFORE[sign](ask.date, day)
