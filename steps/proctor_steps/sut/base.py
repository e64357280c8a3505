"""The one interface that every backend has, and how a backend and a model file are found."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from proctor_steps.benchmarks.base import Array, Signature
from proctor_steps.stage import DataError, StepError

BackendName = Literal["onnxruntime", "openvino", "torch"]

_CLASSES = {
    "onnxruntime": ("onnxruntime_backend", "OnnxRuntime"),
    "openvino": ("openvino_backend", "OpenVino"),
    "torch": ("torch_backend", "Torch"),
}
_SUFFIXES = {".onnx": "onnx", ".xml": "openvino", ".torchscript": "torchscript"}


class Backend(ABC):
    """Runs one model. ``formats``: the formats of ``model.json`` that it reads.

    ``infer`` may be called by several threads at once, at most ``streams`` of them.
    """

    formats: tuple[str, ...]

    @abstractmethod
    def load(self, model: Path, threads: int, streams: int = 1) -> None:
        """Read the model; ``threads`` in all, shared by ``streams`` inferences at a time."""

    @abstractmethod
    def signature(self) -> Signature:
        """Inputs and outputs of the model as this backend sees them."""

    @abstractmethod
    def infer(self, batch: Array) -> Sequence[Array]:
        """Outputs for a batch. They are valid until this thread's next call."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What goes into the record: the library's version and the settings in effect."""

    def at_once(self, workers: int) -> int:
        """How many of so many workers' inferences it really does at a time."""
        return max(1, workers)

    def reset(self) -> None:  # noqa: B027 (most count nothing)
        """Forget what was counted so far (after a warm-up)."""


def make(name: str) -> Backend:
    """A backend by name; its library is imported only now.

    Raises:
        StepError: no such backend, or its library is not installed here.
    """
    if name not in _CLASSES:
        raise StepError(f"no backend {name!r}; known: {', '.join(_CLASSES)}")
    module, class_name = _CLASSES[name]
    try:
        made: Backend = getattr(import_module(f"proctor_steps.sut.{module}"), class_name)()
    except ImportError as error:
        raise StepError(
            f"the backend {name!r} needs a library that is not installed here ({error}); "
            f"use the image proctor/sut-{name}, or install the extra"
        ) from error
    return made


def locate(folder: Path, formats: Sequence[str]) -> Path:
    """The model's file in the output of ``model fetch``, in one of the formats.

    Raises:
        DataError: there is none that the backend reads.
    """
    format_, path = _described(folder) if (folder / "model.json").is_file() else _only_one(folder)
    if format_ not in formats:
        raise DataError(
            f"the model {path.name} has the format {format_}, this backend reads "
            f"{' or '.join(formats)}; choose another backend or another model"
        )
    return path


def _described(folder: Path) -> tuple[str, Path]:
    try:
        said = json.loads((folder / "model.json").read_bytes())
        format_, path = str(said["format"]), folder / str(said["file"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"model.json does not name the format and the file: {error}") from error
    if not path.is_file():
        raise DataError(f"model.json names {said['file']}, which is not in the model's folder")
    return format_, path


def _only_one(folder: Path) -> tuple[str, Path]:
    found = [p for p in sorted(folder.rglob("*")) if p.suffix in _SUFFIXES]
    if len(found) != 1:
        raise DataError(
            f"the model's folder has no model.json and {len(found)} files that could be a model "
            f"({', '.join(p.name for p in found) or 'none'}); give it the output of model fetch"
        )
    return _SUFFIXES[found[0].suffix], found[0]
