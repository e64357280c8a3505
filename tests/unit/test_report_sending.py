"""From a site's outbox to a coordinator over TLS: in order, once, after whatever outage or kill."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from test_outbox import report

from coordinator_kit import Certificates, Coordinator, certificates, engine_on, fresh_tables
from crash_points import dies_at
from proctor.federation import courier as courier_module
from proctor.federation import outbox as outbox_module
from proctor.federation import register
from proctor.federation.addresses import address_problem
from proctor.federation.courier import Courier
from proctor.federation.limits import Limit
from proctor.federation.outbox import Outbox
from proctor.federation.report import read_report
from proctor.federation.sender import NotSent, Refused, Sender, read_token
from proctor.federation.tables import REPORTS


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="proctor-sending-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    with engine_on(folder) as (engine, url):
        fresh_tables(engine, url)
        yield engine


@pytest.fixture(scope="module")
def tls(folder: Path) -> Certificates:
    return certificates(folder)


@pytest.fixture
def coordinator(engine: Engine, tls: Certificates) -> Iterator[Coordinator]:
    with engine.begin() as database:
        database.execute(text("TRUNCATE proctor_site CASCADE"))
    made = Coordinator(engine, tls)
    made.intake.per_token = Limit(burst=10_000, per_second=1000)
    made.up()
    yield made
    made.down()


@pytest.fixture
def site(coordinator: Coordinator, tls: Certificates, tmp_path: Path) -> Courier:
    with coordinator.database() as database:
        token = register.add_site(database, "hospital-a")
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(token + "\n")
    outbox = Outbox(tmp_path / "reports")
    outbox.create()
    return Courier(outbox, Sender(coordinator.url, path, tls.ca))


def received(coordinator: Coordinator) -> list[int]:
    """The numbers that the coordinator has, in the order in which they came."""
    with coordinator.database() as database:
        return list(database.scalars(select(REPORTS.c.sequence).order_by(REPORTS.c.id)))


def until(condition: Callable[[], Any], seconds: float = 30) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_reports_arrive_in_order_and_are_not_sent_again(
    site: Courier, coordinator: Coordinator
) -> None:
    for done in range(1, 6):
        site.outbox.add(report(done), "prep/r")
    site.wake()
    until(lambda: site.outbox.unsent() == [])
    site.outbox.add(report(6), "prep/r")
    site.finish(20)
    assert received(coordinator) == [1, 2, 3, 4, 5, 6]
    assert site.notes() == []
    with coordinator.database() as database:
        kept = list(database.scalars(select(REPORTS.c.report).order_by(REPORTS.c.id)))
    assert [body.encode() for body in kept] == [site.outbox.body(n) for n in range(1, 7)]


def test_what_is_written_just_before_the_end_is_sent_too(
    site: Courier, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, under_way = Sender.send, threading.Event()

    def slow(sender: Sender, body: bytes, sequence: int) -> None:
        under_way.set()
        time.sleep(0.5)
        real(sender, body, sequence)

    monkeypatch.setattr(Sender, "send", slow)
    site.outbox.add(report(1), "prep/r")
    site.wake()
    under_way.wait(10)
    site.outbox.add(report(2), "prep/r")
    site.finish(20)
    assert received(coordinator) == [1, 2]


def test_an_outage_is_told_once_and_nothing_is_lost(
    site: Courier, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(courier_module, "LONGEST_PAUSE", 0.3)
    site.outbox.add(report(1), "prep/r")
    site.wake()
    until(lambda: received(coordinator) == [1])
    coordinator.down()
    for done in range(2, 6):
        site.outbox.add(report(done), "prep/r")
        site.wake()
        time.sleep(0.3)
    assert site.outbox.unsent() == [2, 3, 4, 5]
    (note,) = site.notes()
    assert "reports wait: https://127.0.0.1" in note and "cannot be reached" in note
    coordinator.up()
    until(lambda: site.outbox.unsent() == [])
    assert received(coordinator) == [1, 2, 3, 4, 5]
    assert site.notes() == ["the coordinator takes reports again"]


def test_killed_before_or_behind_each_of_its_acts_it_sends_each_report_once(
    site: Courier, coordinator: Coordinator
) -> None:
    effects: list[tuple[Any, str]] = [(Sender, "send"), (Outbox, "body")]
    effects += [(outbox_module.os, name) for name in ("open", "fsync", "replace", "close")]
    sent = points = 0
    while True:
        for _ in range(2):
            sent += 1
            site.outbox.add(report(sent), "prep/r")
        died = dies_at(points + 1, effects, site._send_all)
        again = Courier(Outbox(site.outbox.folder), site.sender)
        again._send_all()
        assert again.outbox.unsent() == []
        assert received(coordinator) == list(range(1, sent + 1)), points
        if not died:
            break
        points += 1
    assert points > 20


SITE = """
import sys
from pathlib import Path
url, folder, token, ca = sys.argv[1:5]
sys.path[:0] = sys.argv[5].split(":")
from test_report_sending import Courier, Outbox, Sender, report
outbox = Outbox(Path(folder))
outbox.create()
site = Courier(outbox, Sender(url, Path(token), Path(ca)))
last = outbox.newest()
for done in range(last.steps[0].counts.succeeded + 1 if last else 1, 1000):
    outbox.add(report(done), "prep/r")
    site.wake()
    print(done, flush=True)
