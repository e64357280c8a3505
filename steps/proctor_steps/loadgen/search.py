"""The search for the highest rate at which a Server run is VALID.

A probe is a LoadGen run at one rate, as short as can be. Its verdict is about the run to come, of
the full length, of which it is the beginning: LoadGen's arrivals are the same in every run, as its
seeds are fixed. The probe *meets* the limit if the run to come is VALID with a probability of 95 %,
*misses* it if with 5 % at most. In between there were too few queries to say, and a probe four
times as long follows. One of the full length that leaves it open (VALID, but so close that the
next run may not be) does not count as met.

From a rate that a slow system holds the rate is doubled, or halved, in glances, until one misses.
Then the gap is halved, in ratio, down to the resolution; the lower end must hold in a run of the
full length. The upper end is asked once more, as one stall of the machine may have decided it.

The rate that is given out is lower than the one that held, by what the system's own speed (its time
per query, without the wait) varied in that run and from run to run (:mod:`replay`). So the margin
is measured, and is nothing where nothing varies.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from proctor_steps.loadgen import late, replay
from proctor_steps.loadgen.probe import Goal, Seen, judged
from proctor_steps.loadgen.replay import Served, Speed
from proctor_steps.loadgen.tuning import Ended, Probe
from proctor_steps.stage import StepError

# A probe after one that left it open: four times as many queries halve the interval.
_LONGER = 4
# Rates below a sixteenth of the first are not tried: the first loads the system by a third.
_LOWEST = 1 / 16
# Rates that differ by less are as good as one for how long a query takes without its wait.
# From fewer runs than three nothing is learned of how they vary.
_NEAR, _FEW = 1.25, 3


class OutOfTime(Exception):
    """The budget does not hold what would have to be done next."""


class NeverMet(StepError):
    """No rate that was tried meets the limit."""


# Rate (None: what the system's own calibration says), seconds, whether it is the full-length run.
Measure = Callable[[float | None, float, bool], Seen]


class Budget:
    """Seconds to be spent. What a probe costs beside its own length is learned."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self._now, self._began = seconds, now, now()
        self._beside = 0.0

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return self._now() - self._began

    def afford(self, *lengths: float) -> None:
        """Runs of these lengths must fit in.

        Raises:
            OutOfTime: they do not.
        """
        if self.spent + sum(length + self._beside for length in lengths) > self.seconds:
            raise OutOfTime

    def learn(self, took: float, length: float) -> None:
        """A run of a length took so long."""
        self._beside = max(self._beside, took - length)


@dataclass(frozen=True)
class Found:
    """The outcome of a search. ``held``: the probe that the rate rests on. ``chance``: that a run
    at the rate is VALID, by what was measured; ``None`` where that cannot be reckoned."""

    qps: float
    held: Probe
    ended: Ended
    certain: bool
    noise: float
    margin: float
    chance: float | None


