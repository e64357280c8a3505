"""A coordinator under test: a real PostgreSQL, real TLS by a CA of our own, and its sites."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from alembic import command
from alembic.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import Connection, Engine, create_engine, text
from starlette.applications import Starlette
from starlette.routing import Route

from proctor.federation.intake import Intake
from proctor.federation.migrations import FOLDER
from proctor.federation.plans import KnownPlan
from proctor.federation.sender import PATH


def alembic_config(url: str) -> Config:
    config = Config(FOLDER / "alembic.ini")
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("sqlalchemy.url", url)
    return config


def fresh_tables(engine: Engine, url: str) -> None:
    with engine.begin() as database:
        database.execute(text("DROP SCHEMA public CASCADE"))
        database.execute(text("CREATE SCHEMA public"))
    command.upgrade(alembic_config(url), "head")


@dataclass(frozen=True)
class Certificates:
    """A CA, and a server's certificate of it."""

    ca: Path
    certificate: Path
    key: Path


def certificates(folder: Path, address: str = "127.0.0.1") -> Certificates:
    """For localhost and an address."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Committee's own CA")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "coordinator")])
    now = datetime.datetime.now(datetime.UTC)

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(address))]
    made = (
        builder(name, key.public_key())
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    found = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    found.ca.write_bytes(ca.public_bytes(pem))
    found.certificate.write_bytes(made.public_bytes(pem))
    found.key.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return found


@dataclass
class Coordinator:
    """The intake over TLS, which a test can take down and bring up again at one port."""

    engine: Engine
    tls: Certificates | None
    plans: dict[str, KnownPlan] = field(default_factory=dict)
    port: int = 0
    _server: uvicorn.Server | None = None
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self.intake = Intake(self.engine.begin, self.plans.get)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def database(self) -> Iterator[Connection]:
        with self.engine.begin() as database:
            yield database

    def app(self) -> Starlette:
        return Starlette(routes=[Route(PATH, self.intake.receive, methods=["POST"])])

    def up(self) -> None:
        tls = self.tls
        config = uvicorn.Config(
            self.app(),
            host="127.0.0.1",
            port=self.port,
            log_level="error",
            ssl_certfile=tls and tls.certificate,
            ssl_keyfile=tls and tls.key,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        give_up = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < give_up
            time.sleep(0.02)

    def down(self) -> None:
        assert self._server and self._thread
        self._server.should_exit = True
        self._thread.join()


@contextlib.contextmanager
def engine_on(folder: Path) -> Iterator[tuple[Engine, str]]:
    """A PostgreSQL of its own."""
    from proctor.site.postgres import Postgres

    server = Postgres(folder / "postgres")
    server.start()
    url = server.addresses()[0]
    engine = create_engine(url)
    try:
        yield engine, url
    finally:
        engine.dispose()
        server.stop()
