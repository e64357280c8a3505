"""``submission upload`` against moto's S3, straight and through a line that breaks or lies."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proctor_steps.contract import Contract, Mount, Result, load_result
from proctor_steps.stage import execute
from proctor_steps.submission.upload import STAGE
from proctor_steps.transport import download, s3_upload

MARK = b"-- the marked place --"
BIG = random.Random(7).randbytes(9_000_000) + MARK + random.Random(8).randbytes(12_000_000)
SECRET = "hunter2"
Upload = Callable[..., tuple[Result, Path]]


class Line:
    """A TCP proxy before the store. ``cuts``: after so many bytes up, and so many more, the
    connection breaks. ``lie``: a place in what is sent is changed."""

    def __init__(self, port: int) -> None:
        self._to, self.cuts, self.lie, self._sent = port, list[int](), False, 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            store = socket.create_connection(("127.0.0.1", self._to))
            threading.Thread(target=self._up, args=(client, store), daemon=True).start()
            threading.Thread(target=self._down, args=(store, client), daemon=True).start()

    def _up(self, client: socket.socket, store: socket.socket) -> None:
        while data := _received(client):
            self._sent += len(data)
            if self.cuts and self._sent >= self.cuts[0]:
                self._sent -= self.cuts.pop(0)
                break
            if self.lie:
                data = data.replace(MARK, MARK[::-1])
            store.sendall(data)
        for end in (client, store):
            _shut(end)

    def _down(self, store: socket.socket, client: socket.socket) -> None:
        while data := _received(store):
            try:
                client.sendall(data)
            except OSError:
                break
        _shut(client)


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 16)
    except OSError:
        return b""


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@dataclass
class Store:
    """moto's server, a client of it, and what it was asked."""

    port: int
    client: Any
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def objects(self, bucket: str = "subs") -> dict[str, int]:
        found = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {entry["Key"]: entry["Size"] for entry in found}

    def unfinished(self) -> list[str]:
        found = self.client.list_multipart_uploads(Bucket="subs").get("Uploads", [])
        return [entry["UploadId"] for entry in found]


@pytest.fixture(scope="module")
def moto() -> Iterator[Store]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="k",
        aws_secret_access_key="s",
    )
    yield Store(port, client)
    server.stop()


