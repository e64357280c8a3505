"""Watches a pipeline's sources from the triggerer, and tells Airflow when one has changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from proctor.airflow import children, instance
from proctor.site import schedules, sources
from proctor.site.home import Home
from proctor.site.sources import Look

# While something is measured nobody looks; whether that is over is asked this often.
QUIET_SECONDS = 30.0
# An event is in Airflow's database soon after it was given. A triggerer that dies before the mark
# is set tells the change a second time; the other way round, it would not be told at all.
TOLD_SECONDS = 3.0


class SourcesTrigger(BaseEventTrigger):
    """Looks at all sources of a pipeline ``every`` so many seconds, for as long as it is scheduled.

    ``of`` tells which sources they are: other ones are another trigger's. An event's payload is
    ``{"changed": [{"name": ..., "was": ..., "is": ...}]}``.
    """

    def __init__(self, pipeline: str, of: str, every: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pipeline = pipeline
        self.of = of
        self.every = every
        self._troubles: dict[str, str] = {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Everything that is needed to go on elsewhere."""
        given = {"pipeline": self.pipeline, "of": self.of, "every": self.every}
        return "proctor.airflow.watch.SourcesTrigger", given

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each look that found a change."""
        home = instance.home()
        while True:
            try:
                while await asyncio.to_thread(_measuring):
                    await asyncio.sleep(QUIET_SECONDS)
                found = await asyncio.to_thread(_look, home, self.pipeline)
            except Exception as error:
                # One that ended would never be looked after again.
                self.log.warning("the sources of %s: %s", self.pipeline, error)
                found = None
            if found:
                self._tell_troubles(found)
                if found.changes:
                    yield TriggerEvent({"changed": list(found.changes)})  # type: ignore[no-untyped-call]
                    await asyncio.sleep(TOLD_SECONDS)
                    await asyncio.to_thread(sources.keep, home, self.pipeline, found.told)
            await asyncio.sleep(self.every)

    def _tell_troubles(self, found: Look) -> None:
        """Once each; `proctor schedule list` and the launcher show them, too."""
        for name, trouble in found.troubles.items():
            if self._troubles.get(name) != trouble:
                self.log.warning("%s, %s: %s", self.pipeline, name, trouble)
        self._troubles = found.troubles


def _measuring() -> bool:
    return children.measuring(instance.POOL, instance.slots())


def _look(home: Home, pipeline: str) -> Look | None:
    """A look at what the pipeline watches now; ``None`` where that is nothing any more."""
    entry = home.pipelines().get(pipeline)
    scheduled = schedules.scheduled(home, entry) if entry else None
    if scheduled is None or not scheduled.schedule.assets:
        return None
    found = sources.look(home, pipeline, sources.watched(home, scheduled))
    sources.keep(home, pipeline, found.untold)
    return found
