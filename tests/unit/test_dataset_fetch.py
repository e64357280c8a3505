"""``dataset fetch`` against real servers: HTTP that misbehaves on order, and moto's S3."""

from __future__ import annotations

import hashlib
import io
import json
import random
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from proctor_steps.contract import Contract, Result, tree_digest
from proctor_steps.dataset.fetch import STAGE
from proctor_steps.stage import DataError, StepError, StepIO
from proctor_steps.transport import download, obtain
from proctor_steps.transport.base import Have, Reply, Stale, Transient, Version, redact
from proctor_steps.transport.download import Retries, Store

BIG = random.Random(1).randbytes(4_000_000)
SECRET = "hunter2"


@dataclass
class Plan:
    """What the server does: the file, and how requests are answered, one after another."""

    body: bytes = BIG
    etag: str = '"v1"'
    modified: str = ""
    ranges: bool = True
    length: bool = True
    claims: int | None = None  # a Content-Length that is a lie
    cuts: list[int] = field(default_factory=list)  # after so many bytes, the connection breaks
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # given first
    etags: list[str] = field(default_factory=list)  # one per request, then ``etag``
    wrong_range: bool = False
    requests: list[dict[str, str]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """Follows the server's plan."""

    protocol_version = "HTTP/1.1"
    plan: Plan

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        plan = self.plan
        plan.requests.append({"path": self.path, **self.headers})
        if plan.answers:
            status, headers = plan.answers.pop(0)
            self._head(status, {"Content-Length": "0", **headers})
            return
        etag = plan.etags.pop(0) if plan.etags else plan.etag
        if etag and self.headers.get("If-None-Match") == etag:
            self._head(304, {"ETag": etag})
            return
        since = self.headers.get("If-Modified-Since")
        if plan.modified and since == plan.modified:
            self._head(304, {})
            return
        self._body(plan, etag, self._start(plan, etag))

    def do_HEAD(self) -> None:
        plan = self.plan
        if plan.answers:
            self._head(*plan.answers.pop(0))
            return
        self._head(200, {"ETag": plan.etag, "Content-Length": str(len(plan.body))})

    def _start(self, plan: Plan, etag: str) -> int:
        wanted = self.headers.get("Range", "")
        condition = self.headers.get("If-Range") or self.headers.get("If-Match")
        valid = condition in (etag, plan.modified)
        return int(wanted[6:-1]) if plan.ranges and wanted and valid else 0

    def _body(self, plan: Plan, etag: str, start: int) -> None:
        size = len(plan.body)
        headers = {"ETag": etag} if etag else {}
        if plan.modified:
            headers["Last-Modified"] = plan.modified
        if start:
            shown = start + 7 if plan.wrong_range else start
            headers["Content-Range"] = f"bytes {shown}-{size - 1}/{size}"
        if plan.length:
            headers["Content-Length"] = str(plan.claims or size - start)
        else:
            headers["Connection"] = "close"
        self._head(206 if start else 200, headers)
        self.wfile.write(plan.body[start:][: plan.cuts.pop(0) if plan.cuts else None])
        self.close_connection = True

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


class Server:
    """A server on a free port, with its plan."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.plan = Plan()
        handler = type("Bound", (Handler,), {"plan": self.plan})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://localhost:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits between attempts are noted, not slept."""
    waits: list[float] = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    return waits


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def source(result: Result) -> dict[str, Any]:
    found = result.metrics["source"]
    assert isinstance(found, dict)
    return found


def only_file(out: Path) -> bytes:
    assert len(list(out.iterdir())) == 1, sorted(out.iterdir())
    return next(out.iterdir()).read_bytes()


# http: whole, broken, resumed


def test_a_file_comes_whole(server: Server, run_stage: Any) -> None:
    result, out = run_stage(STAGE, {"uri": f"{server.url}/data/big.bin", "sha256": sha256(BIG)})
    assert result.status == "ok", result.message
    assert (out / "big.bin").read_bytes() == BIG and only_file(out)
    assert source(result) == {
        "kind": "http", "uri": f"{server.url}/data/big.bin", "sha256": sha256(BIG),
        "bytes": len(BIG), "files": 1, "etag": '"v1"', "listing": "",
    }  # fmt: skip
    assert (result.progress.done, result.progress.total) == (len(BIG), len(BIG))


def test_a_broken_download_goes_on_where_it_was(server: Server, run_stage: Any) -> None:
    server.plan.cuts = [2_000_000, 1_500_000]
    result, out = run_stage(STAGE, {"uri": f"{server.url}/big.bin"})
    assert result.status == "ok" and only_file(out) == BIG
    starts = [int(r["Range"][6:-1]) for r in server.plan.requests[1:]]
    assert starts == [2_000_000, 3_500_000]
    assert all(r["If-Range"] == '"v1"' for r in server.plan.requests[1:])
    assert result.progress.done == len(BIG)


def test_a_step_goes_on_where_the_one_before_gave_up(
    server: Server, run_stage: Any, tmp_path: Path
) -> None:
    server.plan.cuts = [3_000_000, 0]
    params = {"uri": f"{server.url}/big.bin", "retries": 1}
    result, out = run_stage(STAGE, params, cache=tmp_path / "cache", attempt="1")
    assert result.status == "step_error" and "given up" in result.message
    assert list(out.iterdir()) == []
    result, out = run_stage(STAGE, params, cache=tmp_path / "cache", attempt="2")
    assert result.status == "step_error", "the second connection brings nothing"
    result, out = run_stage(STAGE, params, cache=tmp_path / "cache", attempt="3")
    assert result.status == "ok" and only_file(out) == BIG
    assert server.plan.requests[-1]["Range"] == "bytes=3000000-"
    assert list((tmp_path / "cache" / "downloads" / "parts").iterdir()) == []


def test_without_a_cache_the_output_itself_keeps_the_part(server: Server, run_stage: Any) -> None:
    server.plan.cuts = [3_000_000]
    params = {"uri": f"{server.url}/big.bin", "retries": 1}
    result, out = run_stage(STAGE, params)
    assert result.status == "step_error" and [p.name for p in out.iterdir()] == [obtain.WORK]
    result, out = run_stage(STAGE, params)
    assert result.status == "ok" and only_file(out) == BIG
    assert server.plan.requests[-1]["Range"] == "bytes=3000000-"


@pytest.mark.parametrize("change", ["no ranges", "no validator", "weak", "new etag", "wrong range"])
def test_what_cannot_be_continued_starts_again(server: Server, run_stage: Any, change: str) -> None:
    plan = server.plan
    plan.cuts = [2_000_000]
    plan.ranges = change != "no ranges"
    plan.wrong_range = change == "wrong range"
    plan.etag = {"no validator": "", "weak": 'W/"v1"'}.get(change, '"v1"')
    plan.etags = ['"v0"'] if change == "new etag" else []
    result, out = run_stage(STAGE, {"uri": f"{server.url}/big.bin"})
    assert result.status == "ok", result.message
    assert only_file(out) == BIG
    sent = [r for r in plan.requests if "Range" in r]
    assert bool(sent) == (change not in ("no validator", "weak"))
    assert result.progress.done == len(BIG), "dropped bytes are not counted"


def test_halves_of_two_files_are_found_by_the_digest(server: Server, run_stage: Any) -> None:
    """The file changes behind the same ETag, after the first half was sent."""
    plan = server.plan

    class Swap(list[int]):
        def pop(self, at: Any = 0) -> int:
            plan.body = BIG
            return super().pop(at)

    plan.body, plan.cuts = bytes(len(BIG)), Swap([2_000_000])
    result, out = run_stage(STAGE, {"uri": f"{server.url}/big.bin", "sha256": sha256(BIG)})
    assert result.status == "ok" and only_file(out) == BIG, result.message
    assert ["Range" in r for r in plan.requests] == [False, True, False]


def test_a_wrong_digest_is_the_datas_fault(server: Server, run_stage: Any, tmp_path: Path) -> None:
    params = {"uri": f"{server.url}/big.bin", "sha256": "0" * 64}
    result, out = run_stage(STAGE, params, cache=tmp_path / "cache")
    assert result.status == "data_error"
    assert sha256(BIG) in result.message and "0" * 64 in result.message
    assert list(out.iterdir()) == [] and not list(
        (tmp_path / "cache" / "downloads" / "sources").iterdir()
    )


def test_a_digest_that_is_none_is_a_wrong_parameter(run_stage: Any) -> None:
    result, _ = run_stage(STAGE, {"uri": "embedded:digits", "sha256": "xyz"})
    assert result.status == "step_error" and "64 hexadecimal" in result.message


# http: what is here already


def test_what_is_here_and_intact_is_not_fetched_again(
    server: Server, run_stage: Any, tmp_path: Path
) -> None:
    params, cache = {"uri": f"{server.url}/big.bin"}, tmp_path / "cache"
    run_stage(STAGE, params, cache=cache, attempt="1")
    again, out = run_stage(STAGE, params, cache=cache, attempt="2")
    assert again.status == "ok" and only_file(out) == BIG
    assert server.plan.requests[-1]["If-None-Match"] == '"v1"' and len(server.plan.requests) == 2
    given = {**params, "sha256": sha256(BIG)}
    again, out = run_stage(STAGE, given, cache=cache, attempt="3")
    assert again.status == "ok" and only_file(out) == BIG
    assert len(server.plan.requests) == 2, "with the digest known the server is not even asked"
    assert source(again)["etag"] == '"v1"', "the version is the same, asked or not"
    login = {"uri": given["uri"].replace("//", "//user:word@")}
    run_stage(STAGE, login, cache=cache, attempt="4")
    assert server.plan.requests[-1]["If-None-Match"] == '"v1"', "one file, whoever asks for it"


def test_content_of_the_wanted_digest_is_taken_wherever_it_came_from(
    server: Server, run_stage: Any, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    run_stage(STAGE, {"uri": f"{server.url}/big.bin"}, cache=cache, attempt="1")
    mirror = {"uri": "http://mirror.invalid/big.bin", "sha256": sha256(BIG), "retries": 1}
    result, out = run_stage(STAGE, mirror, cache=cache, attempt="2")
    assert result.status == "ok" and only_file(out) == BIG, result.message
    assert len(server.plan.requests) == 1


def test_an_unchanged_file_of_another_digest(
    server: Server, run_stage: Any, tmp_path: Path
) -> None:
    params, cache = {"uri": f"{server.url}/big.bin"}, tmp_path / "cache"
    run_stage(STAGE, params, cache=cache, attempt="1")
    result, _ = run_stage(STAGE, {**params, "sha256": "0" * 64}, cache=cache, attempt="2")
    assert result.status == "data_error" and sha256(BIG) in result.message


def test_a_range_that_is_refused(server: Server, run_stage: Any, tmp_path: Path) -> None:
    params, cache = {"uri": f"{server.url}/big.bin", "retries": 1}, tmp_path / "cache"
    server.plan.cuts = [3_000_000]
    run_stage(STAGE, params, cache=cache, attempt="1")
    server.plan.answers = [(416, {})]
    result, out = run_stage(STAGE, {**params, "retries": 2}, cache=cache, attempt="2")
    assert result.status == "ok" and only_file(out) == BIG
    assert ["Range" in r for r in server.plan.requests] == [False, True, False]


def test_a_damaged_copy_is_fetched_again(server: Server, run_stage: Any, tmp_path: Path) -> None:
    params, cache = {"uri": f"{server.url}/big.bin"}, tmp_path / "cache"
    run_stage(STAGE, params, cache=cache, attempt="1")
    stored = Store(cache / "downloads").file(sha256(BIG))
    stored.write_bytes(BIG[:-1] + b"?")
    result, out = run_stage(STAGE, params, cache=cache, attempt="2")
    assert result.status == "ok" and only_file(out) == BIG
    assert "If-None-Match" not in server.plan.requests[-1]


def test_a_new_version_is_fetched(server: Server, run_stage: Any, tmp_path: Path) -> None:
    params, cache = {"uri": f"{server.url}/big.bin"}, tmp_path / "cache"
    run_stage(STAGE, params, cache=cache, attempt="1")
    server.plan.body, server.plan.etag = b"new", '"v2"'
    result, out = run_stage(STAGE, params, cache=cache, attempt="2")
    assert only_file(out) == b"new" and source(result)["etag"] == '"v2"'


@pytest.mark.parametrize("length", [True, False])
def test_a_source_that_offers_no_version_is_fetched_again(
    server: Server, run_stage: Any, tmp_path: Path, length: bool
) -> None:
    """Without a length, nothing proves that the copy is whole, whatever the ETag says."""
    server.plan.etag, server.plan.length = '"v1"' if not length else "", length
    params, cache = {"uri": f"{server.url}/big.bin"}, tmp_path / "cache"
    first, _ = run_stage(STAGE, params, cache=cache, attempt="1")
    second, _ = run_stage(STAGE, params, cache=cache, attempt="2")
    assert source(first) == source(second)
    assert not any("If-None-Match" in r for r in server.plan.requests)


def test_an_old_modification_date_is_a_version(
    server: Server, run_stage: Any, tmp_path: Path
) -> None:
    server.plan.etag, server.plan.modified = "", "Wed, 21 Oct 2015 07:28:00 GMT"
    params, cache = {"uri": f"{server.url}/big.bin"}, tmp_path / "cache"
    run_stage(STAGE, params, cache=cache, attempt="1")
    result, out = run_stage(STAGE, params, cache=cache, attempt="2")
    assert result.status == "ok" and only_file(out) == BIG
    assert server.plan.requests[-1]["If-Modified-Since"] == server.plan.modified


def test_a_fresh_modification_date_is_none(server: Server, run_stage: Any, tmp_path: Path) -> None:
    """The file may change again within the same second, and keep its length."""
    server.plan.etag, server.plan.modified = "", formatdate(usegmt=True)
    params, cache = {"uri": f"{server.url}/big.bin"}, tmp_path / "cache"
    run_stage(STAGE, params, cache=cache, attempt="1")
    run_stage(STAGE, params, cache=cache, attempt="2")
    assert not any("If-Modified-Since" in r for r in server.plan.requests)


def test_two_steps_share_one_download(server: Server, tmp_path: Path) -> None:
    from proctor_steps.transport.http import HttpSource

    store = Store(tmp_path)

    def fetch() -> None:
        tool = download.Downloader(store, Retries(), lambda n: None, lambda n: None, print)
        file = HttpSource(f"{server.url}/big.bin", 5)
        tool.get(file, sha256(BIG))
        file.close()

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.plan.requests) == 1
    assert list((tmp_path / "parts").iterdir()) == []


# http: errors


def test_passing_failures_are_tried_again(
    server: Server, run_stage: Any, no_waiting: list[float]
) -> None:
    server.plan.answers = [(503, {"Retry-After": "7"}), (429, {}), (500, {})]
    result, out = run_stage(STAGE, {"uri": f"{server.url}/big.bin"})
    assert result.status == "ok" and only_file(out) == BIG
    assert no_waiting[0] == 7 and 1 <= no_waiting[1] <= 2 <= no_waiting[2] <= 4


def test_the_attempts_come_to_an_end(
    server: Server, run_stage: Any, no_waiting: list[float]
) -> None:
    server.plan.answers = [(503, {})] * 9
    result, _ = run_stage(STAGE, {"uri": f"{server.url}/big.bin", "retries": 3})
    assert result.status == "step_error" and len(server.plan.requests) == 3
    assert "3 attempts" in result.message and "503" in result.message and len(no_waiting) == 2


def test_a_connection_that_always_breaks_ends_too(server: Server, run_stage: Any) -> None:
    server.plan.cuts, server.plan.ranges = [2_000_000] * 50, False
    result, _ = run_stage(STAGE, {"uri": f"{server.url}/big.bin", "retries": 3})
    assert result.status == "step_error" and len(server.plan.requests) <= 4


def test_nobody_listens(run_stage: Any) -> None:
    server = Server()
    server.close()
    result, _ = run_stage(STAGE, {"uri": f"{server.url}/x", "retries": 2})
    assert result.status == "step_error" and "Check the network" in result.message


@pytest.mark.parametrize(
    ("status", "word"), [(404, "spelt"), (410, "spelt"), (401, "permission"), (403, "expired")]
)
def test_refusals_are_not_tried_again(
    server: Server, run_stage: Any, status: int, word: str
) -> None:
    server.plan.answers = [(status, {})]
    result, _ = run_stage(STAGE, {"uri": f"{server.url}/x"})
    assert result.status == "data_error" and word in result.message
    assert str(status) in result.message and len(server.plan.requests) == 1


def test_a_length_that_is_a_lie(server: Server, run_stage: Any) -> None:
    server.plan.claims = len(BIG) + 10
    result, out = run_stage(STAGE, {"uri": f"{server.url}/big.bin", "retries": 2})
    assert result.status == "step_error" and not [p for p in out.iterdir() if p.name[0] != "."]


def test_more_than_the_disk_holds(server: Server, run_stage: Any) -> None:
    server.plan.claims = 1 << 60
    result, _ = run_stage(STAGE, {"uri": f"{server.url}/big.bin"})
    assert result.status == "step_error" and "make room" in result.message


def test_redirects_are_followed(server: Server, run_stage: Any) -> None:
    server.plan.answers = [(302, {"Location": "/b.bin"}), (307, {"Location": f"{server.url}/c"})]
    result, out = run_stage(STAGE, {"uri": f"{server.url}/a.bin"})
    assert result.status == "ok" and (out / "a.bin").read_bytes() == BIG
    assert [r["path"] for r in server.plan.requests] == ["/a.bin", "/b.bin", "/c"]


@pytest.mark.parametrize("target", ["", "file:///etc/passwd", "ftp://x/y", "http://["])
def test_redirects_to_what_is_no_http(server: Server, run_stage: Any, target: str) -> None:
    server.plan.answers = [(302, {"Location": target})]
    result, _ = run_stage(STAGE, {"uri": f"{server.url}/a.bin"})
    assert result.status == "data_error" and "no http address" in result.message


def test_redirects_in_a_circle(server: Server, run_stage: Any) -> None:
    server.plan.answers = [(302, {"Location": "/a.bin"})] * 20
    result, _ = run_stage(STAGE, {"uri": f"{server.url}/a.bin"})
    assert result.status == "data_error" and "more than 10 times" in result.message


def test_a_web_page_is_no_dataset(server: Server, run_stage: Any) -> None:
    server.plan.body = b"\n<!DOCTYPE html><html>please log in</html>"
    for name in ("data.zip", "annotations.json", ""):
        result, out = run_stage(STAGE, {"uri": f"{server.url}/{name}"}, attempt=f"a{name}")
        assert result.status == "data_error" and "web page" in result.message
        assert not [p for p in out.iterdir() if p.name != obtain.WORK]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate of an authority that nobody knows, for localhost."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(key, hashes.SHA256())
    )
    pem, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key_file)
    return pem, context


