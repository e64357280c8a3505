"""``proctor site run --coordinator URL``: the first run of a site that a committee has invited.

What the person would otherwise write into ``site.yaml`` is written for her, once a report was
shown and she agreed. A profile that says something else is never changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from proctor.federation.addresses import address_problem
from proctor.federation.profile import CoordinatorAddress
from proctor.federation.sender import TOKEN, Refused, read_token
from proctor.site.commands import give_up
from proctor.site.home import PROFILE_FILE, Home
from proctor.site.profile import ProfileErrors, read_profile
from proctor.site.report_command import agrees, show_first, somebody_reads
from proctor.site.reporting import Consent
from proctor.site.settings import write_secret

if TYPE_CHECKING:
    from proctor.plan.model import Plan

TOKEN_FILE = "coordinator.token"  # noqa: S105 - a file's name


@dataclass(frozen=True)
class Invitation:
    """What was given beside ``--coordinator``; a file that is ``None`` was not."""

    home: Home
    url: str
    pipeline: str
    token_file: Path | None = None
    ca_file: Path | None = None

    @property
    def to(self) -> CoordinatorAddress:
        """As the profile is to say it."""
        return CoordinatorAddress(
            url=self.url,
            token_file=str((self.token_file or self.home.path / TOKEN_FILE).resolve()),
            pipelines=(self.pipeline,),
            ca_file=str(self.ca_file.resolve()) if self.ca_file else None,
        )

    def problems(self) -> Iterator[str]:
        """Why it cannot be accepted, each with what to do."""
        if problem := address_problem(self.url):
            yield f"--coordinator: {problem.replace('|', '; ')}"
            return
        if self.token_file:
            try:
                read_token(self.token_file)
            except Refused as error:
                yield f"--token-file: {error}"
        if self.ca_file and not self.ca_file.is_file():
            yield f"--ca-file: there is no file {self.ca_file}"
        if (known := self.home.profile().coordinator) is not None:
            yield from self._differs(known)

    def accept(self, plan: Plan) -> None:
        """Show what is sent, ask, and write the profile; nothing where that was done before.

        A person who does not agree ends the command, and nothing is left.
        """
        if self.home.profile().coordinator is not None:
            return
        if not somebody_reads():
            give_up(
                "--coordinator: somebody has to see what is sent and agree to it: give the command "
                "in a terminal, once"
            )
        show_first(self.to, plan)
        if not agrees(self.to):
            give_up("nothing was started; without --coordinator nobody is told of the run")
        if not self.token_file:
            write_secret(self.home.path / TOKEN_FILE, f"{_asked_token()}\n")
        _write(self.home, self.to)
        Consent(self.home, self.to).give()

    def _differs(self, known: CoordinatorAddress) -> Iterator[str]:
        profile = self.home.path / PROFILE_FILE
        remedy = f"leave the option out, or change `coordinator` in {profile}"
        if known.url.rstrip("/") != self.url.rstrip("/"):
            yield f"--coordinator: this site reports to {known.url}; {remedy}"
            return
        if self.token_file and known.token_file != self.to.token_file:
            yield f"--token-file: this site's is {known.token_file}; {remedy}"
        if self.ca_file and known.ca_file != self.to.ca_file:
            yield f"--ca-file: this site's is {known.ca_file or 'none'}; {remedy}"
        if self.pipeline not in known.pipelines:
            names = ", ".join(known.pipelines)
            yield (
                f"--coordinator: this site reports of {names}, not of {self.pipeline}; add it to "
                f"`pipelines` of `coordinator` in {profile}"
            )


def _asked_token() -> str:
    """Typed or pasted, and not shown; asked again where it is none."""

    def token(text: str) -> str:
        if not TOKEN.fullmatch(text.strip()):
            raise typer.BadParameter("this is no token; it is the line that the committee sent")
        return text.strip()

    asked = typer.prompt("The committee's token", hide_input=True, value_proc=token, err=True)
    return str(asked)


def _write(home: Home, to: CoordinatorAddress) -> None:
    """Put the coordinator behind what the profile says already."""
    path = home.path / PROFILE_FILE
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    block = _block(to)
    scratch = path.with_name(f".{PROFILE_FILE}.new")
    write_secret(scratch, f"{before.rstrip()}\n{block}" if before.strip() else block)
    try:
        read_profile(scratch)
    except ProfileErrors:
        scratch.unlink()
        give_up(f"{path} cannot be added to as it is written; put this into it yourself:\n{block}")
    if path.exists():
        scratch.chmod(path.stat().st_mode & 0o777)
    scratch.replace(path)


def _block(to: CoordinatorAddress) -> str:
    told = to.model_dump(mode="json", exclude_defaults=True)
    lines = [f"  {key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in told.items()]
    return "coordinator:\n" + "".join(lines)
