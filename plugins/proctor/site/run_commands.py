"""The commands ``proctor runs``, its ``show``, ``verify`` and ``rm``, and ``gc``: the records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from proctor.records.told import SHORT, Tried, about, attempts, parameters
from proctor.site.commands import (
    FAILED,
    HomeOption,
    console_of,
    give_up,
    home_of,
    plain_cells,
    run_named,
)
from proctor.site.home import Home
from proctor.spec.errors import did_you_mean
from proctor_steps.trouble import printable

if TYPE_CHECKING:
    from rich.table import Table

    from proctor.airflow.answers import Given
    from proctor.records.model import Line
    from proctor.records.store import RunRecord
    from proctor.site.gc import Unneeded

Run = Annotated[str, typer.Argument(metavar="RUN", help="a run's id, its beginning, or `latest`")]


def register(app: typer.Typer) -> None:
    """Add these commands to ``proctor``."""
    group = typer.Typer(help="List the runs of this home, newest last.")
    group.callback(invoke_without_command=True)(list_runs)
    group.command()(show)
    group.command()(verify)
    group.command(name="rm")(remove_runs)
    app.add_typer(group, name="runs")
    app.command()(gc)


def list_runs(context: typer.Context, home: HomeOption = None) -> None:
    """List the runs of this home, newest last; `show` and `verify` look at one."""
    if context.invoked_subcommand:
        context.obj = home
        return
    from proctor.records.store import RecordError
    from proctor.records.summary import summarise

    place, damaged = home_of(home), []
    table = _table("Pipeline", "Run", "State", "Steps done")
    for record in place.records.runs():
        try:
            summary = summarise(place.records, record)
        except RecordError as error:  # one that is damaged does not hide the others
            table.add_row(record.pipeline, record.run, "damaged", "?")
            damaged.append(str(error))
            continue
        done = sum(s["state"] in ("succeeded", "skipped") for s in summary["steps"])
        steps = f"{done}/{len(summary['steps'])}"
        table.add_row(record.pipeline, record.run, summary["state"], steps)
    if table.row_count:
        console_of().print(table)
    else:
        typer.echo(f"no runs in {place.path} yet; start one with: proctor run demo")
    for problem in damaged:
        typer.echo(problem, err=True)
    if damaged:
        raise typer.Exit(FAILED)


def show(
    context: typer.Context,
    run: Run = "latest",
    home: HomeOption = None,
    subject: Annotated[
        str, typer.Option("--subject", metavar="NAME", help="the part of one subject")
    ] = "",
    json_: Annotated[bool, typer.Option("--json", help="the record's lines as they are")] = False,
) -> None:
    """Show a run's record: parameters, versions, every attempt, every output, every answer."""
    place = home_of(home or context.obj)
    record = run_named(place, run)
    if subject:
        record = _part(record, subject)
    if json_:
        for line in record.lines():
            typer.echo(line.model_dump_json())
        return
    from rich.markup import escape

    from proctor.airflow.answers import given

    console, lines, header = console_of(), record.lines(), record.header()
    console.print(f"[bold]{escape(record.name)}[/]", soft_wrap=True)
    for name, text in about(header):
        console.print(f"  {name:<11}{escape(text)}", soft_wrap=True, highlight=False)
    console.print(_parameters(header))
    console.print(_attempts(lines))
    if parts := record.subjects():
        console.print(_subjects(place, record, parts))
    for answer in given(place, record):
        console.print(escape(printable(_answer(answer))), soft_wrap=True, highlight=False)


def verify(context: typer.Context, run: Run = "latest", home: HomeOption = None) -> None:
    """Check every digest and signature of a run: record, plan, outputs, published files, answers.

    Exit code 1 where something is not as it was left.
    """
    from rich.markup import escape

    from proctor.site.verify import verify as check

    place = home_of(home or context.obj)
    record = run_named(place, run)
    console = console_of()
    with console.status("reading"):
        checked = check(place, record)
    table = _table("Checked", "Good", "Gone", "Bad")
    for what in dict.fromkeys(each.what for each in checked):
        states = [each.state for each in checked if each.what == what]
        table.add_row(what, *(str(states.count(s)) for s in ("good", "gone", "bad")))
    console.print(f"[bold]{escape(record.name)}[/]", soft_wrap=True)
    console.print(table)
    bad = [each for each in checked if each.state == "bad"]
    for each in bad:
        text = f"✗ {each.what} {each.name}: {each.message}"
        console.print(escape(text), style="red", soft_wrap=True, highlight=False)
    if bad:
        raise typer.Exit(FAILED)
    console.print("Everything that the record names is as it was left.", style="green")


