"""A committee and its data sites, each on a machine of its own, as their people use them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from machines_kit import Capture, Machine
from sqlalchemy import create_engine, text
from terminal_kit import Terminal
from typer.testing import CliRunner

from coordinator_kit import certificates
from proctor.cli import app
from proctor.federation.outbox import Outbox
from proctor.records.store import RunRecord
from proctor.site.client import AirflowClient
from proctor.site.home import Home
from proctor.site.instance import new_login_link
from proctor.site.reporting import outbox_of
from proctor.site.settings import Credentials, user_name

PORT = 8443
PIPELINE, SUBJECTS = "site-inventory", 12
MERGE = """
pipeline: merge
steps:
  - {id: merge, image: proctor/steps, command: selfcheck act, outputs: {o: directory}}
"""
PROCTOR = [sys.executable, "-c", "from proctor.cli import main; main()"]


def until(condition: Callable[[], Any], what: str, seconds: float = 600) -> Any:
    give_up = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < give_up, f"never came: {what}"
        time.sleep(0.5)
    return found


def environment(**more: str) -> dict[str, str]:
    """A person's: nothing of Airflow or Proctor, no proxy that the test's machines lack."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW", "PROCTOR")) and not name.lower().endswith("_proxy")
    }
    return kept | {"BROWSER": shutil.which("true") or "true"} | more