class Search:
    """One search. ``told`` is called with each probe as it ends."""

    def __init__(
        self,
        goal: Goal,
        measure: Measure,
        budget: Budget,
        told: Callable[[Probe], None] = lambda probe: None,
    ) -> None:
        self.goal, self.budget = goal, budget
        self.probes: list[Probe] = []
        self._measure, self._told = measure, told
        self._again: set[float] = set()
        self._runs: list[tuple[Probe, Served]] = []

    def find(self) -> Found:
        """Search until found, or until the budget is spent.

        Raises:
            NeverMet: not even the lowest rate meets the limit, or none did in time.
        """
        ended: Ended = "budget"
        try:
            while self._step():
                pass
            ended = "found" if self.high else "highest"
        except OutOfTime:
            self._confirm()
        held = self._held()
        if held is None:
            raise NeverMet(self._never(ended))
        speed = Speed([probe.service_ms for probe in self._near(held)])
        qps, chance = self._lowered(held, speed)
        certain = held.whole and held.verdict == "meets"
        return Found(qps, held, ended, certain, speed.noise, held.qps / qps - 1, chance)

    # The last word on each rate counts.

    @property
    def low(self) -> Probe | None:
        """The highest rate that was not seen to miss the limit, below all that were."""
        above = self.high.qps if self.high else math.inf
        rest = [probe for probe in self._last.values() if probe.qps < above]
        return max(rest, key=lambda probe: probe.qps, default=None)

    @property
    def high(self) -> Probe | None:
        """The lowest rate that misses it, or leaves it open in a run of the full length."""
        missed = [
            probe
            for probe in self._last.values()
            if probe.verdict == "misses" or (probe.whole and probe.verdict == "unsure")
        ]
        return min(missed, key=lambda probe: probe.qps, default=None)

    @property
    def _last(self) -> dict[float, Probe]:
        tried = [probe for probe in self.probes if probe.qps <= self.goal.highest_qps]
        return {probe.qps: probe for probe in tried}

    @cached_property
    def _first(self) -> Probe:
        """At the rate of the calibration."""
        self.budget.afford(self.goal.shortest)
        first = self._probe(None, self.goal.shortest, whole=False)
        if first.service_ms > self.goal.limit_ms:
            raise NeverMet(
                f"a query takes {first.service_ms:.3g} ms without its wait, more than the limit of "
                f"{self.goal.limit_ms:g} ms, so that no rate can meet it; {_ADVICE}"
            )
        return first

    def _step(self) -> bool:
        """Do what is next; False when nothing is."""
        first = self._first
        low, high = self.low, self.high
        if not self._last:
            self._glance(self.goal.highest_qps)
        elif high is None and low is not None and low.qps < self.goal.highest_qps:
            self._glance(min(2 * low.qps, self.goal.highest_qps))
        elif low is None and high is not None:
            if high.qps / 2 < _LOWEST * first.qps:
                return False
            self._glance(high.qps / 2)
        elif low is None:
            return False
        elif high is not None and high.qps / low.qps > 1 + self.goal.resolution:
            self._ask(math.sqrt(low.qps * high.qps))
        elif not low.whole:
            self._whole(low.qps)
        elif high is not None and not high.whole and high.qps not in self._again:
            self._again.add(high.qps)
            self._ask(high.qps)
        else:
            return False
        return True

    def _glance(self, qps: float) -> None:
        """The shortest probe: only to see whether the rate is far too high."""
        self.budget.afford(self.goal.shortest, self.goal.length(qps))
        self._probe(qps, self.goal.shortest, whole=False)

    def _ask(self, qps: float) -> None:
        """Probe a rate, longer and longer, until there is a verdict."""
        length, seconds = self.goal.length(qps), self.goal.first_length(qps)
        while seconds <= length / _LONGER:
            # What holds then must be confirmed.
            self.budget.afford(seconds, length)
            if self._probe(qps, seconds, whole=False).verdict != "unsure":
                return
            seconds *= _LONGER
        self._whole(qps)

    def _whole(self, qps: float) -> None:
        self.budget.afford(self.goal.length(qps))
        self._probe(qps, self.goal.seconds, whole=True)

    def _confirm(self) -> None:
        """With what is left: the highest rate that may hold, in a run of the full length."""
        try:
            while (held := self._held() or self.low) and not held.whole:
                self._whole(held.qps)
        except OutOfTime:
            return

    def _probe(self, qps: float | None, seconds: float, whole: bool) -> Probe:
        before = self.budget.spent
        seen = self._measure(qps, seconds, whole)
        length = self.goal.length(seen.qps) if whole else seconds
        self.budget.learn(self.budget.spent - before, length)
        probe = judged(seen, length, whole, self.goal)
        if whole and not seen.cut_short and seen.served is not None:
            self._runs.append((probe, Served.of(seen.served)))
        self.probes.append(probe)
        self._told(probe)
        return probe

    def _held(self) -> Probe | None:
        """What the rate rests on: a full-length run with room to spare, else one that was VALID,
        else a shorter one."""
        good = [p for p in self._last.values() if p.verdict == "meets" or (p.whole and p.valid)]
        return max(
            good, key=lambda p: (p.whole and p.verdict == "meets", p.whole, p.qps), default=None
        )

    def _lowered(self, held: Probe, speed: Speed) -> tuple[float, float | None]:
        """The rate to give out, and the chance of a run there. Where the run's queue is not known
        a system that is slower by 2 % is taken to stand at a rate as if that were 2 % higher."""
        near = self._near(held)
        known = [(probe, run) for probe, run in self._runs if probe in near]
        known.sort(key=lambda each: each[0] is not held)
        if not known or known[0][0] is not held:
            return held.qps / (1 + late.SIGMAS * speed.noise), None
        runs = [Served(r.came, r.took * (speed.middle / p.service_ms)) for p, r in known]
        return replay.rate(runs, held.qps, speed, self.goal)

    def _near(self, held: Probe) -> list[Probe]:
        """The probes at rates where the system worked as in this one; all, if these are few."""
        ended = [probe for probe in self.probes if not probe.cut_short]
        near = [p for p in ended if 1 / _NEAR < p.qps / held.qps < _NEAR]
        return near if len(near) >= _FEW else ended

    def _never(self, ended: Ended) -> str:
        last = min(self.probes, key=lambda probe: probe.qps, default=None)
        if last is None:
            return (
                f"the budget of {self.budget.seconds:g} s does not hold a single probe; "
                "give it more (budget_seconds)"
            )
        said = (
            f"at {last.qps:.3g} queries/s {last.share:.2%} of {last.queries} queries took longer "
            f"than {self.goal.limit_ms:g} ms (without its wait, one takes {last.service_ms:.3g} ms)"
        )
        if ended == "budget":
            return (
                f"no rate was found that meets the limit within the budget of "
                f"{self.budget.seconds:g} s: {said}; give it more (budget_seconds)"
            )
        return f"even the lowest rate tried does not meet the limit: {said}; {_ADVICE}"


_ADVICE = (
    "raise server_target_latency_ms (open division), give the step more processors, or take a "
    "smaller model; if the machine does other work meanwhile, stop that"
)