def test_https_is_not_left_for_http(
    server: Server,
    certificate: tuple[Path, ssl.SSLContext],
    run_stage: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pem, context = certificate
    secure = Server(context)
    try:
        result, _ = run_stage(STAGE, {"uri": f"{secure.url}/x"}, attempt="1")
        assert result.status == "step_error" and "not trusted" in result.message
        assert secure.plan.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        result, _ = run_stage(STAGE, {"uri": f"{secure.url}/x"}, attempt="2")
        assert result.status == "ok", result.message
        secure.plan.answers = [(302, {"Location": f"{server.url}/x?{SECRET}"})]
        result, _ = run_stage(STAGE, {"uri": f"{secure.url}/x"}, attempt="3")
        assert result.status == "data_error" and "https to plain http" in result.message
        assert server.plan.requests == [] and SECRET not in result.message
    finally:
        secure.close()


# secrets


@pytest.mark.parametrize("answer", [200, 404, 403, 503, 302])
def test_no_credential_is_shown(
    server: Server, run_stage: Any, tmp_path: Path, capfd: Any, caplog: Any, answer: int
) -> None:
    caplog.set_level("DEBUG")
    server.plan.answers = [] if answer == 200 else [(answer, {"Location": "ftp://x/y"})] * 5
    host = server.url.removeprefix("http://")
    uri = f"http://user:{SECRET}@{host}/big.bin?token={SECRET}#{SECRET}"
    result, _ = run_stage(STAGE, {"uri": uri}, cache=tmp_path / "cache")
    assert "Basic" in server.plan.requests[0]["Authorization"]
    written = [p.read_text() for p in (tmp_path / "cache" / "downloads" / "sources").iterdir()]
    told = "".join([result.model_dump_json(), *capfd.readouterr(), *written])
    own = [r.getMessage() for r in caplog.records if r.name.startswith(("proctor", "httpx"))]
    assert SECRET not in told + "".join(own) and "big.bin" in told


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://u:p@host:1/a?q=1#f", "https://host:1/a?…"),
        ("https://u:p@host", "https://host"),
        ("http://u:p@[bad", "http://(not a valid URI)"),
        ("u:p@host/x?secret", "u:p@host/x"),
        ("embedded:digits", "embedded:digits"),
    ],
)
def test_uris_are_shown_without_secrets(uri: str, shown: str) -> None:
    assert redact(uri) == shown


