"""sha256 of files that were hashed before, without reading them again.

A file is known again by device, inode, size and the times of its last changes; whoever changes its
bytes changes one of those. A file that changed just now is hashed and not kept, as a second change
within one tick of the file system's clock would not show. Where bytes must be compared for the sake
of an approval or of ``proctor runs verify``, nothing of this is used.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from proctor_steps.contract import digest, file_sha256, tree_digest

FILE_NAME = "hashes.sqlite"
# A file that changed this recently may change again without a trace.
_SETTLED_NS = 2_000_000_000
# Hashing leaves the interpreter's lock; more readers than this do not help one disk.
_READERS = min(8, os.cpu_count() or 1)
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS hashes (
        device INTEGER, inode INTEGER, size INTEGER, mtime INTEGER, ctime INTEGER, sha256 TEXT,
        PRIMARY KEY (device, inode)
    ) WITHOUT ROWID
"""
_Key = tuple[int, int, int, int, int]


class FileHashes:
    """The hashes that a home remembers. A file that cannot be used is a cache that is empty."""

    def __init__(self, home: Path) -> None:
        self._path = home / FILE_NAME

    def tree(self, root: Path) -> str:
        """As :func:`proctor_steps.contract.tree_digest`, reading only what is new.

        Raises:
            ValueError: the tree holds a link or something that is no plain file.
            OSError: a file cannot be read.
        """
        return tree_digest(root, self.of)[0]

    def content(self, root: Path) -> str:
        """As :func:`content_digest`, reading only what is new."""
        return content_digest(root, self.of)

    def of(self, paths: Sequence[Path]) -> Iterable[str]:
        """sha256 of each file, in order; those that are not known are read in parallel."""
        keys = [_key(path) for path in paths]
        known = self._known(keys)
        missing = [(path, key) for path, key in zip(paths, keys, strict=True) if key not in known]
        with ThreadPoolExecutor(_READERS) as pool:
            hashed = list(pool.map(file_sha256, [path for path, _ in missing]))
        fresh = {key: sha256 for (_, key), sha256 in zip(missing, hashed, strict=True)}
        # What changed while it was read is not known by the key it had before.
        self._keep(
            {key: fresh[key] for path, key in missing if _settled(key) and _key(path) == key}
        )
        return [known.get(key) or fresh[key] for key in keys]

    def _known(self, keys: Sequence[_Key]) -> dict[_Key, str]:
        if not self._path.is_file():
            return {}
        wanted, found = set(keys), {}
        query = "SELECT * FROM hashes WHERE device = ? AND inode = ?"
        try:
            with closing(self._open()) as db:
                for key in wanted:
                    for *row, sha256 in db.execute(query, key[:2]):
                        if tuple(row) == key:
                            found[key] = str(sha256)
        except sqlite3.Error:
            return {}
        return found

    def _keep(self, hashes: dict[_Key, str]) -> None:
        if not hashes:
            return
        rows = [(*key, sha256) for key, sha256 in hashes.items()]
        try:
            with closing(self._open()) as db, db:
                db.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)", rows)
        except (sqlite3.Error, OSError):
            return  # the next one reads the files again

    def _open(self) -> sqlite3.Connection:
        if not self._path.exists():
            os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600))
        db = sqlite3.connect(self._path, timeout=10)
        db.execute(_SCHEMA)
        return db


def _sha256_of_each(paths: Sequence[Path]) -> Iterable[str]:
    return map(file_sha256, paths)


def content_digest(
    root: Path, hashed: Callable[[Sequence[Path]], Iterable[str]] = _sha256_of_each
) -> str:
    """Digest of a file or folder that is no step's own: as ``tree_digest``, but with links.

    A link counts by where it leads to, and is not followed.

    Raises:
        ValueError: it holds something that is neither a file, a folder nor a link.
        OSError: a file cannot be read.
    """
    if root.is_file():
        return next(iter(hashed([root])))
    files: list[Path] = []
    links: list[list[str]] = []
    for folder, folders, names in os.walk(root, onerror=_raise):
        for path in (Path(folder, name) for name in [*folders, *names]):
            if path.is_symlink():
                links.append([path.relative_to(root).as_posix(), f"-> {path.readlink()}"])
            elif path.is_file():
                files.append(path)
            elif not path.is_dir():
                raise ValueError(f"{path} is neither a file, a folder nor a link")
    sums = zip(files, hashed(files), strict=True)
    entries = [[path.relative_to(root).as_posix(), sha256] for path, sha256 in sums]
    return digest(sorted(entries + links))


def _raise(error: OSError) -> None:
    raise error


def _key(path: Path) -> _Key:
    found = path.stat()
    # SQLite's integers have a sign.
    inode = found.st_ino - (1 << 64) if found.st_ino >= 1 << 63 else found.st_ino
    return found.st_dev, inode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _settled(key: _Key) -> bool:
    return time.time_ns() - max(key[3], key[4]) > _SETTLED_NS
