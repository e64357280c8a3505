"""The store of fetched files, and how a file gets into it whole.

Layout below the store's folder (``downloads`` in the site's cache, or a hidden folder of the
output)::

    files/ab/abcd…        whole files, named by the sha256 of their content
    sources/<key>.json    what a source gave last: its version and the content's sha256
    parts/<key>.part      the first bytes of a file that is not whole yet
    parts/<key>.json      the version that they belong to
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from proctor_steps.contract import file_sha256, write_atomically
from proctor_steps.stage import DataError, StepError
from proctor_steps.transport.base import (
    CHUNK,
    Have,
    RemoteFile,
    Reply,
    Stale,
    Transient,
    Version,
)

T = TypeVar("T")
_RESERVE = 64 << 20  # bytes that stay free on the disk
_LEAST = 4096  # bytes that a connection has to bring while patience lasts
_GAIN = 1 << 20  # an attempt that brought so many bytes does not count as a failure


@dataclass(frozen=True)
class Retries:
    """``attempts`` in a row that bring nothing, then the failure is final; waits double."""

    attempts: int = 5
    first_wait: float = 1.0
    longest_wait: float = 30.0

    def wait(self, failures: int, asked: float) -> float:
        """Seconds before the next attempt: with jitter, and never less than the source asked."""
        doubled = min(self.longest_wait, self.first_wait * 2.0 ** (failures - 1))
        return max(asked, doubled * random.uniform(0.5, 1.0))  # noqa: S311


def retry(call: Callable[[], T], where: str, retries: Retries, say: Callable[[str], None]) -> T:
    """Call until it brings no :class:`Transient`; for requests that carry no file."""
    for failures in range(1, retries.attempts + 1):
        try:
            return call()
        except Transient as error:
            _wait_or_give_up(error, where, failures, retries, say)
    raise AssertionError("unreachable")


def _wait_or_give_up(
    error: Transient, where: str, failures: int, retries: Retries, say: Callable[[str], None]
) -> None:
    if failures >= retries.attempts:
        raise StepError(
            f"{where}: given up after {failures} attempt{'s' if failures > 1 else ''} that brought "
            f"nothing; the last: {error.reason}. Check the network and the source, then start this "
            "step again: it goes on from what is here"
        ) from error
    wait = retries.wait(failures, error.wait)
    say(f"{where}: {error.reason}; trying again in {wait:.1f} s")
    time.sleep(wait)


class Fetched(BaseModel):
    """``sources/<key>.json``: a whole file of the store and the version of its source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    where: str
    version: Version
    sha256: str
    bytes: int


class Arrival(NamedTuple):
    """A file in the store. ``reused``: it was there already, whole and of this version."""

    file: Fetched
    reused: bool


