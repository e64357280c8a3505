"""What people and the drift step said of a run, from its summary and its record."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from proctor.records.book import Identity
from proctor.records.rows import number, text

_DONE = {"kept": "old baseline kept"}
_MOST_FINDINGS = 5
# Names of benchmarks and figures as people write them; a step may write what it likes.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,79}")


@dataclass(frozen=True)
class Answer:
    """An answer at a gate that counts. ``reviewed``: whether who gave it saw the evidence.

    ``unattended``: it was ``--yes``.
    """

    gate: str
    decision: str
    by: str
    at: str
    reviewed: bool
    unattended: bool = False

    def __str__(self) -> str:
        who = "--yes" if self.unattended else self.by
        unseen = "" if self.reviewed else ", without a review"
        return f"{_DONE.get(self.decision, self.decision)} by {who} at {self.gate}{unseen}"


@dataclass(frozen=True)
class Limits:
    """Between what a figure of an identity was to lie, as a drift step reckoned."""

    identity: Identity
    figure: str
    low: float
    high: float


def answers(summary: Mapping[str, Any]) -> tuple[Answer, ...]:
    """The answers of a run, in the order in which they were given."""
    return tuple(
        Answer(
            gate=text(each.get("gate")),
            decision=text(each.get("decision")),
            by=text(each.get("by")),
            at=text(each.get("at")),
            reviewed=each.get("evidence_reviewed") is True,
            unattended=each.get("answered_via") == "cli-yes",
        )
        for each in _mappings(summary.get("approvals"))
    )


def limits(summary: Mapping[str, Any]) -> tuple[Limits, ...]:
    """What a run's drift steps reckoned, in the order in which they were judged."""
    return tuple(
        Limits(_identity(each), text(each.get("figure")), low, high)
        for judged in _mappings(summary.get("drift"))
        for each in _mappings(judged.get("limits"))
        if (low := number(each.get("low"))) is not None
        and (high := number(each.get("high"))) is not None
    )


def findings(drift: Mapping[str, Any]) -> tuple[str, ...]:
    """What a drift step found that has drifted, in words: names of figures and sizes alone.

    What made it differ is left out: values of parameters may be paths.
    """
    found = [_finding(each) for each in _mappings(drift.get("findings")) if _drifted(each)]
    more = len(found) - _MOST_FINDINGS
    return (*found[:_MOST_FINDINGS], *([f"and {more} more"] if more > 0 else []))


def _drifted(finding: Mapping[str, Any]) -> bool:
    return finding.get("decision") == "drifted"


def _finding(finding: Mapping[str, Any]) -> str:
    series, figure = (_name(finding.get(key)) for key in ("series", "figure"))
    size, direction = number(finding.get("size")), finding.get("direction")
    change = "is not as it was accepted" if size is None else f"{100 * size:+.3g} %"
    word = f" ({direction})" if size is not None and direction in ("worse", "better") else ""
    return f"{series}: {figure.replace('_', ' ')} {change}{word}"


def _name(told: Any) -> str:
    return told if isinstance(told, str) and _NAME.fullmatch(told) else "a figure"


def _identity(told: Mapping[str, Any]) -> Identity:
    empty = asdict(Identity("", "", ""))
    return Identity(**{name: text(told.get(name)) for name in empty})


def _mappings(told: Any) -> Iterator[Mapping[str, Any]]:
    for each in told if isinstance(told, list) else ():
        if isinstance(each, dict):
            yield each
