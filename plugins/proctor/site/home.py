"""The home folder of a site: where everything lives, and which pipelines it knows.

::

    pipelines.json   the pipelines: name -> spec file and build parameters
    site.yaml        what the owner allows and provides (profile.py)
    trusted.json     what a data site's person has agreed to (trust.py)
    schedules/       since when schedules count, and what is watched (schedules.py, sources.py)
    reports/         what a committee is told of (federation/outbox.py)
    hooks/notify     the owner's program that hears of questions and answers (notify.py)
    notify/          messages that wait to be sent, and their log (outgoing.py)
    plans/           plans by digest            runs/      records, summaries, published files
    artifacts/       outputs of steps           work/      scratch of running attempts
    cache/           downloads                  secrets/   files 0600, handed to steps by name
    keys/            the key that signs approvals          airflow/, postgres/   the services
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pydantic import JsonValue

from proctor.records.store import RecordStore, RunRecord
from proctor_steps.contract import write_atomically

if TYPE_CHECKING:
    from proctor.site.profile import Profile
    from proctor.site.trust import Trust

HOME_VARIABLE = "PROCTOR_HOME"
RUNTIME_VARIABLE = "PROCTOR_RUNTIME"
SLOTS_VARIABLE = "PROCTOR_SLOTS"
SCHEDULES_VARIABLE = "PROCTOR_SCHEDULES"  # set where schedules count: `proctor up`
COORDINATOR_VARIABLE = "PROCTOR_COORDINATOR"  # set where sites report to this home
PROFILE_FILE = "site.yaml"
# What is in the home is for nobody else of this machine; the reports' folder makes itself.
_FOLDERS = ("runs", "artifacts", "work", "cache", "plans", "results", "keys", "secrets", "airflow")
# Airflow keeps its own name of the database from tasks and triggers (airflow/children.py).
DATABASE_VARIABLE = "PROCTOR_DATABASE"


class HomeError(ValueError):
    """The home folder, or a file that a person keeps in it, cannot be used; it says which."""


class SourceRefused(Exception):
    """A ``file://`` parameter names a place that the site does not allow, or that is not there."""


