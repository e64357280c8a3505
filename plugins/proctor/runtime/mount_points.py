"""Places for mounts that lie inside other mounts.

The engine would make a missing one itself, as root, in whatever lies there; and it cannot where
that is read-only. What earlier steps left in a shared directory may hold links: none is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from docker.types import Mount

from proctor.runtime.base import RequestRefused


def make(mounts: Sequence[Mount], owner: tuple[int, int]) -> None:
    """Make every such place that is missing, for its owner (uid and gid).

    Raises:
        RequestRefused: the mount around it is read-only and lacks it, or something else is there.
    """
    for inner in mounts:
        around = [m for m in mounts if inner["Target"].startswith(f"{m['Target']}/")]
        if not around:
            continue
        outer = max(around, key=lambda m: len(m["Target"]))
        parts = inner["Target"].removeprefix(f"{outer['Target']}/").split("/")
        try:
            _make(outer, parts, Path(inner["Source"]).is_dir(), owner)
        except OSError as error:
            raise RequestRefused(
                f"{inner['Target']} cannot be mounted inside {outer['Target']}: {_words(error)}; "
                "give it a `mount_path` outside"
            ) from error


def _make(outer: Mount, parts: list[str], folder: bool, owner: tuple[int, int]) -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    place = os.open(outer["Source"], flags)
    try:
        for number, part in enumerate(parts):
            wants_folder = folder or number < len(parts) - 1
            if not outer["ReadOnly"]:
                _make_one(part, place, wants_folder, owner)
            mode = os.stat(part, dir_fd=place, follow_symlinks=False).st_mode
            if not (stat.S_ISDIR(mode) if wants_folder else stat.S_ISREG(mode)):
                raise NotADirectoryError(errno.ENOTDIR, "something else has this name")
            if wants_folder:
                inner = os.open(part, flags, dir_fd=place)
                os.close(place)
                place = inner
    finally:
        os.close(place)


def _make_one(part: str, place: int, folder: bool, owner: tuple[int, int]) -> None:
    try:
        if folder:
            os.mkdir(part, dir_fd=place)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            os.close(os.open(part, flags, 0o644, dir_fd=place))
    except FileExistsError:
        return
    if owner != (os.geteuid(), os.getegid()):
        os.chown(part, *owner, dir_fd=place, follow_symlinks=False)


def _words(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "there is no such place in it, and it is read-only"
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "something else has this name there, or a link"
    return str(error.strerror)
