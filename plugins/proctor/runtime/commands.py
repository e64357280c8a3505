"""``proctor runtime check``: whether this machine can run steps as Proctor needs it."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(help="The runtimes of this machine.", no_args_is_help=True)
    # With a callback, a group keeps the name of its only command.
    group.callback()(_group)
    group.command()(check)
    app.add_typer(group, name="runtime")


def _group() -> None:
    """The runtimes of this machine."""


def check(
    kind: Annotated[
        str, typer.Argument(metavar="[auto|docker|process]", help="which runtime")
    ] = "auto",
) -> None:
    """Run the self-check that every runtime must pass; says how each part went."""
    from proctor.runtime.base import EngineError, RequestRefused
    from proctor.runtime.selfcheck import check_runtime

    try:
        passed = check_runtime(kind, lambda line: typer.echo(line))
    except (EngineError, RequestRefused) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(0 if passed else 1)
