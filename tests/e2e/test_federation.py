"""Three data sites and a committee, each on a machine of its own: what the committee sees while one
loses the network, one loses its power and one has a subject that cannot be used; what arrived; and
every byte that left a site.

About eight minutes on two cores: four instances of Airflow, and 38 containers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from federation_kit import (
    PORT,
    SUBJECTS,
    Committee,
    Page,
    Site,
    counts,
    environment,
    until,
)
from leak_kit import leaks
from machines_kit import Network
from proctor_command import processes_of
from terminal_kit import Terminal
from wire_kit import Request, connections, key_log, opened, requests, strangers

from coordinator_kit import certificates
from proctor.federation.report import read_report
from proctor.federation.sender import HEADERS, PATH

pytestmark = pytest.mark.docker
A, B, C = "site-a", "site-b", "site-c"
THROUGH = {"inventory": {"succeeded": SUBJECTS}, "catalogue": {"succeeded": 1},
           "complete": {"succeeded": 1}}  # fmt: skip


def canaries(site: str) -> dict[str, str]:
    """A word for each kind of thing that must stay; each is another at each site."""
    return {
        kind: f"canary-{kind} {hashlib.sha256(f'{site} {kind}'.encode()).hexdigest()[:12]}"
        for kind in ("subject", "file", "content", "error")
    }


@dataclasses.dataclass
class Federation:
    """What is there when all is over."""

    committee: Committee
    page: Page
    sites: dict[str, Site]
    shown: dict[str, Any]

    def requests(self, site: Site) -> list[Request]:
        """What a site's launchers said to the committee, opened by their own key log."""
        to, keys = (self.committee.machine.address, PORT), key_log(site.keys)
        return requests([opened(each, keys) for each in connections(self.traffic(site), to)])

    def traffic(self, site: Site) -> Path:
        assert site.capture is not None
        return site.capture.file


@pytest.fixture(scope="module")
def federation(machines: None, docker_engine: Any, steps_image: None) -> Iterator[Federation]:
    folder = Path(tempfile.mkdtemp(prefix="proctor-federation-"))
    folder.chmod(0o711)
    sites: dict[str, Site] = {}
    try:
        with Network() as network:
            committee = Committee(network.add("committee"), folder / "committee")
            committee.set_up(A, B, C)
            committee.start()
            for name in (A, B, C):
                place = folder / name
                sites[name] = Site(name, network.add(name), place, committee, canaries(name))
                sites[name].lay_out()
            page = Page(committee)
            with page.open():
                shown = go_through(page, sites)
                shown["merge"] = until(lambda: merged(committee), "the pipeline that waits for all")
            for site in sites.values():
                site.close()
            yield Federation(committee, page, sites, shown)
            committee.stop()
            assert processes_of(folder) == []
    finally:
        for site in sites.values():
            for left in docker_engine.containers.list(
                all=True, filters={"label": f"proctor.home={site.home.path}"}
            ):
                left.remove(force=True)
        shutil.rmtree(folder, ignore_errors=True)


def go_through(page: Page, sites: dict[str, Site]) -> dict[str, Any]:
    """All that happens, in order; what the page showed at moments that count."""
    shown: dict[str, Any] = {}
    cut_off, without_power, spoilt = sites[A], sites[B], sites[C]

    joins(cut_off)
    page.shows(A, "its first report", lambda told: told["state"] == "running")
    cut_off.machine.plug(False)

    joins(without_power)
    page.shows(B, "some subjects", lambda told: counts(told).get("succeeded"))
    without_power.machine.cut_power()
    shown["before the power was cut"] = page.now(B)

    until(cut_off.waits, "the question at the site that is cut off")
    until(lambda: last_report(cut_off)["person"] == 1, "a report of it that cannot be sent")
    shown["while cut off"] = page.now(A)
    shown["unsent while cut off"] = len(cut_off.outbox.unsent())
    cut_off.machine.plug(True)

    picture, whole = spoilt.spoil()
    joins(spoilt)
    assert spoilt.terminal and spoilt.terminal.ends() == 1
    spoilt.terminal.shows(f"1 of {SUBJECTS} subjects failed ({spoilt.subject(5).name})")
    page.shows(C, "that its run failed", lambda told: told["state"] == "failed")
    shown["with a failed subject"] = page.now(C)

    resumed = without_power.start()
    resumed.shows("Takes up")
    page.shows(A, "that it waits", lambda told: told["person"] == 1)
    finishes(page, cut_off)
    finishes(page, without_power)
    assert "May reports" not in resumed.text

    picture.write_bytes(whole)
    spoilt.start()
    finishes(page, spoilt)
    return shown


