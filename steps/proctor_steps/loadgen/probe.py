"""One probe of a Server search: what it is asked, what it saw, and its verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proctor_steps.loadgen import late
from proctor_steps.loadgen.tuning import Probe, Verdict

# The shortest probe, as a part of the full length and in seconds: below, it is mostly starting up.
# In it an overload shows; that there is none, it does not prove.
_SHORTEST, _LEAST_S = 1 / 32, 2.0


def shortest(seconds: float) -> float:
    """Seconds of the shortest probe for a run of so many."""
    return max(_LEAST_S, _SHORTEST * seconds)


@dataclass(frozen=True)
class Goal:
    """What the rate is wanted for: the full-length run. ``percentile`` 0..1.

    ``resolution``: the two ends of the search differ by so much at most, relative.
    """

    seconds: float
    percentile: float
    limit_ms: float
    min_queries: int
    resolution: float
    highest_qps: float

    def queries(self, qps: float) -> int:
        """Queries of the full-length run."""
        return max(math.ceil(self.seconds * qps), self.min_queries)

    def length(self, qps: float) -> float:
        """Seconds of the full-length run: longer where the rate makes too few queries."""
        return max(self.seconds, self.queries(qps) / qps)

    def room(self, qps: float) -> int:
        """Late queries that LoadGen allows in the full-length run."""
        return late.allowed(self.queries(qps), self.percentile)

    def most_outstanding(self, qps: float) -> int:
        """Where more queries are outstanding, more are late than the full-length run may have:
        those that are not have come within the limit, and so many at most ever come within it."""
        return self.room(qps) + late.most_at_once(qps * self.limit_ms / 1e3) + 1

    @property
    def shortest(self) -> float:
        """Seconds of the shortest probe."""
        return shortest(self.seconds)

    def first_length(self, qps: float) -> float:
        """The shortest probe that could meet the limit, if none of its queries is late."""
        whole, queries, room = self.length(qps), self.queries(qps), self.room(qps)
        seconds = whole
        while seconds > 2 * self.shortest:
            half = seconds / 2
            if late.chance(0, max(1, int(half * qps)), 1.0, queries, room) < late.CONFIDENCE:
                break
            seconds = half
        return seconds


@dataclass(frozen=True)
class Seen:
    """What a probe saw. ``latencies``: of each query in ns, in the order of the run. ``served``:
    when each came and was answered, in ns, shape (queries, 2), where one worker answered all."""

    qps: float
    duration_s: float
    latencies: npt.NDArray[np.int64]
    late: int
    percentile_ms: float
    valid: bool
    cut_short: bool
    service_ms: float
    served: npt.NDArray[np.int64] | None


def judged(seen: Seen, asked_s: float, whole: bool, goal: Goal) -> Probe:
    """The probe with its verdict on the full-length run."""
    queries, room = max(1, len(seen.latencies)), goal.room(seen.qps)
    gap = math.ceil(seen.qps * goal.limit_ms / 1e3)
    burst = late.burst(seen.latencies, goal.limit_ms * 1e6, goal.percentile, gap)
    low, high = late.interval(min(seen.late, queries), queries, burst)
    if whole:
        chance = late.again(seen.late, burst, room) if seen.valid else 0.0
    else:
        chance = late.chance(min(seen.late, queries), queries, burst, goal.queries(seen.qps), room)
    if seen.cut_short:
        chance = 0.0
    verdict: Verdict = "unsure"
    if chance >= late.CONFIDENCE:
        verdict = "meets"
    elif chance <= 1 - late.CONFIDENCE:
        verdict = "misses"
    return Probe(
        qps=seen.qps, asked_s=asked_s, duration_s=seen.duration_s, queries=queries,
        late=seen.late, share=seen.late / queries, low=low, high=high, burst=burst,
        chance=chance, verdict=verdict, percentile_ms=seen.percentile_ms,
        valid=seen.valid, whole=whole, cut_short=seen.cut_short, service_ms=seen.service_ms,
    )  # fmt: skip
