"""Processor time of groups of processes over a while, from the process table."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_TICKS = os.sysconf("SC_CLK_TCK")
# Maps each process to the name of its group, or to "" where it is none of ours.
Grouping = Callable[[dict[int, int]], dict[int, str]]


@dataclass
class Usage:
    """Percent of one core, by group, over ``seconds``."""

    seconds: float
    percent: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """All groups together."""
        return sum(self.percent.values())


def measure(group: Grouping, seconds: float) -> Usage:
    """Watch for so long. Children that came and ended meanwhile count with who waited for them."""
    before, begun = used(group), time.monotonic()
    time.sleep(seconds)
    after, passed = used(group), time.monotonic() - begun
    return Usage(
        passed,
        {
            name: 100 * (after.get(name, 0) - before.get(name, 0)) / passed
            for name in sorted({*before, *after})
        },
    )


def used(group: Grouping) -> dict[str, float]:
    """Seconds so far, by group: of its processes, and of their children that they have waited for.

    What a process had used that ended meanwhile is in its parent's sum, so that differences of
    these sums hold it.
    """
    table = {pid: fields for pid in psutil.pids() if (fields := _stat(pid)) is not None}
    groups = group({pid: int(fields[1]) for pid, fields in table.items()})
    found: dict[str, float] = {}
    for pid, fields in table.items():
        if name := groups.get(pid):
            found[name] = found.get(name, 0.0) + sum(map(int, fields[11:15])) / _TICKS
    return found


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat behind the name: state, parent, ..."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text[text.rfind(")") + 2 :].split()


def trees(roots: Mapping[str, int]) -> Grouping:
    """Groups by the nearest root above a process; roots may be below one another."""
    by_pid = {pid: name for name, pid in roots.items()}

    def group(parents: dict[int, int]) -> dict[int, str]:
        return {pid: _nearest(pid, parents, by_pid) for pid in parents}

    return group


def _nearest(pid: int, parents: Mapping[int, int], roots: Mapping[int, str]) -> str:
    while pid > 1 and pid not in roots:
        pid = parents.get(pid, 0)
    return roots.get(pid, "")


def named(*names: str) -> Grouping:
    """Groups by the program's name, whoever started it."""

    def group(parents: dict[int, int]) -> dict[int, str]:
        return {pid: name for pid in parents if (name := _name(pid)) in names}

    return group


def _name(pid: int) -> str:
    try:
        # The kernel keeps 15 characters of a name; the first word of the command line has it all.
        return Path(psutil.Process(pid).cmdline()[0]).name
    except (psutil.Error, IndexError):
        return ""
