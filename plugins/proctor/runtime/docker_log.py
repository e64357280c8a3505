"""Reads a container's log from a position, without losing or repeating a line.

The engine stamps each piece of the log with nanoseconds and can leave out what is older than a
time. It copies the two streams side by side: stamps never go back within a stream, but a piece of
one may be written behind a later stamped piece of the other. So a position is one mark a stream,
``<stamp>/<pieces read with that stamp>,<the same of the errors>``: pieces may share a stamp.
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
_STREAMS = (1, 2)
# A stream's first piece may be written this much behind a later stamped piece of the other.
_LATE_SECONDS = 1


class Mark(NamedTuple):
    """How far one stream was read: the last piece's stamp, and how many pieces of it."""

    stamp: str = ""
    read: int = 0

    @classmethod
    def parse(cls, text: str) -> Mark:
        """From one stream's part of a position.

        Raises:
            ValueError: it is none.
        """
        if not text:
            return cls()
        stamp, _, count = text.rpartition("/")
        mark = cls(stamp, int(count))
        mark.seconds()
        return mark

    def __str__(self) -> str:
        return f"{self.stamp}/{self.read}" if self.stamp else ""

    def after(self, stamp: str) -> Mark:
        """One piece further."""
        return Mark(stamp, self.read + 1 if stamp == self.stamp else 1)

    def seconds(self) -> int:
        """The stamp's whole seconds, as the engine counts them."""
        return int(datetime.fromisoformat(f"{self.stamp[:19]}+00:00").timestamp())


class Position(NamedTuple):
    """How far a log was read, stream by stream."""

    output: Mark = Mark()
    errors: Mark = Mark()

    @classmethod
    def parse(cls, text: str) -> Position:
        """From a chunk's ``next``; what is none starts at the beginning."""
        try:
            output, errors = text.split(",")
            return cls(Mark.parse(output), Mark.parse(errors))
        except ValueError:
            return cls()

    def __str__(self) -> str:
        return f"{self.output},{self.errors}" if self != Position() else ""

    def of(self, stream: int) -> Mark:
        """One stream's mark."""
        return self[stream - 1]

    def moved(self, stream: int, mark: Mark) -> Position:
        """The same position but for one stream."""
        return Position(mark, self.errors) if stream == 1 else Position(self.output, mark)

    def since(self) -> str | None:
        """From when on the engine is asked for pieces: before the mark furthest behind."""
        # Stamps have a fixed width and one zone: they sort as texts.
        seen = min((mark for mark in self if mark.stamp), default=None)
        if seen is None:
            return None
        return f"{seen.seconds() - _LATE_SECONDS}.{seen.stamp[20:29]}"


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
            # Others are the engine's own words, without a stamp.
            if stream in _STREAMS:
                yield Piece(moment.decode(errors="replace"), stream, text)


def unread(every: Iterable[Piece], position: Position) -> Iterator[tuple[Piece, Position]]:
    """The pieces behind a position, each with the position behind it."""
    at, passed = position, Position()
    for piece in every:
        mark = passed.of(piece.stream).after(piece.stamp)
        passed = passed.moved(piece.stream, mark)
        if mark <= position.of(piece.stream):
            continue
        at = at.moved(piece.stream, mark)
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