@pytest.mark.parametrize(
    "uri",
    [f"http://u:{SECRET}@host:port/x", f"http://u:{SECRET}@[x/y", "http:///x", f"gopher://{SECRET}@h/",
     f"s3://u:{SECRET}@bucket/key", "s3://", "nothing", ""],
)  # fmt: skip
def test_uris_that_are_none(run_stage: Any, uri: str) -> None:
    result, _ = run_stage(STAGE, {"uri": uri})
    assert result.status == "data_error" and SECRET not in result.message, result.message


# file and embedded


def make_tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def test_a_folder_is_copied(tmp_path: Path, run_stage: Any) -> None:
    folder = make_tree(tmp_path / "a folder", {"a/x": b"1", "a-b": b"2", "a/y/z": b"3"})
    (folder / "inside").symlink_to("a")
    result, out = run_stage(STAGE, {"uri": f"file://{tmp_path}/a%20folder"})
    assert result.status == "ok", result.message
    found = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert found == {"a/x", "a-b", "a/y/z", "inside/x", "inside/y/z"}
    assert source(result)["sha256"] == tree_digest(out)[0], "the tree digest of what was fetched"
    wanted = {"uri": f"file://{tmp_path}/a%20folder", "sha256": tree_digest(out)[0]}
    assert run_stage(STAGE, wanted, attempt="2")[0].status == "ok"
    (folder / "a-b").write_bytes(b"4")
    assert run_stage(STAGE, wanted, attempt="3")[0].status == "data_error"


