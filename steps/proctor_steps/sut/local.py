"""The system under test in LoadGen's own process: takes queries, runs the model, answers.

One rule above all: no exception may reach LoadGen, whose C++ threads would take the process down
with it. The first failure is kept, and every query from then on is answered with nothing, so that
the run ends and the failure can be told.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np

from proctor_steps.benchmarks.base import Array, Task
from proctor_steps.sut.base import Backend

# Answers (response id, payload or None) of one chunk of samples.
Complete = Callable[[Sequence[tuple[int, Array | None]]], None]
_FIRST_LATENCIES = 1 << 16


@dataclass(frozen=True)
class Failure:
    """The first exception of a run."""

    error: BaseException
    trace: str


@dataclass
class _Query:
    """A query that is under way: when it was issued and how many samples are outstanding."""

    issued: int
    outstanding: int


class Latencies:
    """Nanoseconds per query, in an array that grows by doubling: a write costs one store."""

    def __init__(self) -> None:
        self._values = np.zeros(_FIRST_LATENCIES, np.int64)
        self.count = 0

    def add(self, nanoseconds: int) -> None:
        """Append one."""
        if self.count == len(self._values):
            self._values = np.concatenate([self._values, np.zeros_like(self._values)])
        self._values[self.count] = nanoseconds
        self.count += 1

    def array(self) -> Array:
        """Those recorded so far."""
        return self._values[: self.count].copy()


class LocalSut:
    """Runs a task on a backend for LoadGen.

    Args:
        batch: samples per inference; a query is cut into chunks of this size.
        workers: 0 answers on the thread that issues (no hand-over, for one query at a time);
            otherwise that many threads take chunks from a queue.
        complete: called with the answers of each chunk; tests give their own.
        beat: called with the number of samples done so far.
        failed: called once, with the first failure.
    """

    def __init__(
        self,
        task: Task,
        backend: Backend,
        *,
        batch: int,
        workers: int,
        complete: Complete,
        beat: Callable[[int], None] = lambda done: None,
        failed: Callable[[Failure], None] = lambda failure: None,
    ) -> None:
        self.task, self.backend = task, backend
        self.batch, self.workers = batch, workers
        self.complete = complete
        self.failure: Failure | None = None
        self.reset()
        self._beat, self._failed = beat, failed
        self._loaded: dict[int, Array] = {}
        self._lock = threading.Lock()
        self._queue: SimpleQueue[tuple[_Query, Sequence[int], Sequence[int]] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"sut-{i}", daemon=True)
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def reset(self) -> None:
        """Forget what was counted and timed so far (after a warm-up)."""
        self.latencies = Latencies()
        self.queries = self.samples = 0

    # -- the query sample library ------------------------------------------------------------

    def load(self, indices: Sequence[int]) -> None:
        """Read and preprocess samples into memory (untimed)."""
        for done, index in enumerate(indices, 1):
            if self.failure:
                return
            try:
                self._loaded[index] = self.task.preprocess(index, self.task.load(index))
            except BaseException as error:
                self._fail(error)
            self._beat(self.samples + done)

    def unload(self, indices: Sequence[int]) -> None:
        """Forget samples."""
        for index in indices:
            self._loaded.pop(index, None)

    # -- queries -----------------------------------------------------------------------------

    def issue(self, ids: Sequence[int], indices: Sequence[int]) -> None:
        """One query of LoadGen: response ids and sample indices."""
        query = _Query(time.perf_counter_ns(), len(ids))
        size = self.batch
        for start in range(0, len(ids), size):
            chunk = (query, ids[start : start + size], indices[start : start + size])
            if self._threads:
                self._queue.put(chunk)
            else:
                self._answer(*chunk)

    def flush(self) -> None:
        """Nothing is held back, so there is nothing to flush."""

    def run(self, indices: Sequence[int]) -> list[Array]:
        """The timed work for one chunk: collate, infer, postprocess, payload."""
        samples = [self._loaded[i] for i in indices]
        if self.task.fixed_batch and len(samples) < self.task.fixed_batch:
            samples += [samples[-1]] * (self.task.fixed_batch - len(samples))
        batch = self.task.collate(samples)
        answers = self.task.postprocess(self.backend.infer(batch), indices)
        return [self.task.payload(i, a) for i, a in zip(indices, answers, strict=True)]

    def close(self) -> None:
        """Stop the worker threads."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout=5)

    def _work(self) -> None:
        while (chunk := self._queue.get()) is not None:
            self._answer(*chunk)

    def _answer(self, query: _Query, ids: Sequence[int], indices: Sequence[int]) -> None:
        payloads: Sequence[Array | None] = [None] * len(ids)
        if self.failure is None:
            try:
                payloads = self.run(indices)
            except BaseException as error:
                self._fail(error)
        self._count(query, len(ids))
        try:
            self.complete(list(zip(ids, payloads, strict=True)))
        except BaseException as error:
            self._fail(error)

    def _count(self, query: _Query, done: int) -> None:
        now = time.perf_counter_ns()
        with self._lock:
            self.samples += done
            query.outstanding -= done
            if query.outstanding == 0:
                self.queries += 1
                self.latencies.add(now - query.issued)
        self._beat(self.samples)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self.failure is not None:
                return
            self.failure = Failure(error, traceback.format_exc())
        self._failed(self.failure)


def loadgen_complete(loadgen: Any) -> Complete:
    """Answers to LoadGen, without a copy: it takes its own before the call returns."""
    response, complete = loadgen.QuerySampleResponse, loadgen.QuerySamplesComplete

    def answer(answers: Sequence[tuple[int, Array | None]]) -> None:
        complete(
            [
                response(id_, 0, 0)
                if payload is None
                else response(id_, payload.__array_interface__["data"][0], payload.nbytes)
                for id_, payload in answers
            ]
        )

    return answer
