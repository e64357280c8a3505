"""Pipelines that start by themselves here: with which values, since when, and whether paused.

A spec says when, or the site does (``schedules`` in site.yaml), which may give values of its own,
too. What a person or the time adds is in the home: ``schedules/<pipeline>/clock.json``. No tick
from before a schedule was known, or from while it was paused, counts as missed.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from proctor.plan.compile import compile
from proctor.plan.model import Plan
from proctor.plan.params import ParamErrors, check_params
from proctor.site.home import PROFILE_FILE, Home, HomeError, Registered
from proctor.spec import document
from proctor.spec.check_schedule import faults_of_site
from proctor.spec.errors import SpecErrors
from proctor.spec.load import load_pipeline
from proctor.spec.model import Pipeline, Schedule
from proctor_steps.contract import write_atomically

FOLDER = "schedules"
_CLOCK = "clock.json"


@dataclass(frozen=True)
class Scheduled:
    """A pipeline with a schedule, as it counts here.

    ``params``: the value of every parameter of a scheduled run, of the plan's own, too.
    """

    plan: Plan
    schedule: Schedule
    params: dict[str, JsonValue]

    @property
    def given(self) -> dict[str, JsonValue]:
        """What its scheduled runs are given, by the spec and by the site."""
        return self.schedule.params


@dataclass(frozen=True)
class Clock:
    """``since``: no tick before it counts. ``paused``: when that was asked for; "" where not."""

    since: datetime
    paused: str = ""


def scheduled(home: Home, entry: Registered) -> Scheduled | None:
    """A known pipeline with its schedule; ``None`` where neither its spec nor the site has one.

    Raises:
        SpecErrors, ParamErrors: spec, build parameters or the site's values cannot be used.
        HomeError: the profile cannot be used.
    """
    pipeline = load_pipeline(entry.spec)
    schedule = schedule_of(home, pipeline)
    if schedule is None:
        return None
    return with_values(home, compile(pipeline, entry.build), schedule)


def schedule_of(home: Home, pipeline: Pipeline) -> Schedule | None:
    """When a pipeline starts by itself here: as the site says where it says when, else its spec.

    The site's values come over those of the spec.

    Raises:
        SpecErrors: what the site says does not fit the pipeline.
        HomeError: the profile cannot be used.
    """
    name, of_spec = pipeline.pipeline, pipeline.schedule
    here = home.profile().schedules.get(name)
    if here is None:
        return of_spec
    params = {**(of_spec.params if of_spec else {}), **here.params}
    if not here.model_fields_set - {"params"}:
        return of_spec and of_spec.model_copy(update={"params": params})
    given = here.model_copy(update={"params": params})
    read = document.read(home.path / PROFILE_FILE)
    if problems := faults_of_site(pipeline, given, read, ("schedules", name)):
        raise SpecErrors(problems, name)
    return given


def scheduled_of(home: Home) -> dict[str, Scheduled]:
    """Every pipeline of this site that has a schedule, by name; broken ones show as DAGs.

    Raises:
        HomeError: the profile or the list of pipelines cannot be used.
    """
    found: dict[str, Scheduled] = {}
    for name, entry in home.pipelines().items():
        with suppress(SpecErrors, ParamErrors):
            if each := scheduled(home, entry):
                found[name] = each
    return found


def with_values(home: Home, plan: Plan, schedule: Schedule) -> Scheduled:
    """A plan and its schedule here, with the value of every parameter of its scheduled runs.

    Raises:
        ParamErrors: the site gives a value that does not fit; the text names file and line.
    """
    try:
        params = check_params(plan, schedule.params)
    except ParamErrors as error:  # the spec's own values are checked where it is
        read = document.read(home.path / PROFILE_FILE)
        below = ("schedules", plan.pipeline, "params")
        raise ParamErrors(
            f"{read.where_key((*below, problem.partition(':')[0]))}: {problem}"
            for problem in error.problems
        ) from None
    return Scheduled(plan, schedule, {**plan.build_params, **params})


def not_here(home: Home) -> str:
    """Why no schedule counts in this home, whoever runs it; "" where they do.

    At a data site nothing runs, and no source is asked, but what its person started.

    Raises:
        HomeError: the agreement cannot be read.
    """
    return "a data site runs what its person starts" if home.trust() else ""


# --- the clock of a schedule ---------------------------------------------------------------------


def folder(home: Home, pipeline: str) -> Path:
    """Where the site keeps what concerns a pipeline's schedule."""
    return home.path / FOLDER / pipeline


def clock_file(home: Home, pipeline: str) -> Path:
    """Where a pipeline's clock is kept."""
    return folder(home, pipeline) / _CLOCK


def made_folder(home: Home, pipeline: str) -> Path:
    """The same, made where it is not there, for the owner alone."""
    for place in (home.path / FOLDER, folder(home, pipeline)):
        place.mkdir(mode=0o700, exist_ok=True)
    return folder(home, pipeline)


def clock(home: Home, pipeline: str, schedule: Schedule) -> Clock:
    """The pipeline's clock; set anew where the schedule says other times than before."""
    says = f"{schedule.cron} {schedule.timezone}"
    kept = _read(home, pipeline)
    if kept.get("says") != says:
        with _locked(home, pipeline):
            kept = _read(home, pipeline)
            if kept.get("says") != says:
                kept |= {"says": says, "since": now_text()}
                _write(home, pipeline, kept)
    return _clock(kept)


def known_clock(home: Home, pipeline: str) -> Clock | None:
    """The same as it is kept, without setting it; ``None`` before the schedule first counted."""
    kept = _read(home, pipeline)
    return _clock(kept) if "since" in kept else None


def paused(home: Home, pipeline: str) -> str:
    """Since when a schedule is paused; "" where it is not."""
    return str(_read(home, pipeline).get("paused", ""))


def pause(home: Home, pipeline: str) -> None:
    """Let nothing start by itself, from now on."""
    with _locked(home, pipeline):
        kept = _read(home, pipeline)
        kept.setdefault("paused", now_text())
        _write(home, pipeline, kept)


def resume(home: Home, pipeline: str) -> None:
    """Let the schedule count again; ticks that came meanwhile are not made up for."""
    with _locked(home, pipeline):
        kept = _read(home, pipeline)
        if kept.pop("paused", None):
            _write(home, pipeline, kept | ({"since": now_text()} if "since" in kept else {}))


def _clock(kept: dict[str, Any]) -> Clock:
    return Clock(datetime.fromisoformat(kept["since"]), str(kept.get("paused", "")))


def _read(home: Home, pipeline: str) -> dict[str, Any]:
    path = clock_file(home, pipeline)
    if not path.is_file():
        return {}
    try:
        kept = json.loads(path.read_text())
        if not isinstance(kept, dict):
            raise ValueError("no object")
        if "since" in kept:
            _clock(kept)
    except (ValueError, TypeError, RecursionError) as error:
        raise HomeError(f"{path}: cannot be used ({error}); move the file away") from error
    return kept


def _write(home: Home, pipeline: str, kept: dict[str, Any]) -> None:
    text = json.dumps(kept, indent=1, sort_keys=True) + "\n"
    write_atomically(clock_file(home, pipeline), text.encode())


@contextmanager
def _locked(home: Home, pipeline: str) -> Iterator[None]:
    with (made_folder(home, pipeline) / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def now_text() -> str:
    """The time as it is kept: UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
