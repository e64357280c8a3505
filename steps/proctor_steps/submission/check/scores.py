"""What ``accuracy.txt`` and the accuracy log tell, as far as a submission holds them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from proctor_steps.accuracy import log as accuracy_log
from proctor_steps.stage import DataError
from proctor_steps.submission.archive import CUT
from proctor_steps.submission.check import files
from proctor_steps.submission.check.asked import Target

LARGEST_CUT = 10 * 1024  # bytes of mlperf_log_accuracy.json; one that is cut as usual has 8199
_HASH = re.compile(r"^hash=([\w\d]+)$")


class Told(NamedTuple):
    """A value of accuracy.txt: the number, as it is written, and in which line."""

    value: float
    text: str
    line: int


@dataclass
class Reading:
    """What accuracy.txt tells, as far as the official checker reads it."""

    values: dict[str, Told] = field(default_factory=dict)
    beyond: list[tuple[Target, float, int]] = field(default_factory=list)
    unread: list[tuple[Target, str, int]] = field(default_factory=list)
    hash: str = ""
    hash_line: int | None = None


def read(lines: Iterable[str], targets: list[Target]) -> Reading:
    """Line by line, until every metric that is wanted was good enough and the hash is known."""
    found, wanted = Reading(), {t.metric for t in targets if t.at_least is not None}
    good: set[str] = set()
    for number, line in enumerate(lines, 1):
        if match := _HASH.match(line):
            found.hash, found.hash_line = match[1], number
        for target in targets:
            if not (match := re.match(target.pattern, line)):
                continue
            value = as_float(match[1])
            if value is None:
                found.unread.append((target, match[1], number))
                continue
            found.values[target.metric] = Told(value, match[1], number)
            if target.met(value):
                good.add(target.metric)
            else:
                found.beyond.append((target, value, number))
        if wanted <= good and found.hash:
            break
    return found


def logged(path: Path) -> int | None:
    """Samples in an accuracy log, each once; ``None`` where it is cut, malformed or vast."""
    size = files.size(path) or 0
    if not 0 < size <= files.LARGEST_TEXT:
        return None
    try:
        if size <= LARGEST_CUT and CUT in path.read_bytes():
            return None
        return len({index for index, _ in accuracy_log.entries(path)})
    except (DataError, OSError):
        return None


def as_float(value: Any) -> float | None:
    """A figure of a log as a number, as Python reads one."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
