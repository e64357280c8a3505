"""Which runtime a run gets: what was asked for or, with ``auto``, the best this machine has."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from proctor.runtime.base import RequestRefused, Runtime
from proctor.runtime.fake import FakeRuntime
from proctor.runtime.process import ProcessRuntime

Kind = Literal["auto", "docker", "process", "fake"]


def make(kind: str, home: Path) -> Runtime:
    """The runtime of that name.

    Raises:
        RequestRefused: there is none of that name.
    """
    if kind == "process":
        return ProcessRuntime(home)
    if kind == "fake":
        return FakeRuntime(home)
    if kind == "docker":
        # Imported when asked for: the SDK takes its time, and not every machine has an engine.
        from proctor.runtime.docker import DockerRuntime

        return DockerRuntime(home)
    raise RequestRefused(f"runtime {kind!r}: choose docker, process or fake")