def joins(site: Site) -> None:
    """The first time that a site's person gives the command."""
    terminal = site.start()
    terminal.shows("May reports of this form")
    assert f"POST {site.committee.url}{PATH}" in terminal.text
    terminal.types("y")


def finishes(page: Page, site: Site) -> None:
    """Its person looks at what was made, and agrees."""
    assert site.terminal is not None
    site.terminal.shows("complete waits for an answer")
    page.shows(site.name, "that it waits for a person", lambda told: told["person"] == 1)
    site.approve()
    assert site.terminal.ends() == 0, site.terminal.text
    page.shows(site.name, "that it is through", lambda told: told["state"] == "succeeded")


def last_report(site: Site) -> dict[str, Any]:
    report = site.outbox.newest()
    assert report is not None
    return {"person": sum(step.person for step in report.steps), "sequence": report.sequence}


def merged(committee: Committee) -> list[dict[str, Any]]:
    """The runs of the pipeline that starts when all sites are ready, once one has succeeded."""
    with committee.machine.inside():
        runs = committee.client()._send("GET", "/dags/merge/dagRuns").json()["dag_runs"]
    return runs if [run["state"] for run in runs] == ["success"] else []


TELLTALE = """
import httpx, socket, ssl, sys
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"canary-subject", ("192.0.2.1", 53))
trust = ssl.create_default_context(cafile=sys.argv[2])
httpx.post(sys.argv[1], content=b"canary-file", verify=trust, trust_env=False)
print("said", flush=True)
import time; time.sleep(600)
"""


def answer_once(server: socket.socket, context: ssl.SSLContext) -> None:
    connection = context.wrap_socket(server.accept()[0], server_side=True)
    said = b""
    while not said.endswith(b"canary-file"):
        said += connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    connection.close()


def test_the_capture_sees_whatever_leaves(machines: None, tmp_path: Path) -> None:
    """What the other tests find nothing by finds something."""
    keys = tmp_path / "keys"
    with Network() as network:
        one, other = network.add("one"), network.add("other")
        assert one.interfaces() == ["eth0", "lo"]
        own = one.hardware_address
        capture, tls = one.capture(tmp_path / "x.pcap"), certificates(tmp_path, other.address)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        with other.inside():
            server = socket.create_server((other.address, PORT))
        threading.Thread(target=answer_once, args=(server, context), daemon=True).start()
        words = [sys.executable, "-c", TELLTALE, f"https://{other.address}:{PORT}", str(tls.ca)]
        tells = Terminal(one.command(words), environment(SSLKEYLOGFILE=str(keys)), tmp_path)
        tells.shows("said")
        one.cut_power()
        assert tells.ends() == -9
        capture.stop()
        server.close()
    to = (other.address, PORT)
    assert len(strangers(capture.file, own, to)) == 1
    assert leaks(capture.file.read_bytes(), {"subject": "canary-subject"})
    assert not leaks(capture.file.read_bytes(), {"file": "canary-file"}), "it went by TLS"
    (said,) = requests([opened(each, key_log(keys)) for each in connections(capture.file, to)])
    assert leaks(said.body, {"file": "canary-file"})


def test_the_page_follows_what_happens(federation: Federation) -> None:
    page, shown = federation.page, federation.shown
    assert page.troubles == []
    assert shown["while cut off"]["state"] == "running", "nothing newer can have come"
    assert shown["while cut off"]["person"] == 0 and shown["unsent while cut off"] > 0
    before = counts(shown["before the power was cut"])["succeeded"]
    assert 0 < before <= SUBJECTS
    failed = shown["with a failed subject"]
    assert counts(failed) == {"succeeded": SUBJECTS - 1, "failed": 1}
    assert failed["state"] == "failed" and failed["run"] == 1
    for name in federation.sites:
        told = page.seen[name]
        assert any(each["steps"]["complete"]["person"] == 1 for each in told), name
        through = [(each["run"], counts(each).get("succeeded", 0)) for each in told]
        assert through == sorted(through), f"{name}: the page went back"
        assert len(set(through)) >= 2, f"{name}: the page only ever showed the end"


