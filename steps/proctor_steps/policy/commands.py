"""``proctor policy check`` and ``terms``. Heavy imports stay inside the commands."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from proctor_steps.policy.answer import Answer
    from proctor_steps.policy.clauses import Asked

BAD_INPUT = 2  # exit code: what was given on the command line is wrong
_PIPE_WIDTH = 200  # columns, where the output is no terminal


def register(app: typer.Typer) -> None:
    """Add the commands to the group ``proctor policy``."""
    for command in (check, terms):
        app.command()(command)


def terms(
    as_markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown.")] = False,
) -> None:
    """The purposes, and what each known term of DUO or word of a policy says of them."""
    from proctor_steps.policy import show

    if as_markdown:
        typer.echo(show.terms_markdown(), nl=False)
    else:
        _console().print(show.terms_view())


def check(
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATA...", help="Metadata files, or folders that hold some."),
    ],
    purposes: Annotated[
        list[str] | None, typer.Option("--purpose", help="One purpose, again for more; else all.")
    ] = None,
    date: Annotated[str, typer.Option("--date", help="Date of use, YYYY-MM-DD; else today.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown.")] = False,
) -> None:
    """What licences and policies of data permit for a purpose, and by which terms."""
    asked = _asked(purposes or [], date)
    made, problems = [], []
    for path in data:
        answers, problem = _answers(path, asked)
        made += [(path.stem, each) for each in answers]
        problems += [problem] if problem else []
    _show(made, as_json, as_markdown)
    if problems:
        _fail("\n".join(problems))


def _asked(purposes: list[str], date: str) -> list[Asked]:
    from proctor_steps.policy.clauses import Asked, is_date
    from proctor_steps.policy.purposes import PURPOSES

    date = date or datetime.now(UTC).date().isoformat()
    if not is_date(date):
        _fail(f"--date {date!r}: write YYYY-MM-DD")
    for purpose in purposes:
        if purpose not in PURPOSES:
            _fail(f"--purpose {purpose!r}: known: {', '.join(PURPOSES)}")
    return [Asked(each, date) for each in PURPOSES if each in purposes or not purposes]


def _answers(path: Path, asked: list[Asked]) -> tuple[list[Answer], str]:
    """The answers for a file or folder, or why there are none."""
    from proctor_steps.policy import folder
    from proctor_steps.policy.answer import answer
    from proctor_steps.stage import DataError

    try:
        found = folder.beside(path) if path.is_dir() else [folder.load(path, path.name)]
    except DataError as error:
        return [], str(error)
    except OSError as error:
        return [], f"{path}: cannot be read ({error.strerror})"
    return [answer(found, ask, f"{path}: no metadata") for ask in asked], ""


def _show(made: list[tuple[str, Answer]], as_json: bool, as_markdown: bool) -> None:
    from proctor_steps.policy import show

    rows = [show.row(name, each) for name, each in made]
    if as_json:
        import json

        text = [{"data": name, **each.as_json()} for name, each in made]
        typer.echo(json.dumps(text, indent=1, ensure_ascii=False))
    elif as_markdown:
        typer.echo(show.markdown(rows), nl=False)
    elif rows:
        _console().print(show.view(rows))


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False)
    console.width = console.width if console.is_terminal else _PIPE_WIDTH
    return console


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(BAD_INPUT)
