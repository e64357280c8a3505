"""A real server of a model in a process of its own, and a proxy that spoils what it is told to."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from proctor_steps.contract import Contract, Mount, Result, dump, load_result
from proctor_steps.loadgen.run import STAGE
from proctor_steps.stage import execute
from proctor_steps.sut.endpoint_backend import Endpoint, Service


@dataclass
class Server:
    """``sut serve`` as the orchestrator starts it, on a free port."""

    process: subprocess.Popen[str]
    folder: Path
    url: str = ""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def wait(self, seconds: float = 30) -> tuple[int, Result | None]:
        """Exit status and result."""
        code = self.process.wait(seconds)
        return code, load_result(self.folder)

    def stop(self) -> tuple[int, Result | None]:
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def log(self) -> str:
        return (self.folder / "log").read_text()


def start_server(folder: Path, model: Path, listen: str = "127.0.0.1:0", **params: Any) -> Server:
    """Start it; do not wait until it is ready."""
    folder.mkdir(parents=True)
    given = {"backend": "onnxruntime", "threads": 1} | params
    mounts = (Mount(name="model", kind="input", path=str(model)),)
    made = Contract(pipeline="p", run="r", step="s", params=given, mounts=mounts, listen=listen)
    dump(folder, "contract.json", made)
    command = [sys.executable, "-m", "proctor_steps", "sut", "serve"]
    environment = os.environ | {"PROCTOR_STEP_DIR": str(folder), "PYTHONUNBUFFERED": "1"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, text=True
        )
    return Server(process, folder)


@contextmanager
def served(folder: Path, model: Path, **params: Any) -> Iterator[Server]:
    """A server that is ready; killed at the end."""
    server = start_server(folder, model, **params)
    try:
        until = time.monotonic() + 60
        while "serving" not in server.log():
            assert server.process.poll() is None, server.log()
            assert time.monotonic() < until, server.log()
            time.sleep(0.02)
        server.url = server.log().split(" at ")[1].split("/v2")[0]
        while not connects(server.port):
            assert time.monotonic() < until, server.log()
            time.sleep(0.02)
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def endpoint(url: str, **patience: Any) -> Endpoint:
    """A client that has read the model's metadata."""
    given = {"connect_seconds": 5, "timeout_seconds": 20, "retries": 3} | patience
    made = Endpoint(
        Service.model_validate(
            {"name": "detector", "url": url, "model": "model", "same_host": True, **given}
        )
    )
    made.load(Path("model"), 1)
    return made


def endpoint_run(
    folder: Path, dataset: Path, url: str, deadline: float = 100, **params: Any
) -> tuple[Result, Path]:
    """The stage ``loadgen run`` against a service, from a contract; result and logs."""
    logs = folder / "logs"
    logs.mkdir(parents=True)
    mounts = (
        Mount(name="dataset", kind="input", path=str(dataset)),
        Mount(name="logs", kind="output", path=str(logs)),
    )
    made = Contract(
        pipeline="p", run="r", step="s",
        params={"benchmark": "digits", "sut": "endpoint"} | params,
        mounts=mounts, services={"detector": url}, deadline_seconds=deadline,
    )  # fmt: skip
    execute(STAGE, made, folder)
    result = load_result(folder)
    assert result is not None
    return result, logs


# What is to become of the n-th inference request (from 0): a word, or how to change the reply.
Spoil = Callable[[int], "str | Callable[[bytes], bytes]"]


class Proxy:
    """Forwards to a server; inference requests meet with what ``spoil`` says.

    ``pass``; ``busy``: 503; ``drop``: the connection is reset, nothing answered; ``half``: the
    reply breaks off; ``hang``: no answer; ``error``: 500; ``parts``: in pieces whose sum nobody
    announced; ``drip``: so, and for ever, byte by byte.
    """

    def __init__(self, url: str, spoil: Spoil, metadata: dict[str, Any] | None = None) -> None:
        """``metadata``: the server's own, instead of what it says."""
        self.behind, self.spoil = int(url.rpartition(":")[2]), spoil
        self.metadata = metadata
        self.posts, self.released = 0, threading.Event()
        self.connections = 0
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                proxy.connections += 1
                super().setup()

            def do_GET(self) -> None:
                proxy.forward(self, b"", "pass")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with proxy._lock:
                    number, proxy.posts = proxy.posts, proxy.posts + 1
                proxy.forward(self, body, proxy.spoil(number))

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Threads(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self.server = Threads(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def forward(self, handler: Any, body: bytes, how: Any) -> None:
        if how == "busy":
            return self.answer(handler, 503, {}, b'{"error": "no room"}')
        if how == "error":
            return self.answer(handler, 500, {}, b'{"error": "the model broke"}')
        if how == "drop":
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            os.close(handler.connection.detach())
            handler.close_connection = True
            return None
        if how == "hang":
            self.released.wait()
            return None
        if handler.path == "/v2" and self.metadata is not None:
            return self.answer(handler, 200, {}, json.dumps(self.metadata).encode())
        status, headers, reply = self.ask(handler, body)
        if how == "half":
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(reply[: len(reply) // 2])
            handler.close_connection = True
            return None
        if how in ("parts", "drip"):
            return self.in_parts(handler, headers, reply, for_ever=how == "drip")
        return self.answer(handler, status, headers, reply if how == "pass" else how(reply))

    def ask(self, handler: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=20)
        names = ("Content-Length", "Inference-Header-Content-Length")
        sent = {name: handler.headers[name] for name in names if handler.headers[name]}
        connection.request(handler.command, handler.path, body, sent)
        reply = connection.getresponse()
        found = reply.read()
        kept = {name: value for name, value in reply.getheaders() if name.lower() != "date"}
        connection.close()
        return reply.status, kept, found

    def in_parts(
        self, handler: Any, headers: dict[str, str], reply: bytes, *, for_ever: bool
    ) -> None:
        handler.send_response(200)
        for name, value in headers.items():
            if name.lower() != "content-length":
                handler.send_header(name, value)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        size = 1 if for_ever else 777
        for start in range(0, len(reply), size):
            part = reply[start : start + size]
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            if for_ever and self.released.wait(0.05):
                return
        handler.wfile.write(b"0\r\n\r\n")

    @staticmethod
    def answer(handler: Any, status: int, headers: dict[str, str], body: bytes) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            if name.lower() != "content-length":
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def changed(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    """Changes the JSON of a reply, whose length stays the same: blanks fill it up."""

    def spoil(reply: bytes) -> bytes:
        said, end = json.JSONDecoder().raw_decode(reply.decode("latin-1"))
        change(said)
        text = json.dumps(said, separators=(",", ":")).encode()
        assert len(text) <= end, (text, reply[:end])
        return text.ljust(end) + reply[end:]

    return spoil
