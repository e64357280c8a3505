"""When a service counts as ready, and how one is looked for on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from proctor.runtime import readiness
from proctor.runtime.base import Listening
from proctor.runtime.bench import Bench
from proctor.runtime.process import ProcessRuntime


@contextmanager
def server(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_address[1]}"
        made.shutdown()


@pytest.mark.parametrize(
    ("status", "ready"), [(200, True), (204, True), (302, False), (503, False)]
)
def test_only_2xx_counts(status: int, ready: bool) -> None:
    with server(status) as url:
        assert readiness.answers(url, "/ready") is ready
        assert readiness.answers(url, "") is True


def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with server(200) as url:
        assert readiness.answers(url, "/ready")


def test_one_that_does_not_answer_is_not_waited_for_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        begun = time.monotonic()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        assert not readiness.answers(url, "/ready", timeout=0.2)
        assert time.monotonic() - begun < 5
    assert not readiness.answers(url, "")


def test_what_talks_something_else_is_not_ready() -> None:
    def talk(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        peer.recv(1000)
        peer.sendall(b"\0\1\2 no http\r\n\r\n")
        peer.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=talk, args=(listener,), daemon=True).start()
        assert not readiness.answers(f"http://127.0.0.1:{listener.getsockname()[1]}", "/ready")


def test_it_is_a_program_that_needs_nothing_of_ours() -> None:
    source = Path(readiness.__file__).read_text()
    for status, code in ((200, 0), (500, 1)):
        with server(status) as url:
            command = [sys.executable, "-I", "-S", "-c", source, url, "/ready"]
            assert subprocess.run(command, check=False).returncode == code


def test_a_service_of_the_process_runtime_keeps_its_address(tmp_path: Path) -> None:
    bench = Bench(ProcessRuntime(tmp_path), tmp_path)
    listening = Listening(port=8000, ready="/ready")
    more = {"command": ("selfcheck", "serve"), "listening": listening, "deadline_seconds": 0}
    first = bench.start("one", **more)
    second = bench.start("two", **more)
    assert first.url.startswith("http://127.0.0.1:") and first.url != second.url
    again = ProcessRuntime(tmp_path).find("selfcheck", bench.run, "one")
    assert again == first
    bench.clean()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(first.url.rpartition(":")[2])), 2)
