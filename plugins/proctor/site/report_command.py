"""The command ``proctor site report``: what leaves this site, shown, agreed to, or stopped."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proctor.site.commands import HomeOption, give_up, home_of, run_named
from proctor.site.home import PROFILE_FILE, Home

if TYPE_CHECKING:
    from proctor.federation.profile import CoordinatorAddress
    from proctor.plan.model import Plan
    from proctor.site.reporting import Consent


def report(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="a run's id, its beginning, or `latest`")
    ] = "latest",
    home: HomeOption = None,
    show: Annotated[
        bool, typer.Option("--show", help="the bytes that are sent, and nothing else")
    ] = False,
    agree: Annotated[
        bool, typer.Option("--agree", help="see them, and agree that reports are sent")
    ] = False,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="have no report sent any more")
    ] = False,
) -> None:
    """Say what leaves this site and what waits; with --show, exactly those bytes."""
    from proctor.site.reporting import Consent

    place = home_of(home)
    consent = Consent(place, _coordinator(place))
    if withdraw:
        consent.withdraw()
        _say(f"Nothing more is sent to {consent.to.url}.")
        return
    if show or agree:
        body = _body_of(place, consent.to, run)
        _tell_how(consent.to)
        sys.stdout.buffer.write(body)
        sys.stdout.flush()
    if agree:
        _ask(consent)
    elif not show:
        _stand(consent)
    if not agree and not consent.given_at:
        _say(f"Nothing is sent until you agree: proctor site report --agree --home {place.path}")


def ask_once(home: Home, plans: Sequence[Plan]) -> None:
    """Show what a run of these plans would report, and ask, where nobody has agreed to it yet.

    Without a terminal nobody is asked, and reports wait.
    """
    from proctor.site.reporting import Consent

    consent = Consent(home, _coordinator(home))
    told = [plan for plan in plans if plan.pipeline in consent.to.pipelines]
    if told and not consent.given_at and somebody_reads():
        show_first(consent.to, told[0])
        _ask(consent)


def somebody_reads() -> bool:
    """Whether a person sees what is shown, and can answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def show_first(to: CoordinatorAddress, plan: Plan) -> None:
    """Show what a run of a plan reports when it begins."""
    from datetime import UTC, datetime

    from proctor.federation.tally import first_report

    _tell_how(to)
    _say(first_report(plan, datetime.now(UTC)).body().decode())


def agrees(to: CoordinatorAddress) -> bool:
    """Ask whether reports may be sent."""
    of = ", ".join(to.pipelines)
    question = f"May reports of this form, on runs of {of}, be sent to {to.url}?"
    return typer.confirm(question, default=False, err=True)


def _body_of(home: Home, to: CoordinatorAddress, run: str) -> bytes:
    """What is sent of a run as it is now: the report that waits, else the one that would."""
    from proctor.federation.tally import Tally
    from proctor.site.reporting import outbox_of, report_of

    record = run_named(home, run)
    if record.pipeline not in to.pipelines:
        names = ", ".join(to.pipelines)
        give_up(
            f"runs of {record.pipeline} are not reported; those of {names} are "
            f"(`pipelines` in {home.path / PROFILE_FILE})"
        )
    outbox = outbox_of(home, to)
    made = outbox.numbered(report_of(home, record, Tally()), record.name)
    last = outbox.last_of(made)
    if last is not None and last.sequence in outbox.unsent() and last.says_the_same(made):
        return outbox.body(last.sequence)
    return made.body()


def _tell_how(to: CoordinatorAddress) -> None:
    from proctor.federation.sender import HEADERS, Sender

    sender = Sender(to.url, Path(to.token_file))
    _say(f"POST {sender.address}, the token of {to.token_file} in the header Authorization,")
    _say(f"the headers Host, Content-Length and {', '.join(HEADERS)}, and these bytes:\n")


def _ask(consent: Consent) -> None:
    if agrees(consent.to):
        consent.give()
        _say("They are sent while proctor runs; each is kept in `reports/` of the home.")
    else:
        _say("Nothing is sent. To agree later: proctor site report --agree")


def _stand(consent: Consent) -> None:
    from proctor.site.reporting import outbox_of

    outbox = outbox_of(consent.home, consent.to)
    typer.echo(f"Coordinator  {consent.to.url}, of runs of {', '.join(consent.to.pipelines)}")
    typer.echo(f"Sent         {outbox.sent} reports; the newest are kept in {outbox.folder}")
    typer.echo(f"Waiting      {len(outbox.unsent())} reports")
    if consent.given_at:
        typer.echo(f"Agreed       {consent.given_at[:16]} UTC; --withdraw takes it back")


def _coordinator(home: Home) -> CoordinatorAddress:
    found = home.profile().coordinator
    if found is None:
        give_up(
            f"this site reports to nobody: there is no `coordinator` in {home.path / PROFILE_FILE}"
        )
    return found


def _say(text: str) -> None:
    """To people, beside the bytes that a program may read."""
    typer.echo(text, err=True)
