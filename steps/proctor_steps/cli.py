"""The commands on the steps' side that ``proctor`` offers on the terminal.

Each group is a typer application, which the orchestrator's program mounts. Heavy imports stay
inside the commands, so that ``proctor --help`` answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from proctor_steps.policy.commands import register as register_policy
from proctor_steps.submission.check.commands import register as register_check
from proctor_steps.submission.commands import register as register_submission

if TYPE_CHECKING:
    from rich.console import Console

BAD_INPUT = 2  # exit code: what was given on the command line is wrong

AsJson = Annotated[bool, typer.Option("--json", help="As JSON, every figure with its sources.")]

rounds_app = typer.Typer(help="The rules of MLPerf Inference's rounds.", no_args_is_help=True)
submission_app = typer.Typer(
    help="Submissions: the system's description, packages as one tree, the results.",
    no_args_is_help=True,
)
policy_app = typer.Typer(
    help="What licences and policies of data permit for a purpose.", no_args_is_help=True
)
register_policy(policy_app)
register_check(submission_app)
register_submission(submission_app)


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
