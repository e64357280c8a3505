"""Where steps' outputs live: written in hiding, made visible by one rename, never changed again.

An artifact is named ``artifact:<pipeline>/<run>/<step>/<attempt>/<output>``. Outside runtime/
only the URI travels; whoever must read the bytes (reports, the pages) asks the store.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from proctor.plan.model import whole_run
from proctor_steps.contract import tree_digest

SCHEME = "artifact:"
# Run ids of Airflow hold ``:`` and ``+``. A leading dot is kept for what is not published yet.
_COMPONENT = re.compile(r"[A-Za-z0-9_~:+-][A-Za-z0-9_.~:+-]*")
_LONGEST = 200


class ArtifactError(ValueError):
    """An artifact's name is malformed, or no such artifact is here."""


class AttemptName(NamedTuple):
    """Names one attempt of one step of one run."""

    pipeline: str
    run: str
    step: str
    attempt: int

    def checked(self) -> AttemptName:
        """Itself, once every part is fit to be a folder's name.

        Raises:
            ArtifactError: a part could leave its folder or is no legal name.
        """
        for what in ("pipeline", "run", "step"):
            check_component(getattr(self, what), what)
        if self.attempt < 1:
            raise ArtifactError(f"attempt {self.attempt}: attempts are counted from 1")
        return self

    def folders(self) -> Path:
        """The attempt as a relative path."""
        return Path(self.pipeline, self.run, self.step, str(self.attempt))


def check_component(text: str, what: str) -> str:
    """The text itself, if it may stand in a path and in an artifact's URI.

    Raises:
        ArtifactError: it may not.
    """
    if not _COMPONENT.fullmatch(text) or len(text) > _LONGEST:
        raise ArtifactError(
            f"{what} {text[:80]!r} cannot name an artifact; use at most {_LONGEST} of the "
            "characters A-Z a-z 0-9 _ . ~ : + - and no leading dot"
        )
    return text


def make_uri(name: AttemptName, output: str) -> str:
    """The URI of one output of an attempt."""
    check_component(output, "output")
    return SCHEME + (name.checked().folders() / output).as_posix()


def parse_uri(uri: str) -> tuple[AttemptName, str]:
    """The attempt and the output that a URI names.

    Raises:
        ArtifactError: it is no artifact's URI.
    """
    parts = uri.removeprefix(SCHEME).split("/")
    if not uri.startswith(SCHEME) or len(parts) != 5 or not parts[3].isdecimal():
        raise ArtifactError(
            f"{uri[:200]!r} is no artifact; expected "
            f"{SCHEME}<pipeline>/<run>/<step>/<attempt>/<output>"
        )
    name = AttemptName(parts[0], parts[1], parts[2], int(parts[3])).checked()
    if str(name.attempt) != parts[3]:
        raise ArtifactError(f"{uri[:200]!r}: write attempt {name.attempt} without leading zeros")
    return name, check_component(parts[4], "output")


class ArtifactStore(Protocol):
    """Keeps what steps leave. One local folder now; an object store fits the same methods."""

    def stage(self, name: AttemptName, outputs: Iterable[str]) -> dict[str, Path]:
        """Fresh, empty, hidden folders for an attempt's outputs; what was staged before goes."""

    def publish(self, name: AttemptName, outputs: Iterable[str]) -> dict[str, str]:
        """Make staged outputs visible at once and immutable; their URIs. May be repeated."""

    def verify(self, uri: str, sha256: str) -> bool:
        """Whether the artifact is here and its content has this digest."""

    def files(self, uri: str) -> list[str]:
        """Sorted relative names of an artifact's files."""

    def open(self, uri: str, file: str) -> BinaryIO:
        """One file of an artifact, for reading."""

    def read(self, uri: str, file: str, limit: int = 64 * 1024 * 1024) -> bytes:
        """One file's bytes; a file beyond ``limit`` is an error."""


