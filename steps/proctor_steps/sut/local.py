"""The system under test in LoadGen's own process: takes queries, runs the model, answers.

One rule above all: no exception may reach LoadGen, whose C++ threads would take the process down
with it. The first failure is kept, and every query from then on is answered with nothing, so that
the run ends and the failure can be told.
"""

from __future__ import annotations

import ctypes
import threading
import time
import traceback
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np

from proctor_steps.benchmarks.base import Array, Task
from proctor_steps.sut.base import Backend
from proctor_steps.sut.samples import Samples

# Takes the response ids of one chunk of samples and their payloads (``None``: no answer).
Complete = Callable[[Sequence[int], Sequence[Array | None]], None]


@dataclass(frozen=True)
class Failure:
    """The first exception of a run."""

    error: BaseException
    trace: str


class _Query:
    """A query for the workers: they take chunks from ``starts`` until there are none."""

    __slots__ = ("ids", "indices", "issued", "outstanding", "starts")

    def __init__(self, ids: Sequence[int], indices: Sequence[int], batch: int) -> None:
        self.issued = time.perf_counter_ns()
        self.ids, self.indices = ids, indices
        self.outstanding = len(ids)
        # The interpreter gives each start to one thread only.
        self.starts = iter(range(0, len(ids), batch))


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
        self._library = Samples()
        self._least = task.fixed_batch or 1
        self._lock = threading.Lock()
        self._queue: SimpleQueue[_Query | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"sut-{i}", daemon=True)
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def reset(self) -> None:
        """Forget what was counted and timed so far (after a warm-up)."""
        self._latencies = array("q")
        self._served = array("q")
        self.samples = 0
        self._busy_ns = 0

    @property
    def queries(self) -> int:
        """Queries answered."""
        return len(self._latencies)

    @property
    def latencies(self) -> Array:
        """Nanoseconds of each query answered, from its issue to its last answer."""
        return np.array(self._latencies, np.int64)

    @property
    def served(self) -> Array:
        """When each query that workers answered was issued and when it was answered, in the order
        of issue. Shape (queries, 2), nanoseconds."""
        pairs = np.array(self._served, np.int64).reshape(-1, 2)
        return pairs[np.argsort(pairs[:, 0], kind="stable")]

    @property
    def service_ns(self) -> float:
        """Mean nanoseconds that a sample took of a worker, without its wait; 0 without workers."""
        return self._busy_ns / max(1, self.samples)

    # -- the query sample library ------------------------------------------------------------

    def load(self, indices: Sequence[int]) -> None:
        """Read and preprocess samples into memory (untimed)."""
        self._library.reserve(len(indices))
        for done, index in enumerate(indices, 1):
            if self.failure:
                return
            try:
                self._library.put(index, self.task.preprocess(index, self.task.load(index)))
            except BaseException as error:
                self._fail(error)
            self._beat(self.samples + done)

    def unload(self, indices: Sequence[int]) -> None:
        """Forget samples."""
        self._library.drop(indices)

    # -- queries -----------------------------------------------------------------------------

    def issue(self, ids: Sequence[int], indices: Sequence[int]) -> None:
        """One query of LoadGen: response ids and sample indices."""
        if not self._threads:
            self._answer(ids, indices)
            return
        query = _Query(ids, indices, self.batch)
        for _ in range(min(self.workers, -(-len(ids) // self.batch))):
            self._queue.put(query)

    def flush(self) -> None:
        """Nothing is held back, so there is nothing to flush."""

    def run(self, indices: Sequence[int]) -> list[Array]:
        """The timed work for one chunk: batch, infer, postprocess, payload."""
        task = self.task
        batch = self._library.batch(indices, max(len(indices), self._least))
        answers = task.postprocess(self.backend.infer(batch), indices)
        return list(map(task.payload, indices, answers))

    def close(self) -> None:
        """Stop the worker threads."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout=5)

    def _answer(self, ids: Sequence[int], indices: Sequence[int]) -> None:
        """A whole query on the thread that issues, which is the only one: no lock, no queue."""
        issued = time.perf_counter_ns()
        size, left = self.batch, len(ids)
        for start in range(0, left, size):
            stop = start + size
            payloads = self._payloads(indices[start:stop])
            left -= len(payloads)
            self.samples += len(payloads)
            if not left:
                self._latencies.append(time.perf_counter_ns() - issued)
            self._hand_over(ids[start:stop], payloads)

    def _work(self) -> None:
        while (query := self._queue.get()) is not None:
            for start in query.starts:
                stop = start + self.batch
                began = time.perf_counter_ns()
                payloads = self._payloads(query.indices[start:stop])
                self._count(query, len(payloads), time.perf_counter_ns() - began)
                self._hand_over(query.ids[start:stop], payloads)

    def _count(self, query: _Query, done: int, busy_ns: int) -> None:
        with self._lock:
            self.samples += done
            self._busy_ns += busy_ns
            query.outstanding -= done
            if not query.outstanding:
                answered = time.perf_counter_ns()
                self._served.extend((query.issued, answered))
                self._latencies.append(answered - query.issued)

    def _payloads(self, indices: Sequence[int]) -> Sequence[Array | None]:
        """One for each sample, whatever happens."""
        if self.failure is None:
            try:
                payloads = self.run(indices)
                if len(payloads) == len(indices):
                    return payloads
                raise ValueError(f"{len(payloads)} answers for {len(indices)} samples")
            except BaseException as error:
                self._fail(error)
        return [None] * len(indices)

    def _hand_over(self, ids: Sequence[int], payloads: Sequence[Array | None]) -> None:
        try:
            self.complete(ids, payloads)
        except BaseException as error:
            self._fail(error)
            # A payload that is none: LoadGen has not seen any of this chunk.
            with suppress(BaseException):
                self.complete(ids, [None] * len(ids))
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
    # Three times as fast as ``payload.ctypes.data``; it refuses what is not contiguous.
    address, view = ctypes.addressof, ctypes.c_char.from_buffer

    def reply(id_: int, payload: Any) -> Any:
        if payload is None or not payload.nbytes:
            return response(id_, 0, 0)
        return response(id_, address(view(payload)), payload.nbytes)

    return lambda ids, payloads: complete(list(map(reply, ids, payloads)))
