"""The heartbeat between the LoadGen process and its watcher: a few numbers in a shared file.

The LoadGen process only stores integers into mapped memory. It needs no thread for that: a second
busy thread in that process would show in the latencies.
"""

from __future__ import annotations

import mmap
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

_WORDS = 4
_BYTES = 8 * _WORDS


class Phase(IntEnum):
    """Where the LoadGen process is."""

    STARTING = 0
    LOADING_MODEL = 1
    WARMING_UP = 2
    CALIBRATING = 3
    RUNNING = 4
    FINISHED = 5
    FAILED = 6


class Beat(NamedTuple):
    """One reading. ``total`` is 0 where nobody can know it."""

    phase: Phase
    done: int
    total: int
    ticks: int


class Pulse:
    """The shared numbers. Either side maps the same file."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _BYTES)
        self._words = memoryview(self._map).cast("q")

    def enter(self, phase: Phase, total: int = 0) -> None:
        """Begin a phase."""
        self._words[1], self._words[2] = 0, total
        self._words[0] = int(phase)

    def beat(self, done: int) -> None:
        """``done`` samples so far."""
        self._words[1] = done
        self._words[3] += 1

    def read(self) -> Beat:
        """What the other side stored last."""
        return Beat(Phase(self._words[0]), self._words[1], self._words[2], self._words[3])
