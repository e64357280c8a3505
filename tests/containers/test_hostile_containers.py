"""An engine that goes away, talks nonsense or falls silent; images that are not here.

The real engine goes on undisturbed: what goes away is a socket before it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from proctor.runtime import engine as engine_module
from proctor.runtime import images
from proctor.runtime.base import EngineError
from proctor.runtime.docker import DockerRuntime
from proctor.runtime.selfcheck import Bench

pytestmark = pytest.mark.docker
SPEC = """\
steps:
  - id: only
    image: {image}
    command: ["true"]
"""


class Gate:
    """A Unix socket before the engine's own, which can be cut and mended."""

    def __init__(self, path: Path, engine: str) -> None:
        self.path, self.engine = path, engine
        self.answer: Callable[[socket.socket], None] = self._pass
        self._open: list[socket.socket] = []
        self._server: socket.socket | None = None
        self.mend()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def cut(self) -> None:
        """As when the engine ends: nobody listens, and what was connected breaks."""
        if self._server is not None:
            self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
            self._server = None
        self.path.unlink(missing_ok=True)
        for each in self._open:
            # A thread reads it meanwhile: closing alone would wait for that.
            with_shutdown(each)
        self._open.clear()

    def mend(self) -> None:
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self.path))
        self._server.listen()
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                connection = server.accept()[0]
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def _pass(self, connection: socket.socket) -> None:
        engine = socket.socket(socket.AF_UNIX)
        engine.connect(self.engine)
        self._open.append(engine)
        threading.Thread(target=_copy, args=(engine, connection), daemon=True).start()
        _copy(connection, engine)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        with_shutdown(target)


def with_shutdown(each: socket.socket) -> None:
    try:
        each.shutdown(socket.SHUT_RDWR)
    except OSError:
        each.close()


def _nonsense(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"\x00\x01 this is no HTTP\r\n\r\n")
    connection.close()


def _trouble(connection: socket.socket) -> None:
    connection.recv(65536)
    body = b'{"message": "the storage driver is on fire"}'
    head = b"HTTP/1.1 500 No\r\nContent-Type: application/json\r\nConnection: close\r\n"
    connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    connection.close()


@pytest.fixture
def gate(docker_engine: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """The engine as this process sees it from now on."""
    url = urlsplit(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    if url.scheme != "unix":
        pytest.skip("the engine is not reached by a Unix socket")
    folder = Path(tempfile.mkdtemp(prefix="gate-", dir="/tmp"))
    made = Gate(folder / "engine.sock", url.path)
    monkeypatch.setenv("DOCKER_HOST", made.url)
    engine_module._client.cache_clear()
    yield made
    made.cut()
    monkeypatch.undo()
    engine_module._client.cache_clear()
    shutil.rmtree(folder)


def test_an_engine_that_goes_away_in_the_middle(gate: Gate, tmp_path: Path) -> None:
    """Every call says so; the container goes on, and is found when the engine is back."""
    images.build(["steps"], lambda line: None)
    bench = Bench(DockerRuntime(tmp_path / "home"), tmp_path / "home")
    handle = bench.start("long", {"seconds": 3})
    gate.cut()
    for call in (bench.runtime.poll, bench.runtime.logs, bench.runtime.stop, bench.runtime.collect):
        with pytest.raises(EngineError, match=r"no Docker engine answers|does not answer"):
            call(handle)
    gate.mend()
    try:
        found = bench.runtime.find(handle.pipeline, handle.run, handle.step)
        assert found is not None and found.id == handle.id
        assert bench.finish(handle).failure is None
    finally:
        bench.clean()


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (_nonsense, "no Docker engine answers"),
        (_trouble, "the storage driver is on fire"),
    ],
)
def test_an_engine_that_makes_no_sense(
    gate: Gate, answer: Callable[[socket.socket], None], phrase: str
) -> None:
    gate.answer = answer
    with pytest.raises(EngineError, match=phrase):
        engine_module.check()


@pytest.mark.parametrize(
    ("runtime", "host", "image", "phrases"),
    [
        ("docker", "unix:///nowhere.sock", "x:1", ["no Docker engine answers at unix:///nowhere"]),
        ("docker", "tcp://127.0.0.1:1", "x:1", ["no Docker engine answers at tcp://127.0.0.1:1"]),
        ("docker", "what://is/this", "x:1", ["no Docker engine answers at what://is/this"]),
        ("docker", "", "nowhere/x:1", ["image 'nowhere/x:1' is not here; pull or build it"]),
        ("process", "", "nowhere/x:1", ["'nowhere/x:1' is not one of the project's own"]),
        ("auto", "unix:///nowhere.sock", "x:1", ["no Docker engine answers", "not x:1"]),
    ],
)
def test_the_command_line_says_what_is_missing(
    docker_engine: object,
    tmp_path: Path,
    runtime: str,
    host: str,
    image: str,
    phrases: list[str],
) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC.format(image=image))
    home = Path(tempfile.mkdtemp(prefix="p-", dir="/tmp"))
    command = [sys.executable, "-c", "from proctor.cli import main; main()", "run", "spec.yaml"]
    done = subprocess.run(
        [*command, "--runtime", runtime, "--home", str(home / "home")],
        env={**os.environ, **({"DOCKER_HOST": host} if host else {})},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    shutil.rmtree(home)
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    for phrase in phrases:
        assert phrase in done.stderr, done.stderr
    assert done.returncode == 2
