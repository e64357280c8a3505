"""A step that fills the disk is the one that ends, and says so; others go on."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proctor.runtime.artifacts import LocalArtifacts
from proctor.runtime.attempt import Attempt
from proctor.runtime.base import Handle
from proctor.runtime.process import ProcessRuntime
from proctor.runtime.selfcheck import OUT, Bench
from proctor.site import room
from proctor.site.home import Home
from proctor.site.room import Room, written

MB = 10**6
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(ProcessRuntime(tmp_path), tmp_path)
    yield made
    made.clean()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def leave(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, free))

    return leave


def writes(bench: Bench, step: str, size: int) -> Handle:
    """A step under way that has written so much."""
    handle = bench.start(step, {"say": ["ready"], "seconds": 600}, outputs=OUT)
    bench.wait_for_line(handle, "ready")
    attempt = Attempt.of(bench.home, handle)
    place = LocalArtifacts(bench.home).staged(attempt.name, "made")
    (place / "deep").mkdir()
    (place / "deep" / "part").write_bytes(bytes(size))
    with (place / "sparse").open("wb") as file:
        file.truncate(10**12)
    (place / "link").symlink_to("/dev/zero")
    return handle


def test_the_step_that_wrote_the_most_ends_and_its_task_says_why(
    bench: Bench, disk: Callable[[int], None]
) -> None:
    small, large = writes(bench, "small", 2 * MB), writes(bench, "large", 5 * MB)
    watch = Room(Home(bench.home), "process")
    disk(3 * MB)
    (said,) = watch.look()
    assert said.startswith(f"stopped selfcheck/{bench.run}/large: it has written 5.")
    assert "left 3.0 MB of the disk of" in said
    failure = bench.finish(large).failure
    assert failure is not None and failure.kind == "step"
    assert failure.message == said.partition(": ")[2]
    bench.runtime.remove(large)
    assert written(bench.home, large) == 0
    # What is left has written less than is free.
    assert watch.look() == []
    assert bench.runtime.poll(small).phase == "running"


def test_with_room_nobody_is_asked_anything(
    bench: Bench, disk: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(room.RESERVE_BYTES)
    monkeypatch.setattr(room, "make", lambda *given: pytest.fail("it was"))
    assert Room(Home(bench.home), "process").look() == []


def test_what_has_ended_is_not_stopped(bench: Bench, disk: Callable[[int], None]) -> None:
    handle = writes(bench, "done", 2 * MB)
    bench.runtime.stop(handle, 1.0)
    disk(MB)
    assert Room(Home(bench.home), "process").look() == []
    failure = bench.finish(handle).failure
    assert failure is not None and failure.kind == "cancelled"