@pytest.fixture
def store(moto: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty bucket; every request of the client under test is noted."""
    import botocore.httpsession

    moto.client.create_bucket(Bucket="subs", ACL="public-read-write")
    moto.asked = []
    send = botocore.httpsession.URLLib3Session.send

    def watch(self: Any, request: Any) -> Any:
        moto.asked.append(f"{request.method} {request.url.partition('/subs')[2]}")
        return send(self, request)

    monkeypatch.setattr(botocore.httpsession.URLLib3Session, "send", watch)
    yield moto
    for key in moto.objects():
        moto.client.delete_object(Bucket="subs", Key=key)
    for entry in moto.client.list_multipart_uploads(Bucket="subs").get("Uploads", []):
        moto.client.abort_multipart_upload(
            Bucket="subs", Key=entry["Key"], UploadId=entry["UploadId"]
        )
    moto.client.delete_bucket(Bucket="subs")


@pytest.fixture
def line(store: Store) -> Iterator[Line]:
    made = Line(store.port)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)


@pytest.fixture
def upload(tmp_path: Path, store: Store) -> Upload:
    """The stage's result and its receipt's folder."""

    def run(content: bytes = BIG, endpoint: str = "", **params: Any) -> tuple[Result, Path]:
        package, out, step = tmp_path / "package", tmp_path / "receipt", tmp_path / "step"
        secret = tmp_path / "s3"
        secret.write_text(f"[default]\naws_access_key_id=AK\naws_secret_access_key={SECRET}\n")
        for folder in (package, out, step):
            folder.mkdir(exist_ok=True)
        (package / "submission.tar.gz").write_bytes(content)
        contract = Contract(
            pipeline="p",
            run="r",
            step="upload",
            params={
                "uri": "s3://subs/v6.1",
                "s3_endpoint": endpoint or store.url,
                "timeout": 5,
                **params,
            },
            mounts=(
                Mount(name="package", kind="input", path=str(package)),
                Mount(name="receipt", kind="output", path=str(out)),
                Mount(name="s3", kind="secret", path=str(secret)),
            ),
        )
        execute(STAGE, contract, step)
        result = load_result(step)
        assert result is not None
        return result, out

    return run


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def parts(store: Store) -> list[str]:
    """The parts that were sent, by number, in order."""
    sent = [line for line in store.asked if line.startswith("PUT") and "partNumber=" in line]
    return [line.partition("partNumber=")[2].partition("&")[0] for line in sent]


def test_what_is_uploaded_is_what_was_packed(upload: Upload, store: Store) -> None:
    result, out = upload()
    assert result.status == "ok", result.message
    assert store.objects() == {"v6.1/SHA256SUMS": 84, "v6.1/submission.tar.gz": len(BIG)}
    body = store.client.get_object(Bucket="subs", Key="v6.1/submission.tar.gz")["Body"].read()
    assert sha256(body) == sha256(BIG)
    sums = store.client.get_object(Bucket="subs", Key="v6.1/SHA256SUMS")["Body"].read()
    assert sums.decode() == f"{sha256(BIG)}  submission.tar.gz\n"
    receipt = json.loads((out / "upload.json").read_text())
    assert receipt["uri"] == "s3://subs/v6.1/"
    assert receipt["objects"][0] == {
        "name": "submission.tar.gz",
        "where": "s3://subs/v6.1/submission.tar.gz",
        "bytes": len(BIG),
        "sha256": sha256(BIG),
        "was_there": False,
    }
    assert parts(store) == ["1", "2", "3"] and store.unfinished() == []
    assert result.progress.done == len(BIG) + 84
    assert [f.rule for f in result.findings] == ["not_approved"]


def test_the_same_again_sends_nothing(upload: Upload, store: Store) -> None:
    upload()
    store.asked.clear()
    result, out = upload()
    assert result.status == "ok", result.message
    assert not [line for line in store.asked if line.startswith(("PUT", "POST"))]
    receipt = json.loads((out / "upload.json").read_text())
    assert [entry["was_there"] for entry in receipt["objects"]] == [True, True]


def test_a_connection_cut_in_the_middle_is_taken_up(
    upload: Upload, store: Store, line: Line
) -> None:
    line.cuts = [12_000_000]  # in the middle of the second part
    result, _ = upload(endpoint=line.url)
    assert result.status == "ok", result.message
    assert line.cuts == []
    assert parts(store) == ["1", "2", "2", "3"], "the first part was not sent again"
    assert store.objects()["v6.1/submission.tar.gz"] == len(BIG)
    assert store.unfinished() == []


def test_a_later_step_goes_on_where_one_gave_up(upload: Upload, store: Store, line: Line) -> None:
    line.cuts = [12_000_000, 5_000_000]
    result, _ = upload(endpoint=line.url, retries=2)
    assert result.status == "step_error" and "given up after 2 attempts" in result.message
    assert store.objects() == {}, "no object is there by half"
    (unfinished,) = store.unfinished()
    store.asked.clear()
    result, _ = upload(endpoint=line.url)
    assert result.status == "ok", result.message
    assert parts(store) == ["2", "3"]
    assert f"uploadId={unfinished}" in "".join(store.asked)
    assert store.objects()["v6.1/submission.tar.gz"] == len(BIG) and store.unfinished() == []


def test_parts_of_another_package_are_not_taken_over(upload: Upload, store: Store) -> None:
    key = "v6.1/submission.tar.gz"
    made = store.client.create_multipart_upload(Bucket="subs", Key=key)["UploadId"]
    for number, data in ((1, b"x" * s3_upload.PART), (2, BIG[s3_upload.PART :][: s3_upload.PART])):
        store.client.upload_part(
            Bucket="subs", Key=key, UploadId=made, PartNumber=number, Body=data
        )
    store.asked.clear()
    result, _ = upload()
    assert result.status == "ok", result.message
    assert parts(store) == ["1", "3"]


def test_an_object_that_was_tampered_with_on_its_way_is_found(
    upload: Upload, store: Store, line: Line
) -> None:
    line.lie = True
    result, out = upload(endpoint=line.url)
    assert result.status == "step_error"
    tampered = BIG.replace(MARK, MARK[::-1])
    assert sha256(tampered) in result.message and sha256(BIG) in result.message
    assert "Do not submit it" in result.message and list(out.iterdir()) == []


def test_an_object_that_was_changed_afterwards_is_found(upload: Upload, store: Store) -> None:
    upload()
    store.client.put_object(Bucket="subs", Key="v6.1/submission.tar.gz", Body=b"something else")
    store.asked.clear()
    result, _ = upload()
    assert result.status == "data_error" and "another package" in result.message
    assert "s3://subs/v6.1/submission.tar.gz" in result.message
    assert store.objects()["v6.1/submission.tar.gz"] == len(b"something else")
    assert not [line for line in store.asked if line.startswith(("PUT", "POST"))]
    result, _ = upload(replace=True)
    assert result.status == "ok", result.message
    assert store.objects()["v6.1/submission.tar.gz"] == len(BIG)


def test_a_lost_answer_is_not_a_second_upload(
    upload: Upload, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store completed the upload, and the connection broke before it could say so."""
    from botocore.exceptions import ConnectionClosedError

    complete, calls = s3_upload.S3Target._complete, []

    def lossy(self: Any, *args: Any) -> None:
        complete(self, *args)
        calls.append(args)
        if len(calls) == 1:
            raise ConnectionClosedError(endpoint_url="http://store")

    monkeypatch.setattr(s3_upload.S3Target, "_complete", lossy)
    result, _ = upload()
    assert result.status == "ok", result.message
    assert len(calls) == 2 and store.objects()["v6.1/submission.tar.gz"] == len(BIG)


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("s3://no-such-bucket/x", "no such bucket"),
        ("s3://UPPER_case!/x", "check the URI"),
        ("https://host/x", "goes to s3://"),
        (f"s3://u:{SECRET}@bucket/x", "credentials do not belong"),
        ("s3://", "an s3 URI is"),
        ("", "goes to s3://"),
    ],
)
def test_places_that_cannot_be_written(upload: Upload, uri: str, text: str) -> None:
    result, _ = upload(b"small", uri=uri)
    assert result.status == "data_error" and text in result.message, result.message
    assert SECRET not in result.model_dump_json()