class LocalArtifacts:
    """An :class:`ArtifactStore` in ``<home>/artifacts``."""

    def __init__(self, home: Path) -> None:
        self.root = home.resolve() / "artifacts"

    def stage(
        self, name: AttemptName, outputs: Iterable[str], files: Collection[str] = ()
    ) -> dict[str, Path]:
        """See :class:`ArtifactStore`. ``files``: those outputs that are one empty file each.

        Raises:
            ArtifactError: the attempt's outputs are published already, or a name is illegal.
        """
        if self._final(name).exists():
            raise ArtifactError(
                f"the outputs of {name.folders().as_posix()} are published and cannot change; "
                "start a new attempt"
            )
        names = [check_component(output, "output") for output in outputs]
        staged = self._staged(name)
        remove_tree(staged)
        for output in names:
            if output in files:
                staged.mkdir(parents=True, exist_ok=True)
                (staged / output).touch()
            else:
                (staged / output).mkdir(parents=True)
        staged.mkdir(parents=True, exist_ok=True)
        return {output: staged / output for output in names}

    def staged(self, name: AttemptName, output: str) -> Path:
        """Where an output lies until it is published, and afterwards."""
        final = self._final(name)
        return (final if final.is_dir() else self._staged(name)) / check_component(output, "output")

    def publish(self, name: AttemptName, outputs: Iterable[str]) -> dict[str, str]:
        """See :class:`ArtifactStore`."""
        staged, final = self._staged(name), self._final(name)
        if not final.is_dir():
            if not staged.is_dir():
                raise ArtifactError(f"nothing is staged for {name.folders().as_posix()}")
            _seal(staged, self.root.stat())
            staged.rename(final)
            _sync_folder(final.parent)
        return {output: make_uri(name, output) for output in outputs}

    def discard(self, name: AttemptName) -> None:
        """Remove what is staged for an attempt and was not published."""
        remove_tree(self._staged(name))

    def shared(self, pipeline: str, run: str, name: str) -> Path:
        """A directory or file that the steps of a run share: it changes, so it is no artifact.

        People work in it, too: it lies beside what the run publishes.
        """
        for part, what in ((pipeline, "pipeline"), (run, "run"), (name, "output")):
            check_component(part, what)
        return self.root.parent / "runs" / pipeline / whole_run(run) / "shared" / name

    def forget(self, name: AttemptName) -> None:
        """Remove all that an attempt left which no record names, as one that only looked."""
        for place in (self._staged(name), self._final(name)):
            remove_tree(place)

    def path(self, uri: str, below: str = "") -> Path:
        """The artifact's place on this host: for runtime/ and for local readers only.

        ``below``: of a file or folder in it.

        Raises:
            ArtifactError: malformed, or not here.
        """
        name, output = parse_uri(uri)
        root = self._final(name) / output
        path = root / below
        if not path.exists():
            what = f"{uri} has no {below!r}" if below else f"{uri}: no such artifact"
            raise ArtifactError(f"{what} in {self.root}")
        if below and not path.resolve().is_relative_to(root.resolve()):
            raise ArtifactError(f"{uri}: {below!r} leads out of it")
        return path

    def verify(self, uri: str, sha256: str) -> bool:
        """See :class:`ArtifactStore`."""
        try:
            return tree_digest(self.path(uri))[0] == sha256
        except ValueError:
            return False

    def files(self, uri: str) -> list[str]:
        """See :class:`ArtifactStore`."""
        root = self.path(uri)
        return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())

    def open(self, uri: str, file: str) -> BinaryIO:
        """See :class:`ArtifactStore`.

        Raises:
            ArtifactError: no such file in the artifact, or the name leads out of it.
        """
        root = self.path(uri).resolve()
        path = (root / file).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            raise ArtifactError(f"{uri} has no file {file!r}")
        return path.open("rb")

    def read(self, uri: str, file: str, limit: int = 64 * 1024 * 1024) -> bytes:
        """See :class:`ArtifactStore`."""
        with self.open(uri, file) as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise ArtifactError(f"{uri}: {file!r} is larger than {limit} bytes")
        return data

    def _final(self, name: AttemptName) -> Path:
        return self.root / name.checked().folders()

    def _staged(self, name: AttemptName) -> Path:
        # Beside the final place: the rename stays on one file system and in one folder.
        final = self._final(name)
        return final.with_name(f".{final.name}")


def remove_tree(root: Path) -> None:
    """Remove a folder with all below it, also where folders in it were made read-only."""
    if not root.is_dir() or root.is_symlink():
        root.unlink(missing_ok=True)
        return
    root.chmod(0o700)
    for folder, below, _ in os.walk(root):
        for path in (Path(folder, name) for name in below):
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(root)


def _seal(root: Path, owner: os.stat_result) -> None:
    """Take the right to write from everybody, leave the right to read to all.

    The files of a container's user go to the store's owner, so that a later container of the same
    user could not give itself the right back.
    """
    for folder, _, files in os.walk(root, topdown=False):
        for path in [*(Path(folder, file) for file in files), Path(folder)]:
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                continue
            if os.geteuid() == 0:
                os.lchown(path, owner.st_uid, owner.st_gid)
            runnable = stat.S_ISDIR(mode) or mode & 0o111
            path.chmod(0o555 if runnable else 0o444)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
