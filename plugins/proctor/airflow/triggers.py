"""Waiting for a step without a worker: follow its log, keep its deadline, tell when it ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from proctor.airflow import instance
from proctor.runtime.base import EngineError, Handle, Runtime
from proctor.runtime.deadline import seconds_left
from proctor.runtime.ending import end_of

# Where the kernel does not tell of an attempt's end, the engine is asked this often.
POLL_SECONDS = 1.0
# The log of a step is copied at most this often while it is deferred; an exclusive step's only
# now and then, as the machine is being measured.
LOG_SECONDS = 5.0
QUIET_SECONDS = 30.0
# The engine learns of the end a little later than the kernel.
ENDING_SECONDS = 0.1
# The supervisor of the task that deferred notices its end up to a second late. An executor that
# still holds that task takes its resumed successor for it and fails it, so no event comes sooner.
SETTLE_SECONDS = 2.0
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
        self._copied = float("-inf")

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
        clock = asyncio.get_running_loop().time
        begun = clock()
        async with _end_of(runtime, handle) as end:
            while True:
                try:
                    if ended := await self._look(runtime, handle):
                        await asyncio.sleep(begun + SETTLE_SECONDS - clock())
                        yield self._event(ended)
                        return
                    await self._copy_log_when_due(runtime, handle)
                    silent_since = None
                except EngineError as error:
                    silent_since = silent_since or clock()
                    if clock() - silent_since > ENGINE_PATIENCE_SECONDS:
                        yield self._event("engine", str(error))
                        return
                await self._pause(handle, end, POLL_SECONDS if silent_since else None)

    @property
    def _log_seconds(self) -> float:
        return QUIET_SECONDS if self.quiet else LOG_SECONDS

    async def _pause(
        self, handle: Handle, end: asyncio.Event | None, at_most: float | None
    ) -> None:
        """Until the attempt's end, its deadline, or the next time to copy its log."""
        seconds = self._log_seconds if end is not None else POLL_SECONDS
        if end is not None and end.is_set():
            await asyncio.sleep(ENDING_SECONDS)
            return
        seconds = min(seconds, max(ENDING_SECONDS, seconds_left(handle)), at_most or seconds)
        if end is None:
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(end.wait(), seconds)

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
        StepRun(home, plan, step, record, instance.runtime()).end_attempt(handle.attempt)

    async def _copy_log_when_due(self, runtime: Runtime, handle: Handle) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._copied >= self._log_seconds:
            await self._copy_log(runtime, handle)
            self._copied = now

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


@contextlib.asynccontextmanager
async def _end_of(runtime: Runtime, handle: Handle) -> AsyncIterator[asyncio.Event | None]:
    """Set when the attempt's process ends; ``None`` where only the engine can tell."""
    end = await asyncio.to_thread(end_of, runtime, handle)
    if end is None:
        yield None
        return
    loop, told = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        loop.remove_reader(end)
        told.set()

    loop.add_reader(end, tell)
    try:
        yield told
    finally:
        loop.remove_reader(end)
        end.close()


def deadline_passed(handle: Handle) -> bool:
    """Whether an attempt has used up its time."""
    return seconds_left(handle) < 0
