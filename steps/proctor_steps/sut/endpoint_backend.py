"""A model behind HTTP: batches go to a server that speaks the Open Inference Protocol.

Each worker thread has a connection of its own, kept open; a reply is read straight into its place.
All that a query costs lies inside its latency: the way there and back, and every try after the
first. A try is repeated only where the connection was refused or lost, or the server had no room
(503), and only so often; whatever else goes wrong fails the run.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
from pydantic import BaseModel, ConfigDict

from proctor_steps.benchmarks.base import Array, Signature
from proctor_steps.stage import DataError, StepError
from proctor_steps.sut import protocol
from proctor_steps.sut.base import Backend
from proctor_steps.sut.protocol import (
    ALL_BINARY,
    JSON_LENGTH,
    InferReply,
    ModelMetadata,
    ProtocolError,
    ServerMetadata,
)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
_MAX_REPLY = 1 << 30
_MAX_ERROR = 1000
_M = TypeVar("_M", bound=BaseModel)


class Service(BaseModel):
    """Where the model is, and how much patience its client has.

    ``same_host``: the server is known to run on this host.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    url: str
    model: str
    connect_seconds: float
    timeout_seconds: float
    retries: int
    same_host: bool


class EndpointError(StepError):
    """The service failed a query for good."""


class _Again(Exception):
    """This try failed in a way that another may not; ``kind``: refused, lost or busy."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Endpoint(Backend):
    """The service's model as a backend."""

    def __init__(self, service: Service) -> None:
        self.service = service
        parts = urlsplit(service.url)
        if parts.scheme != "http" or not parts.hostname or parts.path.strip("/"):
            raise StepError(f"{self._who} is no base URL of the form http://HOST:PORT")
        self._host, self._port = parts.hostname, parts.port or 80
        self._address = self._host
        self._own = threading.local()
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget what was counted so far."""
        self._counts: Counter[str] = Counter()

    def load(self, model: Path, threads: int, streams: int = 1) -> None:
        """Ask the server for itself and for its model; threads are its own affair.

        Raises:
            StepError: it does not answer, or has no such model.
            DataError: the model has tensors that cannot be sent.
        """
        self._address = self._resolve()
        self._server = self._get("/v2", ServerMetadata)
        self._model = self._get(f"/v2/models/{self.service.model}", ModelMetadata)
        try:
            self._signature = self._model.signature()
        except ProtocolError as error:
            raise DataError(f"the model of {self._who}: {error}") from error
        if len(self._signature.inputs) != 1:
            names = ", ".join(t.name for t in self._signature.inputs) or "none"
            raise DataError(f"the model of {self._who} must have one input, it has: {names}")

    def signature(self) -> Signature:
        """As the model's metadata tell it."""
        return self._signature

    def at_once(self, workers: int) -> int:
        """As many as the server says that it infers at a time; one where it says nothing."""
        said = self._model.properties.get("streams", "")
        return min(super().at_once(workers), int(said) if said.isdecimal() else 1)

    def infer(self, batch: Array) -> Sequence[Array]:
        """Post the batch, as bytes where the server takes them; the outputs lie in the reply."""
        head = json.dumps(self._request(batch), separators=(",", ":")).encode()
        data = np.ascontiguousarray(batch).data.cast("B") if self._server.binary else None
        self._count("requests")
        text, tail = self._ask(f"/v2/models/{self.service.model}/infer", head, data)
        try:
            reply = protocol.parse(InferReply, text)
            arrays = protocol.unpack(reply.outputs, tail)
            return protocol.fit(arrays, self._signature.outputs, "output")
        except ProtocolError as error:
            self._count("failures")
            raise EndpointError(f"the reply of {self._who} does not fit: {error}") from error

    def describe(self) -> dict[str, Any]:
        """The backend as the server tells it, the endpoint, and what its queries met with."""
        properties, counts = self._model.properties, self._counts
        retries = {kind: counts[kind] for kind in ("refused", "lost", "busy") if counts[kind]}
        return {
            "backend": properties.get("backend") or self._server.name,
            "version": properties.get("version") or self._server.version,
            **({"precision": precision} if (precision := properties.get("precision")) else {}),
            "endpoint": {
                "service": self.service.name,
                "url": self.service.url,
                "same_host": self.service.same_host,
                "server": f"{self._server.name} {self._server.version}".strip(),
                "model": self._model.name,
                "platform": self._model.platform,
                "tensors": "binary" if self._server.binary else "json",
                "properties": dict(properties),
                "timeout_seconds": self.service.timeout_seconds,
                "retries_allowed": self.service.retries,
                "requests": counts["requests"],
                "retries": sum(retries.values()),
                "retried_for": retries,
                "timeouts": counts["timeouts"],
                "failures": counts["failures"],
            },
        }

    # -- one request, its tries ------------------------------------------------------------------

    def _request(self, batch: Array) -> dict[str, Any]:
        binary = self._server.binary
        tensor = protocol.wire(self._signature.inputs[0].name, batch, binary)
        return {"inputs": [tensor]} | ({"parameters": {ALL_BINARY: True}} if binary else {})

    def _get(self, path: str, model: type[_M]) -> _M:
        text, _ = self._ask(path)
        try:
            return protocol.parse(model, text)
        except ProtocolError as error:
            raise StepError(
                f"{self._who} does not speak the Open Inference Protocol: {path}: {error}"
            ) from error

    def _ask(
        self, path: str, head: bytes | None = None, data: memoryview | None = None
    ) -> tuple[memoryview, memoryview]:
        """JSON and bytes of the reply, after as many tries as are allowed in the time."""
        began = time.monotonic()
        until, pause = began + self.service.timeout_seconds, _FIRST_PAUSE_S
        for left in range(self.service.retries, -1, -1):
            try:
                return self._try(path, head, data, until)
            except _Again as error:
                if left == 0 or time.monotonic() + pause >= until:
                    raise self._gave_up(error, began, self.service.retries - left) from error
                self._count(error.kind)
            except TimeoutError as error:
                self._drop()
                self._count("timeouts", "failures")
                raise EndpointError(
                    f"{self._who} gave no answer within {time.monotonic() - began:.3g} s: it hangs "
                    "or is overloaded; look at its log, or raise timeout_seconds"
                ) from error
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                self._count("failures")
                raise EndpointError(
                    f"{self._who} cannot be talked to: {type(error).__name__}: {error}"
                ) from error
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        raise AssertionError("the last try returns or raises")

    def _gave_up(self, error: _Again, began: float, repeated: int) -> EndpointError:
        self._count("failures")
        taken = time.monotonic() - began
        tries = f"; tried {repeated + 1} times in {taken:.2g} s" if repeated else ""
        return EndpointError(f"{self._who} {error}{tries}; see the service's log")

    def _try(
        self, path: str, head: bytes | None, data: memoryview | None, until: float
    ) -> tuple[memoryview, memoryview]:
        connection = self._connection(until)
        try:
            _send(connection, path, head, data)
            reply = connection.getresponse()
            body = _body(connection, reply, until)
        except (ConnectionError, http.client.IncompleteRead) as error:
            self._drop()
            raise _Again("lost", f"lost the connection ({type(error).__name__})") from error
        if reply.status == 503:
            raise _Again("busy", f"has no room (HTTP 503): {_reason(body)}")
        if reply.status != 200:
            self._count("failures")
            raise EndpointError(f"{self._who} answered HTTP {reply.status}: {_reason(body)}")
        try:
            length = protocol.json_length(reply.getheader(JSON_LENGTH), len(body))
        except ProtocolError as error:
            self._count("failures")
            raise EndpointError(f"the reply of {self._who}: {error}") from error
        return body[:length], body[length:]

    # -- connections -----------------------------------------------------------------------------

    @property
    def _who(self) -> str:
        return f"the service {self.service.name} ({self.service.url})"

    def _resolve(self) -> str:
        """Once: names are not looked up while something is measured."""
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise StepError(
                f"{self._who} is not known by that name here ({error.strerror}); does the step "
                "name it under services, and does it run?"
            ) from error
        return str(found[0][4][0])

    def _connection(self, until: float) -> http.client.HTTPConnection:
        """This thread's, connected; one that the server has closed meanwhile is made anew."""
        connection: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(self._address, self._port)
            self._own.connection = connection
        if connection.sock is not None and _closed(connection.sock):
            connection.close()
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if connection.sock is None:
            connection.timeout = min(left, self.service.connect_seconds)
            try:
                connection.connect()
            except ConnectionError as error:
                connection.close()
                raise _Again("refused", "refuses connections: it does not run") from error
            except TimeoutError as error:
                self._count("timeouts", "failures")
                seconds = f"{connection.timeout:.3g} s"
                raise EndpointError(f"{self._who} took no connection within {seconds}") from error
        connection.sock.settimeout(left)
        return connection

    def _drop(self) -> None:
        """Forget the connection: whatever else comes over it belongs to nobody."""
        connection = getattr(self._own, "connection", None)
        if connection is not None:
            connection.close()

    def _count(self, *what: str) -> None:
        with self._lock:
            self._counts.update(what)


