"""What a source is now, asked of real servers: HTTP, moto's S3; and what no log may show."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from proctor_steps.transport.look import Seen, Wanted, look

SECRET = "hunter2"


@dataclass
class Answers:
    """How the server answers: by method, a status and headers."""

    head: tuple[int, dict[str, str]] = (200, {"ETag": '"v1"'})
    get: tuple[int, dict[str, str]] = (200, {"ETag": '"v1"', "Content-Length": "9000000"})
    asked: list[str] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    answers: Answers

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.answers.asked.append(self.command)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def do_HEAD(self) -> None:
        self._answer(*self.answers.head)

    def do_GET(self) -> None:
        self._answer(*self.answers.get)


@pytest.fixture
def server() -> Iterator[Answers]:
    answers = Answers()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"answers": answers}))
    threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True).start()
    answers.url = f"http://127.0.0.1:{httpd.server_address[1]}/model.onnx"
    yield answers
    httpd.shutdown()
    httpd.server_close()


def seen(uri: str, **more: Any) -> Seen:
    return look(Wanted(uri=uri, timeout=5, **more))


def test_the_etag_by_head_alone(server: Answers) -> None:
    assert seen(server.url).version == 'etag "v1"'
    assert server.asked == ["HEAD"]
    server.head = (200, {"ETag": '"v2"'})
    assert seen(server.url).version == 'etag "v2"'


def test_without_etag_date_and_size(server: Answers) -> None:
    server.head = (200, {"Last-Modified": "Thu, 26 Nov 2026 10:00:00 GMT", "Content-Length": "7"})
    assert seen(server.url).version == "modified Thu, 26 Nov 2026 10:00:00 GMT, 7 bytes"


def test_where_head_is_refused_a_get_is_dropped(server: Answers) -> None:
    server.head = (403, {})
    assert seen(server.url).version == 'etag "v1"'
    assert server.asked == ["HEAD", "GET"]


def test_a_server_that_tells_nothing_is_trouble_not_a_change(server: Answers) -> None:
    server.head = (200, {})
    found = seen(server.url)
    assert (found.version, "no change can be seen" in found.trouble) == ("", True)


@pytest.mark.parametrize("status", [404, 500, 503])
def test_an_error_is_trouble(server: Answers, status: int) -> None:
    server.head = server.get = (status, {})
    found = seen(server.url)
    assert (found.version, str(status) in found.trouble) == ("", True)


def test_a_redirect_is_followed(server: Answers) -> None:
    server.head = (302, {"Location": server.url})
    assert "redirects more than 10 times" in seen(server.url).trouble


@pytest.mark.parametrize(
    "uri",
    [
        f"http://127.0.0.1:9/model?sig={SECRET}",
        f"http://ada:{SECRET}@127.0.0.1:9/model",
        f"http://ada:{SECRET}@[::1/model",
        f"ftp://ada:{SECRET}@example.org/model",
        f"s3://{SECRET}@bucket/key",
    ],
)
def test_no_trouble_shows_a_secret(uri: str) -> None:
    found = seen(uri)
    assert found.trouble
    assert SECRET not in found.model_dump_json()


def test_what_comes_with_the_steps_is_as_it_is(tmp_path: Path) -> None:
    first = seen("embedded:digits").version
    assert first.startswith("sha256 ")
    assert seen("embedded:digits").version == first
    assert seen("embedded:nothing").trouble


def test_the_program_answers_whatever_it_is_asked() -> None:
    for question, told in (('{"uri": "embedded:digits"}', "sha256 "), (f"x{SECRET}", "understood")):
        done = subprocess.run(
            [sys.executable, "-m", "proctor_steps.transport.look"],
            input=question, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert told in done.stdout
        assert SECRET not in done.stdout + done.stderr


@pytest.fixture
def store() -> Iterator[tuple[str, Any]]:
    import boto3
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1",
        aws_access_key_id="k", aws_secret_access_key=SECRET,
    )  # fmt: skip
    client.create_bucket(Bucket="data")
    yield endpoint, client
    moto.stop()


def test_an_object_and_a_listing_of_an_s3_store(store: tuple[str, Any], tmp_path: Path) -> None:
    endpoint, client = store
    secret = tmp_path / "s3"
    secret.write_text(f"[default]\naws_access_key_id = k\naws_secret_access_key = {SECRET}\n")
    given = {"s3_endpoint": endpoint, "secret": str(secret)}
    assert "holds no objects" in seen("s3://data/set/", **given).trouble
    for name in ("a", "b"):
        client.put_object(Bucket="data", Key=f"set/{name}", Body=name.encode())
    listing, single = seen("s3://data/set/", **given), seen("s3://data/set/a", **given)
    assert listing.version.startswith("listing ")
    assert single.version.startswith("etag ")
    client.put_object(Bucket="data", Key="set/b", Body=b"c")
    assert seen("s3://data/set/", **given).version != listing.version
    assert seen("s3://data/set/a", **given).version == single.version
    client.delete_object(Bucket="data", Key="set/b")
    assert seen("s3://data/set/", **given).version != listing.version
    secret.write_text(SECRET)
    found = seen("s3://data/set/", **given)
    assert "cannot be used" in found.trouble
    assert SECRET not in found.model_dump_json()
