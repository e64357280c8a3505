"""The launcher's reports: what is written when, and that nothing leaves before a person agreed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from test_site_report import CANARY, PLAN, begun
from typer.testing import CliRunner

from proctor.cli import app
from proctor.federation.courier import Courier
from proctor.federation.outbox import Outbox
from proctor.federation.report import read_report
from proctor.federation.sender import NotSent, Sender
from proctor.records.store import RunRecord
from proctor.site import reporting
from proctor.site.home import Home
from proctor.site.reporting import Consent, Reporter, outbox_of


class Site:
    """A home that reports of `prep` to a committee, and what arrived there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = Home(folder / CANARY)
        self.home.create()
        self.arrived: list[bytes] = []
        monkeypatch.setattr(Sender, "send", lambda sender, body, n: self.arrived.append(body))
        monkeypatch.setattr(reporting, "LOOK_SECONDS", 0.0)
        self.write()
        self.home.records.save_plan(PLAN)

    def write(self, url: str = "https://committee.example.org", names: str = "prep") -> None:
        (self.home.path / "site.yaml").write_text(
            f"coordinator: {{url: '{url}', token_file: /none/{CANARY}, pipelines: [{names}]}}\n"
        )

    @property
    def consent(self) -> Consent:
        to = self.home.profile().coordinator
        assert to
        return Consent(self.home, to)

    def command(self, *words: str, input: str = "") -> Any:
        words = ("site", "report", *words, "--home", str(self.home.path))
        return CliRunner().invoke(app, words, input=input)

    @property
    def outbox(self) -> Outbox:
        return outbox_of(self.home, self.consent.to)

    def kept(self) -> list[bytes]:
        return [self.outbox.body(number) for number in self.outbox.numbers()]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def run_of(site: Site) -> RunRecord:
    # Where `begun` keeps its records: a home of the canary's name.
    return begun(site.home.path.parent)


def test_a_site_without_a_committee_writes_and_sends_nothing(site: Site) -> None:
    (site.home.path / "site.yaml").unlink()
    run_of(site)
    reporter = Reporter(site.home)
    assert reporter.look(True) == reporter.finish() == []
    assert not (site.home.path / "reports").exists() and not site.arrived


def test_without_consent_nothing_is_written_or_sent_and_that_is_said_once(site: Site) -> None:
    reporter = Reporter(site.home)
    said = reporter.look(True)
    run_of(site)
    said += [line for _ in range(3) for line in reporter.look(True)]
    assert len(said) == 1 and "told nothing until you agree" in said[0]
    assert site.kept() == site.arrived == []
    site.consent.give()  # in another terminal
    assert reporter.finish() == []
    assert site.arrived == site.kept() and len(site.arrived) == 1
    assert site.outbox.unsent() == []


