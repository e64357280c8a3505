"""ONNX models on ONNX Runtime, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from proctor_steps.benchmarks.base import Array, Signature, Tensor
from proctor_steps.stage import DataError
from proctor_steps.sut.base import Backend

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


class OnnxRuntime(Backend):
    """One session; ONNX Runtime allows calls from several threads."""

    formats = ("onnx",)

    def load(self, model: Path, threads: int, streams: int = 1) -> None:
        """Make the session; every stream gets its share of the threads."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, threads // streams)
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if streams > 1:
            # Threads of one call that spin while they wait take the cores of the other calls.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the library raises a class of its own for every kind
            raise DataError(f"ONNX Runtime cannot read {model.name}: {error}") from error
        self._input = self._session.get_inputs()[0].name
        self._options = options

    def signature(self) -> Signature:
        """As the session has it; named dimensions are free ones."""
        return Signature(
            tuple(_tensor(node) for node in self._session.get_inputs()),
            tuple(_tensor(node) for node in self._session.get_outputs()),
        )

    def infer(self, batch: Array) -> Sequence[Array]:
        """Run the session."""
        outputs: Sequence[Array] = self._session.run(None, {self._input: batch})
        return outputs

    def describe(self) -> dict[str, Any]:
        """Version, providers in effect and threads per call."""
        return {
            "backend": "onnxruntime",
            "version": onnxruntime.__version__,
            "providers": self._session.get_providers(),
            "threads_per_stream": self._options.intra_op_num_threads,
        }


def _tensor(node: Any) -> Tensor:
    shape = tuple(d if isinstance(d, int) and d > 0 else None for d in node.shape)
    return Tensor(node.name, shape, _DTYPES.get(node.type, node.type))
