"""A slower system under test, for a benchmark of the drift detector alone.

Python imports this at its start where the folder is on PYTHONPATH. Every inference then takes
``BENCHMARK_SLOWER`` of its own time more. The product knows nothing of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proctor_steps.benchmarks.base import Array, Signature
from proctor_steps.sut import base


class Slower(base.Backend):
    """A backend that goes on being busy after each inference."""

    def __init__(self, inner: base.Backend, share: float) -> None:
        self.formats = inner.formats
        self._inner, self._share = inner, share

    def load(self, model: Path, threads: int, streams: int = 1) -> None:
        self._inner.load(model, threads, streams)

    def signature(self) -> Signature:
        return self._inner.signature()

    def infer(self, batch: Array) -> Sequence[Array]:
        began = time.perf_counter()
        outputs = self._inner.infer(batch)
        now = time.perf_counter()
        until = now + self._share * (now - began)
        while time.perf_counter() < until:
            time.sleep(0)  # other workers need the interpreter
        return outputs

    def describe(self) -> dict[str, Any]:
        return self._inner.describe()

    def at_once(self, workers: int) -> int:
        return self._inner.at_once(workers)

    def reset(self) -> None:
        self._inner.reset()


if share := float(os.environ.get("BENCHMARK_SLOWER", "0")):
    plain = base.make
    base.make = lambda name: Slower(plain(name), share)