def test_in_the_end_the_counts_are_exact(federation: Federation) -> None:
    for name, site in federation.sites.items():
        told = federation.page.now(name)
        assert (told["state"], told["run"]) == ("succeeded", 2 if name == C else 1)
        assert {step: counts(told, step) for step in told["steps"]} == THROUGH
        assert told["person"] == 0
        assert len(site.runs()) == told["run"], "a site that is resumed begins no new run"
        made = {part.partition for part in site.runs()[-1].subjects()}
        assert made == {site.subject(number).name for number in range(1, SUBJECTS + 1)}
    assert len(federation.shown["merge"]) == 1


def test_no_report_is_lost_or_doubled(federation: Federation) -> None:
    for name, site in federation.sites.items():
        outbox, arrived = site.outbox, federation.committee.reports(name)
        numbers = outbox.numbers()
        assert numbers == list(range(1, len(numbers) + 1))
        assert outbox.unsent() == []
        assert [number for number, _, _ in arrived] == numbers, "each once, and in order"
        bodies = [outbox.body(number) for number in numbers]
        assert [digest for _, digest, _ in arrived] == [
            hashlib.sha256(body).hexdigest() for body in bodies
        ]
        assert [text.encode() for _, _, text in arrived] == bodies


def test_only_reports_to_the_committee_left(federation: Federation) -> None:
    to = (federation.committee.machine.address, PORT)
    fixed = {name.title(): value for name, value in HEADERS.items()} | {"Host": f"{to[0]}:{PORT}"}
    for site in federation.sites.values():
        known = fixed | {"Authorization": f"Bearer {site.token.read_text()}"}
        assert strangers(federation.traffic(site), site.own, to) == []
        kept = [site.outbox.body(number) for number in site.outbox.numbers()]
        said = federation.requests(site)
        for request in said:
            assert request.line == f"POST {PATH} HTTP/1.1"
            assert request.headers.items() <= {*known.items(), *lengths(request)}
            if request.whole:
                assert set(request.headers) == {*known, "Content-Length"}
                read_report(request.body)  # no field that is none of the schema's
            assert any(body.startswith(request.body) for body in kept)
        sent = [request.body for request in said if request.whole]
        assert list(dict.fromkeys(sent)) == kept, "in order; one may have gone twice"


def lengths(request: Request) -> Iterator[tuple[str, str]]:
    yield "Content-Length", request.headers.get("Content-Length", "")


def test_no_canary_left(federation: Federation) -> None:
    for site in federation.sites.values():
        raw = federation.traffic(site).read_bytes()
        said = b"".join(
            f"{request.line}{request.headers}".encode() + request.body
            for request in federation.requests(site)
        )
        assert said.count(b'"format"') >= len(site.outbox.numbers()), "there is something to read"
        assert leaks(raw + said, site.secrets()) == []
        assert leaks(raw, {"token": site.token.read_text()}) == []
        for _, _, report in federation.committee.reports(site.name):
            assert leaks(report.encode(), site.secrets()) == []


def test_the_canaries_were_there(federation: Federation) -> None:
    """At the sites themselves they stand where such words stand: so they could have left."""
    for name, site in federation.sites.items():
        records = b"".join(path.read_bytes() for path in site.home.path.rglob("lines.jsonl"))
        made = b"".join(path.read_bytes() for path in site.home.path.rglob("inventory.json"))
        logs = b"".join(
            path.read_bytes() for path in site.home.path.rglob("*.log") if path.is_file()
        )
        assert site.canaries["subject"].encode() in records
        assert site.canaries["file"].encode() in made
        assert hashlib.sha256((site.subject(1) / "note.txt").read_bytes()).hexdigest() in (
            made.decode()
        )
        if name == C:
            assert site.canaries["error"].encode() in records
            assert site.canaries["error"].encode() in logs


def test_the_terminals_tell_no_secret(federation: Federation) -> None:
    for site in federation.sites.values():
        assert site.terminal is not None
        assert "Traceback" not in site.terminal.text
        assert site.token.read_text() not in site.terminal.text
    assert federation.committee.terminal is not None
    assert "Traceback" not in federation.committee.terminal.text
