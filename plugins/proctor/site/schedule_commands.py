"""``proctor schedule``: what starts by itself, when, and what became of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proctor.site.commands import HomeOption, console_of, give_up, home_of
from proctor.site.home import PROFILE_FILE, Home
from proctor.spec.errors import did_you_mean

if TYPE_CHECKING:
    from proctor.site.schedule_view import Row
    from proctor.site.schedules import Scheduled

Name = Annotated[str, typer.Argument(metavar="PIPELINE", help="a pipeline that has a schedule")]
_SHORT = 22  # characters of a version that people compare


def register(app: typer.Typer) -> None:
    """Add these commands to ``proctor``."""
    group = typer.Typer(help="Pipelines that start by themselves.", no_args_is_help=True)
    group.command(name="list")(list_schedules)
    for command in (pause, resume):
        group.command()(command)
    group.command(name="run")(run_now)
    app.add_typer(group, name="schedule")


def list_schedules(
    home: HomeOption = None,
    json_: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """When each pipeline starts by itself, what its last run came to, and what it watches."""
    from proctor.site.schedule_view import rows

    place = home_of(home)
    found, instance = rows(place), _instance(place)
    if json_:
        told = {"instance": instance or None, "schedules": [row.dump() for row in found]}
        typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
        return
    if not found:
        typer.echo(f"no pipeline of {place.path} has a schedule; see docs/operating.md")
    else:
        _print(found)
    for name in sorted(set(place.profile().schedules) - {row.pipeline for row in found}):
        typer.echo(f"{PROFILE_FILE} names {name}, {_why_not(place, name)}")
    if not found:
        return
    if not instance:
        typer.echo(f"No proctor runs on {place.path}: nothing starts before the next `proctor up`.")
    elif not instance["schedules"]:
        typer.echo("A `proctor run` uses this home: nothing starts by itself beside it.")
    else:
        _tell_held(place, found)


def pause(name: Name, home: HomeOption = None) -> None:
    """Let a pipeline start by itself no more; runs that a person starts go on as before."""
    from proctor.site import schedules

    place = home_of(home)
    _of(place, name)
    schedules.pause(place, name)
    typer.echo(f"{name} is paused. A run that is under way goes on. Undo: proctor schedule resume")


def resume(name: Name, home: HomeOption = None) -> None:
    """Let a paused schedule count again, from now on.

    Ticks that came meanwhile are not made up for; a source that changed meanwhile starts a run.
    """
    from proctor.site import schedules

    place = home_of(home)
    _of(place, name)
    schedules.resume(place, name)
    typer.echo(f"{name} starts by itself again")


def run_now(name: Name, home: HomeOption = None) -> None:
    """Start a run now, with what scheduled runs are given, in the instance of this home."""
    from proctor.site.client import AirflowUnavailable
    from proctor.site.instance import client_of
    from proctor.site.runs import new_run_id

    place = home_of(home)
    given, run = _of(place, name).given, new_run_id()
    try:
        client = client_of(place)
        if client.dag(name).get("is_paused"):
            give_up(f"{name} is paused in Airflow, so that the run would wait; switch it on there")
        client.trigger(name, run, given)
    except (LookupError, AirflowUnavailable) as error:
        give_up(str(error))
    typer.echo(f"started {name}/{run}; it begins when no other run of the pipeline is under way")


def _why_not(home: Home, name: str) -> str:
    if name in home.pipelines():
        return "but neither that nor its spec says when it starts: give 'cron' or 'assets'"
    return "which this home does not know: start `proctor up` with its spec once"


def _of(home: Home, name: str) -> Scheduled:
    """The schedule of a pipeline; ends the command where there is none."""
    from proctor.plan.params import ParamErrors
    from proctor.site.schedules import scheduled, scheduled_of
    from proctor.spec.errors import SpecErrors

    entry = home.pipelines().get(name)
    try:
        found = scheduled(home, entry) if entry else None
    except (SpecErrors, ParamErrors) as error:
        give_up("\n".join(str(problem) for problem in error.problems))
    if found is None:
        give_up(
            f"{home.path} knows no schedule of {name!r}; {did_you_mean(name, scheduled_of(home))}"
        )
    return found


def _instance(home: Home) -> dict[str, Any]:
    """Whether an instance runs on the home, and whether schedules count in it; empty where not."""
    from proctor.site.instance import told_of

    try:
        told = told_of(home)
    except LookupError:
        return {}
    return {"url": told.get("url"), "schedules": bool(told.get("schedules"))}


def _tell_held(home: Home, rows: list[Row]) -> None:
    """Somebody may have switched a pipeline off in Airflow's pages, which holds all of its runs."""
    from proctor.site.client import AirflowUnavailable
    from proctor.site.instance import client_of

    try:
        client = client_of(home)
        held = [row.pipeline for row in rows if client.dag(row.pipeline).get("is_paused")]
    except (LookupError, AirflowUnavailable) as error:
        typer.echo(f"what Airflow holds back is not known: {error}")
        return
    for name in held:
        typer.echo(
            f"{name} is switched off in Airflow's pages: no run of it goes on until it is on"
        )


def _print(rows: list[Row]) -> None:
    from rich.markup import escape
    from rich.table import Table

    now, table = datetime.now(UTC), Table("Pipeline", "When", "Next", "Last run")
    for row in rows:
        last = row.last
        told = f"{last.state} at {last.at[:19]}, started by {last.by or '?'}" if last else "none"
        when = row.schedule.label if row.schedule else ""
        cells = (row.pipeline, when, row.next_words(now), told)
        table.add_row(*(escape(cell) for cell in cells))
    console = console_of()
    console.print(table)
    for row in rows:
        if row.problem:
            for problem in row.problem.splitlines():
                console.print(f"{row.pipeline}: {problem}", markup=False, soft_wrap=True)
        for name, mark in (row.sources or {}).items():
            seen = f"{mark.version[:_SHORT]} at {mark.at}" if mark.version else "not seen yet"
            console.print(
                f"{row.pipeline} watches {name} ({mark.where or 'no place known'}): {seen}",
                markup=False, soft_wrap=True, highlight=False,
            )  # fmt: skip
            if mark.trouble:
                console.print(
                    f"  since {mark.since}: {mark.trouble}",
                    style="yellow", markup=False, soft_wrap=True, highlight=False,
                )  # fmt: skip
