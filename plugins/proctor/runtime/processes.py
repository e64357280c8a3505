"""The process table, read from /proc: who is ours, and how to end them all.

A pid alone proves nothing, it is used again. A process is named by pid, start time and boot.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")


class Entry(NamedTuple):
    """What the process table says of one process. ``started``: clock ticks since the boot."""

    pid: int
    parent: int
    state: str
    started: int


def entry(pid: int) -> Entry | None:
    """The process of that number, or ``None`` where there is none or only its zombie."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name stands in brackets and may hold blanks and brackets itself.
    fields = text[text.rfind(")") + 2 :].split()
    found = Entry(pid, int(fields[1]), fields[0], int(fields[19]))
    return None if found.state in "ZX" else found


def cgroup(pid: int) -> str:
    """The control groups of a process, as the kernel names them; "" where there is none."""
    try:
        return (_PROC / str(pid) / "cgroup").read_text()
    except OSError:
        return ""


def boot_id() -> str:
    """Names this boot of the machine."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def started_at(pid: int) -> datetime | None:
    """When a living process began."""
    found = entry(pid)
    if found is None:
        return None
    # /proc/stat's btime has whole seconds only.
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return datetime.fromtimestamp(booted + found.started / os.sysconf("SC_CLK_TCK"), UTC)


def identify(pid: int) -> str:
    """``pid:started:boot`` of a living process.

    Raises:
        ProcessLookupError: there is none.
    """
    found = entry(pid)
    if found is None:
        raise ProcessLookupError(pid)
    return f"{pid}:{found.started}:{boot_id()}"


def living_pid(identity: str) -> int | None:
    """The pid, where just this process still lives."""
    pid, _, rest = identity.partition(":")
    started, _, boot = rest.partition(":")
    found = entry(int(pid))
    if found is None or str(found.started) != started or boot != boot_id():
        return None
    return found.pid


def members(marker: str, root: int | None = None) -> set[int]:
    """Processes below ``root`` in the tree, and all whose environment holds ``marker``.

    The tree finds those that cleared their environment, the environment those whose parents have
    ended or that began a session of their own. The caller itself and ``root`` are left out.
    """
    table = [found for pid in _pids() if (found := entry(pid)) is not None]
    wanted = marker.encode()
    ours = {e.pid for e in table if wanted in _environment(e.pid)}
    children: dict[int, list[int]] = {}
    for each in table:
        children.setdefault(each.parent, []).append(each.pid)
    waiting = list(ours) + ([] if root is None else [root])
    while waiting:
        below = [pid for pid in children.get(waiting.pop(), ()) if pid not in ours]
        ours.update(below)
        waiting += below
    return ours - {os.getpid()} - ({root} if root is not None else set())


def end_all(
    find: Callable[[], set[int]], grace_seconds: float, reap: Callable[[], None] = lambda: None
) -> bool:
    """SIGTERM to all that ``find`` gives, then SIGKILL until it gives none; whether none is left.

    ``reap`` is called between looks, for a caller whose children are among them.
    """
    patience = time.monotonic() + grace_seconds
    signal_each(find(), signal.SIGTERM)
    while time.monotonic() < patience:
        reap()
        if not find():
            return True
        time.sleep(0.05)
    for _ in range(200):
        reap()
        left = find()
        if not left:
            return True
        signal_each(left, signal.SIGKILL)
        time.sleep(0.05)
    return False


def signal_each(pids: set[int], number: signal.Signals) -> None:
    """Send a signal; who has ended meanwhile needs none."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def _pids() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdecimal()]  # noqa: PTH208


def _environment(pid: int) -> set[bytes]:
    try:
        return set((_PROC / str(pid) / "environ").read_bytes().split(b"\0"))
    except OSError:
        return set()