@pytest.mark.parametrize(
    ("link", "target", "word"),
    [("out", "/etc", "leaves"), ("out", "../beside", "leaves"), ("a/up", "..", "above"),
     ("dangling", "nowhere", "no plain file")],
)  # fmt: skip
def test_links_that_a_folder_must_not_hold(
    tmp_path: Path, run_stage: Any, link: str, target: str, word: str
) -> None:
    make_tree(tmp_path / "beside", {"x": b"secret"})
    folder = make_tree(tmp_path / "folder", {"a/x": b"1"})
    (folder / link).symlink_to(target)
    result, out = run_stage(STAGE, {"uri": f"file://{folder}"})
    assert result.status == "data_error" and word in result.message and link in result.message
    assert list(out.iterdir()) == []


def test_an_archive_is_unpacked_and_a_file_kept(tmp_path: Path, run_stage: Any) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("val/x.jpg", b"jpg")
    for name, unpacked in (("x.zip", True), ("x", True), ("x.npz", False), ("x.tar", True)):
        (tmp_path / name).write_bytes(data.getvalue())
        result, out = run_stage(STAGE, {"uri": f"file://{tmp_path}/{name}"}, attempt=name)
        assert result.status == "ok", result.message
        assert (out / "val" / "x.jpg").exists() == unpacked
        assert source(result)["sha256"] == sha256(data.getvalue())
    (tmp_path / "bad.zip").write_bytes(data.getvalue()[:60])
    result, out = run_stage(STAGE, {"uri": f"file://{tmp_path}/bad.zip"}, attempt="bad")
    assert result.status == "data_error" and list(out.iterdir()) == []