"""


def test_a_site_that_is_killed_again_and_again_loses_and_doubles_nothing(
    site: Courier, coordinator: Coordinator
) -> None:
    sender, folder = site.sender, site.outbox.folder
    places = (sender.url, folder, sender.token_file, sender.ca_file)
    for pause in (0.2, 0.05, 0.4):
        process = subprocess.Popen(
            [sys.executable, "-c", SITE, *places, ":".join(p for p in sys.path if p)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        process.stdout.readline()
        before = len(received(coordinator))
        until(lambda before=before: len(received(coordinator)) > before)
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    last = Courier(Outbox(folder), sender)
    last._send_all()
    numbers = last.outbox.numbers()
    assert received(coordinator) == numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 3


def test_another_home_with_the_same_token_is_told_and_overwrites_nothing(
    site: Courier, coordinator: Coordinator, tmp_path: Path
) -> None:
    site.outbox.add(report(1), "prep/r")
    site._send_all()
    other = Outbox(tmp_path / "other")
    other.create()
    other.add(report(9), "prep/r")
    with pytest.raises(Refused, match="it is used by two homes, or one was made anew"):
        Courier(other, site.sender)._send_all()
    assert other.unsent() == [1] and received(coordinator) == [1]


def test_what_waited_goes_as_fast_as_the_coordinator_takes_it_and_nothing_is_said(
    site: Courier, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "FIRST_PAUSE", 0.1)
    coordinator.intake.per_token = Limit(burst=3, per_second=2)
    for done in range(1, 8):
        site.outbox.add(report(done), "prep/r")
    site.wake()
    until(lambda: site.outbox.unsent() == [])
    assert received(coordinator) == [1, 2, 3, 4, 5, 6, 7] and site.notes() == []


def test_a_coordinator_that_was_restored_from_a_copy_gets_what_it_lost(
    site: Courier, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "FIRST_PAUSE", 0.1)
    for done in range(1, 6):
        site.outbox.add(report(done), "prep/r")
    site._send_all()
    with coordinator.database() as database:
        database.execute(text("SET session_replication_role = replica"))  # as its owner could
        database.execute(text("DELETE FROM proctor_site_report WHERE sequence > 2"))
        database.execute(text("SET session_replication_role = origin"))
    site.outbox.add(report(6), "prep/r")
    site.wake()
    until(lambda: received(coordinator) == [1, 2, 3, 4, 5, 6])
    assert site.notes() == []


def test_what_somebody_else_reports_with_a_sites_token_is_noticed(
    site: Courier, coordinator: Coordinator
) -> None:
    site.outbox.add(report(1), "prep/r")
    site._send_all()
    forged = report(999).model_copy(update={"sequence": 2})
    site.sender.send(forged.body(), 2)
    site.outbox.add(report(2), "prep/r")
    with pytest.raises(Refused, match="number 2 of this token is another report"):
        site._send_all()


def test_whatever_goes_wrong_the_thread_goes_on_and_tells_no_secret(
    site: Courier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "LONGEST_PAUSE", 0.1)
    real, calls = Sender.send, []

    def send(sender: Sender, body: bytes, sequence: int) -> None:
        calls.append(sequence)
        if len(calls) < 3:
            raise RuntimeError("hunter2")
        real(sender, body, sequence)

    monkeypatch.setattr(Sender, "send", send)
    site.outbox.add(report(1), "prep/r")
    site.wake()
    until(lambda: site.outbox.unsent() == [])
    until(lambda: len(site._said) == 2)
    assert site.notes() == [
        "reports wait: sending failed (RuntimeError)",
        "the coordinator takes reports again",
    ]


def test_a_revoked_token_waits_and_says_so(site: Courier, coordinator: Coordinator) -> None:
    with coordinator.database() as database:
        register.revoke(database, "hospital-a")
    site.outbox.add(report(1), "prep/r")
    site.wake()
    until(lambda: site._said)
    assert site.notes() == [
        f"reports wait: {coordinator.url} does not take the report: the token is not known here, "
        "or was revoked: ask the committee"
    ]
    assert site._pause > 100 and site.outbox.unsent() == [1]


def test_who_cannot_prove_to_be_the_coordinator_gets_nothing(
    site: Courier, coordinator: Coordinator, tmp_path: Path
) -> None:
    site.outbox.add(report(1), "prep/r")
    for trusted in (None, certificates(tmp_path).ca):
        stranger = Sender(coordinator.url, site.sender.token_file, trusted)
        with pytest.raises(NotSent, match="certificate verify failed"):
            stranger.send(site.outbox.body(1), 1)
    assert received(coordinator) == []


def test_only_https_and_no_secret_in_an_address() -> None:
    for url in ("http://committee.example.org", "ftp://x.example", "http://127.0.0.1.example"):
        assert "https" in address_problem(url)
    for url in ("https://me:word@x.example", "https://x.example/?token=1", "https://", "x"):
        assert address_problem(url)
    for url in ("https://x.example:8443/", "http://127.0.0.1:8080", "http://[::1]:1"):
        assert address_problem(url) == ""
    with pytest.raises(Refused, match="not https"):
        Sender("http://committee.example.org", Path("/none")).send(b"", 1)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o700, 0o660])
def test_a_token_that_others_may_read_is_not_used(site: Courier, mode: int) -> None:
    path = site.sender.token_file
    token = path.read_text().strip()
    assert read_token(path) == token
    path.chmod(mode)
    with pytest.raises(Refused, match=f"chmod 600 {path}") as caught:
        site.sender.send(b"{}", 1)
    assert token not in str(caught.value)


def test_what_is_no_tokens_file(site: Courier, tmp_path: Path) -> None:
    path = tmp_path / "other"
    with pytest.raises(Refused, match="cannot be read"):
        read_token(path)
    path.symlink_to(site.sender.token_file)
    with pytest.raises(Refused, match="cannot be read"):
        read_token(path)
    with pytest.raises(Refused, match="is no file"):
        read_token(tmp_path)
    path.unlink()
    path.touch(0o600)
    path.write_text("secret-word")
    with pytest.raises(Refused, match="holds no token") as caught:
        read_token(path)
    assert "secret-word" not in str(caught.value)


ANSWERS = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", NotSent, "not as a coordinator does"),
    (b"HTTP/1.1 200 OK\r\n\r\n" + b'{"ok": true, "sequence": 7}', NotSent, "not as a coordinator"),
    (b"HTTP/1.1 302 Found\r\nLocation: http://x\r\nContent-Length: 0\r\n\r\n", Refused, "sends on"),
    (b"HTTP/1.1 503 No\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n", NotSent, "status 503"),
    (b"HTTP/1.1 400 No\r\n\r\n" + b'{"error": "a\\u001b[31mb"}', Refused, r"report: a \[31mb"),
    (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, NotSent, "not as a coordinator does"),
    (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 15_000, NotSent, "not as a coordinator does"),
    (b"nonsense\r\n\r\n", NotSent, "cannot be reached"),
    (b"", NotSent, "cannot be reached"),
]


@pytest.mark.parametrize(("answer", "kind", "words"), ANSWERS)
def test_what_is_no_coordinators_answer_does_not_count_as_arrived(
    site: Courier, answer: bytes, kind: type[NotSent], words: str
) -> None:
    heard, port = listener(answer)
    sender = Sender(f"http://127.0.0.1:{port}", site.sender.token_file)
    with pytest.raises(kind, match=words) as caught:
        sender.send(report().body(), 1)
    assert read_token(site.sender.token_file) not in str(caught.value)
    assert type(caught.value) is kind
    assert caught.value.after == (60 if b"Retry-After" in answer else 0)
    assert heard


def listener(answer: bytes) -> tuple[list[bytes], int]:
    """Keeps the bytes of one request, and answers them."""
    server, heard = socket.create_server(("127.0.0.1", 0)), list[bytes]()

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            got = b""
            while b'"version"' not in got:
                got += connection.recv(65536)
            heard.append(got)
            connection.sendall(answer)
        server.close()

    threading.Thread(target=serve, daemon=True).start()
    return heard, server.getsockname()[1]


def test_nothing_but_the_report_and_known_headers_is_on_the_line(site: Courier) -> None:
    heard, port = listener(b'HTTP/1.1 200 OK\r\n\r\n{"ok": true, "sequence": 1}')
    Sender(f"http://127.0.0.1:{port}", site.sender.token_file).send(report().body(), 1)
    head, _, body = heard[0].partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    token = read_token(site.sender.token_file)
    assert line == "POST /proctor/sites/reports HTTP/1.1"
    assert dict(header.split(": ", 1) for header in headers) == {
        "Host": f"127.0.0.1:{port}",
        "User-Agent": f"proctor/{report().version}",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Connection": "close",
        "Authorization": f"Bearer {token}",
        "Content-Length": str(len(body)),
    }
    assert read_report(body) == report()


def test_a_proxy_of_the_profile_or_of_the_environment_is_the_way_out(
    site: Courier, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, token = "https://committee.example.org", site.sender.token_file
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert Sender(url, token)._way_out() is None
    monkeypatch.setenv("https_proxy", "http://env.example:3128")
    assert Sender(url, token)._way_out() == "http://env.example:3128"
    assert Sender(url, token, proxy="http://own:1")._way_out() == "http://own:1"
    assert Sender("https://localhost", token)._way_out() is None
    for strange in ("proxy-of-hunter2:3128", "socks5://hunter2:1", "ftp://hunter2"):
        monkeypatch.setenv("https_proxy", strange)
        with pytest.raises(NotSent, match="https_proxy of the environment is no") as no_way:
            Sender(url, token).send(report().body(), 1)
        assert "hunter2" not in str(no_way.value)
    monkeypatch.setenv("no_proxy", "example.org")
    assert Sender(url, token)._way_out() is None
    server = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            heard.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    proxy = f"http://me:hunter2@127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(NotSent, match="403 Forbidden") as caught:
        Sender(url, token, proxy=proxy).send(report().body(), 1)
    assert heard[0].startswith(b"CONNECT committee.example.org:443 ")
    assert read_token(token).encode() not in heard[0]  # the proxy never sees it
    assert "hunter2" not in str(caught.value)
    server.close()
