"""How fast the machine is just now: seconds that a fixed piece of work takes.

Half of the work is arithmetic that needs no memory (PBKDF2, which hashes over and over), half
moves memory that no core's own cache holds (a product of arrays): what a model needs of a machine.
It depends on no input, no random number and no length of the run, so that its seconds compare
between runs of one machine.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median, quantiles
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# About 10 ms each on a core of 2020: long against a thread's start, short against the probe.
_HASHES = 15_000
_PRODUCTS, _NUMBERS = 10, 1 << 20
_LEAST = 5


class Pace(BaseModel):
    """Seconds for the work on each of ``threads``: the median of the repetitions.

    ``spread``: the middle half of them, as a part of the median.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float
    spread: float
    repetitions: int
    threads: int


class Probe(BaseModel):
    """The pace of one core alone, and of all threads together; their slowest counts.

    ``all_threads`` is ``None`` where the run has but one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    one_core: Pace
    all_threads: Pace | None


def probe(threads: int, seconds: float) -> Probe:
    """Measure for about so many seconds on one core, and as long on all threads.

    At least five repetitions each; one before them only warms up.
    """
    one = _pace(1, seconds)
    return Probe(one_core=one, all_threads=_pace(threads, seconds) if threads > 1 else None)


def _pace(threads: int, seconds: float) -> Pace:
    works = [_work() for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:

        def once() -> float:
            began = time.perf_counter()
            if threads == 1:
                works[0]()
            else:
                for _ in pool.map(lambda work: work(), works):
                    pass
            return time.perf_counter() - began

        once()
        took: list[float] = []
        while len(took) < _LEAST or sum(took) < seconds:
            took.append(once())
    middle, quarters = median(took), quantiles(took, n=4)
    return Pace(
        seconds=round(middle, 6),
        spread=round((quarters[2] - quarters[0]) / middle, 4),
        repetitions=len(took),
        threads=threads,
    )


def _work() -> Callable[[], None]:
    """The work of one thread, with memory of its own. Both halves let go of the interpreter."""
    import numpy as np

    left: NDArray[np.float32] = np.full(_NUMBERS, 1.5, np.float32)
    right, out = np.full_like(left, 0.5), np.empty_like(left)

    def work() -> None:
        hashlib.pbkdf2_hmac("sha256", b"fixed work", b"always the same", _HASHES)
        for _ in range(_PRODUCTS):
            np.multiply(left, right, out=out)

    return work