class Store:
    """The folder where fetched files are kept."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("files", "sources", "parts"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def file(self, sha256: str) -> Path:
        """Where the content of that digest is, or would be."""
        return self.root / "files" / sha256[:2] / sha256

    def intact(self, sha256: str) -> bool:
        """Whether that content is here; a damaged file is removed."""
        path = self.file(sha256)
        if not path.is_file():
            return False
        if file_sha256(path) == sha256:
            return True
        path.unlink(missing_ok=True)
        return False

    def known(self, key: str) -> Fetched | None:
        """What the source gave last, where that content is still here and intact."""
        try:
            text = (self.root / "sources" / f"{key}.json").read_bytes()
            fetched = Fetched.model_validate_json(text)
        except (OSError, ValidationError):
            return None
        return fetched if self.intact(fetched.sha256) else None

    def keep(self, key: str, fetched: Fetched, part: Path) -> None:
        """Let a whole part become a file of the store, then write down where it came from."""
        target = self.file(fetched.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
        self.note(key, fetched)

    def note(self, key: str, fetched: Fetched) -> None:
        """Write down which content the source gave."""
        text = fetched.model_dump_json(indent=1).encode() + b"\n"
        write_atomically(self.root / "sources" / f"{key}.json", text)

    def part(self, key: str) -> Path:
        """Where the beginning of a source's file is kept."""
        return self.root / "parts" / f"{key}.part"

    def begun(self, key: str) -> Have:
        """How much of a source's file is here, and of which version."""
        path = self.part(key)
        try:
            version = Version.model_validate_json(path.with_suffix(".json").read_bytes())
            size = path.stat().st_size
        except (OSError, ValidationError):
            return Have()
        # A part as long as the whole file cannot be continued, and nothing proves it.
        if not version.strong or (version.size is not None and size >= version.size):
            return Have()
        return Have(version, size)

    def begin(self, key: str, version: Version) -> None:
        """Start a part of that version, forgetting what was there."""
        self.part(key).unlink(missing_ok=True)
        text = version.model_dump_json().encode()
        write_atomically(self.part(key).with_suffix(".json"), text)

    def forget(self, key: str) -> None:
        """Drop a source's part."""
        self.part(key).unlink(missing_ok=True)
        self.part(key).with_suffix(".json").unlink(missing_ok=True)

    @contextmanager
    def alone(self, key: str, say: Callable[[str], None]) -> Iterator[None]:
        """Hold a source against every other process that fetches it into this store."""
        path = self.root / "parts" / f"{key}.lock"
        while True:
            with path.open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    say("another step is fetching the same source; waiting for it")
                    fcntl.flock(file, fcntl.LOCK_EX)
                if not _is_at(file, path):  # its holder removed it meanwhile: a dead lock file
                    continue
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return


