"""``proctor baseline``: the accepted results of a home, and the findings that are open."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proctor.site.commands import (
    FAILED,
    HomeOption,
    console_of,
    give_up,
    home_of,
    plain_cells,
    run_named,
)

if TYPE_CHECKING:
    from proctor.records.book import Baseline, Book, Entry, Identity
    from proctor.site.home import Home

Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="the reason, kept with it")]
AsJson = Annotated[bool, typer.Option("--json", help="for programs")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(help="Accepted results, and findings that are open.", no_args_is_help=True)
    group.command("list")(list_baselines)
    for command in (show, retire, close):
        group.command()(command)
    group.command("set")(set_baseline)
    app.add_typer(group, name="baseline")


def list_baselines(home: HomeOption = None, as_json: AsJson = False) -> None:
    """List the baseline of every identity, and the findings that are open."""
    from proctor.airflow.baselines import figures

    place, book = _book(home)
    known, findings = _current(book), _open(book)
    if as_json:
        told = [_told(each, findings) for each in known.values()]
        _print_json({"baselines": told, "open_findings": [_finding(*each) for each in findings]})
        return
    console = console_of()
    if not known:
        console.print(
            f"no baselines in {place.path}; a gate with `baseline: true` makes some, or: "
            "proctor baseline set RUN --why TEXT",
            soft_wrap=True,
        )
    table = _table("ID", "Result", "Figures", "Measured in", "Accepted by", "Open")
    for each in known.values():
        count = sum(each.identity in left for _, left in findings)
        accepted = f"{each.entry.by}, {each.entry.at[:10]}"
        cells = (each.id, str(each.identity), figures(each.measured), each.measured.of, accepted)
        table.add_row(*plain_cells(*cells, str(count or "")))
    if known:
        console.print(table)
    for line in _finding_lines(findings):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def show(
    name: Annotated[str, typer.Argument(help="an ID of the list, or the beginning of one")],
    home: HomeOption = None,
    as_json: AsJson = False,
) -> None:
    """Show a baseline: figures, what made it, who accepted it, those before it, open findings."""
    from proctor.airflow.baselines import figures
    from proctor.records.book import ever

    place, book = _book(home)
    chosen = _named(book, name)
    findings = [each for each in _open(book) if chosen.identity in each[1]]
    before = [each for each in ever(book.entries(), chosen.identity) if each.id != chosen.id]
    if as_json:
        told = _told(chosen, findings) | {"run": _run_of(place, chosen.entry)}
        told["before"] = [_told(each, []) for each in before]
        _print_json(told | {"open_findings": [_finding(*each) for each in findings]})
        return
    console = console_of()
    lines = [
        ("result", str(chosen.identity)),
        ("figures", figures(chosen.measured)),
        ("measured", f"{chosen.measured.of}, {chosen.measured.at}"),
        ("machine", _quiet(chosen)),
        ("accepted", _accepted(chosen.entry)),
        ("run", _run_of(place, chosen.entry)),
        *(("before", f"{each.id}: {figures(each.measured)}, {each.entry.at}") for each in before),
    ]
    console.print(chosen.id, style="bold", highlight=False)
    for word, text in lines:
        console.print(f"  {word:<10}{text}", markup=False, highlight=False, soft_wrap=True)
    table = _table("Figure", "Value", "Unit", "Samples")
    for figure in chosen.measured.figures:
        samples = "" if figure.samples is None else str(figure.samples)
        table.add_row(*plain_cells(figure.name, f"{figure.value:g}", figure.unit, samples))
    console.print(table)
    table = _table("Made by", "", "Value")
    for kind, values in chosen.measured.made_by.items():
        for key, value in values.items():
            table.add_row(*plain_cells(kind, key, value))
    console.print(table)
    for line in _finding_lines(findings):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def set_baseline(
    run: Annotated[str, typer.Argument(help="a run: its id, the beginning of one, or latest")],
    why: Why,
    step: Annotated[
        list[str] | None, typer.Option("--step", help="only what this step measured")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Make what a run measured the baseline of its identities, by hand.

    Exit code 1 where a result may not be one; the others are set all the same.
    """
    from proctor.records.baselines import candidates
    from proctor.records.store import RecordError
    from proctor.site.settings import user_name

    place, book = _book(home)
    record = run_named(place, run)
    try:
        found = candidates(place.records, record, step or None)
    except RecordError as error:
        give_up(str(error))
    if not found.identities:
        give_up(f"{record.name} measured nothing" + (f" in {', '.join(step)}" if step else ""))
    if found.accepted:
        entry = book.add("set", by=user_name(), why=_reason(why), accepted=found.accepted)
        for each in entry.accepted:
            typer.echo(f"baseline of {each.identity}: {each.measured.of}")
    _tell_runs(place, book)
    for refused, words in found.refused:
        typer.echo(f"no baseline of {refused.identity}: {refused.measured.of}: {words}", err=True)
    if found.refused:
        raise typer.Exit(FAILED)


