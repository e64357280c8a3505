"""Late queries: LoadGen's rule to the query, intervals and bursts against what they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import betabinom, binom, poisson

from proctor_steps.loadgen import late


@pytest.mark.parametrize(
    ("queries", "most"), [(300, -1), (458, -1), (459, 0), (1500, 6), (15_000, 121)]
)
def test_loadgens_early_stopping(queries: int, most: int) -> None:
    assert late.allowed(queries, 0.99) == most
    assert binom.cdf(most, queries, 0.01) <= 0.01 < binom.cdf(most + 1, queries, 0.01)


@pytest.mark.parametrize(("most", "queries"), [(0, 459), (1, 662), (6, 1453)])
def test_the_fewest_queries_with_so_many_late_ones(most: int, queries: int) -> None:
    assert late.fewest(most, 0.99) == queries
    assert late.allowed(queries - 1, 0.99) == most - 1


def test_an_interval_holds_the_share_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    seen = [late.interval(int(k), 2000, 1.0) for k in random.binomial(2000, 0.008, 2000)]
    assert np.mean([low <= 0.008 for low, _ in seen]) == pytest.approx(0.95, abs=0.02)
    assert np.mean([high >= 0.008 for _, high in seen]) == pytest.approx(0.95, abs=0.02)
    assert late.interval(0, 500, 1.0)[0] == 0.0
    alone, together = late.interval(10, 2000, 1.0), late.interval(10, 2000, 10.0)
    assert together[0] < alone[0] < alone[1] < together[1]


def test_late_queries_that_come_together_are_one_burst() -> None:
    latencies = np.full(10_000, 10)
    latencies[[500, 501, 503, 504, 4000]] = 200
    assert late.burst(latencies, 100, 0.99, gap=5) == pytest.approx((4 * 4 + 1) / 5)
    assert late.burst(latencies, 100, 0.99, gap=1) == pytest.approx((4 + 4 + 1) / 5)
    assert late.burst(np.full(50, 10), 100, 0.99, gap=5) == 1.0
    assert late.burst(np.array([], np.int64), 100, 0.99, gap=5) == 1.0


def test_bursts_are_estimated_where_no_query_is_late() -> None:
    latencies = np.full(1000, 10)
    latencies[200:205] = latencies[700:705] = 50
    assert late.burst(latencies, 100, 0.99, gap=3) == pytest.approx(5)


def test_the_chance_of_the_rest() -> None:
    found = late.chance(3, 500, 1.0, 1500, 6)
    assert found == pytest.approx(betabinom.cdf(3, 1000, 3.5, 497.5), rel=1e-6)
    assert late.chance(7, 500, 1.0, 1500, 6) == 0.0
    assert late.chance(0, 500, 1.0, 300, -1) == 0.0
    assert late.chance(2, 500, 5.0, 1500, 6) < late.chance(2, 500, 1.0, 1500, 6)
    assert late.chance(6, 1500, 1.0, 1500, 6) == 1.0


def test_the_chance_that_a_run_holds_again() -> None:
    assert late.again(0, 3.0, 0) == 1.0
    assert late.again(7, 3.0, 6) == 0.0
    assert 0.5 < late.again(6, 1.0, 6) < late.again(4, 1.0, 6) < late.again(1, 1.0, 6)
    assert late.again(60, 20.0, 121) > 0.95 > late.again(80, 20.0, 121)


@pytest.mark.parametrize("mean", [0.01, 0.5, 1.5, 2.0, 29.3, 2500.0])
def test_so_many_come_at_once_one_time_in_a_billion(mean: float) -> None:
    exact = poisson.isf(1e-9, mean)
    assert exact <= late.most_at_once(mean) <= exact + 2
