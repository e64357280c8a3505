"""OpenVINO IR and ONNX models on OpenVINO, on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openvino

from proctor_steps.benchmarks.base import Array, Signature, Tensor
from proctor_steps.stage import DataError
from proctor_steps.sut.base import Backend

_DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "u8": "uint8"}


class OpenVino(Backend):
    """One compiled model; each calling thread has an inference request of its own."""

    formats = ("openvino", "onnx")

    def load(self, model: Path, threads: int, streams: int = 1) -> None:
        """Compile for latency (one stream) or for throughput (several).

        For throughput OpenVINO chooses how many of them the processor serves best.
        """
        several = {"PERFORMANCE_HINT": "THROUGHPUT", "PERFORMANCE_HINT_NUM_REQUESTS": str(streams)}
        one = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
        config = (several if streams > 1 else one) | {"INFERENCE_NUM_THREADS": str(threads)}
        try:
            core = openvino.Core()
            self._compiled = core.compile_model(core.read_model(model), "CPU", config)
        except RuntimeError as error:
            raise DataError(f"OpenVINO cannot read {model.name}: {error}") from error
        self._config = config
        self._own = threading.local()

    def signature(self) -> Signature:
        """As the compiled model has it."""
        return Signature(
            tuple(_tensor(port) for port in self._compiled.inputs),
            tuple(_tensor(port) for port in self._compiled.outputs),
        )

    def infer(self, batch: Array) -> Sequence[Array]:
        """Run this thread's request; input and output are shared with it, not copied."""
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        results = request.infer([batch], share_inputs=True, share_outputs=True)
        return [results[i] for i in range(len(results))]

    def describe(self) -> dict[str, Any]:
        """Version, settings asked for, and the streams and precision that they came to."""
        return {
            "backend": "openvino",
            "version": openvino.__version__,
            "config": self._config,
            "streams": self._compiled.get_property("NUM_STREAMS"),
            "precision": _dtype(self._compiled.get_property("INFERENCE_PRECISION_HINT")),
        }


def _tensor(port: Any) -> Tensor:
    shape = tuple(None if d.is_dynamic else d.get_length() for d in port.get_partial_shape())
    name = port.get_any_name() if port.names else ""
    return Tensor(name, shape, _dtype(port.get_element_type()))


def _dtype(kind: Any) -> str:
    name: str = kind.get_type_name()
    return _DTYPES.get(name, name)