@dataclass(frozen=True)
class Downloader:
    """Brings remote files into a store.

    ``patience``: seconds in which a connection has to bring ``_LEAST`` bytes, or it counts as
    broken: one that brings a byte now and then would keep a step until its deadline.
    ``gained(n)`` hears of every ``n`` new bytes (negative when a part is dropped);
    ``expects`` of the size of a file that had none in the listing; ``say`` writes a line of the
    step's log. All may be called from several threads.
    """

    store: Store
    retries: Retries
    gained: Callable[[int], None]
    expects: Callable[[int], None]
    say: Callable[[str], None]
    patience: float = 60.0

    def get(self, file: RemoteFile, sha256: str = "") -> Arrival:
        """The file, whole and checked.

        Args:
            sha256: the digest that it must have; then the source is not even asked when content
                of that digest is here.

        Raises:
            DataError: the source refuses, or the digest is another.
            StepError: the network or the disk gave up.
        """
        with self.store.alone(file.key, self.say):
            if sha256 and self.store.intact(sha256):
                return self._taken(file, sha256)
            return self._download(file, self.store.known(file.key), sha256)

    def _taken(self, file: RemoteFile, sha256: str) -> Arrival:
        size = self.store.file(sha256).stat().st_size
        self.gained(size)
        known = self.store.known(file.key)
        if known and known.sha256 == sha256:
            return Arrival(known, reused=True)
        version = Version(size=size)
        fetched = Fetched(where=file.where, version=version, sha256=sha256, bytes=size)
        return Arrival(fetched, reused=True)

    def _download(self, file: RemoteFile, known: Fetched | None, sha256: str) -> Arrival:
        failures = 0
        while True:
            before = self._size(file.key)
            try:
                return self._attempt(file, known, sha256)
            except Stale as error:
                self.store.forget(file.key)
                failures += 1
                _wait_or_give_up(error, file.where, failures, self.retries, self.say)
            except Transient as error:
                failures = 1 if self._size(file.key) - before >= _GAIN else failures + 1
                _wait_or_give_up(error, file.where, failures, self.retries, self.say)

    def _size(self, key: str) -> int:
        path = self.store.part(key)
        return path.stat().st_size if path.exists() else 0

    def _attempt(self, file: RemoteFile, known: Fetched | None, sha256: str) -> Arrival:
        have = self.store.begun(file.key)
        if known and known.version.proves_whole:
            have = Have(known.version, known.bytes, complete=True)
        with file.open(have) as reply:
            if reply.unchanged and known:
                return self._unchanged(file, known, sha256)
            if not reply.start:
                self.store.begin(file.key, reply.version)
            return Arrival(self._receive(file, reply, sha256), reused=False)

    def _unchanged(self, file: RemoteFile, known: Fetched, sha256: str) -> Arrival:
        if sha256 and known.sha256 != sha256:
            raise wrong_digest(file.where, sha256, known.sha256, known.bytes)
        self.gained(known.bytes)
        return Arrival(known, reused=True)

    def _receive(self, file: RemoteFile, reply: Reply, sha256: str) -> Fetched:
        part = self.store.part(file.key)
        self._room(file, reply)
        digest = hashlib.sha256()
        with part.open("ab") as target:
            size = _hash_start(part, reply.start, digest)
            self.gained(size)
            try:
                for chunk in self._paced(reply.chunks):
                    digest.update(chunk)
                    target.write(chunk)
                    size += len(chunk)
                    self.gained(len(chunk))
            except BaseException:
                self.gained(-size)
                raise
            target.flush()
            os.fsync(target.fileno())
        self._check_size(file, reply, size)
        return self._check_and_keep(file, reply, digest.hexdigest(), size, sha256)

    def _paced(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The chunks, as long as they come at a pace that leads anywhere."""
        since, came = time.monotonic(), 0
        for chunk in chunks:
            yield chunk
            came += len(chunk)
            took = time.monotonic() - since
            if came >= _LEAST:
                since, came = time.monotonic(), 0
            elif took > self.patience:
                raise Transient(f"the source sent only {came:,} bytes in {took:.0f} s")

    def _room(self, file: RemoteFile, reply: Reply) -> None:
        if reply.version.size is None:
            return
        if file.size is None:
            self.expects(reply.version.size)
        needed = reply.version.size - reply.start
        free = shutil.disk_usage(self.store.root).free - _RESERVE
        if needed > free:
            raise StepError(
                f"{file.where}: the source says that {needed:,} more bytes come, and the disk of "
                f"the downloads has room for {max(free, 0):,}; make room"
            )

    def _check_size(self, file: RemoteFile, reply: Reply, size: int) -> None:
        wanted = reply.version.size
        if wanted is None or size == wanted:
            return
        self.gained(-size)
        if size > wanted:
            self.store.forget(file.key)
            raise Stale(f"{size:,} bytes came where the source had said {wanted:,}")
        raise Transient(f"the connection ended after {size:,} of {wanted:,} bytes")

    def _check_and_keep(
        self, file: RemoteFile, reply: Reply, found: str, size: int, wanted: str
    ) -> Fetched:
        if wanted and found != wanted:
            self.store.forget(file.key)
            self.gained(-size)
            if reply.start:
                # Perhaps the two halves are not of one file, whatever the source says.
                raise Stale("the resumed file has another sha256 than wanted; fetching all of it")
            raise wrong_digest(file.where, wanted, found, size)
        fetched = Fetched(where=file.where, version=reply.version, sha256=found, bytes=size)
        self.store.keep(file.key, fetched, self.store.part(file.key))
        self.store.forget(file.key)
        return fetched


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def wrong_digest(where: str, wanted: str, found: str, size: int) -> DataError:
    """The error for content that is not the one that was asked for."""
    return DataError(
        f"{where}: the content is not the one that was asked for: sha256 {found} ({size:,} bytes), "
        f"wanted {wanted}. Check the URI; if the source was renewed on purpose, give its new sha256"
    )


def _hash_start(part: Path, size: int, digest: hashlib._Hash) -> int:
    """Hash the first ``size`` bytes of a part, all that it holds."""
    if not size:
        return 0
    done = 0
    with part.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
    if done != size:
        raise Stale("the part on the disk changed meanwhile; starting again")
    return done
