"""Waiting for a step without a worker: follow its log, keep its deadline, tell when it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from proctor.airflow import instance
from proctor.runtime.base import EngineError, Handle, Runtime

# The log of a step is copied at most this often while it is deferred; an exclusive step's only
# now and then, as the machine is being measured.
POLL_SECONDS = 1.0
LOG_SECONDS = 5.0
QUIET_SECONDS = 15.0
# An engine that does not answer is given this long before the step is handed back as failed.
ENGINE_PATIENCE_SECONDS = 60.0


class StepTrigger(BaseTrigger):
    """Follows one attempt until it ends or its deadline passes.

    The event's payload is ``{"handle": ..., "reason": "exited" | "deadline" | "engine",
    "message": ..., "log_position": ...}``.
    """

    def __init__(self, handle: dict[str, Any], log_position: str, quiet: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.handle = handle
        self.log_position = log_position
        self.quiet = quiet

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Everything that is needed to go on elsewhere."""
        return (
            "proctor.airflow.triggers.StepTrigger",
            {"handle": self.handle, "log_position": self.log_position, "quiet": self.quiet},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event when the attempt has ended."""
        runtime, handle = instance.runtime(), Handle.model_validate(self.handle)
        silent_since: float | None = None
        copied = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            try:
                ended = await self._look(runtime, handle)
                silent_since = None
                if ended:
                    yield self._event(ended)
                    return
                if clock() - copied >= (QUIET_SECONDS if self.quiet else LOG_SECONDS):
                    await self._copy_log(runtime, handle)
                    copied = clock()
            except EngineError as error:
                silent_since = silent_since or clock()
                if clock() - silent_since > ENGINE_PATIENCE_SECONDS:
                    yield self._event("engine", str(error))
                    return
            await asyncio.sleep(POLL_SECONDS)

    async def _look(self, runtime: Runtime, handle: Handle) -> str:
        """Why the attempt is over (``exited``, ``deadline``), its log copied; "" while it runs."""
        state = await asyncio.to_thread(runtime.poll, handle)
        late = state.phase == "running" and deadline_passed(handle)
        if late:
            await asyncio.to_thread(runtime.stop, handle)
        elif state.phase == "running":
            return ""
        await self._copy_log(runtime, handle)
        return "deadline" if late else "exited"

    async def on_kill(self) -> None:
        """A person cleared or marked the task: stop the container, and record that it was so."""
        await asyncio.to_thread(self._cancel)

    def _cancel(self) -> None:
        from proctor.airflow.attempts import StepRun

        handle, home = Handle.model_validate(self.handle), instance.home()
        record = home.records.run(handle.pipeline, handle.run)
        plan = home.records.plan(record.header().plan_digest)
        step = plan.step(handle.step)
        StepRun(home, plan, step, record, instance.runtime()).cancel(handle)

    async def _copy_log(self, runtime: Runtime, handle: Handle) -> None:
        chunk = await asyncio.to_thread(runtime.logs, handle, self.log_position)
        self.log_position = chunk.next
        for line in chunk.lines:
            self.log.info(line)

    def _event(self, reason: str, message: str = "") -> TriggerEvent:
        return TriggerEvent(  # type: ignore[no-untyped-call]
            {
                "handle": self.handle,
                "reason": reason,
                "message": message,
                "log_position": self.log_position,
            }
        )


def deadline_passed(handle: Handle) -> bool:
    """Whether an attempt has used up its time."""
    return bool(handle.deadline_at) and datetime.now(UTC) > datetime.fromisoformat(
        handle.deadline_at
    )
