"""What a launcher does beside supervising its components: the same in `run` and in `up`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import psycopg2  # type: ignore[import-untyped]

from proctor.records.store import RecordError, RunRecord
from proctor.site.client import AirflowUnavailable
from proctor.site.instance import Instance
from proctor.site.messenger import Messenger
from proctor.site.notify import Notifier
from proctor.site.reaper import IDLE_SECONDS, Reaper
from proctor.site.reporting import Reporter
from proctor.site.rework import Rework
from proctor.site.room import Room
from proctor.site.sources import Troubles


@dataclass
class Upkeep:
    """Call :meth:`look` every second or so.

    ``only``: the one run that this launcher follows, and that may go back to an earlier step.
    """

    instance: Instance
    only: RunRecord | None = None
    _due: float = 0.0
    _reaper: Reaper = field(init=False)
    _rework: Rework = field(init=False)
    _notifier: Notifier = field(init=False)
    _messenger: Messenger = field(init=False)
    _reporter: Reporter = field(init=False)
    _room: Room = field(init=False)
    _troubles: Troubles = field(init=False)

    def __post_init__(self) -> None:
        self._reaper = Reaper(self.instance)
        self._rework = Rework(self.instance)
        self._notifier = Notifier(self.instance)
        self._messenger = Messenger(self.instance)
        self._reporter = Reporter(self.instance.home)
        self._room = Room(self.instance.home, self.instance.runtime)
        self._troubles = Troubles(self.instance.home)

    def look(self, changed: bool) -> list[str]:
        """What was done, in lines for the terminal.

        ``changed``: whether the database told of a change since the last call.

        Raises:
            AirflowUnavailable, httpx.HTTPError: of the one run that is followed.
        """
        said = self._room.look()
        said += [f"stopped {name}: its task had ended" for name in self._reaper.look(changed)]
        due = changed or time.monotonic() >= self._due
        if due:
            said += self._go_back()
            self._due = time.monotonic() + IDLE_SECONDS
        if self.only is None:  # beside a run from the terminal nothing is watched
            said += self._troubles.look(due)
        said += self._notifier.look(due) + self._messenger.look(due)
        return said + self._reporter.look(due)

    def finish(self) -> list[str]:
        """Tell what is left to be told, before the launcher ends."""
        return self._notifier.finish() + self._messenger.finish() + self._reporter.finish()

    def _go_back(self) -> Iterator[str]:
        if self.only is not None:
            yield from self._rework.look_at(self.only)
            return
        for record in self.instance.home.records.runs():
            # The next look is soon enough, and no run's trouble is another's.
            with contextlib.suppress(*_TROUBLES):
                yield from self._rework.look_at(record)


_TROUBLES = (AirflowUnavailable, httpx.HTTPError, psycopg2.Error, RecordError, ValueError, OSError)
