"""One module per benchmark: how to load a sample, run the model on it, and score the answers."""

from __future__ import annotations

from importlib import import_module
from typing import Literal, get_args

from proctor_steps.benchmarks.base import Benchmark
from proctor_steps.stage import StepError

BenchmarkName = Literal["yolo", "digits"]


def get(name: str) -> Benchmark:
    """The benchmark of this name; its module (numpy, OpenCV, ...) is imported only now.

    Raises:
        StepError: there is none.
    """
    known = get_args(BenchmarkName)
    if name not in known:
        raise StepError(f"no benchmark {name!r}; known: {', '.join(known)}")
    made: Benchmark = import_module(f"{__name__}.{name}").BENCHMARK
    return made