@pytest.mark.parametrize(
    "uri",
    ["file:///does/not/exist", "file://relative", "file:x", "file:///etc/../dev/null", "file:///x%00",
     "file:///x?y", "embedded:", "embedded:../stage.py", "embedded:digits/../../stage.py",
     "embedded:/etc/passwd", "embedded:nothing", "embedded:.hidden"],
)  # fmt: skip
def test_places_that_are_none(run_stage: Any, uri: str) -> None:
    result, out = run_stage(STAGE, {"uri": uri})
    assert result.status == "data_error" and list(out.iterdir()) == []


def test_what_the_package_ships(run_stage: Any) -> None:
    result, out = run_stage(STAGE, {"uri": "embedded:digits/annotations.json"})
    assert result.status == "ok", result.message
    assert json.loads((out / "annotations.json").read_bytes())["images"]


def test_an_output_that_is_not_empty(run_stage: Any) -> None:
    run_stage(STAGE, {"uri": "embedded:digits/annotations.json"})
    result, _ = run_stage(STAGE, {"uri": "embedded:digits/annotations.json"})
    assert result.status == "step_error" and "not empty" in result.message


def test_a_cache_that_cannot_be_written(server: Server, run_stage: Any, tmp_path: Path) -> None:
    (tmp_path / "cache" / "downloads").mkdir(parents=True)
    (tmp_path / "cache" / "downloads" / "files").write_text("in the way")
    result, _ = run_stage(STAGE, {"uri": f"{server.url}/x"}, cache=tmp_path / "cache")
    assert result.status == "step_error" and "files" in result.message


