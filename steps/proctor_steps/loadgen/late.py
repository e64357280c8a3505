"""How many queries of a Server run may be late, and what a short run says of a long one.

LoadGen's rule (early stopping): a run passes if so few late queries would turn up with a
probability of 1 % at most, were the true share of late ones what the percentile leaves (1 % for the
99th). So a run may have fewer of them than 1 %, and a short one none.

Late queries come in bursts: one full queue makes many of them. A burst counts here as one event,
or a few thousand queries would look like far more evidence than they are.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

# Of LoadGen's early stopping; not to be set from outside.
_EARLY_STOPPING = 0.99
# What is called certain enough here: of a verdict, of an interval's either side, of the margin.
CONFIDENCE = 0.95
_NEVER = math.log(1e-9)
_NORMAL = NormalDist()
SIGMAS = _NORMAL.inv_cdf(CONFIDENCE)


def allowed(queries: int, percentile: float) -> int:
    """Most late queries with which LoadGen calls a run of so many VALID; -1: not even none.

    Args:
        percentile: 0..1.
    """
    share = 1 - percentile
    found, below = -1, 0.0
    for late in range(queries + 1):
        below += math.exp(_log_binomial(queries, late, share))
        if below > 1 - _EARLY_STOPPING:
            break
        found = late
    return found


def fewest(late: int, percentile: float) -> int:
    """Queries from which on LoadGen allows so many late ones.

    Args:
        percentile: 0..1.
    """
    enough = 1
    while allowed(enough, percentile) < late:
        enough *= 2
    return bisect_left(range(enough), late, key=lambda queries: allowed(queries, percentile))


def most_at_once(mean: float) -> int:
    """What a Poisson count exceeds with a chance of 1e-9: of LoadGen's arrivals in a length of time
    in which ``mean`` come on average. Few of them crowd together far more than many do."""
    count = math.ceil(mean)
    # The terms of the tail shrink at least by mean / (count + 1) each.
    while (
        count * math.log(mean) - mean - math.lgamma(count + 1) - math.log1p(-mean / (count + 1))
        > _NEVER
    ):
        count += 1
    return count


def interval(late: int, queries: int, burst: float) -> tuple[float, float]:
    """The share of late queries: Wilson's binomial interval, 95 % on either side.

    Args:
        burst: late queries that come together; so much less the queries tell.
    """
    n = max(1.0, queries / burst)
    p, z = late / queries, SIGMAS
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if not late else max(0.0, (middle - half) / scale)
    return low, min(1.0, (middle + half) / scale)


def burst(latencies: npt.NDArray[np.int64], limit: float, percentile: float, gap: int) -> float:
    """Mean size of the burst that a late query is part of; 1 where each comes alone.

    Where hardly a query is late, those above the run's own percentile stand in: a queue's longest
    waits come together in the same way, whatever the height from which they are counted.

    Args:
        latencies: in the order of the run.
        limit: in the unit of ``latencies``.
        gap: late queries that are further apart, counted in queries, belong to different bursts.
    """
    if not len(latencies):
        return 1.0
    late = np.flatnonzero(latencies > min(limit, float(np.quantile(latencies, percentile))))
    if not len(late):
        return 1.0
    starts = np.flatnonzero(np.diff(late, prepend=-gap - 1) > gap)
    sizes = np.diff(starts, append=len(late))
    return float((sizes**2).sum() / sizes.sum())


def chance(late: int, queries: int, burst: float, whole: int, room: int) -> float:
    """Probability that a run of ``whole`` queries, of which these are the first, has ``room`` late
    ones at most.

    In the rest bursts are taken to come independently at an unknown rate, of which the beginning
    tells (Jeffreys' prior): a beta-binomial distribution.
    """
    if late > room:
        return 0.0
    rest = round(max(0, whole - queries) / burst)
    a, b = late / burst + 0.5, (queries - late) / burst + 0.5
    few = range(min(rest, int((room - late) / burst)) + 1)
    logs = [_log_choose(rest, k) + _log_beta(k + a, rest - k + b) - _log_beta(a, b) for k in few]
    return min(1.0, float(np.exp(logs).sum()))


def again(late: int, burst: float, room: int) -> float:
    """Probability that a run has ``room`` late queries at most, after one like it had ``late``.

    Both have the same arrivals, as LoadGen's seeds are fixed; what differs is the system. The
    number of bursts is taken to vary as that of independent events does, by its square root.
    """
    if late > room:
        return 0.0
    return 1.0 if not late else _NORMAL.cdf((room + 0.5 - late) / math.sqrt(burst * late))


def _log_binomial(n: int, k: int, p: float) -> float:
    return _log_choose(n, k) + k * math.log(p) + (n - k) * math.log1p(-p)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
