"""The end of an attempt as the kernel tells it, and a trigger that waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from test_attempts import Bench, fetch, plan_of

from proctor.airflow import operator, triggers
from proctor.airflow.operator import StepOperator
from proctor.runtime.base import EngineError, Handle, LogChunk, State
from proctor.runtime.ending import End, end_of
from proctor.runtime.fake import FakeRuntime


class Sleeper(FakeRuntime):
    """A runtime whose one attempt is a process of ours; it counts how often it is asked."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.process = subprocess.Popen(["sleep", "600"])
        self.polls = self.logs_copied = 0
        self.stopped = False
        self.late = 0

    def pid(self, handle: Handle) -> int | None:
        return self.process.pid

    def poll(self, handle: Handle) -> State:
        self.polls += 1
        ended = self.process.poll() is not None
        if ended and self.late:
            self.late -= 1  # the engine learns of it later than the kernel
            return State(phase="running")
        return State(phase="exited", exit_code=0) if ended else State(phase="running")

    def logs(self, handle: Handle, since: str = "") -> LogChunk:
        self.logs_copied += 1
        return LogChunk(lines=(), next=since)

    def stop(self, handle: Handle, grace_seconds: float = 10.0) -> None:
        self.stopped = True
        self.process.kill()


@pytest.fixture
def sleeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sleeper]:
    made = Sleeper(tmp_path)
    monkeypatch.setattr(triggers.instance, "runtime", lambda: made)
    yield made
    made.process.kill()
    made.process.wait()


def handle(**more: Any) -> Handle:
    names = {"runtime": "fake", "id": "x", "pipeline": "p", "run": "r", "step": "s", "folder": "/"}
    return Handle.model_validate(names | {"attempt": 1} | more)


def pidfds() -> int:
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += "pidfd" in str(link.readlink())
    return found


def waiting_for(trigger: triggers.StepTrigger) -> asyncio.Task[dict[str, Any]]:
    return asyncio.create_task(event_of(trigger))


async def event_of(trigger: triggers.StepTrigger) -> dict[str, Any]:
    async for event in trigger.run():
        return dict(event.payload)
    raise AssertionError("no event")


def test_the_end_is_told_when_the_process_ends_and_not_before(sleeper: Sleeper) -> None:
    end = end_of(sleeper, handle())
    assert end is not None
    assert not end.wait(0.05)
    sleeper.process.kill()
    assert end.wait(30)
    end.close()
    assert pidfds() == 0


def test_a_number_that_is_used_again_is_not_taken_for_the_attempt(sleeper: Sleeper) -> None:
    pids = iter([sleeper.process.pid, None])
    sleeper.pid = lambda handle: next(pids)  # type: ignore[method-assign]
    assert end_of(sleeper, handle()) is None
    assert pidfds() == 0