# s3


@dataclass
class S3:
    """moto's server and a client of it."""

    endpoint: str
    client: Any


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3]:
    import boto3
    from moto.server import ThreadedMotoServer

    patch = pytest.MonkeyPatch()
    patch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "20")  # more than one page without a thousand objects
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="k",
        aws_secret_access_key="s",
    )
    client.create_bucket(Bucket="data", ACL="public-read")
    yield S3(endpoint, client)
    moto.stop()
    patch.undo()


def test_an_object_that_was_uploaded_in_parts(
    s3_server: S3, run_stage: Any, tmp_path: Path
) -> None:
    body = BIG + BIG[:2_000_000]
    upload = s3_server.client.create_multipart_upload(Bucket="data", Key="parts/big bin?#%.bin")
    parts = [
        s3_server.client.upload_part(
            Bucket="data", Key="parts/big bin?#%.bin", UploadId=upload["UploadId"],
            PartNumber=n, Body=body[(n - 1) * 5_500_000 : n * 5_500_000],
        )["ETag"]
        for n in (1, 2)
    ]  # fmt: skip
    s3_server.client.complete_multipart_upload(
        Bucket="data", Key="parts/big bin?#%.bin", UploadId=upload["UploadId"],
        MultipartUpload={"Parts": [{"ETag": e, "PartNumber": n} for n, e in enumerate(parts, 1)]},
    )  # fmt: skip
    params = {"uri": "s3://data/parts/big bin?#%.bin", "s3_endpoint": s3_server.endpoint}
    result, out = run_stage(STAGE, params, cache=tmp_path / "cache")
    assert result.status == "ok", result.message
    assert only_file(out) == body and source(result)["etag"].endswith('-2"')
    assert source(result)["sha256"] == sha256(body)


def test_a_prefix_of_several_pages(s3_server: S3, run_stage: Any, tmp_path: Path) -> None:
    keys = [f"many/{n % 7}/{n:04}" for n in range(45)]
    for key in keys:
        s3_server.client.put_object(Bucket="data", Key=key, Body=key.encode())
    s3_server.client.put_object(Bucket="data", Key="many/folder/", Body=b"")
    params = {"uri": "s3://data/many/", "s3_endpoint": s3_server.endpoint}
    result, out = run_stage(STAGE, params, cache=tmp_path / "cache", attempt="1")
    assert result.status == "ok", result.message
    found = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert found == {key.removeprefix("many/") for key in keys}
    assert (out / "3" / "0003").read_bytes() == b"many/3/0003"
    assert source(result)["listing"] == source(result)["sha256"] == tree_digest(out)[0]
    s3_server.client.put_object(Bucket="data", Key="many/3/0003", Body=b"new")
    result, out = run_stage(STAGE, params, cache=tmp_path / "cache", attempt="2")
    assert (out / "3" / "0003").read_bytes() == b"new" and source(result)["files"] == 45
    assert len(list((tmp_path / "cache" / "downloads" / "files").rglob("*/*"))) == 46, (
        "only one was new"
    )


