"""What a task, a trigger or a page knows of the instance it runs in: home folder and runtime."""

from __future__ import annotations

import os

from proctor.runtime.base import Runtime
from proctor.runtime.choose import make
from proctor.site.home import (
    COORDINATOR_VARIABLE,
    RUNTIME_VARIABLE,
    SCHEDULES_VARIABLE,
    SLOTS_VARIABLE,
    Home,
)

# Every step takes slots of this pool; an exclusive step takes all of them.
POOL = "proctor_local"


def home() -> Home:
    """The home folder that the launcher named."""
    return Home.default()


def coordinates() -> bool:
    """Whether sites report to this instance."""
    return bool(os.environ.get(COORDINATOR_VARIABLE))


def schedules_count() -> bool:
    """Whether pipelines start by themselves here; beside a run from the terminal none may."""
    return bool(os.environ.get(SCHEDULES_VARIABLE))


def runtime() -> Runtime:
    """The runtime that the launcher chose."""
    return make(os.environ.get(RUNTIME_VARIABLE, "process"), home().path)


def slots() -> int:
    """Slots of the host's pool: its cores, unless the launcher says otherwise."""
    return int(os.environ.get(SLOTS_VARIABLE) or os.cpu_count() or 1)
