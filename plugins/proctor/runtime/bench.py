"""What checks of a runtime share: a bench that starts steps, waits for them, and cleans up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from proctor.runtime.base import Handle, LogChunk, Outcome, Runtime, StartRequest, State

PATIENCE = 90.0
COMMAND = ("selfcheck", "act")


class CheckFailed(AssertionError):
    """A runtime broke the protocol."""


def expect(met: bool, message: str) -> None:
    """Fail the check unless ``met``."""
    if not met:
        raise CheckFailed(message)


@dataclass
class Bench:
    """One runtime to be checked, with the image whose stage ``selfcheck act`` obeys.

    ``script``: for a runtime that runs nothing, how its script is told what the stage would do.
    """

    runtime: Runtime
    home: Path
    image: str = "proctor/steps"
    script: Callable[[str, dict[str, Any]], None] | None = None
    run: str = field(default_factory=lambda: f"selfcheck-{uuid4().hex[:8]}")
    started: list[Handle] = field(default_factory=list)

    def request(self, step: str, act: dict[str, Any] | None = None, **more: Any) -> StartRequest:
        """A request for a step that behaves as ``act`` says (see ``proctor_steps.selfcheck``)."""
        if self.script is not None:
            self.script(step, act or {})
        base = {
            "pipeline": "selfcheck",
            "run": self.run,
            "step": step,
            "attempt": 1,
            "image": self.image,
            "command": COMMAND,
            "params": act or {},
            "deadline_seconds": 120.0,
        }
        return StartRequest.model_validate({**base, **more})

    def start(self, step: str, act: dict[str, Any] | None = None, **more: Any) -> Handle:
        """Start such a step; it is removed at the end."""
        handle = self.runtime.start(self.request(step, act, **more))
        self.started.append(handle)
        return handle

    def wait(self, handle: Handle) -> State:
        """Poll until it has ended."""
        end = time.monotonic() + PATIENCE
        while (state := self.runtime.poll(handle)).phase == "running":
            expect(time.monotonic() < end, f"{handle.step} still runs after {PATIENCE} s")
            time.sleep(0.05)
        return state

    def finish(self, handle: Handle) -> Outcome:
        """Wait and collect."""
        self.wait(handle)
        return self.runtime.collect(handle)

    def wait_for_line(self, handle: Handle, text: str) -> None:
        """Until the step's log holds a line."""
        end, since = time.monotonic() + PATIENCE, ""
        while time.monotonic() < end:
            chunk = self.runtime.logs(handle, since)
            if text in chunk.lines:
                return
            since = chunk.next
            time.sleep(0.05)
        raise CheckFailed(f"{handle.step}: no line {text!r} in its log")

    def lines(self, handle: Handle) -> tuple[list[str], int]:
        """All lines of an ended step, and in how many pieces they came."""
        lines: list[str] = []
        since, pieces = "", 0
        while True:
            chunk: LogChunk = self.runtime.logs(handle, since)
            if not chunk.lines:
                return lines, pieces
            expect(chunk.next != since, "logs: the position does not advance")
            lines += chunk.lines
            since, pieces = chunk.next, pieces + 1

    def clean(self) -> None:
        """Remove all that was started, and its artifacts."""
        for handle in self.started:
            self.runtime.remove(handle)
        self.started.clear()
