"""A coordinator that runs, with its door, and sites that report to it."""

from __future__ import annotations

import contextlib
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
from typer.testing import CliRunner

from coordinator_kit import Certificates, certificates
from proctor.cli import app
from proctor.federation.outbox import Outbox
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


@contextlib.contextmanager
def committee_running(prep: str = PREP) -> Iterator[Committee]:
    """A coordinator in a folder of its own; it knows `prep` and starts `merge` for two sites."""
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
    for name, text in (("prep", prep), ("merge", MERGE)):
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
        """As a launcher does that begins, looks, and ends."""
        self.reporter = Reporter(self.home)
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
