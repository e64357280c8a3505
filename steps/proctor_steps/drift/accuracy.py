"""Accuracy beside its baseline: exact for the same logs, by the intervals for others.

An accuracy run answers every sample once, so running again tells nothing new: one run decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from proctor_steps.drift.settings import Settings
from proctor_steps.history import Figure, Measured

NAME = "accuracy"
_WIDTH = 2 * float(stats.norm.isf(0.025))  # of a 95 % interval, in standard errors


@dataclass(frozen=True)
class Scored:
    """What became of an accuracy. ``rule``: of the finding, empty where there is none.

    ``interval``: of the change, as a share. ``chance``: for one figure alone.
    """

    rule: str
    reason: str
    size: float | None
    interval: tuple[float, float] | None = None
    chance: float | None = None


def of(measured: Measured) -> Figure | None:
    """The accuracy among the figures, where it is a number."""
    found = (f for f in measured.figures if f.name == NAME and math.isfinite(f.value))
    return next(found, None)


def compare(
    before: Measured, then: Figure, after: Measured, now: Figure, family: int, settings: Settings
) -> Scored:
    """An accuracy beside the baseline's.

    The intervals are of samples drawn anew each time. Both runs answered the same samples, so the
    difference really varies less: what is told is certain at least as much.
    """
    same_logs = bool(before.output_sha256) and before.output_sha256 == after.output_sha256
    size = _share(then.value, now.value)
    if now.value == then.value:
        what = "the same logs, the same figure" if same_logs else "the same figure"
        return Scored("", what, 0.0)
    if same_logs:
        return Scored("scorer_changed", "the same logs are scored differently", size)
    errors = [_error(then), _error(now)]
    if None in errors or not any(errors):
        return _alone(size, settings)
    error = math.hypot(*(e for e in errors if e is not None))
    apart = now.value - then.value
    chance = float(2 * stats.norm.sf(abs(apart) / error))
    reach = _WIDTH / 2 * error
    span = None if size is None else _ordered(
        _share(then.value, now.value - reach), _share(then.value, now.value + reach)
    )  # fmt: skip
    if family * chance < settings.alarm:
        return Scored("accuracy", "outside what the choice of samples explains", size, span, chance)
    return Scored("", "within what the choice of samples explains", size, span, chance)


def _alone(size: float | None, settings: Settings) -> Scored:
    if size is None or abs(size) >= settings.accuracy_alone:
        return Scored("accuracy", "other than the baseline's; there is no interval", size)
    least = f"{100 * settings.accuracy_alone:g} %"
    return Scored("", f"less than {least} from the baseline's; there is no interval", size)


def _error(figure: Figure) -> float | None:
    """The standard error that an interval says."""
    if figure.low is None or figure.high is None:
        return None
    width = figure.high - figure.low
    return width / _WIDTH if math.isfinite(width) and width >= 0 else None


def _share(before: float, after: float) -> float | None:
    made = after / before - 1 if before else math.nan
    return made if math.isfinite(made) else None


def _ordered(a: float | None, b: float | None) -> tuple[float, float] | None:
    return None if a is None or b is None else (min(a, b), max(a, b))