@pytest.mark.parametrize("uri", ["s3://subs", "s3://subs/", "s3://subs/a/b/", "s3://subs/a/b"])
def test_prefixes_with_and_without_a_slash(upload: Upload, store: Store, uri: str) -> None:
    result, _ = upload(b"small", uri=uri)
    assert result.status == "ok", result.message
    below = "a/b/" if "a/b" in uri else ""
    assert set(store.objects()) == {f"{below}SHA256SUMS", f"{below}submission.tar.gz"}


def test_a_store_that_is_not_there(upload: Upload) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    result, _ = upload(b"small", endpoint=f"http://127.0.0.1:{port}", retries=2)
    assert result.status == "step_error" and "given up after 2" in result.message


def test_the_credentials_are_shown_nowhere(
    upload: Upload, capfd: pytest.CaptureFixture[str]
) -> None:
    result, out = upload(b"small")
    told = result.model_dump_json() + (out / "upload.json").read_text()
    assert SECRET not in told + "".join(capfd.readouterr())


def test_no_package_is_told(upload: Upload, tmp_path: Path) -> None:
    upload(b"small")
    package = tmp_path / "package" / "submission.tar.gz"
    package.unlink()
    contract = Contract(
        pipeline="p",
        run="r",
        step="upload",
        params={"uri": "s3://subs/x"},
        mounts=(Mount(name="package", kind="input", path=str(package.parent)),),
    )
    execute(STAGE, contract, tmp_path / "step")
    result = load_result(tmp_path / "step")
    assert result is not None and result.status == "data_error"
    assert "submission.tar.gz is not in the package" in result.message


def answered(status: int, code: str) -> Exception:
    from botocore.exceptions import ClientError

    response: Any = {
        "Error": {"Code": code},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, "Operation")


def failing(call: Callable[..., Any], *errors: Exception) -> Callable[..., Any]:
    """The call, after it has failed in these ways."""
    left = list(errors)

    def wrapped(*args: Any, **more: Any) -> Any:
        if left:
            raise left.pop(0)
        return call(*args, **more)

    return wrapped


def test_a_store_in_trouble_is_asked_again(
    upload: Upload, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = s3_upload.S3Target._put
    errors = (answered(503, "SlowDown"), answered(500, "InternalError"))
    monkeypatch.setattr(s3_upload.S3Target, "_put", failing(put, *errors))
    result, _ = upload(b"small")
    assert result.status == "ok" and len(store.objects()) == 2


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (answered(403, "AccessDenied"), "the secret 's3' grants no access"),
        (answered(301, "PermanentRedirect"), "check s3_region"),
        (answered(404, "NoSuchBucket"), "no such bucket"),
    ],
)
def test_what_will_not_pass_is_told_at_once(
    upload: Upload, monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
) -> None:
    monkeypatch.setattr(s3_upload.S3Target, "_put", failing(s3_upload.S3Target._put, error))
    result, _ = upload(b"small")
    assert result.status == "data_error" and text in result.message


@pytest.mark.parametrize("status", [403, 501])
def test_a_store_that_lists_no_unfinished_uploads(
    upload: Upload, store: Store, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    connect = s3_upload.s3.connect

    def without_listing(*args: Any) -> Any:
        client = connect(*args)
        pages = client.get_paginator
        refused = failing(pages, answered(status, "NotImplemented"))
        client.get_paginator = lambda name: refused(name)
        return client

    monkeypatch.setattr(s3_upload.s3, "connect", without_listing)
    result, _ = upload()
    assert result.status == "ok", result.message
    assert store.objects()["v6.1/submission.tar.gz"] == len(BIG)


def test_a_large_file_stays_within_the_store_s_number_of_parts() -> None:
    pieces = s3_upload._pieces(5 * 2**40)
    assert len(pieces) <= 10_000 and sum(piece.bytes for piece in pieces) == 5 * 2**40
    assert [piece.number for piece in pieces] == list(range(1, len(pieces) + 1))
    assert all(piece.bytes >= 5 << 20 for piece in pieces[:-1])
    assert len(s3_upload._pieces(s3_upload.PART + 1)) == 2
