"""Unpacking archives from outside: nothing but plain files, inside the folder, in bounded size.

Bounds are checked on the bytes as they come out, as headers can claim anything. What an archive
says of owners, modes and times is ignored.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from proctor_steps.stage import DataError
from proctor_steps.transport.base import CHUNK
from proctor_steps.transport.names import Names

SUFFIX = re.compile(r"\.(zip|tar|tgz|tbz2|txz|tar\.(gz|bz2|xz|zst))$", re.IGNORECASE)
_BLOCK = tarfile.BLOCKSIZE
_LONGEST_HEADER = 1 << 20  # bytes of a tar's extended header; paths need some hundred
_ZSTD_WINDOW = 1 << 27  # what `zstd --long` writes by default
_DAMAGED = (
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    gzip.BadGzipFile,
)


@dataclass(frozen=True)
class Limits:
    """What an archive may become: so many ``entries``, ``bytes``, and ``ratio`` times its size.

    The ratio counts from ``free_bytes`` on, as a small archive of text may well be packed tight.
    """

    entries: int = 5_000_000
    bytes: int = 2 << 40
    ratio: float = 200.0
    free_bytes: int = 64 << 20


class _Budget:
    """Counts what came out of an archive against its limits."""

    def __init__(self, where: str, packed: int, limits: Limits) -> None:
        self._where, self._packed, self._limits = where, packed, limits
        self._bytes = self._entries = 0

    def take(self, count: int) -> None:
        self._bytes += count
        if self._bytes > self._limits.bytes:
            raise self._too_much(f"more than {self._limits.bytes:,} bytes")
        allowed = max(self._limits.free_bytes, self._limits.ratio * self._packed)
        if self._bytes > allowed:
            raise self._too_much(f"more than {self._limits.ratio:g} times its {self._packed:,}")

    def enter(self) -> None:
        self._entries += 1
        if self._entries > self._limits.entries:
            raise self._too_much(f"more than {self._limits.entries:,} entries")

    def _too_much(self, what: str) -> DataError:
        return DataError(
            f"{self._where} unpacks to {what}: taken for a decompression bomb and stopped. If it "
            "is sound, unpack it by hand and give the folder"
        )


def detect(path: Path) -> str:
    """The kind of archive that a file's content is: ``zip``, ``tar``, ``tar.gz``, … or empty."""
    with path.open("rb") as file:
        head = file.read(_BLOCK)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if _is_tar_header(head):
        return "tar"
    for magic, kind in _COMPRESSED.items():
        if head.startswith(magic) and _is_tar_header(_first_block(path, kind)):
            return kind
    return ""