@dataclass
class Committee:
    """The coordinator, with its door to the sites, and a page that its people look at."""

    machine: Machine
    folder: Path
    terminal: Terminal | None = None

    @property
    def home(self) -> Home:
        return Home(self.folder / "home")

    @property
    def url(self) -> str:
        return f"https://{self.machine.address}:{PORT}"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def set_up(self, *sites: str) -> None:
        self.folder.mkdir(mode=0o711)
        tls = certificates(self.folder, self.machine.address)
        tls.key.chmod(0o600)
        (self.folder / "merge.yaml").write_text(MERGE)
        self.home.create()
        (self.home.path / "site.yaml").write_text(
            "users: {vera: viewer}\n"
            "sites:\n"
            f"  listen: {self.machine.address}:{PORT}\n"
            f"  certificate: {tls.certificate}\n"
            f"  key: {tls.key}\n"
            f"  starts: [{{pipeline: merge, when: {PIPELINE}, sites: [{', '.join(sites)}]}}]\n"
        )

    def start(self) -> None:
        words = ["up", str(self.folder / "merge.yaml"), "--home", str(self.home.path)]
        command = self.machine.command([*PROCTOR, *words, "--runtime", "process"])
        self.terminal = Terminal(command, environment(), self.folder)
        self.terminal.shows("Ctrl-C stops everything")

    def stop(self) -> None:
        assert self.terminal is not None
        self.terminal.process.terminate()
        assert self.terminal.ends() == 130, self.terminal.text

    def invite(self, site: str) -> str:
        """What the committee sends to a site: its token."""
        words = ["coordinator", "add-site", site, "--home", str(self.home.path)]
        done = subprocess.run(
            [*PROCTOR, *words], capture_output=True, text=True, env=environment(), check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[1]

    def reports(self, site: str) -> list[tuple[int, str, str]]:
        """Sequence, digest and text of all that a site reported, in the order of their coming."""
        socket = self.home.path / "postgres"
        engine = create_engine(f"postgresql+psycopg2://postgres:@/postgres?host={socket}")
        query = (
            "SELECT sequence, digest, report FROM proctor_site_report AS r "
            "JOIN proctor_site AS s ON s.id = r.site_id WHERE s.name = :name ORDER BY r.id"
        )
        with engine.connect() as database:
            rows = database.execute(text(query), {"name": site}).all()
        engine.dispose()
        return [(row[0], row[1], row[2]) for row in rows]

    def client(self) -> AirflowClient:
        """To be used inside the machine."""
        return client_of(self.home)


@dataclass
class Page:
    """The page Sites, which somebody of the committee has open all the time."""

    committee: Committee
    seen: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    _closed: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def open(self) -> Iterator[Page]:
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._closed.set()
            thread.join(60)

    def now(self, site: str) -> dict[str, Any]:
        """What it shows of a site; nothing where that was not heard of."""
        return (self.seen.get(site) or [{}])[-1]

    def shows(self, site: str, what: str, condition: Callable[[dict[str, Any]], Any]) -> None:
        """Wait until it shows something of a site."""

        def shown() -> bool:
            assert not self.troubles, self.troubles
            return bool(self.now(site)) and bool(condition(self.now(site)))

        until(shown, f"{site}: {what}; the page shows {self.now(site)}")

    def _look(self) -> None:
        try:
            with self.committee.machine.inside():
                self._look_inside()
        except Exception as error:
            self.troubles.append(repr(error))

    def _look_inside(self) -> None:
        url = new_login_link(self.committee.home, "vera")
        base, _, nonce = url.partition("/proctor/launch/#")
        with httpx.Client(base_url=base, trust_env=False, timeout=60) as reader:
            reader.post("/proctor/launch/take", json={"nonce": nonce}).raise_for_status()
            assert "Sites" in reader.get("/proctor/sites").raise_for_status().text
            while not self._closed.wait(1):
                for plan in reader.get("/proctor/sites/data").raise_for_status().json()["plans"]:
                    assert plan["known"], plan
                    for each in plan["sites"]:
                        self._saw(each)

    def _saw(self, told: dict[str, Any]) -> None:
        before = self.seen.setdefault(told["site"], [])
        if not before or {**before[-1], "heard": 0} != {**told, "heard": 0}:
            before.append(told)


def counts(told: dict[str, Any], step: str = "inventory") -> dict[str, int]:
    """A step's counts on the page, those that are not 0."""
    return {state: n for state, n in told["steps"][step]["counts"].items() if n}


@dataclass
class Site:
    """A data site, with canaries in all that must not leave it."""

    name: str
    machine: Machine
    folder: Path
    committee: Committee
    canaries: dict[str, str]
    terminal: Terminal | None = None
    capture: Capture | None = None
    own: bytes = b""
    """The hardware address of its one interface."""

    @property
    def home(self) -> Home:
        return Home(self.folder / "out" / ".proctor")

    @property
    def keys(self) -> Path:
        """Where the launcher's TLS tells its secrets to the test."""
        return self.folder / "tls-keys"

    @property
    def token(self) -> Path:
        return self.folder / "token"

    @property
    def outbox(self) -> Outbox:
        to = self.home.profile().coordinator
        assert to is not None
        return outbox_of(self.home, to)

    def subject(self, number: int) -> Path:
        return self.folder / "data" / f"{self.canaries['subject']}-{number:02}"

    def lay_out(self) -> None:
        """The example's pictures under names of this site's, beside a note of its own."""
        made = self.folder.parent / f"example-{self.name}"
        done = CliRunner().invoke(app, ["site", "example", str(made)])
        assert done.exit_code == 0, done.output
        self.folder.mkdir(mode=0o711)
        made.joinpath("data").rename(self.folder / "data")
        for number, folder in enumerate(sorted((self.folder / "data").iterdir()), start=1):
            folder = folder.rename(self.subject(number))
            for picture in sorted(folder.iterdir()):
                picture.rename(picture.with_name(f"{self.canaries['file']} {picture.name}"))
            note = folder / "note.txt"
            note.write_text(f"{self.canaries['content']}: {self.name}, {number}\n")
        self.token.touch(0o600)
        self.token.write_text(self.committee.invite(self.name))
        self.keys.touch()
        assert self.machine.interfaces() == ["eth0", "lo"]
        self.own = self.machine.hardware_address
        self.capture = self.machine.capture(self.folder / "traffic.pcap")

    def spoil(self) -> tuple[Path, bytes]:
        """Cut a picture short, whose name the error then says; where it is, and how it was."""
        picture = sorted(self.subject(5).glob("*.png"))[0]
        spoilt = picture.rename(picture.with_name(f"{self.canaries['error']}.png"))
        whole = spoilt.read_bytes()
        spoilt.write_bytes(whole[:-50])
        return spoilt, whole

    def start(self) -> Terminal:
        """The one command, the first time and each time after."""
        words = ["site", "run", PIPELINE, "--data", "data", "--output", "out"]
        words += ["--coordinator", self.committee.url, "--ca-file", str(self.committee.ca)]
        command = self.machine.command([*PROCTOR, *words, "--token-file", str(self.token)])
        told = environment(SSLKEYLOGFILE=str(self.keys))
        self.terminal = Terminal(command, told, self.folder)
        return self.terminal

    def runs(self) -> list[RunRecord]:
        return self.home.records.runs()

    def waits(self) -> bool:
        """Whether its person is asked whether all is complete."""
        return any(record.last("asked", "complete") for record in self.runs())

    def approve(self) -> None:
        form = {"evidence_reviewed": True, "comment": "complete"}
        run = self.runs()[-1].run
        time.sleep(3)  # as a person would; Airflow may still hold the task that asked
        with self.machine.inside():
            client_of(self.home).answer(PIPELINE, run, "complete", "Approve", form)

    def secrets(self) -> dict[str, str]:
        """All that must not leave: the canaries, and what planted files and runs are known by."""
        found = self.canaries | {"folder": str(self.folder.parent)}
        for note in sorted((self.folder / "data").rglob("note.txt")):
            found[f"name of {note.parent.name}"] = note.parent.name
            found[f"digest of {note.parent.name}"] = hashlib.sha256(note.read_bytes()).hexdigest()
        return found | {f"run {record.run}": record.run for record in self.runs()}

    def close(self) -> None:
        assert self.capture is not None
        self.capture.stop()


def client_of(home: Home) -> AirflowClient:
    url = json.loads((home.path / "airflow" / "url.json").read_text())["own"]
    return AirflowClient(url, user_name(), Credentials.of(home).password)
