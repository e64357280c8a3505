"""A coordinator as it runs: reports over TLS, the page's data, asset events, DAGs that wait."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from coordinator_kit import Certificates, certificates
from proctor.cli import app
from proctor.federation.outbox import Outbox
from proctor.federation.sender import PATH, Refused, Sender, read_token
from proctor.plan.compile import load_plan
from proctor.records.store import RunRecord
from proctor.site.home import Home
from proctor.site.instance import Instance, new_login_link, running
from proctor.site.reporting import Consent, Reporter, outbox_of

PREP = """
pipeline: prep
title: Preparation
partition_def: {from: fetch.o}
steps:
  - {id: fetch, image: proctor/steps, command: selfcheck act, outputs: {o: directory}}
  - {id: prepare, title: Prepare, image: proctor/steps, command: selfcheck act,
     outputs: {o: directory}, partition: true, after: fetch}
"""
MERGE = """
pipeline: merge
steps:
  - {id: merge, image: proctor/steps, command: selfcheck act, outputs: {o: directory}}
"""
CANARY = "Canary-4711"


@dataclass
class Committee:
    """A coordinator that runs, and what a site needs to know of it."""

    instance: Instance
    url: str
    tls: Certificates
    folder: Path

    def terminal(self, *words: str) -> Any:
        home = str(self.instance.home.path)
        return CliRunner().invoke(app, ["coordinator", *words, "--home", home])

    def page(self, user: str = "") -> httpx.Client:
        client = httpx.Client(base_url=self.instance.url, trust_env=False)
        if user:
            nonce = new_login_link(self.instance.home, user).rpartition("#")[2]
            assert client.post("/proctor/launch/take", json={"nonce": nonce}).status_code == 200
        return client

    def ask(self, path: str) -> Any:
        return self.instance.client._send("GET", path).json()


@pytest.fixture(scope="module")
def committee() -> Iterator[Committee]:
    folder = Path(tempfile.mkdtemp(prefix="proctor-committee-"))
    folder.chmod(0o711)
    home, tls = Home(folder / "home"), certificates(folder)
    tls.key.chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    home.create()
    (home.path / "site.yaml").write_text(
        f"users: {{vera: viewer}}\n"
        f"sites:\n"
        f"  listen: 127.0.0.1:{port}\n"
        f"  certificate: {tls.certificate}\n"
        f"  key: {tls.key}\n"
        f"  specs: [{folder}/prep.yaml]\n"
        f"  starts:\n"
        f"    - {{pipeline: merge, when: prep, sites: [site-a, site-b, site-c], at_least: 2}}\n"
    )
    for name, text in (("prep", PREP), ("merge", MERGE)):
        (folder / f"{name}.yaml").write_text(text)
    home.register("merge", folder / "merge.yaml", {})
    before = dict(os.environ)
    with running(home, "fake", sys.stderr) as instance:
        url = f"https://127.0.0.1:{port}"
        wait_for_door(url, tls)
        yield Committee(instance, url, tls, folder)
    os.environ.clear()
    os.environ.update(before)
    shutil.rmtree(folder, ignore_errors=True)


def until(condition: Callable[[], Any], seconds: float = 90) -> Any:
    give_up = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < give_up
        time.sleep(0.3)
    return found


def wait_for_door(url: str, tls: Certificates) -> None:
    trust = ssl.create_default_context(cafile=str(tls.ca))

    def answers() -> bool:
        try:
            return httpx.get(url, verify=trust, trust_env=False).status_code == 404
        except httpx.TransportError:
            return False

    until(answers)


@dataclass
class Member:
    """A site with a record of its own making, and a real launcher's reporter."""

    home: Home
    record: RunRecord
    reporter: Reporter

    @property
    def outbox(self) -> Outbox:
        to = self.home.profile().coordinator
        assert to
        return outbox_of(self.home, to)

    def send(self) -> None:
        assert self.reporter.finish() == []
        assert self.outbox.unsent() == []


def member(committee: Committee, name: str) -> Member:
    """What a site's person does with what the committee sent."""
    home = Home(committee.folder / f"{name}-{CANARY}")
    home.create()
    said = committee.terminal("add-site", name, "--url", committee.url, "--pipeline", "prep").stdout
    token = home.path / "coordinator.token"
    token.touch(0o600)
    token.write_text(said.splitlines()[1])
    profile = said.partition("of the home:\n")[2].replace("/FOLDER/coordinator.token", str(token))
    profile = profile.replace("# ca_file: /FOLDER/ca.pem", f"ca_file: {committee.tls.ca}")
    (home.path / "site.yaml").write_text(profile)
    plan = load_plan(committee.folder / "prep.yaml")
    home.records.save_plan(plan)
    to = home.profile().coordinator
    assert to
    Consent(home, to).give()
    record = home.records.run("prep", f"run-{CANARY}")
    record.append("header", plan_digest=plan.digest, data={"params": {"x": CANARY}})
    return Member(home, record, Reporter(home))


def has(record: RunRecord, step: str, state: str) -> None:
    told = {"state": state, "message": f"{CANARY} cannot be read"}
    record.append("result", step=step, attempt=1, data=told)


