"""Keeps a step from filling the disk that everything else of this machine needs.

A container may write as much as it likes into its outputs. Where little is left and a running step
has written more than that, it is the step that ends, not the instance: its task says why, and what
it had written goes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.filesize import decimal

from proctor.runtime.artifacts import LocalArtifacts
from proctor.runtime.attempt import Attempt
from proctor.runtime.base import EngineError, Handle, RequestRefused
from proctor.runtime.choose import make
from proctor.runtime.collect import note_stop
from proctor.site.home import Home

# More than a disk takes in the second until the next look; the launcher itself needs far less.
RESERVE_BYTES = 1 << 30
GRACE_SECONDS = 2.0


@dataclass
class Room:
    """Call :meth:`look` every second or so. ``runtime``: the name of the one that runs steps."""

    home: Home
    runtime: str

    def look(self) -> list[str]:
        """Stop the step that leaves no room, if one does; what was done, in lines."""
        free = shutil.disk_usage(self.home.path).free
        if free >= RESERVE_BYTES:
            return []
        try:
            runtime = make(self.runtime, self.home.path)
            sizes = [(written(self.home.path, each), each) for each in runtime.ours()]
            size, handle = max(sizes, key=lambda each: each[0], default=(0, None))
            if handle is None or size <= free or runtime.poll(handle).phase != "running":
                return []
            why = (
                f"it has written {decimal(size)} and left {decimal(free)} of the disk of "
                f"{self.home.path}; stopped, and what it wrote is removed. If it needs that much, "
                "give the home a larger disk"
            )
            note_stop(Attempt.of(self.home.path, handle), GRACE_SECONDS, why)
            runtime.stop(handle, GRACE_SECONDS)
        except (EngineError, RequestRefused, OSError):
            return []  # the next look is soon enough
        return [f"stopped {handle.pipeline}/{handle.run}/{handle.step}: {why}"]


def written(home: Path, handle: Handle) -> int:
    """Bytes on the disk that an attempt's own folders take; directories that steps share, and the
    cache, are nobody's alone."""
    attempt, store = Attempt.of(home, handle), LocalArtifacts(home)
    places = [store.staged(attempt.name, each.name) for each in handle.outputs if not each.shared]
    return sum(size for place in (attempt.step_dir, *places) for size in _sizes(place))


def _sizes(place: Path) -> Iterator[int]:
    """Of every file below a place, as the disk has it; links count for nothing."""
    if place.is_file():
        yield place.lstat().st_blocks * 512
    for folder, _, files in os.walk(place):
        for name in files:
            try:
                yield (Path(folder) / name).lstat().st_blocks * 512
            except OSError:
                continue  # gone meanwhile
