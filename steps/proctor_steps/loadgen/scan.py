"""LoadGen's detail log, read once and fast: each line checked, long lists counted, none kept.

A log of a large dataset is a hundred short lines and a few of a megabyte: the samples that were
loaded. Short lines of the shape that LoadGen writes are taken apart without a JSON parser, long
lists are checked and counted byte by byte; whatever looks different is parsed as JSON. Nothing that
a file may hold raises: what is wrong with it is told.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

MARK = b":::MLLOG"
LONGEST_LINE = 64 * 2**20  # of the datasets of all rounds, the longest takes 6 MB
_REMEMBERED = 10_000
_LONG = 2048  # bytes; a list in a longer line is counted
# The two ends of a line as LoadGen writes it; between them stand the value and the time.
_START = b':::MLLOG {"key": "'
_KEY = re.compile(rb'[^"\\\x00-\x1f\x80-\xff]+')
_SOURCE = re.compile(
    rb'"[a-z:]*", "event_type": "[A-Z_]*", "metadata": \{"is_error": (true|false), '
    rb'"is_warning": (?:true|false), "file": "[A-Za-z0-9_.:/-]*", "line_no": [0-9]+'
)
_THREAD = re.compile(rb'[0-9]+, "tid": [0-9]+\}\}\s*')
_LIST = b'"value": ['


class Problem(NamedTuple):
    """A line that is no line of a LoadGen log. ``line`` 0: the file as a whole.

    ``marked``: it starts as one, so that other readers stop at it as well.
    """

    line: int
    text: str
    marked: bool


class LoggedError(NamedTuple):
    """A line that LoadGen marked as an error."""

    line: int
    text: str


@dataclass
class Scan:
    """What a detail log says: the last value of each key, and where it stands.

    ``first``: the first value of a key that stands there again with another. ``counted``: entries
    of the long lists (``loaded_qsl_set``), all lines of the key together; their value is ``None``.
    ``elapsed_s``: LoadGen's own clock at the last line.
    """

    values: dict[str, Any] = field(default_factory=dict)
    first: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)
    errors: list[LoggedError] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    elapsed_s: float = 0.0

    def take(self, number: int, key: str, value: Any, time_ms: float, is_error: bool) -> None:
        """Note one line."""
        before = self.values.get(key, value)
        if before is not value and before != value:
            self.first.setdefault(key, before)
        self.values[key] = value
        self.lines[key] = number
        self.elapsed_s = time_ms / 1000
        if is_error:
            self.errors.append(LoggedError(number, f"{key}: {value}"))
        if isinstance(value, list):
            self.count(key, len(value))

    def count(self, key: str, entries: int) -> None:
        """Add to the entries of a key's lists."""
        self.counted[key] = self.counted.get(key, 0) + entries


def scan(path: Path) -> Scan:
    """Read a detail log; a file that cannot be read is a problem in line 0."""
    found = Scan()
    try:
        if path.exists() and not path.is_file():  # a pipe would never end
            found.problems.append(Problem(0, "is no file", True))
            return found
        with path.open("rb", buffering=2**20) as file:
            for number, line in enumerate(_lines(file), 1):
                if len(line) >= _LONG or not _take_apart(line, number, found):
                    _read_line(line, number, found)
    except OSError as error:
        found.problems.append(Problem(0, f"cannot be read ({error.strerror})", True))
    return found


def _lines(file: BinaryIO) -> Iterable[bytes]:
    """The lines; of a file that is large enough to hold a longer one, none over the longest."""
    if os.fstat(file.fileno()).st_size < LONGEST_LINE:
        return file
    return iter(lambda: file.readline(LONGEST_LINE), b"")


def _read_line(line: bytes, number: int, found: Scan) -> None:
    """A line that is long, or of another shape."""
    short, entries = _without_list(line) if len(line) >= _LONG else (line, 0)
    try:
        if len(line) >= LONGEST_LINE:
            raise _NoEntry(f"longer than {LONGEST_LINE:,} bytes: not read", marked=True)
        if not entries or not _take_apart(short, number, found):
            found.take(number, *_parsed(short))
        if entries:
            found.count(next(key for key, at in found.lines.items() if at == number), entries)
    except _NoEntry as problem:
        found.problems.append(Problem(number, str(problem), problem.marked))


