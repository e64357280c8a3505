"""How much of the processors others take while something is measured.

The kernel counts all work on a processor (/proc/stat), and what a process and its children used;
the difference is others': programs of this host, its kernel's own work, and the time that a
hypervisor gave to other machines (steal). A reading costs some 0.2 ms, so that looking disturbs
nothing.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
# Columns of a processor in /proc/stat, see proc(5): guest time is in user's already.
_USER, _NICE, _SYSTEM, _IRQ, _SOFTIRQ, _STEAL = 0, 1, 2, 5, 6, 7
# /proc/stat is counted by ticks, a process's own time exactly: what they may differ by.
_LESS = 0.1


class NotTold(Exception):
    """This machine does not tell what others use; the message says why."""


@dataclass(frozen=True)
class Reading:
    """Seconds of work so far on the processors that this process may use: ``busy`` everybody's,
    ``stolen`` by the hypervisor, ``own``. ``at``: ``time.monotonic``."""

    at: float
    busy: float
    stolen: float
    own: float


@dataclass(frozen=True)
class Share:
    """What others took over ``seconds``, in processors (0.5: half of one), ``stolen`` included."""

    seconds: float
    processors: float
    stolen: float


def usable() -> set[int]:
    """The processors that this process may use."""
    return os.sched_getaffinity(0)


def read(child: int = 0) -> Reading:
    """Read the counts.

    Args:
        child: a child that still runs, whose time is this process's own, too. Children that were
            waited for are in it anyway.

    Raises:
        NotTold: the counts are not there, or are not this host's.
    """
    try:
        if any(line.split()[4] == "/proc/stat" for line in _lines("self/mountinfo")):
            raise NotTold("something is mounted over /proc/stat, which so shows another machine")
        counts = {name: fields for name, *fields in map(str.split, _lines("stat")) if fields}
        rows = [[int(ticks) for ticks in counts[f"cpu{number}"]] for number in usable()]
        work = (_USER, _NICE, _SYSTEM, _IRQ, _SOFTIRQ)
        busy = sum(row[column] for row in rows for column in work) / _TICKS
        stolen = sum(row[_STEAL] for row in rows) / _TICKS
        return Reading(time.monotonic(), busy, stolen, _own(child))
    except (OSError, ValueError, LookupError) as error:
        raise NotTold(f"/proc does not tell it ({type(error).__name__}: {error})") from error


def between(first: Reading, last: Reading) -> Share:
    """What others took between two readings.

    Raises:
        NotTold: there was less work than this process did: the counts are not this host's.
    """
    seconds = last.at - first.at
    busy, own = last.busy - first.busy, last.own - first.own
    stolen = last.stolen - first.stolen
    if seconds <= 0:
        raise NotTold("there was no time between the readings")
    if own - busy - stolen > _LESS * (own + 1):
        raise NotTold("/proc/stat counts less work than this step did")
    # Some kernels count stolen time as the process's own as well: then others may seem to be less.
    processors = (max(busy - own, 0.0) + stolen) / seconds
    return Share(seconds, round(processors, 4), round(stolen / seconds, 4))


def _own(child: int) -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own = sum(each.ru_utime + each.ru_stime for each in used)
    if child:
        text = (_PROC / str(child) / "stat").read_text(errors="replace")
        # Behind the name, which may hold anything: state is the first field, utime the 12th, then
        # stime and both of its children.
        own += sum(map(int, text[text.rindex(")") + 2 :].split()[11:15])) / _TICKS
    return own


def _lines(name: str) -> list[str]:
    return (_PROC / name).read_text(errors="replace").splitlines()