def test_secrets_are_used_and_not_shown(
    s3_server: S3, run_stage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    import botocore.httpsession

    signed: list[bool] = []
    send = botocore.httpsession.URLLib3Session.send

    def watch(self: Any, request: Any) -> Any:
        signed.append("Authorization" in request.headers)
        return send(self, request)

    monkeypatch.setattr(botocore.httpsession.URLLib3Session, "send", watch)
    s3_server.client.put_object(Bucket="data", Key="one", Body=b"1", ACL="public-read")
    signed.clear()
    secret = tmp_path / "credentials"
    secret.write_text(f"[default]\naws_access_key_id=AKID\naws_secret_access_key={SECRET}%x\n")
    params = {"uri": "s3://data/one", "s3_endpoint": s3_server.endpoint}
    result, _ = run_stage(STAGE, params, secret=secret, attempt="1")
    assert result.status == "ok" and all(signed) and signed
    signed.clear()
    result, _ = run_stage(STAGE, params, attempt="2")
    assert result.status == "ok" and signed and not any(signed), "without a secret: unsigned"
    secret.write_text(f"[other]\naws_secret_access_key={SECRET}\n[[")
    result, _ = run_stage(STAGE, params, secret=secret, attempt="3")
    assert result.status == "step_error" and "[default]" in result.message
    assert SECRET not in "".join([result.model_dump_json(), *capfd.readouterr()])


@pytest.mark.parametrize(
    ("uri", "word"),
    [("s3://data/absent", "end with '/'"), ("s3://data/absent/", "holds no objects"),
     ("s3://no-such-bucket/x/", "no such bucket"), ("s3://UPPER_case!/x", "check the URI")],
)  # fmt: skip
def test_objects_that_are_not_there(s3_server: S3, run_stage: Any, uri: str, word: str) -> None:
    result, _ = run_stage(STAGE, {"uri": uri, "s3_endpoint": s3_server.endpoint})
    assert result.status == "data_error" and word in result.message, result.message


@pytest.mark.parametrize(
    "endpoint", [f"http://u:{SECRET}@host", "ftp://host", "host:9000", "http://["]
)
def test_endpoints_that_are_none(run_stage: Any, endpoint: str) -> None:
    result, _ = run_stage(STAGE, {"uri": "s3://data/x", "s3_endpoint": endpoint})
    assert result.status == "data_error" and "s3_endpoint" in result.message
    assert SECRET not in result.message


@pytest.mark.parametrize("keys", [["../up"], ["a/../../up"], ["/abs"], ["x", "X"], ["d", "d/x"]])
def test_keys_that_must_not_become_files(s3_server: S3, run_stage: Any, keys: list[str]) -> None:
    bucket = "hostile" + sha256(repr(keys).encode())[:8]
    s3_server.client.create_bucket(Bucket=bucket, ACL="public-read")
    for key in keys:
        s3_server.client.put_object(Bucket=bucket, Key=f"p/{key}", Body=b"x")
    result, out = run_stage(STAGE, {"uri": f"s3://{bucket}/p/", "s3_endpoint": s3_server.endpoint})
    assert result.status == "data_error", result.message
    assert not [p for p in out.rglob("*") if p.is_file()]


def test_an_object_is_resumed_and_a_changed_one_is_not(s3_server: S3, tmp_path: Path) -> None:
    from proctor_steps.transport.s3 import S3Source

    put = s3_server.client.put_object
    put(Bucket="data", Key="resume", Body=BIG, ACL="public-read")
    where = {"endpoint": s3_server.endpoint, "region": "us-east-1", "secret": None, "timeout": 5.0}
    file = S3Source("s3://data/resume", **where).files()[0]  # type: ignore[arg-type]
    with file.open(Have()) as reply:
        version = reply.version
    with file.open(Have(version, 3_999_000)) as reply:
        assert reply.start == 3_999_000 and b"".join(reply.chunks) == BIG[-1000:]
    with file.open(Have(Version(size=1, etag='"other"'), 3_999_000)) as reply:
        assert reply.start == 0, "another version is not continued"
    with file.open(Have(version, len(BIG), complete=True)) as reply:
        assert reply.unchanged
    put(Bucket="data", Key="resume", Body=b"changed meanwhile", ACL="public-read")
    with pytest.raises(Stale), file.open(Have(version, 3_999_000)):
        pass
    with file.open(Have(version, 3_999_000)) as reply:
        assert (reply.start, b"".join(reply.chunks)) == (0, b"changed meanwhile")


def test_a_store_whose_connections_break(server: Server, run_stage: Any) -> None:
    server.plan.answers = [(503, {}), (500, {})]
    server.plan.cuts = [2_000_000, 1_500_000]
    result, out = run_stage(STAGE, {"uri": "s3://data/big.bin", "s3_endpoint": server.url})
    assert result.status == "ok" and only_file(out) == BIG, result.message
    starts = [int(r["Range"][6:-1]) for r in server.plan.requests if "Range" in r]
    assert len(starts) == 2 and 1_900_000 < starts[0] <= 2_000_000 < 3_400_000 < starts[1]
    assert all(r["If-Match"] == '"v1"' for r in server.plan.requests)


def test_a_store_that_does_not_range(server: Server, run_stage: Any) -> None:
    server.plan.cuts, server.plan.ranges = [2_000_000], False
    result, out = run_stage(STAGE, {"uri": "s3://data/big.bin", "s3_endpoint": server.url})
    assert result.status == "ok" and only_file(out) == BIG, result.message


def test_a_store_that_does_not_answer(server: Server, run_stage: Any) -> None:
    params = {"uri": "s3://data/x", "s3_endpoint": server.url, "retries": 2}
    server.plan.answers = [(503, {})] * 2
    result, _ = run_stage(STAGE, params, attempt="1")
    assert result.status == "step_error" and "503" in result.message
    server.plan.answers = [(403, {})]
    result, _ = run_stage(STAGE, params, attempt="2")
    assert result.status == "data_error" and "no secret 's3' was given" in result.message
    server.plan.answers = [(301, {})]
    result, _ = run_stage(STAGE, params, attempt="3")
    assert result.status == "data_error" and "s3_region" in result.message
    server.close()
    result, _ = run_stage(STAGE, params, attempt="4")
    assert result.status == "step_error" and "given up" in result.message


# the machinery


def test_the_waits_double_to_a_limit() -> None:
    retries = Retries(first_wait=1, longest_wait=8)
    for failures, most in ((1, 1), (2, 2), (3, 4), (4, 8), (9, 8)):
        assert most / 2 <= retries.wait(failures, 0) <= most
    assert retries.wait(1, 50) == 50


def test_requests_without_a_file_are_tried_again(no_waiting: list[float]) -> None:
    answers: list[Any] = [Transient("a"), Transient("b"), 5]

    def call() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    assert download.retry(call, "here", Retries(), print) == 5 and len(no_waiting) == 2
    answers[:] = [Transient("again")] * 2
    with pytest.raises(StepError, match="again"):
        download.retry(call, "here", Retries(attempts=2), print)
    answers[:] = [DataError("never")]
    with pytest.raises(DataError):
        download.retry(call, "here", Retries(), print)


def test_a_store_survives_rubbish_in_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "sources" / "k.json").write_text("{")
    (tmp_path / "parts" / "k.json").write_text("[]")
    (tmp_path / "parts" / "k.part").write_text("x")
    assert store.known("k") is None and store.begun("k").bytes == 0


