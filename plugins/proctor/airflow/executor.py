"""Airflow's LocalExecutor, at whose turn the scheduler sleeps until there is something to do.

The scheduler turns around as fast as it can and sleeps a fixed time where it found nothing. Here
that fixed time is zero, and the sleep is in the executor's turn, as it alone knows both ends of
what the scheduler waits for: a change in the database, and a worker that is done.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.executors.local_executor import LocalExecutor

from proctor.airflow import instance
from proctor.airflow.changes import DECIDED, TASKS, Changes

# The scheduler's own clocks (heartbeat, lost tasks, timeouts) are looked at this often; whether
# there is a decision to make, more seldom (site/component.py).
LONGEST_SECONDS = 5.0


class WakingExecutor(LocalExecutor):
    """Waits in :meth:`sync`, which the scheduler calls once a turn and outside of transactions."""

    _changes: Changes
    # Whether something happened in the last turn, so that the scheduler has decisions to make.
    woken = True

    def start(self) -> None:
        """Called in the scheduler alone; other components only look the class up.

        The workers that it forks, and their tasks, find imported here what every task needs.
        """
        import proctor.airflow.dag  # noqa: F401 - not for those who look the class up

        instance.runtime()
        super().start()
        self._changes = Changes.of_airflow(TASKS, ignored=DECIDED)

    def _check_workers(self) -> None:
        """End the scheduler where a worker was killed: the launcher starts it anew, whole.

        A worker that died may have held the lock on the queue that all of them read, and nothing
        tells: no task would ever start again. What the others did is taken up by the next.
        """
        if any(not worker.is_alive() for worker in self.workers.values()):
            self.log.error("a worker was killed; the scheduler is started anew")
            os._exit(1)
        super()._check_workers()  # type: ignore[no-untyped-call]

    def sync(self) -> None:
        """Take what workers have done; if that is nothing, sleep until there is something to do."""
        full = self.slots_available <= 0
        super().sync()
        if self.event_buffer:  # which the scheduler takes next
            self._changes.wait(0)
        else:
            self._changes.wait(LONGEST_SECONDS, _descriptor(self.result_queue))
            super().sync()
        # Of a task's end the database tells, but not of the worker that it had.
        self.woken = self._changes.told or (full and bool(self.event_buffer))


def _descriptor(queue: Any) -> int:
    """Readable when a queue between processes holds something."""
    return int(queue._reader.fileno())
