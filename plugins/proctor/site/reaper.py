"""Ends attempts that nobody follows any more.

A task that a person marks while it waits between worker and triggerer, or while the triggerer is
down, has nobody to stop its container. The record says that the attempt runs, Airflow says that
its task has ended or was cleared: where the two disagree for a while, the attempt is cancelled.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg2  # type: ignore[import-untyped]

from proctor.airflow import subjects
from proctor.airflow.attempts import StepRun
from proctor.airflow.children import left_alone
from proctor.airflow.cleanup import step_runs
from proctor.airflow.recorded import LastAttempt, Recorded
from proctor.plan.model import Plan
from proctor.records.store import RecordError, RunRecord
from proctor.runtime.base import EngineError
from proctor.site.client import AirflowUnavailable
from proctor.site.instance import Instance

LOOK_SECONDS = 5.0
# Where the database tells of no change: nothing is suspected, and the machine is left alone.
IDLE_SECONDS = 30.0
GRACE_SECONDS = 8.0
_ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}


@dataclass
class Reaper:
    """Looks now and then; call :meth:`look` from the launcher's loop."""

    instance: Instance
    _next: float = 0.0
    _next_idle: float = 0.0
    _changed: bool = False
    _suspects: dict[str, float] = field(default_factory=dict)
    _idle: dict[str, float] = field(default_factory=dict)

    def look(self, changed: bool = True) -> list[str]:
        """Cancel what should have ended; the names of those attempts.

        ``changed``: whether the database told of a change since the last call.
        """
        self._changed |= changed
        now = time.monotonic()
        if now < (self._next if self._changed or self._suspects else self._next_idle):
            return []
        self._next, self._next_idle, self._changed = now + LOOK_SECONDS, now + IDLE_SECONDS, False
        ended: list[str] = []
        self._give_up_subjects()
        for record in self.instance.home.records.all():
            try:
                ended += self._look_at(record)
            except (
                AirflowUnavailable,
                httpx.HTTPError,
                EngineError,
                RecordError,
                ValueError,
                OSError,
            ):
                continue  # the next look is soon enough
        return ended

    def _give_up_subjects(self) -> None:
        """Subjects of a run that somebody gave up have nobody to go on for."""
        try:
            alone = left_alone()
        except psycopg2.Error:
            return
        for dag_id, run_id in alone:
            # One that Airflow does not give up, as its DAG is gone, holds no other.
            with contextlib.suppress(AirflowUnavailable, httpx.HTTPError):
                self.instance.client.give_up(dag_id, run_id)

    def _look_at(self, record: RunRecord) -> list[str]:
        written = record.path.stat().st_mtime
        if self._idle.get(str(record.path)) == written:
            return []
        running = self._running(record)
        if not running:
            self._idle[str(record.path)] = written
            return []
        tasks = self._tasks(record, running)
        ended = []
        for run, attempt in running:
            if not _nobody_follows(run, attempt, tasks):
                self._suspects.pop(run.name, None)
            elif time.monotonic() - self._suspects.setdefault(run.name, time.monotonic()) > (
                GRACE_SECONDS
            ):
                del self._suspects[run.name]
                if run.end_attempt(attempt.number):
                    ended.append(run.name)
        return ended

    def _tasks(
        self, record: RunRecord, running: list[tuple[Recorded, LastAttempt]]
    ) -> Mapping[str, Any]:
        """As Airflow has them; all of them over where somebody deleted the run."""
        found: dict[str, dict[str, Any]] = {}
        for partition in {run.step.partition for run, _ in running}:
            found |= self._tasks_of(record, running[0][0].plan, partition)
        return found or {id: {"state": "removed"} for run, _ in running for id in run.tasks}

    def _tasks_of(self, record: RunRecord, plan: Plan, partition: str) -> dict[str, dict[str, Any]]:
        client, dag_id, run_id, round = self.instance.client, record.pipeline, record.run, 0
        if partition:
            round = subjects.rounds(record, partition)[-1].number
            dag_id, run_id = subjects.dag_id(plan, partition), subjects.run_id(record, round)
        if client.run_state(dag_id, run_id) is None:
            return {}
        tasks = client.task_states(dag_id, run_id)
        for task in tasks.values():
            task["generation"] = subjects.generation(round, task["max_tries"])
        return tasks

    def _running(self, record: RunRecord) -> list[tuple[Recorded, LastAttempt]]:
        runs = step_runs(self.instance.home, record, self.instance.runtime)
        return [(run, attempt) for run in runs if (attempt := run.unended())]


def _nobody_follows(run: Recorded, attempt: LastAttempt, tasks: Mapping[str, Any]) -> bool:
    """Every task that needs it has ended, or a step's was cleared: that raises its tries."""
    if {tasks.get(id, {}).get("state") for id in run.tasks} <= _ENDED:
        return True
    allowed = tasks.get(run.step.id, {}).get("generation", attempt.generation)
    return isinstance(run, StepRun) and allowed > attempt.generation