def _send(
    connection: http.client.HTTPConnection, path: str, head: bytes | None, data: memoryview | None
) -> None:
    """Ask (``head`` None), or post JSON and, behind it, bytes."""
    connection.putrequest("GET" if head is None else "POST", path, skip_accept_encoding=True)
    if head is not None:
        kind = "application/json" if data is None else "application/octet-stream"
        connection.putheader("Content-Type", kind)
        connection.putheader("Content-Length", str(len(head) + (data.nbytes if data else 0)))
    if head is not None and data is not None:
        connection.putheader(JSON_LENGTH, str(len(head)))
    connection.endheaders(head)
    if data is not None:
        connection.send(data)


def _body(
    connection: http.client.HTTPConnection, reply: http.client.HTTPResponse, until: float
) -> memoryview:
    """The whole body, before ``until``; read straight into its place."""
    size = reply.length
    if size is None:
        return _parts(connection, reply, until)
    if size > _MAX_REPLY:
        raise http.client.HTTPException(f"a reply of {size} bytes is announced")
    said = reply.getheader(JSON_LENGTH, "")
    body = protocol.buffer(size, int(said) if said.isdecimal() and len(said) < 10 else 0)
    got = 0
    while got < size:
        _in_time(connection, until)
        count = reply.fp.readinto1(body[got:])
        if not count:
            raise http.client.IncompleteRead(b"", size - got)
        got += count
    reply.close()  # it was read past http.client, which else would not know that it is whole
    return body


def _parts(
    connection: http.client.HTTPConnection, reply: http.client.HTTPResponse, until: float
) -> memoryview:
    """A body whose length nobody announced, before ``until``."""
    body = bytearray()
    while part := reply.read1(1 << 20):
        body += part
        if len(body) > _MAX_REPLY:
            raise http.client.HTTPException(f"a reply of more than {_MAX_REPLY} bytes")
        _in_time(connection, until)
    return memoryview(body)


def _in_time(connection: http.client.HTTPConnection, until: float) -> None:
    """Have the next read end at ``until``, at the latest."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    if connection.sock is not None:
        connection.sock.settimeout(left)


def _closed(sock: socket.socket) -> bool:
    """Whether the other side has closed an idle connection (or sent what nobody asked for)."""
    waiting = select.poll()
    waiting.register(sock, select.POLLIN)
    return bool(waiting.poll(0))


def _reason(body: memoryview) -> str:
    """The server's own words, cut to a readable length."""
    text = bytes(body[:_MAX_ERROR]).decode("utf-8", "replace")
    try:
        said = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        said = text
    return str(said).strip() or "no reason given"
