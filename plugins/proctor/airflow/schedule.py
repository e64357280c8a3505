"""What starts a pipeline's DAG by itself: the clock, watched sources, and sites that are ready.

``proctor-source://watched/PIPELINE`` has an event whenever what a pipeline watches has changed.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow.sdk import Asset, AssetAny, AssetWatcher
from pydantic import JsonValue

from proctor.airflow import instance
from proctor.airflow.watch import SourcesTrigger
from proctor.plan.model import Plan
from proctor.plan.params import ParamErrors
from proctor.site import schedules, sources
from proctor.site.home import HomeError
from proctor.site.schedules import Scheduled
from proctor.spec.errors import SpecErrors
from proctor.spec.model import Pipeline, Schedule
from proctor_steps.contract import digest

GROUP = "proctor-source"


@dataclass(frozen=True)
class Starts:
    """What starts a DAG by itself: arguments of a DAG, and what its first task has to know.

    ``schedule``: as Airflow wants it said. ``since``: no tick before it counts. ``alone``: one run
    at a time. ``values``: what a run is given that nobody fills a form for. ``ticks``: cron and
    zone, where only the last of several ticks that are due is run. ``problems``: why nothing does,
    where the site says something that does not fit.
    """

    schedule: Any = None
    since: datetime | None = None
    catch_up: bool = False
    alone: bool = False
    values: Mapping[str, JsonValue] = field(default_factory=dict)
    ticks: tuple[str, str] | None = None
    problems: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """Arguments of the DAG."""
        told: dict[str, Any] = {"schedule": self.schedule, "catchup": self.catch_up}
        if self.since:
            told["start_date"] = self.since
        return told | ({"max_active_runs": 1} if self.alone else {})


def starts_of(plan: Plan, pipeline: Pipeline) -> Starts:
    """What starts a pipeline on this site, now.

    What the site says wrongly of its scheduled runs stops those alone: a run under way needs its
    tasks, and a person may start one.
    """
    sites = _by_sites(plan.pipeline)
    home = instance.home()
    try:
        schedule = schedules.schedule_of(home, pipeline)
        if schedule is None:
            return Starts(sites)
        counts = instance.schedules_count() and not schedules.not_here(home)
        found = schedules.with_values(home, plan, schedule)
        clock = schedules.clock(home, plan.pipeline, schedule) if counts else None
    except HomeError as error:
        return Starts(sites, alone=True, problems=(str(error),))
    except (SpecErrors, ParamErrors) as errors:
        return Starts(sites, alone=True, problems=tuple(str(each) for each in errors.problems))
    if clock is None or clock.paused:
        # A run that was due already still begins, and with these.
        return Starts(sites, alone=True, values=found.given)
    return Starts(
        _schedule(found, sites),
        clock.since if schedule.cron else None,
        schedule.catch_up,
        alone=True,
        values=found.given,
        ticks=(schedule.cron, schedule.timezone) if _runs_once(schedule) else None,
    )


def _runs_once(schedule: Schedule) -> bool:
    return bool(schedule.cron) and not schedule.catch_up


def _schedule(found: Scheduled, sites: Any) -> Any:
    """All of it as one: whichever comes first starts a run."""
    events = [each for each in (_watched(found), sites) if each is not None]
    either = AssetAny(*events) if len(events) > 1 else next(iter(events), None)
    given = found.schedule
    if not given.cron:
        return either
    # They load croniter, which the tasks of other pipelines need not wait for.
    from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable

    ticks = CronTriggerTimetable(given.cron, timezone=given.timezone)
    return ticks if either is None else AssetOrTimeSchedule(timetable=ticks, assets=either)


def _watched(found: Scheduled) -> Asset | None:
    """One asset for all sources of a pipeline: what changes at once starts one run."""
    if not found.schedule.assets:
        return None
    pipeline, every = found.plan.pipeline, found.schedule.every
    home = instance.home()
    # Airflow keeps a trigger as long as its arguments are the same. It keeps them readable, too,
    # so that the sources themselves are not among them.
    of = digest([[s.name, s.of, s.secret] for s in sources.watched(home, found)])[:16]
    trigger = SourcesTrigger(pipeline=pipeline, of=of, every=every)
    uri = f"proctor-source://watched/{pipeline}"
    return Asset(name=uri, uri=uri, group=GROUP, watchers=[AssetWatcher(uri, trigger)])


def _by_sites(pipeline: str) -> Any:
    """The schedule of a coordinator's pipeline that waits for sites; else ``None``."""
    if not instance.coordinates():
        return None
    # Not for sites, whose tasks read this file at each start.
    from proctor.airflow.sites import schedule_of

    try:
        sites = instance.home().profile().sites
    except HomeError:
        traceback.print_exc()
        return None
    return schedule_of(pipeline, sites.starts) if sites else None


# --- what started a run --------------------------------------------------------------------------


def started_by(dag_run: Any) -> dict[str, Any]:
    """What started a run, as its record's header tells it.

    ``{"by": "clock", "tick": TIME}``, the same with ``backfill``, ``{"by": "sources", "changed":
    [{name, was, is}]}``, ``{"by": "assets", "assets": [URI]}``, or ``{"by": "person", "name":
    NAME}`` ("" where Airflow does not know who).
    """
    kind = getattr(dag_run, "run_type", "manual")
    kind = str(getattr(kind, "value", kind))
    if kind in ("scheduled", "backfill"):
        by = "clock" if kind == "scheduled" else kind
        return {"by": by, "tick": dag_run.logical_date.isoformat()}
    if kind == "asset_triggered":
        events = list(dag_run.consumed_asset_events)
        if changed := list(_changed(events)):
            return {"by": "sources", "changed": changed}
        return {"by": "assets", "assets": sorted({str(e.asset.uri) for e in events})}
    return {"by": "person", "name": getattr(dag_run, "triggering_user_name", None) or ""}


def _changed(events: list[Any]) -> Iterator[dict[str, str]]:
    for event in events:
        payload = (event.extra or {}).get("payload")
        for change in payload.get("changed", ()) if isinstance(payload, dict) else ():
            yield {key: str(change[key]) for key in ("name", "was", "is")}
