"""``proctor user password``: a password for people who log in by the form of a shared server."""

from __future__ import annotations

from typing import Annotated

import typer

from proctor.site.commands import HomeOption, give_up, home_of

SHORTEST = 12


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(help="People on a shared server.", no_args_is_help=True)
    # With a callback, a group keeps the name of its only command.
    group.callback()(_group)
    group.command()(password)
    app.add_typer(group, name="user")


def _group() -> None:
    """People on a shared server."""


def password(
    name: Annotated[str, typer.Argument(help="one that `users` in site.yaml names")],
    home: HomeOption = None,
) -> None:
    """Set the password of a user of the instance that runs on this home (`auth: fab`)."""
    from proctor.site.client import AirflowUnavailable
    from proctor.site.home import PROFILE_FILE
    from proctor.site.instance import check_user, client_of
    from proctor.site.settings import user_name

    place = home_of(home)
    if place.profile().auth != "fab":
        give_up(
            f"{place.path / PROFILE_FILE} says no `auth: fab`, so nobody logs in by a password; "
            f"give out a link: proctor login --user {name}"
        )
    if name == user_name():
        give_up("the owner has no password: Proctor itself logs in with it. Use: proctor login")
    try:
        check_user(place, name)
        client = client_of(place)
    except LookupError as error:
        give_up(str(error))
    wanted = typer.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True)
    if len(wanted) < SHORTEST:
        give_up(f"it has {len(wanted)} characters; {SHORTEST} at least are needed")
    try:
        known = client.set_password(name, wanted)
    except AirflowUnavailable as error:
        give_up(str(error))
    if not known:
        give_up(f"{name} is new in {PROFILE_FILE}; start Proctor again, then set the password")
    typer.echo(f"{name} may log in with it now. Sessions that she has open go on.")
