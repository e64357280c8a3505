"""The commands on the steps' side that ``proctor`` offers on the terminal.

Each group is a typer application, which the orchestrator's program mounts. Heavy imports stay
inside the commands, so that ``proctor --help`` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from proctor_steps.submission.check.commands import register as register_check

if TYPE_CHECKING:
    from rich.console import Console

BAD_INPUT = 2  # exit code: what was given on the command line is wrong

AsJson = Annotated[bool, typer.Option("--json", help="As JSON, every figure with its sources.")]

rounds_app = typer.Typer(help="The rules of MLPerf Inference's rounds.", no_args_is_help=True)
submission_app = typer.Typer(
    help="Submissions: the system's description, packages as one tree, the results.",
    no_args_is_help=True,
)
register_check(submission_app)


@rounds_app.command("list")
def rounds_list(as_json: AsJson = False) -> None:
    """The rounds that are known."""
    from proctor_steps import rounds
    from proctor_steps.rounds import show

    found = [rounds.load(name) for name in rounds.names()]
    if as_json:
        import json

        about = [r.model_dump(mode="json", include={"round", "status", "sources"}) for r in found]
        typer.echo(json.dumps(about, indent=1))
        return
    _console().print(show.listing(found))


@rounds_app.command("show")
def rounds_show(
    round_name: Annotated[str, typer.Argument(metavar="ROUND", help="for example v6.1")],
    benchmark: Annotated[
        str, typer.Argument(metavar="[BENCHMARK]", help="for example yolo or yolo-99")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """A round's benchmarks, or all figures of one of them, with where each stands."""
    from proctor_steps import rounds
    from proctor_steps.rounds import show

    try:
        round_ = rounds.load(round_name)
        rules = rounds.find(round_, benchmark) if benchmark else None
    except rounds.UnknownName as error:
        _fail(str(error))
    if as_json:
        typer.echo((rules or round_).model_dump_json(indent=1))
        return
    view = show.benchmark_view(round_, benchmark) if rules else show.round_view(round_)
    _console().print(view)


@submission_app.command("system")
def submission_system(
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


@submission_app.command("merge")
def submission_merge(
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
    from proctor_steps.submission.merge import merge

    try:
        made = merge(sources, out)
        for result in made.results():
            typer.echo(result)
        typer.echo(f"{out}: {len(made.files)} files, {len(made.results())} results")
        if tar is not None:
            archive.pack(out, tar)
            typer.echo(f"{tar}: {tar.stat().st_size:,} bytes, sha256 {file_sha256(tar)}")
    except DataError as error:
        _fail(str(error))


@submission_app.command("summary")
def submission_summary(
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
    from proctor_steps.submission import show, summary
    from proctor_steps.submission.check.run import check

    try:
        made = summary.summarise(folder, check(folder, round_name, submitter))
    except StepFailure as error:
        _fail(str(error))
    for path, text in ((html, summary.as_html), (csv, summary.as_csv)):
        if path is not None:
            path.write_text(text(made), encoding="utf-8")
    _console().print(show.summary_view(made))


def _console() -> Console:
    """The terminal's width; where the output is a file or a pipe, wide enough for every table."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    return console


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(BAD_INPUT)
