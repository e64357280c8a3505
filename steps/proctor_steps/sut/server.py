"""A small HTTP server in front of a backend: the Open Inference Protocol over REST.

The event loop only moves bytes: requests are read, checked and answered on as many threads as the
backend may be called by at a time. What cannot be answered is refused with a reason, never with a
traceback, and what would have to wait behind too many others is refused at once.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import JsonValue
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from proctor_steps import __version__
from proctor_steps.benchmarks.base import Array, Signature
from proctor_steps.sut import protocol
from proctor_steps.sut.base import Backend
from proctor_steps.sut.protocol import ALL_BINARY, BINARY, InferRequest, ProtocolError, Wanted

SERVER = "proctor-sut"
VERSION = "1"
_BODY_SECONDS = 30
_MAX_HEAD = 64 << 10


@dataclass(frozen=True)
class Limits:
    """What one server takes: inferences at a time, requests that wait, bytes of a request."""

    streams: int
    queue: int
    request_bytes: int


@dataclass
class Served:
    """A loaded model behind the routes of the protocol.

    ``about``: what the backend says of itself, for the model's metadata. ``counts``: requests
    ``answered``, ``refused`` (the client's fault, or too many at a time) and ``failed``.
    """

    backend: Backend
    signature: Signature
    name: str
    platform: str
    about: dict[str, str]
    limits: Limits
    counts: Counter[str] = field(default_factory=Counter)
    _taken: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.limits.streams, "infer")

    def app(self) -> Starlette:
        """The routes. Errors are JSON, ``{"error": reason}``, as the protocol has them."""
        routes = [
            Route("/v2", _fixed({"name": SERVER, "version": __version__,
                                 "extensions": [protocol.EXTENSION]})),
            Route("/v2/health/live", _fixed({"live": True})),
            Route("/v2/health/ready", _fixed({"ready": True})),
        ]  # fmt: skip
        for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            routes += [
                Route(model, self._metadata),
                Route(f"{model}/ready", self._ready),
                Route(f"{model}/infer", self._infer, methods=["POST"]),
            ]
        return Starlette(routes=routes, exception_handlers={HTTPException: self._refuse})

    def close(self) -> None:
        """Wait for inferences that are under way."""
        self._pool.shutdown(cancel_futures=True)

    async def _refuse(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 (what it is registered for)
        self._count("failed" if error.status_code == 500 else "refused")
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    async def _metadata(self, request: Request) -> Response:
        self._named(request)
        return JSONResponse(
            {
                "name": self.name,
                "versions": [VERSION],
                "platform": self.platform,
                "inputs": [protocol.metadata(t) for t in self.signature.inputs],
                "outputs": [protocol.metadata(t) for t in self.signature.outputs],
                "properties": self.about,
            }
        )

    async def _ready(self, request: Request) -> Response:
        self._named(request)
        return JSONResponse({"name": self.name, "ready": True})

    async def _infer(self, request: Request) -> Response:
        self._named(request)
        room = self.limits.streams + self.limits.queue
        if self._taken >= room:
            raise HTTPException(503, f"{room} requests are under way already; try again later")
        self._taken += 1
        try:
            body, length = await self._body(request)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._answer, body, length)
        finally:
            self._taken -= 1

    def _named(self, request: Request) -> None:
        asked, version = request.path_params["name"], request.path_params.get("version", VERSION)
        if (asked, version) != (self.name, VERSION):
            raise HTTPException(
                404, f"no model {asked[:99]!r}, version {version[:99]!r}; there is {self.name!r}, "
                f"version {VERSION!r}",
            )  # fmt: skip

    async def _body(self, request: Request) -> tuple[memoryview, int]:
        """The body, placed so that the tensor behind its JSON is aligned, and the JSON's length."""
        if request.headers.get("content-encoding", "identity") != "identity":
            raise HTTPException(415, "the body is compressed; send it as it is")
        if int(request.headers.get("content-length", 0)) > self.limits.request_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                parts = await self._parts(request)
        except TimeoutError as error:
            text = f"the body did not come within {_BODY_SECONDS} s"
            raise HTTPException(408, text, {"Connection": "close"}) from error
        except ClientDisconnect as error:
            raise HTTPException(400, "the connection ended before the body did") from error
        size = sum(map(len, parts))
        try:
            length = protocol.json_length(request.headers.get(protocol.JSON_LENGTH), size)
        except ProtocolError as error:
            raise HTTPException(400, str(error)) from error
        body, start = protocol.buffer(size, length), 0
        for part in parts:
            body[start : start + len(part)] = part
            start += len(part)
        return body, length

    async def _parts(self, request: Request) -> list[bytes]:
        parts: list[bytes] = []
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > self.limits.request_bytes:
                raise self._too_large()
            parts.append(part)
        return parts

    def _too_large(self) -> HTTPException:
        # The connection stays open: what is still to come of the body is read and dropped, as a
        # client that is cut off while it sends would not get to see the reason.
        return HTTPException(413, f"the request is larger than {self.limits.request_bytes} bytes")

    # -- on the inference threads --------------------------------------------------------------

    def _answer(self, body: memoryview, length: int) -> Response:
        try:
            asked = protocol.parse(InferRequest, body[:length])
            arrays = protocol.fit(
                protocol.unpack(asked.inputs, body[length:]), self.signature.inputs, "input"
            )
            wanted = self._wanted(asked)
        except ProtocolError as error:
            raise HTTPException(400, str(error)) from error
        try:
            outputs = self.backend.infer(arrays[0])
        except Exception as error:
            raise self._failed(error) from error
        reply = self._reply(asked.id, wanted, outputs)
        self._count("answered")
        return reply

    def _wanted(self, asked: InferRequest) -> list[tuple[int, bool]]:
        """Which outputs, by position, and whether as bytes; all where none is named."""
        names = [tensor.name for tensor in self.signature.outputs]
        said = asked.outputs or [Wanted(name=name) for name in names]
        if unknown := [want.name for want in said if want.name not in names]:
            text = f"the model has no output {unknown[0][:99]!r}; it has {', '.join(names)}"
            raise ProtocolError(text)
        all_binary = asked.parameters.get(ALL_BINARY, False)
        return [(names.index(w.name), w.parameters.get(BINARY, all_binary) is True) for w in said]

    def _reply(
        self, id_: str | None, wanted: Sequence[tuple[int, bool]], outputs: Sequence[Array]
    ) -> Response:
        # The outputs are the thread's until its next call: they are copied once, into the body.
        arrays = [(i, outputs[i], binary) for i, binary in wanted]
        head: dict[str, JsonValue] = {"model_name": self.name, "model_version": VERSION}
        if id_ is not None:
            head["id"] = id_
        names = [tensor.name for tensor in self.signature.outputs]
        head["outputs"] = [protocol.wire(names[i], a, binary) for i, a, binary in arrays]
        try:
            text = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()
        except ValueError as error:
            text_ = "an output holds NaN or infinity, which JSON has not; ask for binary data"
            raise HTTPException(500, text_) from error
        tails = [np.ascontiguousarray(a).data for _, a, binary in arrays if binary]
        if not tails:
            return Response(text, media_type="application/json")
        headers = {protocol.JSON_LENGTH: str(len(text))}
        return Response(b"".join([text, *tails]), 200, headers, "application/octet-stream")

    def _failed(self, error: Exception) -> HTTPException:
        """One traceback for whoever mends it; after that the counter tells."""
        if not self.counts["failed"]:
            traceback.print_exception(error, file=sys.stderr)
        first = (str(error).strip().splitlines() or [""])[0]
        return HTTPException(500, f"the model failed: {type(error).__name__}: {first}"[:1000])

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol, which takes headers of any length, with a limit to them."""

    _head = 0

    def data_received(self, data: bytes) -> None:
        """Count what came since the last whole headers or piece of a body."""
        self._head += len(data)
        super().data_received(data)
        if self._head > _MAX_HEAD and not self.transport.is_closing():
            self.send_400_response(f"The headers are longer than {_MAX_HEAD} bytes.")

    def on_headers_complete(self) -> None:
        """They are whole: count anew."""
        self._head = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """What came was no header."""
        self._head = 0
        super().on_body(body)


def _fixed(content: dict[str, Any]) -> Callable[[Request], Response]:
    async def answer(request: Request) -> Response:
        return JSONResponse(content)

    return answer  # type: ignore[return-value]
