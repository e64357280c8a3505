"""Reads a growing log file piece by piece: whole lines, a bounded amount at a time."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from proctor.runtime.base import LogChunk

CHUNK = 64 * 1024


def read_log(path: Path, since: str, *, ended: bool, limit: int = CHUNK) -> LogChunk:
    """The lines behind byte offset ``since``.

    A last line without its newline is held back until the log has ``ended``; a line longer than
    ``limit`` is given in pieces.
    """
    offset = int(since) if since.isdecimal() else 0
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(limit)
            at_end = not file.read(1)
    except FileNotFoundError:
        return LogChunk(lines=(), next=str(offset))
    cut = data.rfind(b"\n") + 1
    if (ended and at_end) or (not cut and len(data) == limit):
        cut = len(data) if at_end else _whole_characters(data)
    return LogChunk(lines=split_lines(data[:cut]), next=str(offset + cut))


def tail(path: Path, lines: int = 20) -> tuple[str, ...]:
    """The last lines of a log, for a failure's message."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - CHUNK))
            return tuple(deque(split_lines(file.read()), maxlen=lines))
    except FileNotFoundError:
        return ()


def split_lines(data: bytes) -> tuple[str, ...]:
    """Lines of a log; bytes that are no UTF-8 show as the replacement character."""
    if not data:
        return ()
    text = data.decode(errors="replace")
    return tuple(text.removesuffix("\n").replace("\r\n", "\n").split("\n"))


def _whole_characters(data: bytes) -> int:
    """Length of ``data`` without a UTF-8 sequence that was cut at its end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return len(data)
        if byte >= 0xC0:
            wanted = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if back < wanted else len(data)
    return len(data)
