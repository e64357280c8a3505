"""The search for a rate, against a reckoned queue whose true limit can be asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from proctor_steps.loadgen import late
from proctor_steps.loadgen.probe import Goal
from proctor_steps.loadgen.replay import noise
from proctor_steps.loadgen.search import Budget, Found, NeverMet, Search

from .simulated import Simulated

SLOW = {"service_s": 0.033}  # a third of a minute holds too few queries to be sure of 1 %


def goal(**given: Any) -> Goal:
    base: dict[str, Any] = {
        "seconds": 60, "percentile": 0.99, "limit_ms": 250, "min_queries": 600,
        "resolution": 0.05, "highest_qps": 10_000,
    }  # fmt: skip
    return Goal(**base | given)


def search(system: Simulated, budget: float = 900) -> tuple[Search, Found]:
    made = Search(system.goal, system.measure, Budget(budget, lambda: system.clock))
    return made, made.find()


@pytest.mark.parametrize(
    ("system", "given"),
    [
        (SLOW, {}),
        ({"service_s": 0.004}, {"limit_ms": 100}),
        ({"service_s": 0.004}, {"seconds": 10, "limit_ms": 30}),
        (SLOW | {"drift": 0.0, "jitter": 0.0}, {}),
    ],
    ids=["slow", "fast", "short", "without noise"],
)
def test_the_rate_holds_and_a_higher_one_does_not(
    system: dict[str, float], given: dict[str, Any]
) -> None:
    held, above = [], []
    for seed in range(4):
        simulated = Simulated(goal(**given), **system, seed=seed)  # type: ignore[arg-type]
        _, found = search(simulated)
        assert found.ended == "found" and found.certain
        held.append(simulated.holds(found.qps))
        above.append(simulated.holds(1.15 * found.qps))
    # One search in twenty may come out a little high.
    assert np.median(held) >= 0.9 and np.mean(held) >= 0.8
    assert np.mean(above) <= 0.1


def test_on_a_machine_that_is_not_steady_the_rate_holds_as_often_as_it_says() -> None:
    """Where a run may have no late query at all, a slower moment in a crowd makes one."""
    held, said = [], []
    for seed in range(6):
        simulated = Simulated(goal(), 0.044, jitter=0.12, drift=0.05, seed=seed)
        _, found = search(simulated)
        assert found.chance is not None
        held.append(simulated.holds(found.qps))
        said.append(found.chance)
    assert np.median(held) >= 0.9
    assert np.mean(held) == pytest.approx(np.mean(said), abs=0.1)


def test_where_the_queue_is_not_known_the_speed_alone_makes_the_margin() -> None:
    _, found = search(Simulated(goal(), **SLOW, drift=0.02, told=False))
    assert found.chance is None
    assert found.margin == pytest.approx(late.SIGMAS * found.noise)


def test_a_long_run_is_found_by_short_ones() -> None:
    simulated = Simulated(goal(seconds=600), **SLOW)
    made, found = search(simulated, 5400)
    assert simulated.holds(found.qps, 5) == 1.0
    short = [probe for probe in made.probes if not probe.whole]
    assert len(short) > len(made.probes) / 2
    assert simulated.asked[0][1] == pytest.approx(600 / 32)


def test_the_margin_is_what_the_speed_varies() -> None:
    quiet = search(Simulated(goal(), **SLOW, drift=0.0))[1]
    loud = search(Simulated(goal(), **SLOW, drift=0.05))[1]
    assert quiet.margin < 0.01
    assert loud.noise > 0.02
    assert loud.margin > 0.05
    assert loud.qps == pytest.approx(loud.held.qps / (1 + loud.margin))
    assert noise([1.0, 1.0, 1.0, 1.4]) < np.std([1.0, 1.0, 1.0, 1.4])


def test_too_few_queries_lead_to_a_longer_probe() -> None:
    made, _ = search(Simulated(goal(seconds=600), **SLOW), 5400)
    pairs = list(zip(made.probes, made.probes[1:], strict=False))
    after = [b for a, b in pairs if a.verdict == "unsure" and a.qps == b.qps]
    assert after
    assert all(probe.asked_s > made.goal.shortest for probe in after)


def test_the_budget_is_kept_and_told() -> None:
    for budget in (100, 130, 160, 190):
        simulated = Simulated(goal(), **SLOW)
        try:
            _, found = search(simulated, budget)
        except NeverMet as error:
            assert "within the budget" in str(error) and "budget_seconds" in str(error)
        else:
            assert found.ended == "budget"
            assert simulated.holds(found.qps) >= 0.5
        # What was not known when the last probe began is how long that one would take to end.
        assert simulated.clock <= budget + 2 * simulated.overhead_s
    with pytest.raises(NeverMet, match="does not hold a single probe"):
        search(Simulated(goal(), **SLOW), 1)


def test_a_system_that_never_meets_the_limit() -> None:
    too_slow = Simulated(goal(limit_ms=20), **SLOW)
    with pytest.raises(NeverMet, match="more than the limit of 20 ms") as told:
        search(too_slow)
    assert "server_target_latency_ms" in str(told.value)
    assert len(too_slow.asked) == 1
    stalls = Simulated(goal(limit_ms=40), **SLOW, stalls=2.0, stall_s=0.3)
    with pytest.raises(NeverMet, match="even the lowest rate tried"):
        search(stalls, 10_000)


def test_a_system_that_always_meets_it() -> None:
    made, found = search(Simulated(goal(highest_qps=50), service_s=0.001))
    assert found.ended == "highest"
    assert found.held.qps == 50 and found.held.whole and found.certain
    assert max(probe.qps for probe in made.probes if probe.qps <= 50) == 50


def test_an_overload_is_cut_short() -> None:
    simulated = Simulated(goal(seconds=600), **SLOW)
    seen = simulated.measure(60.0, 600, True)
    assert seen.cut_short
    # No more than what the full run may have late, and what ever comes within the limit.
    assert simulated.clock < 30
    made, _ = search(Simulated(goal(seconds=600), **SLOW, start=1.8), 5400)
    assert made.probes[1].verdict == "misses"


@pytest.mark.parametrize("qps", [1.0, 5.9, 300.0])
def test_queries_that_are_all_in_time_end_no_run(qps: float) -> None:
    """Whoever answers each one just within the limit has all outstanding that came meanwhile."""
    wanted = goal()
    arrivals = np.cumsum(np.random.default_rng(3).exponential(1 / qps, 50_000))
    came_before = np.searchsorted(arrivals, arrivals - wanted.limit_ms / 1e3)
    outstanding = np.arange(1, len(arrivals) + 1) - came_before
    assert outstanding.max() <= wanted.most_outstanding(qps)


def test_one_stall_does_not_decide() -> None:
    """A glance that a stall spoilt is asked again once the search has come up to it."""
    simulated = Simulated(goal(), **SLOW, drift=0.0)
    real, spoilt = simulated.measure, []

    def stalled(qps: float | None, seconds: float, whole: bool) -> Any:
        seen = real(qps, seconds, whole)
        if qps and not spoilt:
            spoilt.append(qps)
            return type(seen)(**vars(seen) | {"late": 10_000, "cut_short": True})
        return seen

    simulated.measure = stalled  # type: ignore[method-assign]
    made, found = search(simulated, 1800)
    assert spoilt[0] < found.qps
    assert next(p.verdict for p in made.probes if p.qps == spoilt[0]) == "misses"
