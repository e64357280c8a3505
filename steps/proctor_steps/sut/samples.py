"""The query sample library in memory: samples side by side, as the model takes them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import numpy as np

from proctor_steps.benchmarks.base import Array


class Samples:
    """Samples of one shape in one block: a batch of neighbours is a part of it, not a copy.

    LoadGen asks for neighbours in MultiStream. In Offline, a batch of several is put together in a
    buffer of the calling thread, which is made once.
    """

    def __init__(self) -> None:
        self._rows: Array = np.empty(0)
        self._slots: dict[int, int] = {}
        self._used = self._room = 0
        self._own = threading.local()

    def reserve(self, count: int) -> None:
        """Make room for so many samples more, once the first of them tells its shape."""
        self._room = self._used + count

    def put(self, index: int, sample: Array) -> None:
        """Keep a sample.

        Raises:
            ValueError: it is of another shape or type than those that are here.
        """
        kind, known = (sample.shape, sample.dtype), (self._rows.shape[1:], self._rows.dtype)
        if self._used and kind != known:
            raise ValueError(
                f"sample {index} is {kind[1]} {kind[0]}, those before it are {known[1]} {known[0]}"
            )
        slot = self._slots.get(index, self._used)
        if slot == len(self._rows):
            self._grow(sample)
        self._rows[slot] = sample
        self._slots[index] = slot
        self._used = max(self._used, slot + 1)

    def drop(self, indices: Iterable[int]) -> None:
        """Forget samples; the memory goes with the last one."""
        for index in indices:
            self._slots.pop(index, None)
        if not self._slots:
            self._rows, self._used = np.empty(0), 0

    def batch(self, indices: Sequence[int], size: int) -> Array:
        """Samples with a batch dimension in front; the last one again up to ``size``.

        Valid until this thread's next call.
        """
        slots = self._slots
        first = slots[indices[0]]
        if size == 1:
            return self._rows[first : first + 1]
        taken = [slots[index] for index in indices]
        if taken == list(range(first, first + size)):
            return self._rows[first : first + size]
        taken += taken[-1:] * (size - len(taken))
        # Other modes than "clip" copy twice.
        return self._rows.take(taken, axis=0, out=self._buffer(size), mode="clip")

    def _grow(self, sample: Array) -> None:
        more = max(self._room - self._used, 1)
        rows = np.empty((self._used + more, *sample.shape), sample.dtype)
        if self._used:
            rows[: self._used] = self._rows
        self._rows = rows

    def _buffer(self, size: int) -> Array:
        buffer: Array | None = getattr(self._own, "buffer", None)
        if buffer is None or len(buffer) < size:
            shape = (size, *self._rows.shape[1:])
            buffer = self._own.buffer = np.empty(shape, self._rows.dtype)
        return buffer[:size]
