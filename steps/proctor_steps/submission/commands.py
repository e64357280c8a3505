"""``proctor submission system``, ``merge``, ``summary``. Heavy imports stay inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

BAD_INPUT = 2  # exit code: what was given on the command line is wrong
_PIPE_WIDTH = 160  # columns, where the output is no terminal


def register(app: typer.Typer) -> None:
    """Add the commands to the group ``proctor submission``."""
    for command in (system, merge, summary):
        app.command()(command)


def system(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="write it as JSON to fill in")
    ] = None,
    stated: Annotated[
        Path | None, typer.Option("--stated", metavar="FILE", help="fields that you state, as JSON")
    ] = None,
    division: Annotated[str, typer.Option("--division", help="closed, open or network")] = "",
) -> None:
    """What this machine tells of itself, what is still to be stated, and where each value is from.

    Run it on the system that is measured. The file that --out writes goes into a package by the
    pipeline's parameter system_uri.
    """
    from proctor_steps.stage import DataError
    from proctor_steps.submission import show

    try:
        if out is not None and out.exists():
            _fail(f"{out} is there already; give it as --stated to go on from it, or another --out")
        seen = show.look(stated, division)
    except DataError as error:
        _fail(str(error))
    _console().print(show.system_view(seen))
    if out is not None:
        out.write_text(show.as_json(seen), encoding="utf-8")
        typer.echo(f"written to {out}")


def merge(
    sources: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="packages: folders or archives")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="a new folder for the tree")],
    tar: Annotated[
        Path | None, typer.Option("--tar", metavar="FILE", help="pack the tree as tar.gz, too")
    ] = None,
) -> None:
    """Merge packages of one submitter (systems, benchmarks, scenarios) into one tree.

    What contradicts is told all at once, and then nothing is written.
    """
    from proctor_steps.contract import file_sha256
    from proctor_steps.stage import DataError
    from proctor_steps.submission import archive
    from proctor_steps.submission.merge import merge as merge_packages

    if tar is not None and (tar.exists() or tar.resolve().is_relative_to(out.resolve())):
        why = "is there already" if tar.exists() else f"lies in the tree {out} that it is to hold"
        _fail(f"--tar {tar}: {why}; name a new file elsewhere")
    try:
        made = merge_packages(sources, out)
        for result in made.results():
            typer.echo(result)
        typer.echo(f"{out}: {len(made.files)} files, {len(made.results())} results")
        if tar is not None:
            archive.pack(out, tar)
            typer.echo(f"{tar}: {tar.stat().st_size:,} bytes, sha256 {file_sha256(tar)}")
    except DataError as error:
        _fail(str(error))


def summary(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a submission tree")],
    round_name: Annotated[str, typer.Option("--round", help="for example v6.1")] = "v6.1",
    submitter: Annotated[
        str | None, typer.Option("--submitter", help="this submitter's results alone")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="write it as one page")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="write it for spreadsheets")
    ] = None,
) -> None:
    """The results as the table that submitters know; what is not valid is marked as such."""
    from proctor_steps.stage import StepFailure
    from proctor_steps.submission import show
    from proctor_steps.submission import summary as results
    from proctor_steps.submission.check.run import check

    try:
        made = results.summarise(folder, check(folder, round_name, submitter))
    except StepFailure as error:
        _fail(str(error))
    for path, text in ((html, results.as_html), (csv, results.as_csv)):
        if path is not None:
            path.write_text(text(made), encoding="utf-8")
    _console().print(show.summary_view(made))


def _console() -> Console:
    """The terminal's width; where the output is a file or a pipe, wide enough for the tables."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(BAD_INPUT)
