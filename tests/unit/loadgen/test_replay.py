"""A queue reckoned again, against one that is followed query by query."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from proctor_steps.loadgen import late, replay
from proctor_steps.loadgen.probe import Goal
from proctor_steps.loadgen.replay import Served, Speed

GOAL = Goal(60, 0.99, 250, 600, 0.05, 1e4)
LEVEL = Speed([40.0, 40.0, 40.0])


def run(qps: float, took: float = 40, jitter: float = 0.0) -> Served:
    random = np.random.default_rng(5)
    came = np.cumsum(np.random.default_rng(7).exponential(1e3 / qps, GOAL.queries(qps)))
    return Served(came, took * np.exp(random.normal(0, jitter, len(came))))


def chance(queue: Served, at: float, qps: float, speed: Speed = LEVEL, goal: Goal = GOAL) -> float:
    return replay.chance([queue], at, qps, speed, goal)


def rate(queue: Served, at: float, speed: Speed = LEVEL) -> tuple[float, float]:
    return replay.rate([queue], at, speed, GOAL)


def followed(queue: Served) -> np.ndarray:
    """When each query is answered: it waits for those before it."""
    free, done = 0.0, []
    for came, took in zip(queue.came, queue.took, strict=True):
        free = max(free, float(came)) + float(took)
        done.append(free)
    return np.array(done)


@pytest.mark.parametrize("load", [0.3, 0.8, 1.1])
def test_late_queries_are_those_of_the_queue(load: float) -> None:
    queue = run(25 * load, jitter=0.3)
    done = followed(queue)
    assert queue.late(250) == (done - queue.came > 250).sum()
    assert load < 1 or queue.late(250) > 0
    # What was seen of it is enough to say what each one took.
    again = Served.of((1e6 * np.stack([queue.came, done], axis=1)).astype(np.int64))
    assert again.took == pytest.approx(queue.took, abs=1e-4)


def test_without_noise_a_run_is_valid_or_not() -> None:
    rates = np.linspace(6, 20, 15)
    chances = [chance(run(20), 20, float(qps)) for qps in rates]
    assert set(chances) == {0.0, 1.0}
    assert chances == sorted(chances, reverse=True)
    qps, found = rate(run(20), 20)
    assert found == 1.0
    assert run(qps).late(250) <= late.allowed(GOAL.queries(qps), 0.99)
    assert chance(run(20), 20, qps / 0.97) == 0.0


def test_what_varies_costs_rate() -> None:
    uneven, few = Speed([38.0, 40.0, 42.0] * 4), Speed([38.0, 40.0, 42.0])
    assert few.noise == uneven.noise
    # From few runs less is known, and so less is dared.
    assert rate(run(20), 20, few) < rate(run(20), 20, uneven) < rate(run(20), 20)
    assert rate(run(20, jitter=0.4), 20) < rate(run(20), 20)


def test_what_happened_in_another_run_may_happen_in_the_next() -> None:
    """The run that held is the one in which nothing came in between."""
    calm, stalled = run(20), run(20)
    stalled.took[100:110] = 80.0
    alone = replay.rate([calm], 20, LEVEL, GOAL)
    assert replay.rate([calm, stalled], 20, LEVEL, GOAL) < alone
    assert replay.rate([calm, calm], 20, LEVEL, GOAL) == alone


def test_where_no_rate_will_do_the_best_is_given() -> None:
    stalled = run(20)
    stalled.took[::40] = 400.0
    qps, found = rate(stalled, 20)
    assert found < late.CONFIDENCE
    assert 5 <= qps <= 20


def test_a_run_has_as_many_queries_as_it_must() -> None:
    few = replace(GOAL, seconds=1.0, min_queries=600)
    # A second holds a few queries: all 600 count, and so the crowd among the last of them.
    crowd = run(10, took=10)
    crowd.came[-30:] = crowd.came[-30]
    speed = Speed([10.0] * 3)
    assert chance(crowd, 10, 10, speed, few) == 0.0
    assert chance(run(10, took=10), 10, 10, speed, few) == 1.0


def test_the_next_run_by_those_so_far() -> None:
    measured = [38.0, 40.0, 42.0, 40.0]
    speed = Speed(measured)
    scale = speed.noise * np.sqrt(4 / 3) * np.sqrt(1 + 1 / 4)
    for factor in (0.75, 0.98, 1, 1.04, 1.5):
        wanted = stats.t.cdf((factor - 1) / scale, 3)
        assert speed.within(factor) == pytest.approx(wanted, abs=1e-4)
    assert (LEVEL.within(0.999), LEVEL.within(1)) == (0.0, 1.0)
    assert (Speed([40.0]).within(0.9), Speed([40.0]).within(1)) == (0.0, 1.0)
