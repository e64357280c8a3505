"""The mechanical part of a submission: the cut accuracy log, names and sizes, and an archive
without a clock."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from proctor_steps import contract
from proctor_steps.stage import DataError

VIEWABLE_BYTES = 4096
CUT = b"\n\n...\n\n"
LARGEST_FILE = 50 * 2**20  # of the repository that submissions are pushed to


@dataclass(frozen=True)
class Misfit:
    """A file or folder that the submission repository does not take, and what to do about it."""

    path: str
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}; {self.advice}"


def truncate_accuracy_log(source: Path, target: Path) -> str:
    """Copy the first and last 4096 bytes of an accuracy log; the sha256 of the whole log.

    Byte for byte what MLPerf's ``truncate_accuracy_log.py`` leaves (LoadGen writes ASCII); like
    there, a log shorter than 4096 bytes is kept whole.
    """
    size = source.stat().st_size
    with source.open("rb") as file:
        data = file.read(VIEWABLE_BYTES)
        if size >= VIEWABLE_BYTES:
            file.seek(size - VIEWABLE_BYTES)
            data += CUT + file.read(VIEWABLE_BYTES)
    target.write_bytes(data)
    return contract.file_sha256(source)


def survey(root: Path) -> tuple[list[Path], list[Misfit]]:
    """All plain files below ``root`` in the order of their names, and everything that the
    submission repository refuses (its ``repository_checks.sh``) or that cannot be packed.

    No link is followed and nothing is opened, so a hostile tree costs a look at each name.
    """
    files: list[Path] = []
    misfits: list[Misfit] = []
    names: dict[str, str] = {}
    for path, is_dir in _walk(root, misfits):
        name = path.relative_to(root).as_posix()
        wrong = list(_misfits(path, name, is_dir))
        twin = names.setdefault(_folded(name), name)
        if twin != name:
            text = f"differs from {_shown(twin)} in case or accents' spelling alone"
            wrong.append(Misfit(_shown(name), text, "rename one: not every disk can hold both"))
        misfits += wrong
        if not is_dir and not wrong:
            files.append(path)
    return sorted(files, key=lambda path: path.relative_to(root).as_posix()), misfits


def files_of(root: Path) -> list[Path]:
    """All files below ``root`` in the order of their names.

    Raises:
        DataError: names or kinds of files that the submission repository refuses, all of them.
    """
    files, misfits = survey(root)
    if misfits:
        lines = "\n".join(f"  {misfit}" for misfit in misfits)
        raise DataError(f"the submission repository does not take these files:\n{lines}")
    return files


def pack(root: Path, target: Path) -> int:
    """Pack ``root`` as tar.gz: sorted, no times, no owners; the number of files.

    The same files give the same bytes (with the same zlib), so a package can be made again and
    compared.
    """
    files = files_of(root)
    with (
        target.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in files:
            entry = tarfile.TarInfo(path.relative_to(root).as_posix())
            entry.size, entry.mode, entry.mtime = path.stat().st_size, 0o644, 0
            with path.open("rb") as file:
                tar.addfile(entry, file)
    return len(files)


def _walk(root: Path, misfits: list[Misfit]) -> Iterator[tuple[Path, bool]]:
    """Every entry below ``root``, sorted, and whether it is a folder; links are not followed."""

    def unreadable(error: OSError) -> None:
        path = Path(str(error.filename))
        name = _shown(path.relative_to(root).as_posix())
        misfits.append(Misfit(name, f"cannot be read ({error.strerror})", "make it readable"))

    for folder, folders, files in os.walk(root, onerror=unreadable):
        folders.sort()
        yield from ((Path(folder, name), True) for name in folders)
        yield from ((Path(folder, name), False) for name in sorted(files))


def _misfits(path: Path, name: str, is_dir: bool) -> Iterable[Misfit]:
    shown, status = _shown(name), path.lstat()
    if stat.S_ISLNK(status.st_mode):
        yield Misfit(shown, "a symbolic link", "put the file itself in its place, or remove it")
    elif not is_dir and not stat.S_ISREG(status.st_mode):
        yield Misfit(shown, "no plain file", "remove it")
    elif not is_dir and status.st_size > LARGEST_FILE:
        what = f"{status.st_size:,} bytes; 50 MiB is the most"
        yield Misfit(shown, what, "cut it, as accuracy logs are, or leave it out")
    if path.name.startswith("."):
        yield Misfit(shown, "begins with a dot", "rename or remove it")
    if any(character.isspace() for character in path.name):
        yield Misfit(shown, "has a blank in its name", "rename it")
    elif not path.name.isprintable():
        yield Misfit(shown, "has characters in its name that cannot be shown", "rename it")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _shown(name: str) -> str:
    """A name as it may be printed: control characters and broken UTF-8 are escaped."""
    return name if name.isprintable() else ascii(name)[1:-1]