def test_what_waits_for_one_coordinator_never_goes_to_another(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(sender: Sender, body: bytes, number: int) -> None:
        raise NotSent("away")

    monkeypatch.setattr(Sender, "send", away)
    site.consent.give()
    run_of(site)
    assert "1 report waits for the coordinator" in Reporter(site.home).finish()[1]
    first = site.outbox
    site.write("https://other.example")
    site.consent.give()
    assert site.outbox.folder != first.folder and site.outbox.unsent() == []
    assert first.unsent() == [1]


def test_what_changes_is_reported_and_what_does_not_is_not(site: Site) -> None:
    reporter = Reporter(site.home)
    site.consent.give()
    record = run_of(site)
    for _ in range(3):
        reporter.look(True)
    assert len(site.kept()) == 1
    record.append("asked", step="check", attempt=1, data={"evidence_digest": CANARY})
    reporter.look(True)
    assert [read_report(body).steps[-1].person for body in site.kept()] == [0, 1]
    assert all(CANARY.encode() not in body for body in site.kept())


def test_a_beat_is_written_now_and_then_and_only_when_nothing_waits(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = Reporter(site.home)
    outbox = site.outbox
    site.consent.give()
    monkeypatch.setattr(Courier, "wake", lambda courier: None)
    run_of(site)
    reporter.look(True)
    path = outbox.folder / "000000001.json"
    os.utime(path, (time.time() - 1000,) * 2)
    reporter.look(True)
    assert outbox.numbers() == [1]  # the first has not arrived
    outbox.was_sent(1)
    os.utime(path, (time.time() - 800,) * 2)
    reporter.look(True)
    assert outbox.numbers() == [1]
    os.utime(path, (time.time() - 1000,) * 2)
    reporter.look(True)
    assert outbox.numbers() == [1, 2]
    assert outbox.report(2).says_the_same(outbox.report(1))


def test_only_runs_of_the_named_pipelines_and_since_then(site: Site) -> None:
    site.consent.give()
    old = run_of(site)
    for path in [old.path, *(part.path for part in old.subjects())]:
        os.utime(path, (time.time() - 100,) * 2)
    other = site.home.records.run("private", "r")
    reporter = Reporter(site.home)
    reporter.look(True)
    other.append("header", plan_digest=PLAN.digest, data={})
    reporter.look(True)
    assert site.kept() == []
    old.append("result", step="check", attempt=1, data={"state": "succeeded"})
    reporter.look(True)
    assert len(site.kept()) == 1


def test_a_damaged_record_keeps_no_other_from_being_reported(site: Site) -> None:
    site.consent.give()
    record = run_of(site)
    bad = site.home.records.run("prep", "bad")
    bad.append("header", plan_digest=PLAN.digest, data={})
    bad.path.write_bytes(bad.path.read_bytes() + b"{nonsense}\n")
    Reporter(site.home).look(True)
    assert len(site.kept()) == 1 and record.exists()


def test_consent_is_for_one_address_form_and_set_of_pipelines(site: Site) -> None:
    assert not site.consent.given_at
    site.consent.give()
    assert site.consent.given_at
    for url, names in (("https://other.example", "prep"), ("https://committee.example.org", "a")):
        site.write(url, names)
        assert not site.consent.given_at
    site.write()
    assert site.consent.given_at
    (site.outbox.folder / "consent.json").write_text("[]")
    assert not site.consent.given_at


def test_show_prints_exactly_the_bytes_that_are_sent(site: Site) -> None:
    site.outbox.create()
    record = run_of(site)
    shown = site.command("--show")
    assert shown.exit_code == 0
    assert "Nothing is sent until you agree" in shown.stderr
    assert f"POST {site.consent.to.url}/proctor/sites/reports" in shown.stderr
    site.consent.give()
    Reporter(site.home).finish()
    assert shown.stdout_bytes == site.arrived[0] == site.kept()[0]
    assert CANARY not in shown.stdout
    again = site.command(record.run, "--show")
    assert read_report(again.stdout_bytes).sequence == 2  # what the next beat is
    assert "agree" not in again.stderr


def test_a_report_that_waits_is_shown_as_it_waits(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.outbox.create()
    site.consent.give()
    run_of(site)
    monkeypatch.setattr(Courier, "wake", lambda courier: None)
    Reporter(site.home).look(True)
    assert site.command("--show").stdout_bytes == site.kept()[0]


def test_agreeing_and_taking_it_back(site: Site) -> None:
    site.outbox.create()
    run_of(site)
    said = site.command("--agree", input="n\n")
    assert "Nothing is sent. To agree later" in said.stderr and not site.consent.given_at
    said = site.command("--agree", input="y\n")
    assert said.exit_code == 0 and site.consent.given_at
    assert read_report(said.stdout_bytes.splitlines()[0])
    reporter = Reporter(site.home)
    reporter.look(True)
    assert "Agreed" in site.command().stdout
    assert site.command("--withdraw").exit_code == 0
    for part in site.home.records.find("latest").subjects():
        part.append("result", step="prepare", attempt=2, data={"state": "failed"})
    reporter.look(True)
    reporter.finish()
    assert len(site.arrived) == len(site.kept()) == 1
    assert "Waiting      0 reports" in site.command().stdout


def test_what_is_not_reported_is_said(site: Site, tmp_path: Path) -> None:
    site.home.records.run("private", "r").append("header", plan_digest=PLAN.digest, data={})
    assert "runs of private are not reported; those of prep are" in site.command("--show").stderr
    (site.home.path / "site.yaml").unlink()
    assert "reports to nobody" in site.command().stderr
