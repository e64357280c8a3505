"""Reads a container's log from a position, without losing or repeating a line.

The engine stamps each piece of the log with nanoseconds and can leave out what is older than a
time. Pieces may share a stamp, so a position is ``<stamp>/<pieces read with that stamp>``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from datetime import datetime
from struct import Struct
from typing import NamedTuple

import docker

from proctor.runtime.base import LogChunk
from proctor.runtime.logfile import CHUNK, split_lines

# Before each entry: its stream (1 output, 2 errors) and its length.
_HEADER = Struct(">BxxxL")


class Position(NamedTuple):
    """How far a log was read: the last piece's stamp, and how many pieces of it."""

    stamp: str = ""
    read: int = 0

    @classmethod
    def parse(cls, text: str) -> Position:
        """From a chunk's ``next``; what is none starts at the beginning."""
        stamp, _, count = text.rpartition("/")
        return cls(stamp, int(count)) if stamp and count.isdecimal() else cls()

    def __str__(self) -> str:
        return f"{self.stamp}/{self.read}" if self.stamp else ""

    def after(self, stamp: str) -> Position:
        """One piece further."""
        return Position(stamp, self.read + 1 if stamp == self.stamp else 1)

    def since(self) -> str | None:
        """The last piece's time as the engine filters by it: those of just that time still come."""
        if not self.stamp:
            return None
        seconds = datetime.fromisoformat(f"{self.stamp[:19]}+00:00").timestamp()
        return f"{seconds:.0f}.{self.stamp[20:29]}"


class Piece(NamedTuple):
    """One entry of the engine's log. A long line is several; only its last ends in a newline."""

    stamp: str
    stream: int
    data: bytes


def log_entries(
    client: docker.DockerClient, id: str, position: Position
) -> Generator[Piece, None, None]:
    """The engine's log entries from about a position on, to the present end.

    The SDK's own method drops which stream an entry is of, and waits without limit.
    """
    api = client.api
    params = {"stdout": "1", "stderr": "1", "timestamps": "1", "since": position.since()}
    url = f"{api.base_url}/v{api.api_version}/containers/{id}/logs"
    with api.get(url, params=params, stream=True, timeout=api.timeout) as response:
        if response.status_code == 404:
            return
        response.raise_for_status()
        while header := response.raw.read(_HEADER.size):
            stream, length = _HEADER.unpack(header)
            moment, _, text = response.raw.read(length).partition(b" ")
            yield Piece(moment.decode(errors="replace"), stream, text)


def unread(every: Iterable[Piece], position: Position) -> Iterator[tuple[Piece, Position]]:
    """The pieces behind a position, each with the position behind it."""
    at = Position()
    for piece in every:
        at = at.after(piece.stamp)
        # Stamps have a fixed width and one zone: they sort as texts.
        if position.stamp and (at.stamp, at.read) <= (position.stamp, position.read):
            continue
        yield piece, at


def gather(
    found: Iterable[tuple[Piece, Position]],
    position: Position,
    *,
    ended: bool,
    limit: int = CHUNK,
) -> LogChunk:
    """Whole lines, up to about ``limit`` bytes. A line without its end waits until it ``ended``.

    While one stream's line is open, what the other stream said behind it waits, too: the position
    stands before both, and neither may come twice.
    """
    done: list[str] = []
    waiting: list[str] = []
    open_lines: dict[int, bytes] = {}
    size, at, next_ = 0, position, position
    for piece, at in found:
        size += len(piece.data)
        line = open_lines.pop(piece.stream, b"") + piece.data
        if line.endswith(b"\n"):
            waiting += split_lines(line)
        else:
            open_lines[piece.stream] = line
        if not open_lines:
            done, waiting, next_ = done + waiting, [], at
        if size >= limit:
            break
    if next_ != at and (ended or size >= limit):
        done += waiting + [text for line in open_lines.values() for text in split_lines(line)]
        next_ = at
    return LogChunk(lines=tuple(done), next=str(next_))
