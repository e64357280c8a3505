"""Robust control limits of one figure, from the sessions since its baseline.

A session is what one run of a pipeline measured, once or a few times in a row. Figures are compared
by their logarithms, so that a change is a share and the same up and down.

The centre is the median of the sessions, the scale their median absolute deviation (scipy). One
that is smaller than a usual noise is drawn towards it by as much as the history is short: the
moderated variance and t statistic of Smyth, Stat. Appl. Genet. Mol. Biol. 3 (2004). Runs of one
session share the machine's day, so they count as one observation: what most of them agree on. The
more alike neighbouring sessions are (autocorrelation), the less each of them tells about the
centre.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from proctor_steps.drift.settings import Settings

_MEDIAN_VARIANCE = math.pi / 2  # of a median of normal data, over that of the mean
_SURE = 0.95  # of the interval that is told with a change
_LARGEST = 700.0  # exp() of more is no number


@dataclass(frozen=True)
class Reference:
    """What a figure is compared with, in logarithms.

    ``sessions``: how many made it. ``scale``: of one more session, the centre's uncertainty
    included; ``None`` where there are too few sessions for limits. ``freedom``: its degrees of
    freedom. ``autocorrelation``: that the limits allow for.
    """

    centre: float
    sessions: int
    scale: float | None = None
    freedom: float = 0.0
    autocorrelation: float = 0.0

    @property
    def value(self) -> float:
        """The centre in the figure's own unit."""
        return _exp(self.centre)

    def band(self, chance: float) -> tuple[float, float] | None:
        """The values that a session of an unchanged figure leaves with this chance."""
        if self.scale is None:
            return None
        reach = _quantile(chance / 2, self.freedom) * self.scale
        return _exp(self.centre - reach), _exp(self.centre + reach)


@dataclass(frozen=True)
class Change:
    """A session beside the reference.

    ``apart``: of their logarithms. ``reach``: half the width of its 95 % interval. ``chance``: of
    one as large or larger, either way, where nothing changed. ``None``: not known.
    """

    apart: float
    reach: float | None = None
    chance: float | None = None

    @property
    def size(self) -> float:
        """As a share of the reference: 0.1 is 10 % more."""
        return share(self.apart)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the size, 95 %."""
        if self.reach is None:
            return None
        return share(self.apart - self.reach), share(self.apart + self.reach)


def share(apart: float) -> float:
    """What a difference of logarithms is as a share; the largest are cut to what JSON can say."""
    return math.expm1(min(apart, _LARGEST))


def _quantile(chance: float, freedom: float) -> float:
    """What Student's t exceeds with a chance. The plain function: stats.t costs a hundred times
    as much, for every session of every figure."""
    return -float(special.stdtrit(freedom, chance))


def _exp(value: float) -> float:
    return math.exp(min(value, _LARGEST))


def reference(sessions: Sequence[float], settings: Settings) -> Reference:
    """The reference that these sessions' figures make, the baseline's first, all positive."""
    values = np.log(np.asarray(sessions, float)[: settings.reference_sessions])
    count = len(values)
    if count < settings.few:
        return Reference(float(values[0]), count)
    found = float(stats.median_abs_deviation(values, scale="normal"))
    freedom = settings.scale_weight * (count - 1)
    known, weight = settings.usual_noise**2, settings.usual_weight
    drawn = math.sqrt((weight * known + freedom * found**2) / (weight + freedom))
    # A guess may only widen the limits: on a machine that scatters more than usual, narrower ones
    # than its own history makes would be a false alarm.
    scale = max(found, drawn)
    alike = autocorrelation(values, settings)
    effective = max(1.0, count * (1 - alike) / (1 + alike))
    widened = scale * math.sqrt(1 + _MEDIAN_VARIANCE / effective)
    return Reference(float(np.median(values)), count, widened, weight + freedom, alike)


def autocorrelation(values: NDArray[np.float64], settings: Settings) -> float:
    """Rank correlation of each session with the next, within what the settings allow.

    Of a few observations it comes out too small: Kendall, Biometrika 41 (1954), 403.
    """
    if len(values) < settings.autocorrelation_from or np.ptp(values) == 0:
        return settings.least_autocorrelation
    found = float(stats.spearmanr(values[:-1], values[1:]).statistic)
    if not math.isfinite(found):  # all but one value are the same
        return settings.least_autocorrelation
    found += (1 + 3 * found) / (len(values) - 1)
    return min(max(found, settings.least_autocorrelation), 0.9)


def change(runs: Sequence[float], beside: Reference) -> Change:
    """What a session's runs, all positive, say beside a reference."""
    apart = _agreed([math.log(run) - beside.centre for run in runs])
    if beside.scale is None:
        return Change(apart)
    reach = _quantile((1 - _SURE) / 2, beside.freedom) * beside.scale
    chance = float(2 * special.stdtr(beside.freedom, -abs(apart) / beside.scale))
    return Change(apart, reach, chance)


def middle(runs: Sequence[float]) -> float:
    """The figure of a session, once its limits are not in question."""
    return float(np.median(np.asarray(runs, float)))


def _agreed(apart: Sequence[float]) -> float:
    """How far away most of a session's runs are: of two the nearer one, nothing where they lie on
    either side, so that one run gone wrong is never enough."""
    if len(apart) == 2:
        return min(apart, key=abs) if apart[0] * apart[1] > 0 else 0.0
    return float(np.median(apart))
