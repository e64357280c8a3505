"""Deadlines, and a wall clock that is set while a step runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from proctor.runtime import deadline
from proctor.runtime.base import Handle
from proctor.runtime.deadline import by_uptime, seconds_left


def started(seconds: float = 600) -> Handle:
    now = datetime.now(UTC)
    return Handle(
        runtime="fake", id="x", pipeline="p", run="r", step="s", attempt=1, folder="f",
        started_at=now.isoformat(), deadline_at=(now + timedelta(seconds=seconds)).isoformat(),
    )  # fmt: skip


def set_clock(monkeypatch: pytest.MonkeyPatch, hours: float) -> None:
    monkeypatch.setattr(deadline, "now", lambda: datetime.now(UTC) + timedelta(hours=hours))


@pytest.mark.parametrize("hours", [-24, -1, 1, 24])
def test_a_clock_that_is_set_neither_ends_a_step_nor_keeps_it(
    monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    handle = by_uptime(started(), 600, deadline.uptime())
    set_clock(monkeypatch, hours)
    assert 590 < seconds_left(handle) <= 600
    real = deadline.uptime()
    monkeypatch.setattr(deadline, "uptime", lambda: real + 601)
    assert seconds_left(handle) < 0


def test_a_clock_set_back_before_the_first_look_gives_no_more_than_the_whole_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handle = started()
    set_clock(monkeypatch, -5)
    assert seconds_left(by_uptime(handle, 600, deadline.uptime())) <= 600


@pytest.mark.parametrize("hours", [-5, 5])
def test_an_engine_whose_clock_is_another_takes_no_time_from_a_step(
    monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    handle = started()
    set_clock(monkeypatch, hours)
    assert 590 < seconds_left(by_uptime(handle, 600, deadline.uptime())) <= 600


def test_time_that_passed_before_the_start_was_noted_counts() -> None:
    recorded = deadline.uptime() - 400
    assert 190 < seconds_left(by_uptime(started(200), 600, recorded)) <= 200
    # Whoever recorded it died before the start: it runs only since now.
    assert 590 < seconds_left(by_uptime(started(), 600, recorded)) <= 600


def test_without_uptime_the_wall_clock_has_to_do() -> None:
    assert seconds_left(started(-1)) < 0 < seconds_left(started(10))
    bare = started().model_copy(update={"deadline_at": ""})
    assert seconds_left(bare) == float("inf")


def test_it_survives_as_json() -> None:
    handle = by_uptime(started(), 600, deadline.uptime())
    again = Handle.model_validate_json(handle.model_dump_json())
    assert abs(seconds_left(again) - seconds_left(handle)) < 1
