"""``proctor submission check`` and ``compare``. Heavy imports stay inside the commands."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from proctor_steps.submission.check.render import Line

FOUND = 1  # exit code: something is rejected, or against the rules
BAD_INPUT = 2  # exit code: what was given on the command line is wrong

Tree = Annotated[
    Path, typer.Argument(metavar="DIR", help="The folder that holds closed/, open/ or network/.")
]
RoundName = Annotated[str, typer.Option("--round", metavar="ROUND", help="for example v6.1")]
Submitter = Annotated[str | None, typer.Option("--submitter", help="only this submitter's")]
Jobs = Annotated[int, typer.Option("--jobs", min=0, help="processes; 0: one for each processor")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, on standard output.")]
Everything = Annotated[bool, typer.Option("--all", help="Findings that are alike, one by one.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the group ``proctor submission``."""
    app.command("check")(check)
    app.command("compare")(compare)


def check(
    tree: Tree,
    round_name: RoundName,
    as_json: AsJson = False,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="write the summary, one line for each result")
    ] = None,
    submitter: Submitter = None,
    jobs: Jobs = 0,
    everything: Everything = False,
) -> None:
    """Judge a submission: all that is wrong with it, and whether the official checker sees it."""
    from proctor_steps.stage import StepFailure
    from proctor_steps.submission.check import render, run, table

    try:
        report = run.check(tree, round_name, submitter, jobs)
    except StepFailure as error:
        _fail(str(error))
    if csv is not None:
        csv.write_text(table.as_csv(report), encoding="utf-8")
    if as_json:
        _json(report.data())
    else:
        _print(render.lines(report, everything=everything))
    raise typer.Exit(0 if report.within_rules else FOUND)


def compare(
    tree: Tree,
    round_name: RoundName,
    checker: Annotated[Path, typer.Option("--checker", help="a checkout of mlcommons/inference")],
    as_json: AsJson = False,
    submitter: Submitter = None,
    jobs: Jobs = 0,
    deadline: Annotated[
        float, typer.Option("--deadline", help="seconds that the official checker may take")
    ] = 3600,
) -> None:
    """Judge a submission by the official checker as well, and show where the two differ."""
    from proctor_steps.stage import StepFailure
    from proctor_steps.submission.check import compare as comparison
    from proctor_steps.submission.check import official, render, run

    try:
        report = run.check(tree, round_name, submitter, jobs)
        opinion = official.ask(checker, tree, round_name, submitter, deadline)
    except StepFailure as error:
        _fail(str(error))
    both = comparison.compare(report, opinion)
    if as_json:
        _json(both.data())
    else:
        _print(render.comparison(both))
    raise typer.Exit(0 if both.agree else FOUND)


def _json(data: object) -> None:
    import json

    json.dump(data, sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")


def _print(lines: Iterable[Line]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in lines:
        console.print(Text.assemble(*line), soft_wrap=True)


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(BAD_INPUT)
