"""A stage that misbehaves as it is told: with it, a runtime is checked on the user's own machine.

It shows whether a runtime passes inputs and outputs, stops what does not want to stop, and tells
a failure of the data from one of the step, from a kill and from a lack of memory.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, JsonValue

from proctor_steps.stage import DataError, Stage, StageParams, StepError, StepIO


class Params(StageParams):
    """What to do, in this order."""

    say: list[str] = Field(default=[], description="lines to print")
    spam_lines: int = Field(default=0, description="so many numbered lines more")
    children: int = Field(default=0, description="sleepers to start, each in a session of its own")
    ignore_term: bool = Field(default=False, description="do not end at SIGTERM")
    look: list[str] = Field(default=[], description="paths to try to write, and environment")
    reach: list[str] = Field(default=[], description="host:port to try to connect to")
    allocate_mb: int = Field(default=0, description="MiB of memory to fill")
    seconds: float = Field(default=0, description="then work so long")
    files: dict[str, dict[str, str]] = Field(default={}, description="output -> file -> text")
    source: str = Field(default="", description="a file:// parameter to read")
    end: Literal["ok", "data_error", "step_error", "no_result", "spoil", "crash"] = Field(
        default="ok", description="how to end"
    )


def run(params: Params, io: StepIO) -> None:
    """Do as told; what was seen goes to the metrics."""
    if params.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for _ in range(params.children):
        subprocess.Popen(["sleep", "600"], start_new_session=True)
    for line in params.say:
        io.say(line)
    for number in range(params.spam_lines):
        print(f"line {number:06d} " + "x" * 80)
    sys.stdout.flush()
    io.metrics["seen"] = _look(params, io)
    filled = bytearray()
    for _ in range(params.allocate_mb):
        filled += b"\1" * 2**20
    _work(params.seconds, io)
    for output, files in params.files.items():
        for name, text in files.items():
            path = io.output(output) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    _end(params.end, io)


def _look(params: Params, io: StepIO) -> dict[str, JsonValue]:
    """What the step sees of its inputs, its identity and the places it should not write."""
    inputs: dict[str, JsonValue] = {}
    for mount in io.contract.mounts:
        if mount.kind in ("input", "source", "secret", "history"):
            name = "/".join(filter(None, [mount.kind, mount.name, mount.cell]))
            inputs[name] = _texts(Path(mount.path))
    return {
        "inputs": inputs,
        "source": _texts(Path(params.source.removeprefix("file://"))) if params.source else None,
        "services": {name: _get(url) for name, url in io.contract.services.items()},
        "reached": [place for place in params.reach if _reached(place)],
        "uid": os.getuid(),
        "environment": [*sorted(os.environ)],
        "writable": [path for path in params.look if _writable(Path(path))],
        "interfaces": [*sorted(p.name for p in Path("/sys/class/net").glob("*"))],
    }


def _get(url: str) -> str:
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    connection.request("GET", "/")
    return connection.getresponse().read().decode()


def _reached(place: str) -> bool:
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def _texts(path: Path) -> dict[str, JsonValue] | str:
    if path.is_file():
        return path.read_text()
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return {p.relative_to(path).as_posix(): p.read_text() for p in files}


def _writable(folder: Path) -> bool:
    try:
        (folder / "proctor-selfcheck").write_text("")
        (folder / "proctor-selfcheck").unlink()
    except OSError:
        return False
    return True


def _work(seconds: float, io: StepIO) -> None:
    begun = time.monotonic()
    while (done := time.monotonic() - begun) < seconds:
        io.progress(done, seconds, "s")
        time.sleep(min(0.05, seconds))


def _end(how: str, io: StepIO) -> None:
    if how == "data_error":
        raise DataError("the data is wrong, as asked")
    if how == "step_error":
        raise StepError("the step is wrong, as asked")
    if how == "no_result":
        os._exit(0)
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "spoil":
        _spoil_later(io)


def _spoil_later(io: StepIO) -> None:
    """Change the outputs once their digests are in the result."""
    mounts = [m.path for m in io.contract.mounts if m.kind == "output"]
    result = io.folder / "result.json"
    script = (
        "import os,sys,time\n"
        "while not os.path.exists(sys.argv[1]): time.sleep(0.005)\n"
        "open(os.path.join(sys.argv[2], 'late.txt'), 'w').write('late')\n"
    )
    subprocess.Popen([sys.executable, "-c", script, str(result), mounts[0]])
    # The interpreter's own last act: wait until the change is made.

    atexit.register(_wait_for, Path(mounts[0]) / "late.txt")


def _wait_for(path: Path) -> None:
    for _ in range(1000):
        if path.exists():
            return
        time.sleep(0.005)


STAGE = Stage(
    "selfcheck act",
    "Behave as told, to check a runtime (`proctor runtime check`).",
    Params,
    run,
    inputs={"any": "whatever is mounted is read into the metrics"},
    outputs={"any": "filled as `files` says"},
)
