"""The mechanical part of a submission: the cut accuracy log, and an archive without a clock."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

from proctor_steps import contract
from proctor_steps.stage import DataError

VIEWABLE_BYTES = 4096
CUT = b"\n\n...\n\n"
LARGEST_FILE = 50 * 2**20  # of the repository that submissions are pushed to


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


def files_of(root: Path) -> list[Path]:
    """All files below ``root`` in the order of their names.

    Raises:
        DataError: names or kinds of files that the submission repository refuses, all of them.
    """
    paths = sorted(root.rglob("*"), key=lambda path: path.relative_to(root).as_posix())
    wrong = []
    for path in paths:
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            wrong.append(f"{name}: a symbolic link")
        elif path.name.startswith("."):
            wrong.append(f"{name}: begins with a dot")
        elif " " in path.name:
            wrong.append(f"{name}: has a blank in its name")
        elif path.is_file() and path.stat().st_size > LARGEST_FILE:
            wrong.append(f"{name}: {path.stat().st_size:,} bytes; 50 MiB is the most")
    if wrong:
        lines = "\n".join(f"  {line}" for line in wrong)
        raise DataError(f"the submission repository does not take these files:\n{lines}")
    return [path for path in paths if path.is_file()]


def pack(root: Path, target: Path) -> int:
    """Pack ``root`` as tar.gz: sorted, no times, no owners; the number of files.

    The same files give the same bytes, so a package can be made again and compared.
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
