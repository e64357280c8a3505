"""A short measurement before the run, from which LoadGen's expectations are set.

LoadGen prepares queries ahead: about twice the duration over the expected latency, or the expected
rate times the duration. Expecting too slow a system ends the run early and INVALID, so the best of
several windows counts, not their mean.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from proctor_steps.benchmarks.base import Array
from proctor_steps.rounds import LoadgenScenario
from proctor_steps.stage import StepError
from proctor_steps.sut.local import LocalSut

_WINDOWS = 4
_QUERY = {"SingleStream": 1, "MultiStream": 8, "Server": 1}
_OFFLINE_CHUNKS = 4
_LATENCY_MARGIN = 0.8
_QPS_MARGIN = 1.1
# Server: share of the rate of one-by-one answers. Finding the highest is tuning; this is a start
# at which no queue builds up on a machine that also does something else.
_SERVER_LOAD = 0.3
_PATIENCE_S = 600.0


@dataclass(frozen=True)
class Calibration:
    """The expectations: ``latency_ms`` per query, ``qps`` samples per second."""

    latency_ms: float
    qps: float
    queries: int


class _Waiter:
    """Counts answers, and lets one thread wait for a whole query."""

    def __init__(self) -> None:
        self._left = 0
        self._lock = threading.Lock()
        self._done = threading.Event()

    def expect(self, samples: int) -> None:
        self._left = samples
        self._done.clear()

    def complete(self, ids: Sequence[int], payloads: Sequence[Array | None]) -> None:
        with self._lock:
            self._left -= len(ids)
            if self._left <= 0:
                self._done.set()

    def wait(self) -> None:
        if not self._done.wait(_PATIENCE_S):
            raise StepError(f"the model gave no answer within {_PATIENCE_S:g} s")


def warm_up(sut: LocalSut, scenario: LoadgenScenario, seconds: float) -> None:
    """Queries through the very path that will be timed, for ``seconds``, at least two.

    Raises:
        Exception: what the system under test failed with.
    """
    with _Trial(sut, scenario) as trial:
        _repeat(trial, seconds, at_least=2)


def calibrate(sut: LocalSut, scenario: LoadgenScenario, seconds: float) -> Calibration:
    """Measure for about ``seconds``.

    Raises:
        Exception: what the system under test failed with.
    """
    with _Trial(sut, scenario) as trial:
        windows = [_repeat(trial, seconds / _WINDOWS, at_least=2) for _ in range(_WINDOWS)]
    taken = [t for window in windows for t in window]
    rates = [len(window) * trial.size / sum(window) for window in windows]
    if scenario == "Server":
        # The one scenario where expecting too much is what ends it INVALID.
        rate = min(rates) * _SERVER_LOAD * sut.backend.at_once(sut.workers)
    else:
        rate = max(rates) * _QPS_MARGIN
    return Calibration(1e3 * min(taken) * _LATENCY_MARGIN, rate, len(taken))


class _Trial:
    """Queries of the scenario's size over a few samples, outside LoadGen."""

    def __init__(self, sut: LocalSut, scenario: LoadgenScenario) -> None:
        chunks = _OFFLINE_CHUNKS * max(1, sut.workers)
        self.size = _QUERY.get(scenario, chunks * sut.batch)
        self._sut, self._waiter = sut, _Waiter()
        self._samples = list(range(min(sut.task.count, max(self.size, 8), 64)))
        self._next = 0

    def __enter__(self) -> _Trial:
        self._kept = self._sut.complete
        self._sut.complete = self._waiter.complete
        self._sut.load(self._samples)
        self._raise()
        return self

    def __exit__(self, *_: object) -> None:
        self._sut.complete = self._kept
        self._sut.unload(self._samples)
        self._sut.reset()

    def query(self) -> float:
        """Issue one query and wait for it; seconds."""
        indices = [self._samples[(self._next + k) % len(self._samples)] for k in range(self.size)]
        self._next += self.size
        self._waiter.expect(self.size)
        start = time.perf_counter()
        self._sut.issue(list(range(self.size)), indices)
        self._waiter.wait()
        taken = time.perf_counter() - start
        self._raise()
        return taken

    def _raise(self) -> None:
        if self._sut.failure:
            raise self._sut.failure.error


def _repeat(trial: _Trial, seconds: float, at_least: int) -> list[float]:
    taken: list[float] = []
    while len(taken) < at_least or sum(taken) < seconds:
        taken.append(trial.query())
    return taken
