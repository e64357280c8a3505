"""A service of a run: started by the first step that needs it, ended by the run's stop task.

It is recorded as a step's attempts are, and in the same order: an attempt is written down before
its container is started, so that whoever comes back finds the one that runs. No task of Airflow's
follows a service; whoever needs it looks.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from proctor.airflow.evidence import StepRefused
from proctor.airflow.recorded import LastAttempt, Recorded
from proctor.plan.model import PlannedService
from proctor.runtime.base import EngineError, Handle, Listening, RequestRefused, StartRequest, State
from proctor.runtime.failure import how_it_ended, last_words
from proctor_steps.contract import digest

FIRST_LOOK_SECONDS = 0.1
LONGEST_LOOK_SECONDS = 1.0
# The log of a service is told at its end only, and no more than this of it.
LOG_LINES = 400

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServiceRun(Recorded):
    """A service in its run."""

    step: PlannedService

    @property
    def tasks(self) -> tuple[str, ...]:
        """The steps that use it, and the one that ends it."""
        return tuple(step.id for step in self.plan.steps if self.step.id in step.services)

    def ensure(self) -> Handle:
        """The service, alive and ready: the one that runs, or a new one where none does.

        Raises:
            StepRefused: it cannot be started, ends before it is ready, or is not ready in time.
            EngineError: the engine does not answer, or has lost it.
        """
        handle = self._alive()
        self._wait_until_ready(handle)
        return handle

    def how_it_ended(self) -> str:
        """In words, where it was needed and runs no more; "" where it runs."""
        with self._held():
            last = self._last_attempt()
            found = self._find(last) if last.status == "running" else None
            if found is not None:
                state = self.runtime.poll(found)
                words = "" if state.phase == "running" else self._record_end(found, state)
            else:
                words = self._recorded_end(last.number)
        return f"its service {self.step.id!r} had ended: {words}" if words else ""

    def end_attempt(self, number: int | None = None) -> bool:
        """See :class:`~proctor.airflow.recorded.Recorded`; not while a step takes it up."""
        with self._held():
            return super().end_attempt(number)

    def end(self) -> tuple[str, tuple[str, ...]]:
        """Stop and remove it, whatever state it is in; what is to be said, and its last log lines.

        Raises:
            EngineError: the engine does not answer; to be tried again.
        """
        with self._held():
            last = self._last_attempt()
            if last.number == 0:
                return "no step needed it: it was never started", ()
            found = self._find(last) if last.status in ("running", "cancelled") else None
            if found is None:
                super().end_attempt()
                return self._recorded_end(last.number) or "it has ended", ()
            state = self.runtime.poll(found)
            self.runtime.stop(found)
            said = self.runtime.tail(found, LOG_LINES)
            if last.status == "running" and state.phase != "running":
                return self._record_end(found, state), said
            self._finish(found, {"state": "succeeded", "message": "stopped"})
            return "stopped", said

    def _alive(self) -> Handle:
        """The container that runs, or a new one; beside it no other process starts any."""
        with self._held():
            last = self._last_attempt()
            found = self._find(last) if last.status in ("running", "cancelled") else None
            if found is not None:
                state = self.runtime.poll(found)
                if last.status == "running" and state.phase == "running":
                    return found
                if last.status == "running":
                    words = self._record_end(found, state)
                    _log.warning("service %s: %s; starting it again", self.step.id, words)
                else:
                    self.runtime.stop(found)
                    self.runtime.remove(found)
            return self._start(self._next(last, found))

    def _next(self, last: LastAttempt, found: Handle | None) -> int:
        """The same number where a crash came before the start, so that there is never a second."""
        unborn = last.status == "running" and last.handle is None and found is None
        return last.number if unborn else last.number + 1

    def _start(self, attempt: int) -> Handle:
        request, parts = self._request(attempt)
        identity = digest(parts)
        data = {"status": "running", "identity_parts": parts}
        self._append("attempt", attempt=attempt, identity=identity, data=data)
        try:
            handle = self.runtime.start(request)
        except RequestRefused as error:
            self._append("attempt", attempt=attempt, data={"status": "finished"})
            raise StepRefused(f"the service {self.step.id!r}: {error}") from error
        begun: dict[str, Any] = {"status": "running", "handle": handle.model_dump(mode="json")}
        self._append("attempt", attempt=attempt, identity=identity, data=begun)
        _log.info("service %s: started, attempt %d, %s", self.step.id, attempt, handle.image)
        return handle

    def _request(
        self, attempt: int, services: Any = None
    ) -> tuple[StartRequest, dict[str, JsonValue]]:
        request, parts = super()._request(attempt)
        listening = Listening(port=self.step.port, ready=self.step.ready)
        return request.model_copy(update={"listening": listening}), parts

    def _wait_until_ready(self, handle: Handle) -> None:
        begun, pause = time.monotonic(), FIRST_LOOK_SECONDS
        while not self._ready(handle):
            state = self.runtime.poll(handle)
            late = time.monotonic() - begun > self.step.ready_seconds
            if state.phase != "running":
                words = self._end_of(handle, state)
                if state.phase == "gone" and not words:
                    raise EngineError(f"the service {self.step.id!r} was lost")
                raise StepRefused(
                    f"the service {self.step.id!r} ended before it was ready: {words}"
                )
            if late:
                raise StepRefused(f"the service {self.step.id!r} {self._give_up(handle)}")
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_LOOK_SECONDS)

    def _ready(self, handle: Handle) -> bool:
        try:
            return self.runtime.ready(handle)
        except RequestRefused as error:
            raise StepRefused(f"the service {self.step.id!r}: {error}") from error

    def _end_of(self, handle: Handle, state: State) -> str:
        """Recorded by whoever sees it first; others find it there. "" where the engine lost it."""
        with self._held():
            if known := self._recorded_end(handle.attempt):
                return known
            words = self._record_end(handle, state)
        return "" if state.phase == "gone" else words

    def _give_up(self, handle: Handle) -> str:
        asked = f"GET {self.step.ready}" if self.step.ready else "a connection"
        late = (
            f"was not ready within {self.step.ready_seconds:g} s "
            f"({asked} on port {self.step.port}); raise `ready_within`, or mend it"
        )
        with self._held():
            if not self._recorded_end(handle.attempt):
                self.runtime.stop(handle)
                late += last_words(self.runtime.tail(handle))
                self._finish(handle, {"state": "failed", "message": late})
        return late

    def _record_end(self, handle: Handle, state: State) -> str:
        """Write down how it ended by itself, and remove what is left of it; the words."""
        tail = self.runtime.tail(handle)
        words = how_it_ended(state) + last_words(tail)
        self._finish(handle, {"state": "failed", "message": words})
        return words

    def _finish(self, handle: Handle, data: dict[str, Any]) -> None:
        told = data | {"image": handle.image, "image_digest": handle.image_digest}
        if handle.local_image:
            told["local_image"] = handle.local_image
        identity = self._identity_of(handle)
        self._append("result", attempt=handle.attempt, identity=identity, data=told)
        self._append("attempt", attempt=handle.attempt, data={"status": "finished"})
        self.runtime.remove(handle)

    def _recorded_end(self, attempt: int) -> str:
        """How an attempt is recorded to have ended by itself; "" where it is not."""
        line = self.record.last("result", self.step.id)
        if line is None or line.attempt != attempt or line.data.get("state") != "failed":
            return ""
        return str(line.data.get("message"))

    @contextmanager
    def _held(self) -> Iterator[None]:
        """One process at a time decides about a service."""
        self.record.own.mkdir(parents=True, exist_ok=True)
        path = self.record.own / f".service-{self.step.id}"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
