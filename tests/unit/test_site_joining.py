"""``proctor site run --coordinator``: shown first, agreed to, then written; never over another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_site_run import Engine, carried, command, docker, plan_of, site

from proctor.site import joining
from proctor.site.home import Home
from proctor.site.reporting import Consent

__all__ = ["carried", "docker", "site"]  # fixtures

URL = "https://committee.example.org:8443"
TOKEN = f"0123abcd.{'x' * 43}"


@pytest.fixture(autouse=True)
def in_a_terminal(monkeypatch: pytest.MonkeyPatch, docker: Engine) -> None:
    monkeypatch.setattr(joining, "somebody_reads", lambda: True)


@pytest.fixture
def token(site: Path) -> Path:
    path = site / "token"
    path.touch(0o600)
    path.write_text(f"{TOKEN}\n")
    return path


def join(site: Path, *more: str, answer: str = "y\n") -> Any:
    return command(site, "--agree", "--coordinator", URL, *more, answer=answer)


def home_of(site: Path) -> Home:
    return Home(site / "out" / ".proctor")


def test_the_report_is_shown_and_agreeing_writes_the_profile(
    site: Path, carried: list[Any], token: Path
) -> None:
    (site / "ca.pem").write_text("certificate")
    told = join(site, "--token-file", str(token), "--ca-file", str(site / "ca.pem"))
    assert told.exit_code == 0, told.output
    asked = told.stderr.index("May reports of this form, on runs of prepare, be sent to")
    assert told.stderr.index(f"POST {URL}/proctor/sites/reports") < asked
    assert told.stderr.index(plan_of().digest) < asked
    home = home_of(site)
    to = home.profile().coordinator
    assert to is not None
    assert (to.url, to.pipelines, to.token_file) == (URL, ("prepare",), str(token))
    assert to.ca_file == str(site / "ca.pem")
    assert Consent(home, to).given_at
    assert len(carried) == 1
    again = join(site, answer="")
    assert again.exit_code == 0, again.output
    assert "May reports" not in again.output and len(carried) == 2


def test_who_does_not_agree_starts_nothing_and_leaves_nothing(
    site: Path, carried: list[Any], token: Path
) -> None:
    told = join(site, "--token-file", str(token), answer="n\n")
    assert told.exit_code == 2
    assert "nothing was started; without --coordinator nobody is told" in told.output
    home = home_of(site)
    assert home.profile().coordinator is None and not (home.path / "reports").exists()
    assert carried == []


def test_without_a_terminal_nobody_has_agreed(
    site: Path, carried: list[Any], token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "somebody_reads", lambda: False)
    told = join(site, "--token-file", str(token))
    assert told.exit_code == 2 and "somebody has to see what is sent" in told.output
    assert carried == []


def test_a_token_is_asked_for_kept_closed_and_never_shown(site: Path, carried: list[Any]) -> None:
    told = join(site, answer=f"y\nnonsense\n{TOKEN}\n")
    assert told.exit_code == 0, told.output
    kept = home_of(site).path / joining.TOKEN_FILE
    assert kept.read_text() == f"{TOKEN}\n"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert told.output.count("The committee's token") == 2
    assert TOKEN not in told.output and "nonsense" not in told.output


def test_what_the_profile_says_already_stays(site: Path, carried: list[Any], token: Path) -> None:
    home = home_of(site)
    home.create()
    before = f"# ours\nroots: [{site}]"
    (home.path / "site.yaml").write_text(before)
    assert join(site, "--token-file", str(token)).exit_code == 0
    assert (home.path / "site.yaml").read_text().startswith(f"{before}\ncoordinator:\n")
    assert home.profile().roots == (str(site),)


def test_a_profile_that_cannot_be_added_to_is_left_as_it_is(
    site: Path, carried: list[Any], token: Path
) -> None:
    home = home_of(site)
    home.create()
    before = f"{{roots: [{site}]}}\n"
    (home.path / "site.yaml").write_text(before)
    told = join(site, "--token-file", str(token))
    assert told.exit_code == 2
    assert f'put this into it yourself:\ncoordinator:\n  url: "{URL}"' in told.output
    assert (home.path / "site.yaml").read_text() == before
    assert carried == []
    assert sorted(path.name for path in home.path.glob(".site*")) == []


def test_another_coordinator_in_the_profile_is_told_all_at_once(
    site: Path, carried: list[Any], token: Path
) -> None:
    home = home_of(site)
    home.create()
    profile = home.path / "site.yaml"
    written = f"coordinator: {{url: 'https://other.example', token_file: {token}, pipelines: [x]}}"
    profile.write_text(written)
    told = join(site, "--token-file", str(site / "gone"), "--ca-file", str(site / "none"))
    assert told.exit_code == 2
    assert "this site reports to https://other.example; leave the option out" in told.output
    assert f"or change `coordinator` in {profile}" in told.output
    assert f"the token's file {site / 'gone'} cannot be read" in told.output
    assert f"--ca-file: there is no file {site / 'none'}" in told.output
    profile.write_text(written.replace("https://other.example", URL))
    told = join(site, "--ca-file", str(token))
    assert "--ca-file: this site's is none" in told.output
    assert "this site reports of x, not of prepare; add it to `pipelines`" in told.output
    assert carried == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--coordinator", "http://committee.example.org"], "reports leave over https only"),
        (["--coordinator", f"https://a:{TOKEN}@b.example"], "an address holds no name or password"),
        (["--token-file", "/none"], "give --coordinator, too"),
    ],
)
def test_what_is_no_coordinator(
    site: Path, carried: list[Any], words: list[str], said: str
) -> None:
    told = command(site, "--agree", *words)
    assert told.exit_code == 2 and said in told.output
    assert TOKEN not in told.output and carried == []
