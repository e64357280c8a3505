"""What a benchmark is to the LoadGen run and to the scorer.

A :class:`Benchmark` is bound to a dataset and a model's signature, which gives a :class:`Task`:
the five verbs load, preprocess, postprocess, payload (and, on the benchmark, score). What is timed
follows from MLPerf's rules: ``load`` and ``preprocess`` run in the query sample library's load,
untimed; putting the batch together, the model, ``postprocess`` and ``payload`` run inside the timed
interval.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Tensor:
    """One input or output of a model. A dimension that is not fixed is ``None``."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a model as its backend sees them; empty where it cannot tell."""

    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Score:
    """What the scorer found. ``value`` lies in 0..1; ``line`` is what the official scorer prints.

    ``details`` are figures for accuracy.json, ``examples`` a few samples for the report. ``low``
    and ``high``: a 95 % interval over the choice of samples, made by ``interval_method``; ``None``
    where it was not asked for, or that says why.
    """

    metric: str
    value: float
    line: str
    details: dict[str, Any] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)
    low: float | None = None
    high: float | None = None
    interval_method: str = ""


class Task(ABC):
    """A benchmark bound to one dataset and one model. Its methods are called by several threads."""

    @property
    @abstractmethod
    def count(self) -> int:
        """Number of samples in the dataset; sample ``i`` is the i-th in the dataset's order."""

    @property
    @abstractmethod
    def fixed_batch(self) -> int | None:
        """The batch size that the model is fixed to, or ``None`` where it takes any."""

    @abstractmethod
    def load(self, index: int) -> Any:
        """Read sample ``index`` from the dataset (untimed)."""

    @abstractmethod
    def preprocess(self, index: int, loaded: Any) -> Array:
        """The model's input for one sample, without the batch dimension (untimed).

        Of the same shape and type for every sample.
        """

    @abstractmethod
    def blank(self) -> Array:
        """An input of the right shape that stands for no sample, to try the model with."""

    @abstractmethod
    def check(self, outputs: Sequence[Array], batch: int) -> None:
        """Raise ``DataError`` where the model's outputs are not what ``postprocess`` expects."""

    @abstractmethod
    def postprocess(self, outputs: Sequence[Array], indices: Sequence[int]) -> list[Any]:
        """One answer per sample from the model's outputs for a batch (timed)."""

    @abstractmethod
    def payload(self, index: int, answer: Any) -> Array:
        """The bytes that go to LoadGen for one sample: a contiguous, writable array (timed)."""


class Benchmark(ABC):
    """One benchmark.

    ``token_streams`` (first token reported apart) and ``ordered`` (queries answered in order) say
    what a benchmark asks of a system under test; one that cannot must refuse it.
    """

    name: str
    config_key: str
    performance_samples: int
    token_streams: bool = False
    ordered: bool = False

    @abstractmethod
    def bind(self, dataset: Path, signature: Signature) -> Task:
        """Open a dataset for a model.

        Raises:
            DataError: the dataset is not complete, or the model is not one for this benchmark.
        """

    @abstractmethod
    def samples(self, dataset: Path) -> int:
        """Number of samples in a dataset."""

    @abstractmethod
    def score(
        self, answers: Sequence[tuple[int, bytes]], dataset: Path, seed: int | None = None
    ) -> Score:
        """Score the payloads, one per sample: ``(index, bytes)`` in any order.

        ``seed``: of the resamples that the interval is made from; without one there is none.

        Raises:
            DataError: a payload that no run of this benchmark can have written.
        """
