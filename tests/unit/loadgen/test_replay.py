"""A queue reckoned again, against one that is followed query by query."""

from __future__ import annotations

import heapq
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from proctor_steps.loadgen import late, replay
from proctor_steps.loadgen.probe import Goal
from proctor_steps.loadgen.replay import Served, Speed

GOAL = Goal(60, 0.99, 250, 600, 0.05, 1e4)
LEVEL = Speed([40.0, 40.0, 40.0])


def run(qps: float, took: float = 40, jitter: float = 0.0, workers: int = 1) -> Served:
    random = np.random.default_rng(5)
    came = np.cumsum(np.random.default_rng(7).exponential(1e3 / qps, GOAL.queries(qps)))
    return Served(came, took * np.exp(random.normal(0, jitter, len(came))), workers)


def followed(queue: Served, limit_ms: float) -> int:
    """Each query goes to the worker that is free first."""
    free, found = [0.0] * queue.workers, 0
    for came, took in zip(queue.came, queue.took, strict=True):
        done = max(heapq.heappop(free), float(came)) + float(took)
        heapq.heappush(free, done)
        found += done - came > limit_ms
    return found


@pytest.mark.parametrize("jitter", [0.0, 0.3])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_late_queries_are_those_of_the_queue(workers: int, jitter: float) -> None:
    for load in (0.5, 0.8, 1.1):
        queue = run(25 * workers * load, jitter=jitter, workers=workers)
        wanted = followed(queue, 250)
        # Among several workers it is exact where all queries take the same time.
        spread = 0.0 if workers == 1 or not jitter else 0.1 * len(queue.came)
        assert queue.late(250) == pytest.approx(wanted, abs=spread)
    assert queue.late(250) > 0


def test_without_noise_a_run_is_valid_or_not() -> None:
    rates = np.linspace(6, 20, 15)
    chances = [replay.chance(run(20), 20, float(qps), LEVEL, GOAL) for qps in rates]
    assert set(chances) == {0.0, 1.0}
    assert chances == sorted(chances, reverse=True)
    qps, chance = replay.rate(run(20), 20, LEVEL, GOAL)
    assert chance == 1.0
    assert run(qps).late(250) <= late.allowed(GOAL.queries(qps), 0.99)
    higher = replay.chance(run(20), 20, qps / 0.97, LEVEL, GOAL)
    assert higher == 0.0


def test_what_varies_costs_rate() -> None:
    def found(speed: Speed, jitter: float = 0.0) -> float:
        return replay.rate(run(20, jitter=jitter), 20, speed, GOAL)[0]

    uneven, few = Speed([38.0, 40.0, 42.0] * 4), Speed([38.0, 40.0, 42.0])
    assert few.noise == uneven.noise
    # From few runs less is known, and so less is dared.
    assert found(few) < found(uneven) < found(LEVEL)
    assert found(LEVEL, jitter=0.4) < found(LEVEL)
    assert found(Speed([44.0] * 3)) < found(LEVEL)


def test_where_no_rate_will_do_the_best_is_given() -> None:
    stalled = run(20)
    stalled.took[::40] = 400.0
    qps, chance = replay.rate(stalled, 20, LEVEL, GOAL)
    assert chance < late.CONFIDENCE
    assert 5 <= qps <= 20


def test_a_run_has_as_many_queries_as_it_must() -> None:
    few = replace(GOAL, seconds=1.0, min_queries=600)
    # A second holds a few queries: all 600 count, and so the crowd among the last of them.
    crowd = run(10)
    crowd.came[-30:] = crowd.came[-30]
    assert replay.chance(crowd, 10, 10, LEVEL, few) == 0.0
    assert replay.chance(run(10, took=10), 10, 10, LEVEL, few) == 1.0


def test_the_next_run_by_those_so_far() -> None:
    measured = [38.0, 40.0, 42.0, 40.0]
    speed = Speed(measured)
    scale = 40 * speed.noise * np.sqrt(1 + 1 / 4)
    for ms in (30, 39, 40, 41.5, 60):
        assert speed.within(ms) == pytest.approx(stats.t.cdf((ms - 40) / scale, 3), abs=1e-4)
    assert (LEVEL.within(39.9), LEVEL.within(40)) == (0.0, 1.0)
    assert (Speed([40.0]).within(39), Speed([40.0]).within(40)) == (0.0, 1.0)
