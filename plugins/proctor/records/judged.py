"""What people and the drift step said of a run, from its summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proctor.records.measured import Identity
from proctor.records.rows import text

_VIA_YES = "cli-yes"


@dataclass(frozen=True)
class Answer:
    """An answer at a gate that counts. ``reviewed``: whether who gave it saw the evidence."""

    gate: str
    decision: str
    by: str
    at: str
    reviewed: bool
    unattended: bool = False

    def __str__(self) -> str:
        if self.unattended:
            return f"{self.decision} by --yes at {self.gate}, without a review"
        unseen = "" if self.reviewed else ", without a review"
        return f"{self.decision} by {self.by} at {self.gate}{unseen}"


@dataclass(frozen=True)
class Limits:
    """Between what a figure of an identity was to lie, as a drift step reckoned."""

    identity: Identity
    figure: str
    low: float
    high: float


def answers(summary: Mapping[str, Any]) -> tuple[Answer, ...]:
    """The answers of a run, in the order in which they were given."""
    return tuple(_answers(summary.get("approvals")))


def _answers(told: Any) -> Iterator[Answer]:
    for each in told if isinstance(told, list) else ():
        if isinstance(each, dict):
            yield Answer(
                gate=text(each.get("gate")),
                decision=text(each.get("decision")),
                by=text(each.get("by")),
                at=text(each.get("at")),
                reviewed=each.get("evidence_reviewed") is True,
                unattended=each.get("answered_via") == _VIA_YES,
            )


def limits(summary: Mapping[str, Any]) -> tuple[Limits, ...]:
    """What a run's drift steps reckoned."""
    return ()
