"""How the schedules of a home stand, as far as files tell, and Airflow where it runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from proctor.plan.params import ParamErrors
from proctor.records.model import Line
from proctor.records.store import RecordError, RunRecord
from proctor.records.summary import summarise
from proctor.records.told import about
from proctor.site import schedules, sources
from proctor.site.home import Home, Registered
from proctor.site.schedules import Clock, Scheduled
from proctor.spec.cron import next_tick
from proctor.spec.errors import SpecErrors
from proctor.spec.model import Schedule


@dataclass(frozen=True)
class LastRun:
    """The newest run of a pipeline. ``at``: its record's last line; ``by``: what started it."""

    run: str
    state: str
    at: str
    by: str


@dataclass(frozen=True)
class Row:
    """A pipeline's schedule.

    ``next``: the tick that is run next, which is past where it was missed; ``None`` where no clock
    starts it, or not yet. ``paused``: since when; "" where it is not. ``sources``: name -> mark.
    ``problem``: why nothing of this counts.
    """

    pipeline: str
    schedule: Schedule | None = None
    next: datetime | None = None
    paused: str = ""
    last: LastRun | None = None
    sources: dict[str, sources.Mark] | None = None
    problem: str = ""

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "pipeline": self.pipeline,
            "schedule": self.schedule.model_dump(mode="json") if self.schedule else None,
            "next": self.next.isoformat() if self.next else None,
            "paused": self.paused or None,
            "last": vars(self.last) if self.last else None,
            "sources": {name: vars(mark) for name, mark in (self.sources or {}).items()},
            "problem": self.problem or None,
        }

    def next_words(self, now: datetime) -> str:
        """When the next run is, for people, on the schedule's own wall clock."""
        if self.problem:
            return "never"
        if self.paused:
            return f"paused since {self.paused}"
        if self.next is None:
            known = self.schedule is not None and bool(self.schedule.cron)
            return "counts from the next `proctor up`" if known else "when a source changes"
        zone = ZoneInfo(self.schedule.timezone if self.schedule else "UTC")
        tick = f"{self.next.astimezone(zone):%Y-%m-%d %H:%M %Z}"
        return tick if self.next > now else f"missed {tick}: once, as soon as it can"


def rows(home: Home) -> list[Row]:
    """Every pipeline of the home that has a schedule, or whose schedule has a fault."""
    found = [_row(home, name, entry) for name, entry in home.pipelines().items()]
    return [row for row in found if row is not None]


def _row(home: Home, name: str, entry: Registered) -> Row | None:
    try:
        given = schedules.scheduled(home, entry)
    except (SpecErrors, ParamErrors) as error:
        if schedules.known_clock(home, name) is None and name not in home.profile().schedules:
            return None  # never had one, as far as anybody knows
        problem = "\n".join(str(each) for each in error.problems)
        return Row(name, last=_runs(home, name)[0], problem=problem)
    if given is None:
        return None
    last, ticked = _runs(home, name)
    clock = schedules.known_clock(home, name)
    return Row(
        name,
        given.schedule,
        _next(given.schedule, clock, ticked),
        schedules.paused(home, name),
        last,
        _marks(home, given),
        schedules.not_here(home),
    )


def _marks(home: Home, given: Scheduled) -> dict[str, sources.Mark]:
    """The marks of what is watched now; without version where it was not looked at yet."""
    known = sources.marks(home, given.plan.pipeline)
    marks = {}
    for source in sources.watched(home, given):
        mark = known.get(source.name)
        marks[source.name] = mark if mark and mark.of == source.of else sources.Mark(source.of)
    return marks


def _next(given: Schedule, clock: Clock | None, ticked: datetime | None) -> datetime | None:
    if not given.cron or clock is None or clock.paused:
        return None
    return next_tick(given.cron, given.timezone, max(clock.since, ticked or clock.since))


def _runs(home: Home, pipeline: str) -> tuple[LastRun | None, datetime | None]:
    """The newest run of a pipeline, and the newest tick that one was started by."""
    newest: tuple[RunRecord, Line] | None = None
    ticked: datetime | None = None
    for record in home.records.runs():
        if record.pipeline != pipeline:
            continue
        try:
            header = record.header()
            newest = (record, header)
            started = header.data.get("started_by")
            if isinstance(started, dict) and started.get("by") == "clock":
                tick = datetime.fromisoformat(str(started.get("tick"))).astimezone(UTC)
                ticked = max(tick, ticked or tick)
        except (RecordError, ValueError):
            continue  # `proctor runs` shows it
    return (_last(home, *newest) if newest else None), ticked


def _last(home: Home, record: RunRecord, header: Line) -> LastRun:
    by = dict(about(header)).get("started by", "")
    try:
        summary = summarise(home.records, record)
        return LastRun(record.run, str(summary["state"]), str(summary["last"]), by)
    except RecordError:
        return LastRun(record.run, "damaged", header.at, by)