def test_a_part_as_long_as_the_file_is_not_trusted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin("k", Version(size=3, etag='"e"'))
    store.part("k").write_bytes(b"ab")
    assert store.begun("k").bytes == 2
    store.part("k").write_bytes(b"abc")
    assert store.begun("k").bytes == 0


def test_a_killed_step_leaves_what_the_next_one_continues(
    server: Server, run_stage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is killed in the middle of the body, so nothing can tidy up."""
    release = threading.Event()
    out, step = tmp_path / "out", tmp_path / "step"
    out.mkdir()
    step.mkdir()
    contract = Contract.model_validate(
        {
            "pipeline": "p", "run": "r", "step": "s", "params": {"uri": f"{server.url}/big.bin"},
            "mounts": [
                {"name": "dataset", "kind": "output", "path": str(out)},
                {"name": "cache", "kind": "cache", "path": str(tmp_path / "cache")},
            ],
        }
    )  # fmt: skip
    (step / "contract.json").write_text(contract.model_dump_json())
    server.plan.cuts = [3_000_000]  # then the server sends nothing, and keeps the connection
    hold = Handler._body

    def body(self: Handler, plan: Plan, etag: str, start: int) -> None:
        hold(self, plan, etag, start)
        release.wait(20)

    monkeypatch.setattr(Handler, "_body", body)
    command = [sys.executable, "-m", "proctor_steps", "dataset", "fetch"]
    process = subprocess.Popen(command, env={"PROCTOR_STEP_DIR": str(step)})
    parts = tmp_path / "cache" / "downloads" / "parts"
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if any(p.stat().st_size == 3_000_000 for p in parts.glob("*.part")):
            break
        threading.Event().wait(0.05)
    process.kill()
    process.wait()
    release.set()
    assert list(out.iterdir()) == [] and len(list(parts.glob("*.part"))) == 1
    monkeypatch.setattr(Handler, "_body", hold)
    params = {"uri": f"{server.url}/big.bin"}
    result, out = run_stage(STAGE, params, cache=tmp_path / "cache")
    assert result.status == "ok" and only_file(out) == BIG
    assert server.plan.requests[-1]["Range"] == "bytes=3000000-"


def test_progress_of_the_step_is_written(tmp_path: Path) -> None:
    io_ = StepIO(Contract(pipeline="p", run="r", step="s"), tmp_path)
    meter = obtain.Meter(io_, 10, "fetching")
    meter.gained(4)
    assert json.loads((tmp_path / "progress.json").read_text())["done"] == 4


@dataclass
class Fake:
    """A source that says one thing and sends another."""

    version: Version
    chunks: list[bytes]
    name: str = "f"
    where: str = "fake://f"
    key: str = "k"
    size: int | None = None
    opened: int = 0

    @contextmanager
    def open(self, have: Have) -> Iterator[Reply]:
        self.opened += 1
        start = have.bytes if have.version == self.version else 0
        yield Reply(self.version, start, iter(self.chunks))


def bring(tmp_path: Path, file: Fake) -> bytes:
    store = Store(tmp_path)
    tool = download.Downloader(store, Retries(attempts=3), lambda n: None, lambda n: None, print)
    return store.file(tool.get(file).file.sha256).read_bytes()


@pytest.mark.parametrize(
    ("chunks", "word"), [([b"ab"], "after 2 of 3 bytes"), ([b"ab", b"cd"], "4 bytes came where")]
)
def test_other_lengths_than_said(tmp_path: Path, chunks: list[bytes], word: str) -> None:
    fake = Fake(Version(size=3), chunks)
    with pytest.raises(StepError, match=word):
        bring(tmp_path, fake)
    assert fake.opened == 3 and not list((tmp_path / "files").iterdir())
    assert bring(tmp_path, Fake(Version(size=3), [b"abc"])) == b"abc"


def test_the_first_file_that_fails_stops_the_rest(tmp_path: Path) -> None:
    class Refused(Fake):
        @contextmanager
        def open(self, have: Have) -> Iterator[Reply]:
            raise DataError("refused")
            yield

    files = [
        Refused(Version(), [], key="0"),
        *(Fake(Version(), [b"x"], key=str(n)) for n in range(1, 99)),
    ]
    tool = download.Downloader(Store(tmp_path), Retries(), lambda n: None, lambda n: None, print)
    with pytest.raises(DataError, match="refused"):
        obtain._get_all(tool, files, "")
    assert sum(file.opened for file in files) < 98


def test_a_part_that_changes_meanwhile(tmp_path: Path) -> None:
    version = Version(size=4, etag='"e"')
    store = Store(tmp_path)
    store.begin("k", version)
    store.part("k").write_bytes(b"ab")

    class Meddler(Fake):
        @contextmanager
        def open(self, have: Have) -> Iterator[Reply]:
            with super().open(have) as reply:
                if reply.start:
                    store.part("k").write_bytes(b"a")
                    yield reply
                else:
                    yield Reply(version, 0, iter([b"abcd"]))

    assert bring(tmp_path, Meddler(version, [b"cd"])) == b"abcd"
