"""The stage ``sut serve``: a model behind an HTTP server, until it is told to stop."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import uvicorn
from pydantic import Field, PositiveInt

from proctor_steps.benchmarks.base import Array, Signature, Tensor
from proctor_steps.stage import DataError, Stage, StageParams, StepError, StepIO
from proctor_steps.sut import base, protocol
from proctor_steps.sut.base import Backend, BackendName
from proctor_steps.sut.server import BoundedHttp, Limits, Served

_KEEP_ALIVE_S = 120
_GRACE_S = 5
_CONNECTIONS = 1024
# As in the LoadGen process: 5 ms, Python's default, would show in the latencies.
_SWITCH_SECONDS = 0.0002
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _KEPT_BYTES = -1, -3, 1 << 30


class Params(StageParams):
    """Parameters of the stage."""

    backend: BackendName = Field(description="onnxruntime, openvino or torch")
    model: str = Field(
        default="model", pattern=r"^[A-Za-z0-9._-]{1,80}$", description="the model's name in URLs"
    )
    threads: int = Field(default=0, ge=0, description="threads in all; 0: one per usable CPU")
    streams: int = Field(default=1, ge=1, le=256, description="inferences at a time")
    queue: int = Field(
        default=64, ge=0, description="requests that may wait; one more is refused with 503"
    )
    shape: tuple[PositiveInt, ...] | None = Field(
        default=None,
        description="of an input to try the model with; needed where the model leaves more open "
        "than the batch (TorchScript does)",
    )
    request_mib: float = Field(default=256, gt=0, description="largest request, in MiB")
    port: int = Field(
        default=8000, ge=0, le=65535, description="by hand: the port on 127.0.0.1; 0: a free one"
    )


def run(params: Params, io: StepIO) -> None:
    """Load the model, try it, serve until SIGTERM or SIGINT."""
    ending = _Ending()
    with ending.on_signals(), _bound(*_address(params, io)) as listener:
        sys.setswitchinterval(_SWITCH_SECONDS)
        _keep_memory()
        served = _load(params, io.input("model"))
        ending.server = _server(served, lambda: _tell(params, io, listener))
        ending.server.run([listener])
        served.close()
    io.metrics["served"] = dict(served.counts)
    told = ", ".join(f"{count} {what}" for what, count in sorted(served.counts.items()))
    io.say(f"stopped; requests: {told or 'none'}")


def _keep_memory() -> None:
    """Have malloc (glibc's) keep what is freed: getting the pages of each request's and reply's
    megabytes anew from the kernel costs more than all the rest of the server does."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            mallopt(option, _KEPT_BYTES)


def _address(params: Params, io: StepIO) -> tuple[str, int]:
    """Where to listen: where the contract says, by hand on this host alone."""
    listen = io.contract.listen
    if not listen:
        return "127.0.0.1", params.port
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise StepError(f"the contract says to listen at {listen!r}; wanted is HOST:PORT")
    return host.strip("[]"), int(port)


@contextmanager
def _bound(host: str, port: int) -> Generator[socket.socket]:
    """The address is taken before the model is loaded; nobody is let in before it is ready."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise StepError(
                f"cannot listen at {host}:{port}: {error.strerror}; end what is there, or choose "
                "another port"
            ) from error
        yield listener


def _load(params: Params, folder: Path) -> Served:
    backend = base.make(params.backend)
    path = base.locate(folder, backend.formats)
    threads = params.threads or len(os.sched_getaffinity(0))
    backend.load(path, threads, params.streams)
    signature = _tried(backend, params.shape, path.name)
    said = backend.describe()
    about = {k: v if isinstance(v, str) else json.dumps(v, default=str) for k, v in said.items()}
    about |= {"threads": str(threads), "streams": str(params.streams)}
    limits = Limits(params.streams, params.queue, int(params.request_mib * 2**20))
    platform = f"{params.backend}_{path.suffix.removeprefix('.')}"
    return Served(backend, signature, params.model, platform, about, limits)


def _tried(backend: Backend, shape: Sequence[int] | None, name: str) -> Signature:
    """The signature after one inference: only what works is served."""
    told = backend.signature().inputs
    if len(told) > 1:
        raise DataError(f"{name} has {len(told)} inputs; only models with one can be served")
    if not told and not shape:
        raise StepError(f"{name} does not tell its input's shape; give the parameter shape")
    wanted = told[0] if told else Tensor("input", (None, *(shape or ())[1:]), "float32")
    tried = shape or tuple(size or 1 for size in wanted.shape)
    if not shape and None in wanted.shape[1:]:
        raise StepError(f"{name} leaves more than the batch open; give the parameter shape")
    try:
        outputs = backend.infer(np.zeros(tried, wanted.dtype))
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{name} cannot be run on an input of shape {tried}: {first}") from error
    signature = Signature(_named([wanted], "input"), _outputs(backend, outputs, wanted))
    for tensor in (*signature.inputs, *signature.outputs):
        protocol.metadata(tensor)
    return signature


def _outputs(backend: Backend, found: Sequence[Array], wanted: Tensor) -> tuple[Tensor, ...]:
    """As the backend tells them, else as they came."""
    told = backend.signature().outputs
    if not told:
        free = wanted.shape[:1] == (None,)
        told = tuple(
            Tensor("", ((None, *a.shape[1:]) if free and a.ndim else a.shape), a.dtype.name)
            for a in found
        )
    return _named(told, "output")


def _named(tensors: Sequence[Tensor], word: str) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(tensor.name or f"{word}{i}", tensor.shape, tensor.dtype)
        for i, tensor in enumerate(tensors)
    )


class _Server(uvicorn.Server):
    """uvicorn's, but it tells when it listens, and leaves signals to the step."""

    ready: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell."""
        await super().startup(sockets)
        self.ready()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """None."""
        yield


def _server(served: Served, ready: Callable[[], None]) -> _Server:
    settings: dict[str, Any] = {
        "http": BoundedHttp,
        "loop": "uvloop",
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "date_header": False,
        "limit_concurrency": _CONNECTIONS,
        "timeout_keep_alive": _KEEP_ALIVE_S,
        "timeout_graceful_shutdown": _GRACE_S,
    }
    server = _Server(uvicorn.Config(served.app(), **settings))
    server.ready = ready
    return server


def _tell(params: Params, io: StepIO, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    io.say(f"serving {params.model} at http://{host}:{port}/v2/models/{params.model}")
    io.progress(1, 1, "", f"ready at {host}:{port}")


class _Ending:
    """What a signal does: it ends the server in order; before there is one, the step."""

    server: uvicorn.Server | None = None

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self.server is None:
            name = signal.Signals(number).name
            raise StepError(f"stopped by {name} before the model was ready")
        self.server.should_exit = True

    @contextmanager
    def on_signals(self) -> Generator[None]:
        """Handled from here on: the first process of a container does not die by itself."""
        kept = {n: signal.signal(n, self._end) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)


STAGE = Stage(
    "sut serve",
    "Serve a model over HTTP (Open Inference Protocol) until SIGTERM.",
    Params,
    run,
    inputs={"model": "output of model fetch"},
)
