"""A Server system that is reckoned, not run: LoadGen's arrivals and one queue, in no time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from proctor_steps.loadgen import late
from proctor_steps.loadgen.probe import Goal, Seen


@dataclass
class Simulated:
    """First come, first served, by one worker; ``clock`` goes on by what a run would take.

    Arrivals are a Poisson process with the same seed in each run, as LoadGen's are. ``jitter``:
    the spread of a query's service time, ``drift``: of a whole run's speed; ``stalls``: per second,
    each of ``stall_s``, in which nothing is served; ``told``: when each query was answered is
    known.
    """

    goal: Goal
    service_s: float
    jitter: float = 0.05
    drift: float = 0.01
    stalls: float = 0.0
    stall_s: float = 0.0
    told: bool = True
    seed: int = 1
    start: float = 0.3
    overhead_s: float = 2.0
    clock: float = 0.0
    asked: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)

    def measure(self, qps: float | None, seconds: float, whole: bool) -> Seen:
        """As the stage does, with the limit on queries outstanding."""
        rate = self.start / self.service_s if qps is None else qps
        self.asked.append((rate, seconds))
        queries = self.goal.queries(rate) if whole else max(1, int(seconds * rate))
        most = self.goal.most_outstanding(rate) if qps else queries
        speed = float(np.exp(self._random.normal(0, self.drift)))
        arrivals = np.cumsum(np.random.default_rng(7).exponential(1 / rate, queries))
        done, service = self._served(arrivals, speed, most)
        arrivals, cut = arrivals[: len(done)], len(done) < queries
        taken = done - arrivals
        limit = self.goal.limit_ms / 1e3
        count = int((taken > limit).sum())
        percentile = float(np.quantile(taken, self.goal.percentile, method="higher"))
        valid = count <= late.allowed(len(taken), self.goal.percentile) and not cut
        served = (1e9 * np.stack([arrivals, done], axis=1)).astype(np.int64)
        self.clock += float(done[-1]) + self.overhead_s
        return Seen(
            qps=rate, duration_s=float(arrivals[-1]), latencies=(taken * 1e9).astype(np.int64),
            late=count, percentile_ms=1e3 * percentile, valid=valid and whole, cut_short=cut,
            service_ms=1e3 * float(service.mean()), served=served if self.told else None,
        )  # fmt: skip

    def holds(self, qps: float, runs: int = 20) -> float:
        """The share of full-length runs at a rate that are VALID."""
        now = self.clock
        valid = [self.measure(qps, self.goal.seconds, True).valid for _ in range(runs)]
        self.clock = now
        return sum(valid) / runs

    def _served(
        self, arrivals: np.ndarray, speed: float, most: int
    ) -> tuple[np.ndarray, np.ndarray]:
        count = len(arrivals)
        service = self.service_s * speed * np.exp(self._random.normal(0, self.jitter, count))
        free, done = 0.0, np.empty(count)
        behind = 0
        stops = iter(self._stalls(float(arrivals[-1])))
        stop = next(stops, np.inf)
        for n in range(count):
            begin = max(free, arrivals[n])
            while begin > stop:
                begin, stop = max(begin, stop + self.stall_s), next(stops, np.inf)
            free = done[n] = begin + service[n]
            while behind < n and done[behind] <= arrivals[n]:
                behind += 1
            if n - behind > most:
                return done[: n + 1], service[: n + 1]
        return done, service

    def _stalls(self, length: float) -> np.ndarray:
        count = self._random.poisson(self.stalls * length)
        return np.sort(self._random.uniform(0, length, count))
