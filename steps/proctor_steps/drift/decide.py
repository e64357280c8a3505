"""The sequential rule: one run outside its limits asks for another; three at most decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from proctor_steps.drift.limits import Change, Reference, change, middle, reference
from proctor_steps.drift.settings import Settings

Decision = Literal["steady", "undecided", "drifted"]


@dataclass(frozen=True)
class Judged:
    """One figure of a re-validation. ``chance``: that of its change times the figures that are
    judged together (Bonferroni), 1 at most; ``None`` where there are no limits."""

    change: Change
    decision: Decision
    chance: float | None


def judge(runs: Sequence[float], beside: Reference, family: int, settings: Settings) -> Judged:
    """What the runs of a session, one at least and all positive, decide.

    ``family``: how many figures are judged together, so that the chance of a false alarm is that of
    the whole re-validation.
    """
    found = change(runs, beside)
    chance = None if found.chance is None else min(1.0, family * found.chance)
    return Judged(found, _decision(runs, found, beside, family, settings), chance)


def _decision(
    runs: Sequence[float], found: Change, beside: Reference, family: int, settings: Settings
) -> Decision:
    if len(runs) > 1 and outside(found, settings.alarm, family, settings):
        return "drifted"
    if len(runs) >= settings.most_runs:
        return "steady"
    alone = (change([run], beside) for run in runs)
    asks = any(outside(each, settings.warn, family, settings) for each in alone)
    return "undecided" if asks else "steady"


def outside(found: Change, chance: float, family: int, settings: Settings) -> bool:
    """Whether a change is large, and less likely than ``chance`` where nothing changed."""
    if found.chance is None:
        return abs(found.apart) >= math.log1p(settings.few_change)
    large = abs(found.apart) >= math.log1p(settings.least_change)
    return large and family * found.chance < chance


def not_drifted(
    baseline: float, later: Sequence[Sequence[float]], family: int, settings: Settings
) -> list[bool]:
    """Of the sessions since a baseline, oldest first, which had not drifted from those before.

    Judged again as they were judged then. Only these make limits: what a person was told of and
    left open does not widen them.
    """
    kept, steady = [baseline], []
    for runs in later:
        judged = judge(runs, reference(kept, settings), family, settings)
        steady.append(judged.decision != "drifted")
        if steady[-1]:
            kept.append(middle(runs))
    return steady
