"""Finds components that live and do nothing: stopped, deadlocked, or cut off from the database.

A component that died is seen by its process. One that hangs is seen by its heartbeats, which
Airflow's API server tells of, and that one by its silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

LOOK_SECONDS = 10.0
# Heartbeats come every 5 s and are missed after 20; a start takes up to 30 on a busy machine.
HUNG_SECONDS = 90.0


@dataclass
class Watchdog:
    """``silent``: asks for the names of the components that were not heard of lately."""

    silent: Callable[[], Collection[str]]
    clock: Callable[[], float] = time.monotonic
    _next: float = 0.0
    _since: dict[str, float] = field(default_factory=dict)

    def hung(self) -> list[str]:
        """The components that have been silent for so long that only a restart can help."""
        now = self.clock()
        if now < self._next:
            return []
        self._next = now + LOOK_SECONDS
        silent = self.silent()
        # While the API server is silent, nobody tells of the others.
        self._since = {name: self._since.get(name, now) for name in sorted(silent)}
        hung = [name for name, since in self._since.items() if now - since >= HUNG_SECONDS]
        for name in hung:
            del self._since[name]
        return hung
