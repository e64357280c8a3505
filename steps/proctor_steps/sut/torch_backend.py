"""TorchScript models on PyTorch, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from proctor_steps.benchmarks.base import Array, Signature
from proctor_steps.stage import DataError
from proctor_steps.sut.base import Backend

_LOAD: Any = torch.jit.load  # without type hints


class Torch(Backend):
    """A TorchScript module, frozen for inference."""

    formats = ("torchscript",)

    def load(self, model: Path, threads: int, streams: int = 1) -> None:
        """Load, freeze; the thread count is the process's and is shared by the streams."""
        self._threads = max(1, threads // streams)
        torch.set_num_threads(self._threads)
        try:
            module = _LOAD(str(model), map_location="cpu").eval()
            # Frozen, its weights are constants of the graph.
            self._types = {str(each.dtype).removeprefix("torch.") for each in module.parameters()}
            self._module = torch.jit.freeze(module)
        except RuntimeError as error:
            first = str(error).strip().splitlines()[0]
            raise DataError(f"{model.name} is no TorchScript module: {first}") from error

    def signature(self) -> Signature:
        """TorchScript does not say which shapes it takes: the benchmark's own are tried."""
        return Signature()

    def infer(self, batch: Array) -> Sequence[Array]:
        """Run the module; the first tensor of a tuple or list comes first."""
        with torch.inference_mode():
            found = self._module(torch.from_numpy(batch))
        tensors = [found] if isinstance(found, torch.Tensor) else list(found)
        return [t.numpy() for t in tensors if isinstance(t, torch.Tensor)]

    def describe(self) -> dict[str, Any]:
        """Version, types of the weights (as far as they are parameters) and threads."""
        return {
            "backend": "torch",
            "version": torch.__version__,
            **({"precision": ", ".join(sorted(self._types))} if self._types else {}),
            "threads_per_stream": self._threads,
        }
