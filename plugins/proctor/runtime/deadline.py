"""How much of its time an attempt has left, by a clock that nobody sets.

A wall clock may be set while a step runs: a stored moment of it would end the step at once, or
keep it for hours. The host's uptime goes on through that and through suspension, and no attempt
outlives its host's boot. Where a handle does not have it, the wall clock has to do.
"""

from __future__ import annotations

import time
from datetime import datetime

from proctor.runtime.attempt import now
from proctor.runtime.base import Handle

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def uptime() -> float:
    """Seconds since this host's boot."""
    return time.clock_gettime(_CLOCK)


def by_uptime(handle: Handle, seconds: float, begun: float) -> Handle:
    """A handle of an attempt of so many seconds, its deadline noted by uptime, too.

    ``begun``: the uptime when the attempt was first recorded. What runs may be younger, where who
    recorded it died before the start; so the wall clock counts as well, once, and never against the
    attempt: an engine's clock may be another than this host's.
    """
    left = min(seconds, max(begun + seconds - uptime(), seconds_left(handle)))
    return handle.model_copy(update={"deadline_uptime": uptime() + left})


def seconds_left(handle: Handle) -> float:
    """Until the deadline; negative behind it, infinite where there is none."""
    if handle.deadline_uptime:
        return handle.deadline_uptime - uptime()
    if not handle.deadline_at:
        return float("inf")
    return (datetime.fromisoformat(handle.deadline_at) - now()).total_seconds()
