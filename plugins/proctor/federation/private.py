"""A secret of the owner's in a file of its own, which nobody else may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_LONGEST = 4096


class NotPrivate(Exception):
    """A secret's file cannot be used; the message says why and what to do, not what is in it."""


def read_private(path: Path, what: str) -> str:
    """The text of a file that only its owner can read, without blanks around it.

    ``what``: the secret's name for people, as in "token".

    Raises:
        NotPrivate: it is not there, open to others, or empty.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise NotPrivate(f"the {what}'s file {path} cannot be read: {error.strerror}") from None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise NotPrivate(f"{path} is no file; put the {what} into one")
        if found.st_uid != os.geteuid():
            raise NotPrivate(f"{path} belongs to another user; make it your own")
        if stat.S_IMODE(found.st_mode) & 0o177:
            raise NotPrivate(f"others may read the {what} in {path}; chmod 600 {path}")
        text = os.read(handle, _LONGEST).decode(errors="replace").strip()
    finally:
        os.close(handle)
    if not text:
        raise NotPrivate(f"{path} is empty; put the {what} into it")
    return text