def test_reports_are_on_the_page_and_a_dag_starts_when_enough_sites_are_ready(
    committee: Committee,
) -> None:
    sites = [member(committee, f"site-{letter}") for letter in "abc"]
    digest = sites[0].record.header().plan_digest
    for site in sites:
        has(site.record, "fetch", "succeeded")
        for number in range(4):
            part = site.record.subject(f"{CANARY}/{number}")
            part.append("header", plan_digest=digest, data={"subject": f"{CANARY}/{number}"})
            if number:
                has(part, "prepare", "failed" if number == 3 else "succeeded")
        site.send()
    reader = committee.page("vera")
    assert reader.get("/proctor/sites/").status_code == 200
    data = reader.get("/proctor/sites/data").json()
    (plan,) = data["plans"]
    assert (plan["plan"], plan["title"], plan["known"]) == (digest, "Preparation", True)
    assert [step["title"] for step in plan["steps"]] == ["fetch", "Prepare"]
    assert [(s["site"], s["state"]) for s in plan["sites"]] == [
        (f"site-{letter}", "failed") for letter in "abc"
    ]
    prepare = plan["sites"][0]["steps"]["prepare"]
    assert (prepare["total"], prepare["percent"], prepare["counts"]["failed"]) == (4, 50.0, 1)
    assert CANARY not in reader.get("/proctor/sites/data").text
    assert CANARY not in reader.get("/proctor/sites/history?site=site-a").text

    runs = "/dags/merge/dagRuns"
    until(lambda: committee.instance.client.has_dag("merge", {"begin", "merge"}))
    for count, site in enumerate(sites[:2], start=1):
        assert committee.ask(runs)["total_entries"] == 0
        for part in site.record.subjects():
            part.append("result", step="prepare", attempt=2, data={"state": "succeeded"})
        has(site.record, "subjects-1", "succeeded")
        has(site.record, "list-subjects", "succeeded")
        site.send()
        site.send()
        assert committee.ask("/assets/events")["total_entries"] == count
    events = committee.ask("/assets/events")["asset_events"]
    assert {each["uri"] for each in events} == {
        "proctor-site://site-a/prep",
        "proctor-site://site-b/prep",
    }
    assert events[0]["extra"] == {"site": "site-a", "plan": digest, "run": 1}
    found = until(lambda: committee.ask(runs)["dag_runs"])
    assert len(found) == 1 and found[0]["run_type"] == "asset_triggered"
    until(lambda: committee.ask(runs)["dag_runs"][0]["state"] == "success")
    assert committee.instance.home.records.run("merge", found[0]["dag_run_id"]).exists()
    listed = committee.terminal("list").stdout
    assert listed.count("succeeded") == 2 and "prep" in listed


def test_the_page_is_for_who_is_logged_in(committee: Committee) -> None:
    stranger = committee.page()
    for path in ("/proctor/sites/", "/proctor/sites/data", "/proctor/sites/history?site=site-a"):
        assert stranger.get(path).status_code in (401, 403), path
    reader = committee.page("vera")
    assert reader.get("/proctor/sites/history?site=nobody").status_code == 404
    assert reader.get("/proctor/sites/history?site=../x").status_code == 404
    # Being logged in is no token.
    told = {"Content-Type": "application/json"}
    assert reader.post("/proctor/sites/reports", content=b"{}", headers=told).status_code == 401
    policy = reader.get("/proctor/sites/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "http" not in policy


def test_a_token_opens_nothing_but_the_address_for_reports(committee: Committee) -> None:
    site = member(committee, "site-d")
    token = read_token(site.home.path / "coordinator.token")
    headers = {"Authorization": f"Bearer {token}"}
    stranger = committee.page()
    for path in ("/api/v2/dags", "/proctor/sites/data", "/proctor/sites/history?site=site-a"):
        assert stranger.get(path, headers=headers).status_code in (401, 403), path
    trust = ssl.create_default_context(cafile=str(committee.tls.ca))
    with httpx.Client(base_url=committee.url, verify=trust, trust_env=False) as door:
        for path in ("/", "/api/v2/dags", "/proctor/sites/data", "/auth/token", "/docs"):
            assert door.get(path, headers=headers).status_code == 404, path
        assert door.get(PATH, headers=headers).status_code == 405


def test_a_revoked_site_is_refused_while_all_runs(committee: Committee) -> None:
    site = member(committee, "site-e")
    has(site.record, "fetch", "succeeded")
    site.send()
    assert committee.terminal("revoke", "site-e").exit_code == 0
    to = site.reporter._courier
    assert to is not None and isinstance(to.sender, Sender)
    with pytest.raises(Refused, match="was revoked"):
        to.sender.send(site.outbox.body(1), 1)
    data = committee.page("vera").get("/proctor/sites/data").json()
    assert {s["name"]: s["may_report"] for s in data["sites"]}["site-e"] is False


def test_a_door_that_died_is_opened_again(committee: Committee) -> None:
    site = member(committee, "site-f")
    committee.instance.components._running["sites-door"].kill()
    has(site.record, "fetch", "succeeded")
    said = site.reporter.finish()
    assert "cannot be reached" in said[0] and "1 report waits for the coordinator" in said[1]
    until(lambda: "sites-door" in committee.instance.supervise())
    wait_for_door(committee.url, committee.tls)
    Member(site.home, site.record, Reporter(site.home)).send()