def others_environment() -> dict[str, str]:
    """The environment for a program that is not to be told of this instance."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "PROCTOR_"))}


@dataclass(frozen=True)
class Registered:
    """A pipeline of this site: its spec file and the build parameters it is compiled with."""

    name: str
    spec: Path
    build: dict[str, JsonValue]


@dataclass(frozen=True)
class Home:
    """The home folder. ``Home.default()`` is ``$PROCTOR_HOME``, else ``.proctor`` here."""

    path: Path

    @classmethod
    def default(cls) -> Home:
        """The home that the environment names, else the one in the working folder."""
        return cls(Path(os.environ.get(HOME_VARIABLE) or ".proctor").resolve())

    def create(self) -> None:
        """Make the folder, for its owner alone, and keep it out of version control.

        Raises:
            HomeError: it cannot be made, or not be written to.
        """
        try:
            self._create()
        except OSError as error:
            at = f" at {error.filename}" if error.filename not in (None, str(self.path)) else ""
            raise HomeError(
                f"{self.path} cannot be the home: {error.strerror}{at}; give a folder of your own, "
                f"on a disk with room, by --home or ${HOME_VARIABLE}"
            ) from error

    def _create(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        # Services run as another user when the owner is root, so they must be able to pass through.
        self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        for name in _FOLDERS:
            (self.path / name).mkdir(exist_ok=True)
            (self.path / name).chmod(0o700)
        (self.path / ".gitignore").write_text("*\n")

    @property
    def records(self) -> RecordStore:
        """The records of this home's runs."""
        return RecordStore(self.path)

    def pipelines(self) -> dict[str, Registered]:
        """The pipelines this site knows, by name."""
        known = self._read("pipelines.json")
        try:
            return {
                name: Registered(name, Path(entry["spec"]), dict(entry.get("build") or {}))
                for name, entry in sorted(known.items())
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            place = self.path / "pipelines.json"
            raise HomeError(f"{place}: an entry names no spec; move the file away") from error

    def register(self, name: str, spec: Path, build: Mapping[str, JsonValue]) -> None:
        """Make a pipeline known, or change its file or build parameters."""
        known = self._read("pipelines.json")
        known[name] = {"spec": str(spec.resolve()), "build": dict(build)}
        self._write("pipelines.json", known)

    def allow_for_run(self, record: RunRecord, paths: Sequence[Path]) -> None:
        """Allow a run, and only it, to read below these paths (``proctor run --set``)."""
        record.whole.own.mkdir(parents=True, exist_ok=True)
        roots = [str(path.resolve()) for path in paths]
        write_atomically(record.whole.own / "roots.json", json.dumps(roots).encode())

    def source(self, uri: str, record: RunRecord | None) -> Path:
        """The host path of a ``file://`` parameter.

        Links are resolved first, so that none leads out of an allowed root. ``record``: of the run
        that reads it; ``None`` where the person at the terminal has just named it for one to come.

        Raises:
            SourceRefused: it lies below no allowed root, or does not exist.
        """
        real = file_path(uri).resolve()
        return self._below(uri, real, [real] if record is None else self._roots(record))

    def watched(self, uri: str) -> Path:
        """The same for one that is watched: below the roots of the site alone.

        Raises:
            SourceRefused: as :meth:`source`.
            HomeError: the profile cannot be used.
        """
        return self._below(uri, file_path(uri).resolve(), self._own_roots())

    def _below(self, uri: str, real: Path, roots: Sequence[Path]) -> Path:
        try:
            self.keep_out(real)
        except SourceRefused as error:
            raise SourceRefused(f"{uri}: {error}") from None
        if not any(real.is_relative_to(root) for root in roots):
            allowed = ", ".join(str(root) for root in roots) or "none"
            raise SourceRefused(
                f"{uri}: this site does not allow reading there (allowed: {allowed}). Start the "
                f"run with `proctor run --set` from a terminal, or add the folder to `roots` in "
                f"{self.path / PROFILE_FILE}"
            )
        if not real.exists():
            raise SourceRefused(f"{uri}: there is no such file or folder")
        return real

    def _roots(self, record: RunRecord) -> list[Path]:
        of_run = record.whole.own / "roots.json"
        named = json.loads(of_run.read_text()) if of_run.is_file() else []
        return [*self._own_roots(), *(Path(p) for p in named)]

    def _own_roots(self) -> list[Path]:
        return [Path(p).resolve() for p in self.profile().roots]

    def keep_out(self, real: Path) -> None:
        """No step may see the home.

        Raises:
            SourceRefused: the path is in it, or holds it.
        """
        own = self.path.resolve()
        if real.is_relative_to(own) or own.is_relative_to(real):
            raise SourceRefused(
                f"it is in, or holds, Proctor's own home {own}, whose keys no step may read; "
                "name a folder beside it"
            )

    def profile(self) -> Profile:
        """What the site's owner allows and provides.

        Raises:
            HomeError: ``site.yaml`` cannot be used; every problem, each with its place.
        """
        # Imported when asked for: reading YAML takes time to load, and most commands need none.
        from proctor.site.profile import ProfileErrors, read_profile

        try:
            return read_profile(self.path / PROFILE_FILE)
        except ProfileErrors as errors:
            raise HomeError(str(errors)) from errors

    def images(self) -> dict[str, str]:
        """What is run here for images of specs: as the profile says, else as was agreed to.

        Raises:
            HomeError: one of the two files cannot be used.
        """
        trusted = self.trust()
        return {**(trusted.images if trusted else {}), **self.profile().images}

    def trust(self) -> Trust | None:
        """What was agreed to at a data site; ``None`` where the home is not run as one.

        Raises:
            HomeError: the file cannot be read.
        """
        from proctor.site import trust

        return trust.read(self)

    def has_secret(self, name: str) -> bool:
        """Whether the site's owner has put a secret file of that name into ``secrets/``."""
        return (self.path / "secrets" / name).is_file()

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            content = json.loads(path.read_text()) if path.is_file() else {}
        except json.JSONDecodeError as error:
            place = f"{path}:{error.lineno}:{error.colno}"
            raise HomeError(f"{place}: {error.msg}; mend the file, or move it away") from error
        except (ValueError, RecursionError) as error:
            raise HomeError(f"{path}: no JSON ({error}); mend the file, or move it away") from error
        if not isinstance(content, dict):
            raise HomeError(f"{path}:1:1: must hold a JSON object; mend it, or move it away")
        return content

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, indent=1, sort_keys=True) + "\n"
        write_atomically(self.path / name, text.encode())


def file_path(uri: str) -> Path:
    """The path of a ``file://`` URI."""
    return Path(unquote(urlsplit(uri).path))
