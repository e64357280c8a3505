"""What the system's errors mean: which disk is full, what may not be written, what to do.

An ``OSError`` of the kinds below comes from the machine that a step runs on, not from its code; it
is told without a traceback. Any other is a mistake of the code that nobody foresaw.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REMEDIES = {
    **dict.fromkeys(_FULL, "make room there, and start again"),
    errno.EROFS: "it is mounted read-only; give another folder, or mount it for writing",
    errno.EACCES: "check its owner and its rights",
    errno.EPERM: "check its owner and its rights",
    errno.EIO: "the disk has a fault; look at the system's log, and give another disk",
    errno.ESTALE: "the network file system went away; mount it again",
    errno.ENOTCONN: "the network file system went away; mount it again",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "the machine has too many open files; end what is not needed",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), or take another file system",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ENOTDIR: "a part of the path is a file; give another folder",
    errno.EISDIR: "it is a folder, a file was expected",
    errno.ELOOP: "its links run in a circle; remove them",
}
_NEARLY_NOTHING = 1 << 20  # bytes: a disk with less left counts as the full one


def explain(error: OSError, places: Mapping[str, Path]) -> str:
    """What is wrong, where, and what to do; empty where the error is not the machine's.

    ``places`` are the folders in use, by what they are called: the system does not say which of
    them a write was for.
    """
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return ""
    # Where a file is copied, the second name is the one that is written.
    where = str(error.filename2 or error.filename or "")
    if not where and error.errno in _FULL:
        full = [f"{what} ({path})" for what, path in places.items() if is_full(path)]
        where = "the disk of " + " and ".join(full) if full else ""
    return f"cannot read or write{' ' + where if where else ''}: {error.strerror}; {remedy}"


def is_full(path: Path) -> bool:
    """Whether a disk has nearly nothing left."""
    try:
        return shutil.disk_usage(path).free < _NEARLY_NOTHING
    except OSError:
        return False


def printable(text: str) -> str:
    """A stranger's text as a terminal may show it: nothing moves the cursor, clears or hides."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
