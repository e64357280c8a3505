"""A Server run's queue, reckoned again: at a lower rate, and with the system faster or slower.

LoadGen's arrivals are the same in every run, as its seeds are fixed; at half the rate they come
twice as far apart. What differs is the system's speed: within a run, where it happens to be slow
just when many queries come at once, and from run to run. Both are as measured: the times per query
of each full-length run near the rate are moved along the arrivals (of all of them: the one that
held is the one that nothing happened to), and a whole run is taken to be as fast as the others
were, give or take what these varied (Student's t: from few runs little is known of the next one).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proctor_steps.loadgen import late
from proctor_steps.loadgen.probe import Goal

# Places along the arrivals to which the times per query are moved; fewer where each costs much.
_PLACES, _FEWEST, _QUERIES = 32, 2, 4_000_000
# The factor of speed at which a run is only just VALID is looked for between its ends, so exactly.
_FASTEST, _SLOWEST, _EXACT = 0.5, 2.0, 0.002
# Rates are tried downward in such steps, then between the last two, and none that is so much lower
# than the first.
_STEPS, _LEAST = (0.9, 0.99), 0.25
# Of a normal distribution: its standard deviation over its mean distance from the middle.
_PER_DISTANCE = math.sqrt(math.pi / 2)


def noise(measured: Sequence[float]) -> float:
    """How much a figure varies from run to run: a relative standard deviation, from the mean
    distance to the median, in which a single disturbed run counts for less."""
    middle = float(np.median(measured))
    return float(np.abs(np.asarray(measured) - middle).mean()) / middle * _PER_DISTANCE


@dataclass(frozen=True)
class Speed:
    """What is known of the milliseconds that a query takes on the mean in the next run.

    ``measured``: in the runs so far, without the wait.
    """

    measured: Sequence[float]

    @property
    def noise(self) -> float:
        """Relative, one sigma."""
        return noise(self.measured)

    @property
    def middle(self) -> float:
        """Milliseconds."""
        return float(np.median(self.measured))

    def within(self, factor: float) -> float:
        """Probability that the next run's mean is at most so many times the middle one."""
        runs, noise_ = len(self.measured), self.noise
        if not noise_:
            return float(factor >= 1)
        # The distances are from the runs' own middle, and so a little too small.
        scale = noise_ * math.sqrt(runs / (runs - 1)) * math.sqrt(1 + 1 / runs)
        return _student((factor - 1) / scale, runs - 1)


@dataclass(frozen=True)
class Served:
    """A run's queries, served by one worker in the order in which they came.

    ``came``, ``took``: milliseconds of each, shape (queries,). ``took`` is without the wait for
    others, but with all that kept the worker from the next one.
    """

    came: npt.NDArray[np.float64]
    took: npt.NDArray[np.float64]

    @classmethod
    def of(cls, seen: npt.NDArray[np.int64]) -> Served:
        """As seen: when each query came and was answered, in ns, shape (queries, 2)."""
        came, done = seen.T / 1e6
        took = done - came
        took[1:] = done[1:] - np.maximum(came[1:], done[:-1])
        return cls(came, took)

    def late(self, limit_ms: float) -> int:
        """Queries that are answered later than the limit."""
        total = np.cumsum(self.took)
        done = total + np.maximum.accumulate(self.came - (total - self.took))
        return int((done - self.came > limit_ms).sum())


def chance(runs: Sequence[Served], at: float, qps: float, speed: Speed, goal: Goal) -> float:
    """Probability that a run of the full length is VALID at a rate.

    Args:
        runs: of the full length, each as fast on the mean as the middle one of ``speed``; the
            arrivals are the first one's.
        at: the first one's rate, the same as ``qps`` or higher.
    """
    came = (runs[0].came - runs[0].came[0]) * (at / qps)
    # LoadGen goes on until both are enough.
    count = max(goal.min_queries, int(np.searchsorted(came, 1e3 * goal.seconds)))
    came = came[:count]
    room = late.allowed(len(came), goal.percentile)
    places = max(1, min(_PLACES, max(_FEWEST, _QUERIES // len(came))) // len(runs))
    found = 0.0
    for run in runs:
        for place in range(places):
            first = place * len(run.took) // places
            took = np.take(run.took, np.arange(first, first + len(came)), mode="wrap")
            factor = _just_valid(Served(came, took), goal.limit_ms, room)
            found += speed.within(factor) if factor else 0.0
    return found / (places * len(runs))


def rate(runs: Sequence[Served], at: float, speed: Speed, goal: Goal) -> tuple[float, float]:
    """The highest rate at which a run is VALID with 95 %, and that probability; where there is
    none, the rate with the highest one.

    Args:
        runs, at, speed: as of :func:`chance`.
    """
    start, best = at, (at, -1.0)
    for step in _STEPS:
        qps = start
        while qps >= _LEAST * at:
            tried = (qps, chance(runs, at, qps, speed, goal))
            if tried[1] >= late.CONFIDENCE:
                best = tried
                break
            best = max(best, tried, key=lambda pair: pair[1])
            start, qps = qps, qps * step
    return best


def _just_valid(run: Served, limit_ms: float, room: int) -> float:
    """The factor on the time per query up to which no more are late than may be; 0: none is."""

    def holds(factor: float) -> bool:
        return Served(run.came, factor * run.took).late(limit_ms) <= room

    low, high = _FASTEST, _SLOWEST
    if not holds(low):
        return 0.0
    if holds(high):
        return high
    while high / low > 1 + _EXACT:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _student(t: float, freedom: int) -> float:
    """Distribution function of Student's t, by the substitution that makes its tail finite:
    t = sqrt(freedom) tan(angle)."""
    angles = np.linspace(0, math.atan(abs(t) / math.sqrt(freedom)), 257)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    density = scale / math.sqrt(math.pi) * np.cos(angles) ** (freedom - 1)
    half = float(np.trapezoid(density, angles))
    return min(1.0, 0.5 + half) if t >= 0 else max(0.0, 0.5 - half)
