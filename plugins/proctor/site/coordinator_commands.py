"""The commands ``proctor coordinator add-site``, ``revoke`` and ``list``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from proctor.site.commands import FAILED, HomeOption, console_of, give_up, home_of
from proctor.site.home import PROFILE_FILE, Home

if TYPE_CHECKING:
    from sqlalchemy import Connection

Site = Annotated[str, typer.Argument(metavar="NAME", help="small letters, digits and '-'")]


def register(app: typer.Typer) -> None:
    """Add these commands to ``proctor``."""
    group = typer.Typer(help="The sites that report to this home.", no_args_is_help=True)
    group.callback()(lambda: None)
    group.command()(add_site)
    group.command()(revoke)
    group.command(name="list")(list_sites)
    app.add_typer(group, name="coordinator")


def add_site(
    name: Site,
    home: HomeOption = None,
    url: Annotated[
        str, typer.Option(metavar="URL", help="where this site reaches the coordinator")
    ] = "https://COORDINATOR:PORT",
    pipeline: Annotated[
        list[str] | None, typer.Option(metavar="PIPELINE", help="what it is to report of")
    ] = None,
) -> None:
    """Make a token for a site, print it once, and what the site puts into its profile."""
    from proctor.federation.register import add_site as add

    place = home_of(home)
    with _database(place) as database:
        try:
            token = add(database, name)
        except ValueError as error:
            give_up(str(error).replace("|", "; "))
    names = ", ".join(pipeline or ["PIPELINE"])
    typer.echo(
        f"# The token of {name}. It is shown here and never again; send it to nobody else.\n"
        f"{token}\n\n"
        "# At the site, which is asked for the token then:\n"
        f"#   proctor site run SPEC --data DIR --output DIR --coordinator {url}\n"
        "# or the token alone in a file, `chmod 600`, and in site.yaml of the home:\n"
        "coordinator:\n"
        f"  url: {url}\n"
        "  token_file: /FOLDER/coordinator.token\n"
        f"  pipelines: [{names}]\n"
        "  # ca_file: /FOLDER/ca.pem      # where the certificate is of a CA of your own\n"
        "  # proxy: http://PROXY:3128     # where the environment does not name it"
    )


def revoke(name: Site, home: HomeOption = None) -> None:
    """Have no token of a site count any more; what it reported stays."""
    from proctor.federation.register import revoke as take_back

    with _database(home_of(home)) as database:
        try:
            count = take_back(database, name)
        except LookupError:
            give_up(f"there is no site {name!r}; `proctor coordinator list` shows all")
    typer.echo(f"{count} tokens of {name} count no more. A new one: proctor coordinator add-site")


def list_sites(home: HomeOption = None) -> None:
    """Show every site: when it was last heard of, its version, its newest runs."""
    from rich.table import Table

    from proctor.federation import inbox
    from proctor.federation.register import sites
    from proctor.site.known_plans import KnownPlans

    place = home_of(home)
    with _database(place) as database:
        known, heard = sites(database), inbox.heard(database)
        newest = inbox.newest(database)
    if not known:
        typer.echo("no sites yet; add one with: proctor coordinator add-site NAME")
        return
    plans = KnownPlans(place)
    table = Table(header_style="bold")
    for column in ("Site", "Token", "Last heard", "Version", "Pipeline", "Run", "State"):
        table.add_column(column, no_wrap=column != "Pipeline")
    for site in known:
        token = "" if site.tokens == 1 else "revoked" if not site.tokens else f"{site.tokens}"
        mine = [each.report for each in newest if each.site == site.name]
        first = (site.name, token, ago(heard.get(site.name)))
        for report in mine:
            plan = plans.get(report.plan)
            name = plan.pipeline if plan else f"unknown ({report.plan[:12]})"
            table.add_row(*first, report.version, name, str(report.run), report.state)
            first = ("", "", "")
        if not mine:
            table.add_row(*first)
    console_of().print(table)


def ago(at: datetime | None) -> str:
    """How long ago something was, for people."""
    if at is None:
        return "never"
    seconds = max(0.0, (datetime.now(UTC) - at).total_seconds())
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name} ago"
    return f"{seconds:.0f} s ago"


@contextmanager
def _database(home: Home) -> Iterator[Connection]:
    """The coordinator's database, of the instance that runs on this home."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    from proctor.site.postgres import Postgres

    if home.profile().sites is None:
        give_up(
            f"{home.path} is no coordinator: add `sites: {{}}` to {home.path / PROFILE_FILE}; "
            "docs/sites.md says more"
        )
    server = Postgres(home.path / "postgres") if home.path.is_dir() else None
    if server is None or not server.alive():
        give_up(f"no proctor runs on {home.path}; start it first: proctor up --home {home.path}")
    server.start()  # which finds it running
    engine = create_engine(server.addresses()[0])
    try:
        with engine.begin() as database:
            yield database
    except SQLAlchemyError as error:
        typer.echo(f"the coordinator's tables do not answer: {error}".splitlines()[0], err=True)
        raise typer.Exit(FAILED) from None
    finally:
        engine.dispose()
