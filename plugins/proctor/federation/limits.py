"""How often somebody may do something: a bucket for each, in the memory of one process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

MOST_KEYS = 10_000


@dataclass
class Limit:
    """``burst`` at once, then ``per_second``. Who was not seen longest is forgotten first."""

    burst: float
    per_second: float
    clock: Callable[[], float] = time.monotonic
    _left: OrderedDict[Hashable, tuple[float, float]] = field(default_factory=OrderedDict)

    def wait(self, key: Hashable) -> float:
        """Seconds until ``key`` may act again; 0: now."""
        return max(0.0, (1.0 - self._now(key)) / self.per_second)

    def take(self, key: Hashable) -> float:
        """Count an act; else how many seconds there are to wait, and nothing is counted."""
        left = self._now(key)
        if left < 1.0:
            return (1.0 - left) / self.per_second
        self._left[key] = (left - 1.0, self.clock())
        self._left.move_to_end(key)
        if len(self._left) > MOST_KEYS:
            self._left.popitem(last=False)
        return 0.0

    def _now(self, key: Hashable) -> float:
        left, at = self._left.get(key, (self.burst, self.clock()))
        return min(self.burst, left + (self.clock() - at) * self.per_second)
