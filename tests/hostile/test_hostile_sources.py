"""Archives and servers that lie, break off, never end or want to write where they must not."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hostile_kit import DATA, STEP, Programs

Connection = socket.socket


def _zip(*entries: tuple[str, bytes], mode: int = 0) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return packed.getvalue()


def _tar(kind: bytes, name: str = "x", to: str = "/etc/passwd") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, to
        archive.addfile(entry)
    return packed.getvalue()


_BOMB = _zip(("zeros", bytes(80 << 20)))
# name of the archive's file, its bytes, what is said
ARCHIVES = {
    "cut off": ("a.zip", _BOMB[:-30], "is damaged or cut off (BadZipFile"),
    "up and out": ("a.zip", _zip(("../x", b"")), "'../x' leads out of the folder"),
    "absolute": ("a.zip", _zip(("/etc/x", b"")), "'/etc/x' is absolute"),
    "a link in a zip": ("a.zip", _zip(("x", b"/etc"), mode=0o120777), "'x' is a symbolic link"),
    "80 MB of zeros": ("a.zip", _BOMB, "taken for a decompression bomb and stopped"),
    "a link in a tar": ("a.tar", _tar(tarfile.SYMTYPE), "'x' is a symbolic link"),
    "a hard link out": ("a.tar", _tar(tarfile.LNKTYPE), "'x' is a hard link"),
    "a device": ("a.tar", _tar(tarfile.CHRTYPE), "'x' is a device or another special file"),
    "a pipe": ("a.tar", _tar(tarfile.FIFOTYPE), "'x' is a device or another special file"),
    "not what its name says": ("a.tar.gz", b"MZ" * 400, "its content is none that is known"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive(programs: Programs, name: str) -> None:
    file, content, phrase = ARCHIVES[name]
    (programs.root / file).write_bytes(content)
    uri = f"file://{programs.root / file}"
    programs.stage("dataset fetch", {"uri": uri}).refuses(phrase, code=DATA)


def test_a_bomb_in_an_archive_stays_packed(programs: Programs) -> None:
    (programs.root / "a.zip").write_bytes(_zip(("inner.zip", _BOMB)))
    uri = f"file://{programs.root / 'a.zip'}"
    said = programs.stage("dataset fetch", {"uri": uri}).succeeds()
    assert said.visible() == ["inner.zip"]


def test_the_wrong_digest_then_the_right_one(programs: Programs) -> None:
    (programs.root / "x.bin").write_bytes(b"content")
    params = {"uri": f"file://{programs.root / 'x.bin'}", "sha256": "0" * 64}
    out = programs.root / "out"
    said = programs.stage("dataset fetch", params, out=out)
    said.refuses("the content is not the one that was asked for", "wanted 0000", code=DATA)
    programs.stage("dataset fetch", {"uri": params["uri"]}, out=out).succeeds()


# Servers, byte by byte


def _says(text: str) -> Callable[[Connection], None]:
    return lambda connection: connection.sendall(text.replace("\n", "\r\n").encode())


def _drips(connection: Connection) -> None:
    """A length, and then a byte now and then: never an end, never a silence."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b"x")
            time.sleep(0.1)


def _hangs(connection: Connection) -> None:
    with contextlib.suppress(OSError):
        connection.recv(1)  # until the other side has had enough


def _floods(connection: Connection) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b"X-More: " + b"y" * 1000 + b"\r\n")


_HEAD = "HTTP/1.1 {}\nContent-Length: 0\n\n"
# what the server does, exit code, what is said
SERVERS: dict[str, tuple[Callable[[Connection], None], int, str]] = {
    "404": (_says(_HEAD.format("404 Not Found")), DATA, "404 Not Found; check that the URI"),
    "403": (_says(_HEAD.format("403 Forbidden")), DATA, "403 Forbidden: no permission to read it"),
    "500": (_says(_HEAD.format("500 Oops")), STEP, "the last: the server answered 500 Oops"),
    "a circle": (
        _says("HTTP/1.1 302 Found\nLocation: /x\nContent-Length: 0\n\n"),
        DATA,
        "redirects more than 10 times",
    ),
    "half a body": (
        _says("HTTP/1.1 200 OK\nContent-Length: 900\n\nhalf"),
        STEP,
        "the last: RemoteProtocolError",
    ),
    "no HTTP": (_says("220 ftp ready\n"), STEP, "the last: RemoteProtocolError"),
    "headers without end": (_floods, STEP, "the last: RemoteProtocolError"),
    "nothing at all": (_hangs, STEP, "the last: ReadTimeout"),
    "a byte now and then": (_drips, STEP, "the last: the source sent only"),
    "a length that no disk holds": (
        _says("HTTP/1.1 200 OK\nContent-Length: 9999999999999999\n\n"),
        STEP,
        "make room",
    ),
    "a page for people": (
        _says("HTTP/1.1 200 OK\nContent-Length: 15\n\n<!DOCTYPE html>"),
        DATA,
        "the server sent a web page instead of a file",
    ),
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_server(programs: Programs, name: str) -> None:
    does, code, phrase = SERVERS[name]
    with serving(does) as port:
        params = {"uri": f"http://127.0.0.1:{port}/x", "retries": 1, "timeout": 1}
        said = programs.stage("dataset fetch", params)
    said.refuses(f"http://127.0.0.1:{port}/x", phrase, code=code)


@pytest.mark.parametrize("days", [2, -4])
def test_a_certificate_of_another_time(programs: Programs, days: int) -> None:
    """Most often it is this machine's clock that is wrong."""
    context = _certificate(programs.root, timedelta(days=days))
    with serving(_hangs, context) as port:
        params = {"uri": f"https://localhost:{port}/x", "retries": 1, "timeout": 5}
        trusted = {"SSL_CERT_FILE": str(programs.root / "server.pem")}
        said = programs.stage("dataset fetch", params, environment=trusted)
    said.refuses("does not hold now", "by this machine's clock it is", code=STEP)


@pytest.mark.parametrize("scheme", ["https", "s3"])
def test_a_server_that_speaks_no_tls(programs: Programs, scheme: str) -> None:
    with serving(_says("HTTP/1.1 400 Bad Request\n\n")) as port:
        at = f"https://127.0.0.1:{port}"
        params = {"uri": f"{at}/x" if scheme == "https" else "s3://bucket/x"}
        params |= {"s3_endpoint": at} if scheme == "s3" else {}
        said = programs.stage("dataset fetch", {**params, "retries": 1, "timeout": 2})
    said.refuses("given up after 1 attempt", "SSL", code=STEP)


@contextlib.contextmanager
def serving(
    does: Callable[[Connection], None], context: ssl.SSLContext | None = None
) -> Iterator[int]:
    """A port whose every connection is asked for something and then meets ``does``."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer(connection: Connection) -> None:
        with contextlib.suppress(OSError):
            if context:
                connection = context.wrap_socket(connection, server_side=True)
            with connection:
                connection.recv(65536)
                does(connection)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # a reset would lose what was said
                    pass

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        server.close()


def _certificate(folder: Path, shift: timedelta) -> ssl.SSLContext:
    """Of ``localhost`` and of itself, good for a day that is ``shift`` from now."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    begins = datetime.now(UTC) + shift
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain
    )
    (folder / "server.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context