@pytest.mark.parametrize("trouble", [ProcessLookupError(), EngineError("it does not answer")])
def test_where_nobody_can_tell_the_engine_is_asked(
    sleeper: Sleeper, trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pid(handle: Handle) -> int | None:
        raise trouble

    monkeypatch.setattr(sleeper, "pid", pid)
    assert end_of(sleeper, handle()) is None
    assert end_of(FakeRuntime(sleeper.home), handle()) is None


def test_an_end_that_nobody_holds_is_closed(sleeper: Sleeper) -> None:
    end = End(sleeper.process.pid)
    assert pidfds() == 1
    del end
    assert pidfds() == 0


def test_a_trigger_leaves_the_engine_alone_until_the_end(sleeper: Sleeper) -> None:
    async def watch() -> dict[str, Any]:
        waiting = asyncio.create_task(
            event_of(triggers.StepTrigger(handle().model_dump(), "", True))
        )
        await asyncio.sleep(3 * triggers.POLL_SECONDS)
        assert (sleeper.polls, sleeper.logs_copied) == (1, 1)
        sleeper.late = 2
        sleeper.process.kill()
        sleeper.process.wait()
        return await asyncio.wait_for(waiting, 60)

    assert asyncio.run(watch())["reason"] == "exited"
    assert pidfds() == 0


def test_a_trigger_asks_again_and_again_where_the_kernel_cannot_tell(
    sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(sleeper, "pid", lambda handle: None)

    async def watch() -> dict[str, Any]:
        waiting = asyncio.create_task(
            event_of(triggers.StepTrigger(handle().model_dump(), "", True))
        )
        while sleeper.polls < 5:
            await asyncio.sleep(0.01)
        sleeper.process.kill()
        sleeper.process.wait()
        return await asyncio.wait_for(waiting, 60)

    assert asyncio.run(watch())["reason"] == "exited"


def test_a_trigger_keeps_the_deadline_while_it_waits_for_the_end(sleeper: Sleeper) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    trigger = triggers.StepTrigger(handle(deadline_at=soon).model_dump(), "", True)
    event = asyncio.run(asyncio.wait_for(event_of(trigger), 60))
    assert event["reason"] == "deadline"
    assert sleeper.stopped


def test_a_trigger_that_is_cancelled_leaves_nothing_behind(sleeper: Sleeper) -> None:
    async def cancel() -> int:
        before = threading.active_count()
        for _ in range(5):
            trigger = triggers.StepTrigger(handle().model_dump(), "", True)
            waiting = waiting_for(trigger)
            polls = sleeper.polls
            while sleeper.polls == polls:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        return threading.active_count() - before

    # The loop's own pool keeps its few threads; none of them waits for the process.
    assert asyncio.run(cancel()) <= (os.cpu_count() or 1) + 4
    assert pidfds() == 0
    assert sleeper.process.poll() is None


def test_no_event_overtakes_the_end_of_the_task_that_deferred(
    sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers, "SETTLE_SECONDS", 0.5)
    sleeper.process.kill()
    sleeper.process.wait()

    async def watch() -> float:
        begun = asyncio.get_running_loop().time()
        await event_of(triggers.StepTrigger(handle().model_dump(), "", True))
        return asyncio.get_running_loop().time() - begun

    assert asyncio.run(watch()) >= 0.5


def test_an_exclusive_step_is_handed_over_before_it_measures(
    sleeper: Sleeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator, "EXCLUSIVE_PATIENCE_SECONDS", 0.0)
    plan = plan_of(fetch(exclusive=True), fetch(id="other", step="other"))
    bench = Bench(tmp_path / "home", plan)
    tasks = {id: StepOperator(task_id=id, plan=plan, step_id=id) for id in ("fetch", "other")}
    runs = {id: replace(bench.step(id), runtime=sleeper) for id in tasks}
    with pytest.raises(TaskDeferred) as handed_over:
        tasks["fetch"]._wait(runs["fetch"], handle())
    assert sleeper.polls == 0
    assert handed_over.value.trigger.quiet
    # Another waits in the worker, for the kernel to tell.
    threading.Timer(1.0, sleeper.process.kill).start()
    finished: list[Handle] = []
    monkeypatch.setattr(StepOperator, "_finish", lambda self, run, handle: finished.append(handle))
    tasks["other"]._wait(runs["other"], handle())
    assert finished == [handle()]


def test_a_log_that_never_ends_keeps_no_step_from_its_deadline(
    sleeper: Sleeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []

    def logs(handle: Handle, since: str = "") -> LogChunk:
        assert len(copied) < 1000, "nobody looked at the clock"
        copied.append(since)
        lines = () if sleeper.stopped else ("y",)
        return LogChunk(lines=lines, next=str(len(copied)))

    monkeypatch.setattr(sleeper, "logs", logs)
    plan = plan_of(fetch())
    run = replace(Bench(tmp_path / "home", plan).step("fetch"), runtime=sleeper)
    task = StepOperator(task_id="fetch", plan=plan, step_id="fetch")
    told: list[Any] = []
    monkeypatch.setattr(StepOperator, "_told", lambda self, run, outcome: told.append(outcome))
    monkeypatch.setattr(type(run), "finish", lambda self, handle, failure: failure)
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    task._wait(run, handle(deadline_at=soon))
    assert sleeper.stopped
    assert told[0].kind == "deadline"
    # Each piece once, and to the end of what was there.
    assert copied == ["", *(str(n) for n in range(1, len(copied)))]
