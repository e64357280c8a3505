"""The folder of one attempt, which every runtime lays out alike.

``<home>/work/<pipeline>/<run>/<step>/<attempt>/`` holds what the step may not touch
(``request.json``, ``stop.json``, ``outcome.json``, a runtime's own files) and ``step/``, which is
the step's ``PROCTOR_STEP_DIR``: ``contract.json``, ``progress.json``, ``result.json``.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from proctor.runtime.artifacts import (
    ArtifactError,
    AttemptName,
    LocalArtifacts,
    check_component,
    remove_tree,
)
from proctor.runtime.base import Handle, InputSource, Outcome, RequestRefused, StartRequest
from proctor_steps import contract
from proctor_steps.contract import Contract, Mount, write_atomically
from proctor_steps.history import HISTORY_FILE

_SECRET = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
CACHE_MOUNT = "/proctor/cache"
SECRETS_MOUNT = "/proctor/secrets"
HISTORY_MOUNT = f"/proctor/history/{HISTORY_FILE}"
STEP_MOUNT = "/proctor/step"


class Attempt:
    """Paths and small files of one attempt."""

    def __init__(self, home: Path, name: AttemptName) -> None:
        self.home = home.resolve()
        self.name = name.checked()
        self.folder = self.home / "work" / name.folders()
        self.step_dir = self.folder / "step"
        self.secrets = self.folder / "secrets"
        self.log = self.folder / "log.txt"

    @classmethod
    def of(cls, home: Path, what: StartRequest | Handle) -> Attempt:
        """The attempt that a request or a handle names."""
        try:
            return cls(home, AttemptName(what.pipeline, what.run, what.step, what.attempt))
        except ArtifactError as error:
            raise RequestRefused(str(error)) from error

    @classmethod
    def all(cls, home: Path, known: Callable[[Attempt], bool]) -> Iterator[Attempt]:
        """Every attempt whose folder is here and that ``known`` accepts."""
        for folder in sorted((home.resolve() / "work").glob("*/*/*/[0-9]*")):
            pipeline, run, step, number = folder.parts[-4:]
            found = cls(home, AttemptName(pipeline, run, step, int(number)))
            if known(found):
                yield found

    @classmethod
    def newest(
        cls,
        home: Path,
        pipeline: str,
        run: str,
        step: str,
        attempt: int | None,
        known: Callable[[Attempt], bool],
    ) -> Attempt | None:
        """The newest attempt of a step whose folder is here and that ``known`` accepts."""
        parent = cls(home, AttemptName(pipeline, run, step, 1)).folder.parent
        if not parent.is_dir():
            return None
        numbers = [int(p.name) for p in parent.iterdir() if p.name.isdecimal()]
        if attempt is not None:
            numbers = [n for n in numbers if n == attempt]
        for number in sorted(numbers, reverse=True):
            found = cls(home, AttemptName(pipeline, run, step, number))
            if known(found):
                return found
        return None

    def request(self) -> StartRequest:
        """What was asked for at the start."""
        return StartRequest.model_validate_json((self.folder / "request.json").read_bytes())

    def read(self, name: str) -> dict[str, Any] | None:
        """One of our own small JSON files, or ``None``."""
        try:
            data: dict[str, Any] = json.loads((self.folder / name).read_bytes())
        except FileNotFoundError:
            return None
        return data

    def write(self, name: str, data: dict[str, Any]) -> None:
        """Write one of our own small JSON files, atomically."""
        write_atomically(self.folder / name, json.dumps(data, indent=1, sort_keys=True).encode())

    def outcome(self) -> Outcome | None:
        """The outcome that an earlier ``collect`` found."""
        data = self.read("outcome.json")
        return None if data is None else Outcome.model_validate(data)

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Keep other starters of this step out; the lock's file descriptor.

        A child that inherits the descriptor keeps the lock until it closes it too.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder.parent / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
        finally:
            os.close(handle)

    def prepare(
        self,
        request: StartRequest,
        store: LocalArtifacts,
        *,
        container: bool,
        listen: str = "",
        image_digest: str = "",
    ) -> None:
        """Make the folder afresh, stage the outputs, write the contract.

        Raises:
            RequestRefused: an input, a source or a secret is not here, or a name is illegal.
        """
        _refuse_impossible(request)
        remove_tree(self.folder)
        self.step_dir.mkdir(parents=True)
        try:
            own = [output for output in request.outputs if not output.shared]
            files = {output.name for output in own if output.type == "file"}
            staged = store.stage(self.name, [output.name for output in own], files)
            staged |= shared_places(request, store)
            _make_shared(request, staged)
            inputs = [place_of(source, store, request) for source in request.inputs]
        except ArtifactError as error:
            raise RequestRefused(str(error)) from error
        _refuse_missing_sources(request)
        self._copy_secrets(request.secrets)
        if request.cache:
            (self.home / "cache").mkdir(parents=True, exist_ok=True)
        mounts = self._mounts(request, staged, inputs, container)
        made = _contract(request, mounts, container, listen, image_digest)
        contract.dump(self.step_dir, contract.CONTRACT_FILE, made)
        if request.lineage:
            contract.dump(self.step_dir, contract.LINEAGE_FILE, request.lineage)
        self.write("request.json", request.model_dump(mode="json"))

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Leave no copy of a secret where the start fails."""
        try:
            yield
        except BaseException:
            self.discard_secrets()
            raise

    def discard_secrets(self) -> None:
        """Secrets stay on disk in their one place only, once the step has ended."""
        remove_tree(self.secrets)

    def remove(self, store: LocalArtifacts) -> None:
        """Remove the attempt's scratch and whatever it staged and did not publish."""
        store.discard(self.name)
        remove_tree(self.folder)

    def _copy_secrets(self, names: tuple[str, ...]) -> None:
        if not names:
            return
        self.secrets.mkdir(mode=0o700)
        for name in names:
            target = self.secrets / name
            target.touch(mode=0o600)
            target.write_bytes(_secret(self.home / "secrets", name))
            target.chmod(0o400)

    def _mounts(
        self,
        request: StartRequest,
        staged: dict[str, Path],
        inputs: list[Path],
        container: bool,
    ) -> Iterator[Mount]:
        for source, place in zip(request.inputs, inputs, strict=True):
            path = source.mount_path if container else str(place)
            yield Mount(
                name=source.name,
                kind="input",
                path=path,
                cell=source.cell,
                measured_in=source.measured_in,
                artifact=source.uri,
                sha256=source.sha256,
                fetched=source.fetched,
            )
        for output in request.outputs:
            path = output.mount_path if container else str(staged[output.name])
            yield Mount(name=output.name, kind="output", path=path)
        for given in request.sources:
            path = given.mount_path if container else given.host_path
            yield Mount(name=given.param, kind="source", path=path)
        if request.cache:
            path = CACHE_MOUNT if container else str(self.home / "cache")
            yield Mount(name="cache", kind="cache", path=path)
        for name in request.secrets:
            path = f"{SECRETS_MOUNT}/{name}" if container else str(self.secrets / name)
            yield Mount(name=name, kind="secret", path=path)
        if request.history:
            path = HISTORY_MOUNT if container else request.history
            yield Mount(name="history", kind="history", path=path)