def retire(
    name: Annotated[str, typer.Argument(help="an ID of the list, or the beginning of one")],
    why: Why,
    home: HomeOption = None,
) -> None:
    """Leave an identity without a baseline; what was accepted before stays in the book."""
    from proctor.site.settings import user_name

    _, book = _book(home)
    chosen = _named(book, name)
    if _current(book).get(chosen.identity) != chosen:
        give_up(f"{chosen.id} is not the baseline of {chosen.identity} any more")
    book.add("retired", by=user_name(), why=_reason(why), identities=(chosen.identity,))
    typer.echo(f"{chosen.identity} has no baseline any more")


def close(
    name: Annotated[str, typer.Argument(help="the ID of an open finding")],
    why: Why,
    home: HomeOption = None,
) -> None:
    """Settle a finding that an answer at a gate left open."""
    from proctor.site.settings import user_name

    place, book = _book(home)
    findings = {entry.id: entry for entry, _ in _open(book)}
    mine = [id for id in findings if id.startswith(name)]
    if len(mine) != 1:
        known = ", ".join(findings) or "none is open"
        give_up(f"{'several findings match' if mine else 'no open finding'} {name!r}: {known}")
    book.add("closed", by=user_name(), why=_reason(why), closes=mine[0])
    _tell_runs(place, book)
    typer.echo(f"finding {mine[0]} is closed")


def _book(home: Path | None) -> tuple[Home, Book]:
    from proctor.records.book import Book

    place = home_of(home)
    return place, Book(place.path)


def _current(book: Book) -> dict[Identity, Baseline]:
    from proctor.records.book import current

    return current(book.entries())


def _open(book: Book) -> list[tuple[Entry, tuple[Identity, ...]]]:
    from proctor.records.book import open_findings

    return open_findings(book.entries())


def _tell_runs(home: Home, book: Book) -> None:
    from proctor.airflow.baselines import tell_runs

    tell_runs(home, book)


def _named(book: Book, name: str) -> Baseline:
    """A baseline that is or was, by the beginning of its ID."""
    from proctor.records.book import every

    mine = [each for each in every(book.entries()) if each.id.startswith(name)]
    if len(mine) != 1:
        known = ", ".join(each.id for each in _current(book).values()) or "none yet"
        give_up(f"{'several baselines match' if mine else 'no baseline'} {name!r}: {known}")
    return mine[0]


def _reason(why: str) -> str:
    if not why.strip():
        give_up("--why is empty; say in words why")
    return why.strip()


def _run_of(home: Home, entry: Entry) -> str:
    """Whether the answer that accepted it still stands in its run's record."""
    from proctor.records.baselines import line_digest
    from proctor.records.store import RecordError

    if entry.answer is None:
        return "set by hand"
    record = home.records.run(entry.answer.pipeline, entry.answer.run)
    if not record.exists():
        return f"{record.name} is not here any more"
    try:
        there = any(line_digest(line) == entry.answer.line for line in record.lines())
    except RecordError as error:
        return str(error)
    words = "holds the answer" if there else "DOES NOT HOLD the answer: its record was changed"
    return f"{record.name} {words}"


def _accepted(entry: Entry) -> str:
    comment = f": {entry.why}" if entry.why else ""
    at = f" at gate {entry.answer.gate} ({entry.answer.via})" if entry.answer else ", by hand"
    return f"by {entry.by}{at}, {entry.at}{comment}"


def _quiet(baseline: Baseline) -> str:
    return "unknown whether it was quiet" if baseline.measured.disturbed is None else "quiet"


def _told(baseline: Baseline, findings: list[tuple[Entry, tuple[Identity, ...]]]) -> dict[str, Any]:
    entry = baseline.entry
    return {
        "id": baseline.id,
        "identity": asdict(baseline.identity),
        "measured": baseline.measured.model_dump(mode="json"),
        "by": entry.by,
        "at": entry.at,
        "why": entry.why,
        "answer": entry.answer.model_dump(mode="json") if entry.answer else None,
        "open_findings": [entry.id for entry, left in findings if baseline.identity in left],
    }


def _finding(entry: Entry, left: tuple[Identity, ...]) -> dict[str, Any]:
    return {
        "id": entry.id,
        "by": entry.by,
        "at": entry.at,
        "comment": entry.why,
        "run": f"{entry.answer.pipeline}/{entry.answer.run}" if entry.answer else "",
        "gate": entry.answer.gate if entry.answer else "",
        "identities": [asdict(each) for each in left],
    }


def _finding_lines(findings: list[tuple[Entry, tuple[Identity, ...]]]) -> list[str]:
    return [
        f"open: {f['id']}, {f['run']}, {f['by']} kept the old baseline at {f['at']}: {f['comment']}"
        for f in (_finding(*each) for each in findings)
    ]


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column == "ID", overflow="fold")
    return table