def extract(
    path: Path,
    target: Path,
    where: str,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Unpack an archive into a folder; nothing of it is there unless all of it is.

    Args:
        target: existing folder; what is in it stays.
        where: the archive's name in messages.
        progress: called with (bytes read of the archive, its size).

    Returns:
        How many files there were.

    Raises:
        DataError: it is no archive, damaged, cut off, hostile or empty.
    """
    kind = detect(path)
    if not kind:
        raise DataError(f"{where} is named as an archive but its content is none that is known "
                        "(zip; tar plain or with gzip, bzip2, xz, zstd), or it is damaged at the "
                        "start; fetch it anew or name it as what it is")  # fmt: skip
    budget = _Budget(where, path.stat().st_size, limits or Limits())
    work = Path(tempfile.mkdtemp(prefix=".extracting-", dir=target))
    try:
        with _damage(where):
            unpack = _unzip if kind == "zip" else _untar
            count = unpack(path, kind, _Writer(work, where, budget), progress)
        if not count:
            raise DataError(f"{where} holds no files; check that it is the right archive")
        _move(work, target, where)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return count


class _Writer:
    """Writes entries below a folder, each under a checked name."""

    def __init__(self, root: Path, where: str, budget: _Budget) -> None:
        self.where, self.budget, self.count = where, budget, 0
        self._root, self._names = root, Names(where)

    def folder(self, raw: str) -> None:
        self.budget.enter()
        (self._root / self._names.folder(raw)).mkdir(parents=True, exist_ok=True)

    def file(self, raw: str, source: IO[bytes], counted: bool) -> None:
        """Copy one entry. ``counted``: its bytes were counted on the way here already."""
        self.budget.enter()
        path = self._root / self._names.file(raw)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as target:
            while chunk := source.read(CHUNK):
                if not counted:
                    self.budget.take(len(chunk))
                target.write(chunk)
        self.count += 1

    def refuse(self, raw: str, what: str) -> DataError:
        return DataError(
            f"{self.where}: the entry {raw!a} is {what}; only plain files and folders are "
            "unpacked. Pack it again without such entries (links: with the files themselves)"
        )


@contextmanager
def _damage(where: str) -> Iterator[None]:
    """The many errors that damaged archives bring, as one."""
    try:
        yield
    except DataError:
        raise
    except _DAMAGED as error:
        raise _damaged(where, error) from error
    except OSError as error:
        # bz2 and gzip say "invalid data" by an OSError without number; the others are the disk's.
        if error.errno is not None:
            raise
        raise _damaged(where, error) from error


def _damaged(where: str, error: Exception) -> DataError:
    return DataError(
        f"{where} is damaged or cut off ({type(error).__name__}: {str(error)!a}); fetch it "
        "anew, and give its sha256 to be sure of it"
    )


def _move(work: Path, target: Path, where: str) -> None:
    clashes = sorted(p.name for p in work.iterdir() if (target / p.name).exists())
    if clashes:
        raise DataError(f"{where}: {', '.join(clashes[:5])} exists in the output already")
    for path in sorted(work.iterdir()):
        path.rename(target / path.name)


# zip


def _unzip(path: Path, _kind: str, to: _Writer, progress: Callable[[int, int], None]) -> int:
    done, total = 0, path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            # zipfile cuts a name at NUL: what other tools see is the original.
            name = info.orig_filename
            _check_zip_entry(info, name, to)
            if name.endswith("/"):
                to.folder(name)
            else:
                with archive.open(info) as source:
                    to.file(name, source, counted=False)
            done += info.compress_size
            progress(min(done, total), total)
    return to.count


def _check_zip_entry(info: zipfile.ZipInfo, name: str, to: _Writer) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise to.refuse(name, "a symbolic link")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise to.refuse(name, "a device or another special file")
    if info.flag_bits & 0x1:
        raise to.refuse(name, "encrypted")


# tar


class _BrokenTar(Exception):
    """Damage inside a tar, which tarfile alone would take for its end."""


class _Info(tarfile.TarInfo):
    """A tar header read strictly: any damage is an error, wherever it is."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Info:
        """Read the next header."""
        try:
            return super().fromtarfile(tarfile)
        except Exception as error:
            if type(error).__name__ == "EOFHeaderError":  # two empty blocks: the proper end
                raise
            raise _BrokenTar(str(error) or type(error).__name__) from error

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        """Refuse an extended header that is read into memory whole, before it is."""
        if self.type in b"LKxgX" and self.size > _LONGEST_HEADER:
            raise _BrokenTar(f"an extended header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


class _Metered:
    """A stream of decompressed bytes that counts them against a budget."""

    def __init__(self, source: IO[bytes], budget: _Budget, read: Callable[[], None]) -> None:
        self._source, self._budget, self._read = source, budget, read

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._budget.take(len(data))
        self._read()
        return data


def _untar(path: Path, kind: str, to: _Writer, progress: Callable[[int, int], None]) -> int:
    total = path.stat().st_size
    with path.open("rb") as packed, _decompressed(packed, kind) as plain:
        metered = _Metered(plain, to.budget, lambda: progress(packed.tell(), total))
        stream = cast(IO[bytes], metered)
        try:
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Info) as archive:
                for info in archive:
                    _take(archive, info, to)
        except _BrokenTar as error:
            raise tarfile.ReadError(str(error)) from error
        while metered.read(CHUNK):  # to the end, where the checksum of the compression is
            pass
    return to.count


def _take(archive: tarfile.TarFile, info: tarfile.TarInfo, to: _Writer) -> None:
    what = _special(info)
    if what:
        raise to.refuse(info.name, what)
    if info.isdir():
        to.folder(info.name)
        return
    source = archive.extractfile(info)
    if source is None:
        raise to.refuse(info.name, "of an unknown type")
    to.file(info.name, source, counted=True)


def _special(info: tarfile.TarInfo) -> str:
    if info.issym():
        return "a symbolic link"
    if info.islnk():
        return "a hard link"
    if info.issparse():
        return "a sparse file"
    if not (info.isreg() or info.isdir()):
        return "a device or another special file"
    return ""


_COMPRESSED = {
    b"\x1f\x8b": "tar.gz",
    b"BZh": "tar.bz2",
    b"\xfd7zXZ\x00": "tar.xz",
    b"\x28\xb5\x2f\xfd": "tar.zst",
}


@contextmanager
def _decompressed(packed: IO[bytes], kind: str) -> Iterator[IO[bytes]]:
    if kind == "tar":
        yield packed
    elif kind == "tar.gz":
        with gzip.GzipFile(fileobj=packed) as plain:
            yield cast(IO[bytes], plain)
    elif kind == "tar.bz2":
        with bz2.BZ2File(packed) as plain:
            yield cast(IO[bytes], plain)
    elif kind == "tar.xz":
        with lzma.LZMAFile(packed) as plain:
            yield cast(IO[bytes], plain)
    else:
        with _zstd(packed) as plain:
            yield plain


@contextmanager
def _zstd(packed: IO[bytes]) -> Iterator[IO[bytes]]:
    import zstandard

    tool = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    try:
        with tool.stream_reader(packed, read_across_frames=True, closefd=False) as plain:
            yield cast(IO[bytes], plain)
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from error


def _first_block(path: Path, kind: str) -> bytes:
    try:
        with path.open("rb") as packed, _decompressed(packed, kind) as plain:
            return plain.read(_BLOCK)
    except (*_DAMAGED, OSError):
        return b""


def _is_tar_header(block: bytes) -> bool:
    """Whether a block is a tar header by its checksum, or the end mark of an empty tar."""
    if len(block) == _BLOCK and not any(block):
        return True
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True