def shared_places(request: StartRequest, store: LocalArtifacts) -> dict[str, Path]:
    """The shared directories that a step reads or writes, by name."""
    names = {output.name for output in request.outputs if output.shared}
    names |= {source.shared for source in request.inputs if source.shared}
    return {name: store.shared(request.pipeline, request.run, name) for name in sorted(names)}


def _make_shared(request: StartRequest, places: dict[str, Path]) -> None:
    """The first step that names a shared directory, or file, makes it: empty."""
    types = {source.shared: source.type for source in request.inputs if source.shared}
    types |= {output.name: output.type for output in request.outputs if output.shared}
    for name, kind in types.items():
        places[name].parent.mkdir(parents=True, exist_ok=True)
        if kind == "file":
            places[name].touch()
        else:
            places[name].mkdir(exist_ok=True)


def place_of(source: InputSource, store: LocalArtifacts, request: StartRequest) -> Path:
    """Where an input lies on this host.

    Raises:
        ArtifactError: there is no such artifact.
    """
    if source.shared:
        return store.shared(request.pipeline, request.run, source.shared)
    if source.host_path:
        return Path(source.host_path) / source.below
    return store.path(source.uri, source.below)


def now() -> datetime:
    """The present, with its zone."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """A moment as handles and records spell it."""
    return moment.isoformat(timespec="milliseconds")


def deadline(started: datetime, seconds: float) -> str:
    """When an attempt's time is over; "" where it has none."""
    return stamp(started + timedelta(seconds=seconds)) if seconds else ""


def _contract(
    request: StartRequest,
    mounts: Iterator[Mount],
    container: bool,
    listen: str,
    image_digest: str,
) -> Contract:
    params = dict(request.params)
    for given in request.sources:
        # Only the container sees the source under another name.
        place = given.mount_path if container else given.host_path
        params[given.param] = f"file://{quote(place)}"
    return Contract(
        pipeline=request.pipeline,
        run=request.run,
        step=request.step,
        partition=request.partition,
        attempt=request.attempt,
        params=params,
        mounts=tuple(mounts),
        devices=tuple(f"gpu:{index}" for index in range(request.resources.gpus)),
        deadline_seconds=request.deadline_seconds,
        seed=request.seed,
        approvals=request.approvals,
        services=request.services,
        listen=listen,
        image=f"{request.image.partition('@')[0]}@{image_digest}" if image_digest else "",
    )


def _refuse_impossible(request: StartRequest) -> None:
    for name in request.secrets:
        if not _SECRET.fullmatch(name):
            raise RequestRefused(f"secret {name!r}: a secret is named by letters, digits, _ . -")
    names = [output.name for output in request.outputs]
    if len(set(names)) != len(names):
        raise RequestRefused(f"outputs {names}: each name may be given once")
    if request.deadline_seconds < 0 or not (request.deadline_seconds or request.listening):
        raise RequestRefused(f"deadline {request.deadline_seconds}: give a positive time")
    try:
        for name in names:
            check_component(name, "output")
    except ArtifactError as error:
        raise RequestRefused(str(error)) from error


def _refuse_missing_sources(request: StartRequest) -> None:
    given = {f"parameter {source.param!r}": source.host_path for source in request.sources}
    given |= {f"input {source.name!r}": source.host_path for source in request.inputs}
    given["the history"] = request.history
    for what, path in given.items():
        if path and not (Path(path).is_absolute() and Path(path).exists()):
            raise RequestRefused(f"{what}: there is no file or folder {path}")


def _secret(folder: Path, name: str) -> bytes:
    """A secret's bytes, from a file that nobody else may read."""
    path = folder / name
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise RequestRefused(
            f"secret {name!r}: cannot read {path} ({error.strerror}); put it there, with mode 0600"
        ) from error
    with os.fdopen(handle, "rb") as file:
        mode = os.fstat(handle).st_mode & 0o777
        if mode & 0o077:
            raise RequestRefused(
                f"secret {name!r}: {path} has mode {mode:04o}, others may read it; chmod 600 {path}"
            )
        return file.read()