class _Memo(dict[bytes, Any]):
    """What pieces of lines mean, made once for each; forgotten where there are too many."""

    def __init__(self, make: Callable[[bytes], Any]) -> None:
        self.make = make

    def __missing__(self, piece: bytes) -> Any:
        if len(self) > _REMEMBERED:
            self.clear()
        self[piece] = made = self.make(piece)
        return made


def _take_apart(line: bytes, number: int, found: Scan) -> bool:
    """Take a line, if it has the very shape that LoadGen writes; whether it has.

    A line's pieces stand in many lines, of this log and of others; each is understood once.
    """
    start, _, rest = line.partition(b', "time_ms": ')
    time_ms, _, end = rest.partition(b', "namespace": ')
    entry, at, is_error = _STARTS[start], _TIMES[time_ms], _ENDS[end]
    if entry is None or at is None or is_error is None:
        return False
    found.take(number, entry[0], entry[1], at, is_error)
    return True


def _start(piece: bytes) -> tuple[str, Any] | None:
    """Key and value."""
    key, _, value = piece[len(_START) :].partition(b'", "value": ')
    if not piece.startswith(_START) or not _KEY.fullmatch(key):
        return None
    try:
        return key.decode(), json.loads(value.decode())
    except (ValueError, RecursionError):
        return None


def _time(piece: bytes) -> float | None:
    return float(piece) if piece.replace(b".", b"", 1).isdigit() else None


def _end(piece: bytes) -> bool | None:
    """Whether the line is marked as an error."""
    source, _, thread = piece.partition(b', "pid": ')
    return _SOURCES[source] if _THREAD.fullmatch(thread) else None


def _source(piece: bytes) -> bool | None:
    match = _SOURCE.fullmatch(piece)
    return match[1] == b"true" if match else None


_STARTS, _TIMES, _ENDS, _SOURCES = _Memo(_start), _Memo(_time), _Memo(_end), _Memo(_source)


class _NoEntry(Exception):
    def __init__(self, text: str, *, marked: bool) -> None:
        super().__init__(text)
        self.marked = marked


def _parsed(line: bytes) -> tuple[str, Any, float, bool]:
    """A line as JSON: key, value, time, whether it is marked as an error."""
    if not line.startswith(MARK):
        text = f"no line of a LoadGen log (it does not start with {MARK.decode() + ' '!r})"
        raise _NoEntry(text, marked=not line.isascii() and not _is_text(line))
    try:
        entry = json.loads(line[len(MARK) :].decode())
        key, value, metadata = (entry[name] for name in ("key", "value", "metadata"))
        time_ms = float(entry.get("time_ms", 0))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        text = f"malformed ({error}); was the file cut off?"
        raise _NoEntry(text, marked=True) from error
    if not isinstance(key, str) or not isinstance(metadata, dict):
        raise _NoEntry("malformed (key or metadata of the wrong type)", marked=True)
    if not math.isfinite(time_ms):
        raise _NoEntry("malformed (time_ms is no time); was the file cut off?", marked=True)
    return key, value, time_ms, bool(metadata.get("is_error"))


def _without_list(line: bytes) -> tuple[bytes, int]:
    """The line with its list of numbers put as ``null``, and how many numbers that held.

    A list that is not numbers with one comma between two of them is left for the JSON parser.
    """
    start = line.find(_LIST)
    end = line.find(b"]", start)
    if start < 0 or end < 0:
        return line, 0
    numbers = line[start + len(_LIST) : end]
    commas = numbers.translate(None, b"0123456789")
    plain = commas.count(b",") == len(commas) and numbers[:1].isdigit() and numbers[-1:].isdigit()
    if not plain or b",," in numbers:
        return line, 0
    return line[:start] + b'"value": null' + line[end + 1 :], len(commas) + 1


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