def remove_runs(
    context: typer.Context,
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="ids, or their beginnings")],
    home: HomeOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Remove runs with all that only they need: records, reviews, shared directories, outputs.

    Outputs that another run took over stay with that one.
    """
    from proctor.site.gc import remove_run

    place = home_of(home or context.obj)
    found = [run_named(place, run) for run in runs]
    names = ", ".join(f"{record.pipeline}/{record.run}" for record in found)
    if not yes and not typer.confirm(f"Remove {names}, with what people finished in them?"):
        raise typer.Exit(FAILED)
    with _alone(place):
        _unneeded(place, without=found)  # what would stop it must do so before anything is gone
        for record in found:
            remove_run(record)
        _collect(place, dry_run=False)


def gc(
    home: HomeOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would go")] = False,
) -> None:
    """Remove what no run's record needs: leftovers of crashes and of runs that were removed."""
    place = home_of(home)
    with _alone(place):
        _collect(place, dry_run=dry_run)


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    from proctor.site.instance import InstanceBusy, only_launcher

    if not home.path.is_dir():
        give_up(f"there is no home {home.path}")
    try:
        with only_launcher(home):
            yield
    except InstanceBusy as error:
        give_up(str(error))


def _unneeded(home: Home, without: Sequence[RunRecord] = ()) -> list[Unneeded]:
    from proctor.records.store import RecordError
    from proctor.site.gc import unneeded

    try:
        return unneeded(home, without)
    except RecordError as error:
        give_up(f"nothing was removed, as nobody knows what this run needs: {error}")


def _collect(home: Home, *, dry_run: bool) -> None:
    from rich.filesize import decimal

    from proctor.site.gc import remove

    console = console_of()
    found = _unneeded(home)
    table = _table("What", "Things", "Size")
    for kind in dict.fromkeys(each.kind for each in found):
        mine = [each.size for each in found if each.kind == kind]
        table.add_row(kind, str(len(mine)), decimal(sum(mine)))
    if not found:
        console.print("Nothing to remove: all that is here, a run needs.")
        return
    console.print(table)
    if dry_run:
        console.print("Nothing was removed; leave --dry-run out to do so.")
        return
    remove(found)
    console.print(f"Removed, {decimal(sum(each.size for each in found))} in all.")


def _part(record: RunRecord, subject: str) -> RunRecord:
    part = record.subject(subject)
    if not part.exists():
        names = [each.partition for each in record.subjects()]
        remedy = did_you_mean(subject, names) or "the run has no subjects"
        give_up(f"{record.pipeline}/{record.run} has no subject {subject!r}: {remedy}")
    return part


def _subjects(home: Home, record: RunRecord, parts: list[RunRecord]) -> Table:
    """A row for each subject: how far its steps are."""
    from proctor.records.summary import step_state

    plan = home.records.plan(record.header().plan_digest)
    steps = [step.id for step in plan.steps if step.partition]
    table = _table("Subject", *steps)
    for part in sorted(parts, key=lambda part: part.partition):
        lines = part.lines()
        states = [step_state(x for x in lines if x.step == id)[0] for id in steps]
        table.add_row(*plain_cells(part.partition, *states))
    return table


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)  # an id that is cut cannot be copied
    return table


def _parameters(header: Line) -> Table:
    table = _table("Parameter", "Value", "Given")
    for name, value, given in parameters(header):
        table.add_row(*plain_cells(name, value, "yes" if given else ""))
    table.columns[1].no_wrap = False
    return table


def _attempts(lines: list[Line]) -> Table:
    """A row for each attempt, with its outputs below it."""
    from rich.table import Table

    table = Table(header_style="bold")
    for column in ("Step", "#", "State", "Took", "Image", "Identity"):
        table.add_column(column, no_wrap=column not in ("Step", "State"))
    for tried in attempts(lines):
        number = str(tried.attempt) if tried.attempt else ""
        took = "" if tried.seconds is None else f"{tried.seconds:.1f} s"
        image = tried.image.removeprefix("sha256:")[:SHORT]
        table.add_row(
            *plain_cells(tried.step, number, _state(tried), took, image, tried.identity[:SHORT])
        )
        for output in tried.outputs:
            size = "? bytes" if output.size is None else f"{output.size:,} bytes"
            cells = plain_cells(f"  → {output.name}", "", size, "", "", output.sha256[:SHORT])
            table.add_row(*cells, style="dim")
    return table


def _state(tried: Tried) -> str:
    colon = ":" if tried.state in ("skipped", "refused") else ""
    words = f"{tried.state}{colon} {tried.message}".strip()
    return f"{words}, shares directories" if tried.shares else words


def _answer(answer: Given) -> str:
    """One answer, or none that came in time, as a line."""
    of = f"{answer.gate} #{answer.attempt}: {answer.verdict}"
    if not answer.by:
        return f"{of} ({answer.at})"
    looked = "evidence reviewed" if answer.reviewed else "evidence not reviewed"
    signed = "not signed" if answer.signature == "none" else f"signature {answer.signature}"
    comment = f": {answer.comment}" if answer.comment else ""
    return f"{of}, by {answer.by} at {answer.at} ({answer.via}, {looked}, {signed}){comment}"
