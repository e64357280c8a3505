"""Files of JSON lines that are only ever appended to, each line chained to the one before.

One writer at a time (a lock on the file), each line fsynced before the call returns. A line that
a crash cut short has no newline; the next writer drops it, a reader does not see it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from pydantic import ValidationError

# What the first line says of the line before it.
FIRST = "0" * 64


class Link(Protocol):
    """What every such line has: its number, and the sha256 of the line before, byte for byte."""

    @property
    def seq(self) -> int:
        """Counted from 1."""

    @property
    def prev_digest(self) -> str:
        """Hexadecimal."""


L = TypeVar("L", bound=Link)


@contextmanager
def appending(path: Path) -> Iterator[tuple[bytes, Callable[[bytes], None]]]:
    """The last line that is there (empty: none), and what writes the next one and fsyncs it.

    Neither has its newline. Nobody else writes meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        last = _drop_torn_line(file)

        def write(line: bytes) -> None:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())

        yield last, write


def follows(last: bytes) -> str:
    """What a line says of the one before it."""
    return hashlib.sha256(last).hexdigest() if last else FIRST


def raw_lines(path: Path) -> list[bytes]:
    """Every whole line, without its newline; none where there is no file."""
    return path.read_bytes().split(b"\n")[:-1] if path.is_file() else []


def problems(path: Path, parse: Callable[[bytes], L]) -> list[str]:
    """What is wrong with the chain, in words with file and line; empty where nothing is."""
    found, previous = [], b""
    for number, raw in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            line = parse(raw)
        except ValidationError:
            found.append(f"{path}:{number}: no record line")
            previous = raw
            continue
        if line.prev_digest != follows(previous):
            found.append(f"{path}:{number}: does not follow the line before it")
        if line.seq != number:
            found.append(f"{path}:{number}: has number {line.seq}")
        previous = raw
    return found


def _drop_torn_line(file: BinaryIO) -> bytes:
    """Cut off what follows the last newline; the last whole line, without its newline."""
    file.seek(0, os.SEEK_END)
    end = file.tell()
    size, tail = 4096, b""
    while end:
        file.seek(max(0, end - size))
        tail = file.read(end - file.tell())
        whole = tail.rfind(b"\n")
        if tail.rfind(b"\n", 0, whole) >= 0 or size >= end:
            break
        size *= 4
    whole = tail.rfind(b"\n")
    torn = len(tail) - whole - 1
    if torn:
        file.truncate(end - torn)
    file.seek(0, os.SEEK_END)
    return tail[tail.rfind(b"\n", 0, whole) + 1 : whole] if whole >= 0 else b""
