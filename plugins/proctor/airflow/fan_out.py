"""A stretch of steps, done for every subject: one run of the stretch's DAG for each.

The task starts them and then waits without a worker. A subject that failed does not stop the
others; it is waited for where all are wanted, as a person can mend its data and clear its step.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg2  # type: ignore[import-untyped]
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from proctor.airflow import children, instance, subjects
from proctor.airflow.attempts import StepRun
from proctor.airflow.evidence import StepRefused
from proctor.airflow.faults import faults_told
from proctor.airflow.recorded import refresh_summary
from proctor.airflow.subjects import Stand
from proctor.airflow.triggers import SETTLE_SECONDS
from proctor.plan.model import Plan
from proctor.records.store import RecordError, RunRecord
from proctor.site.home import Home

# How often the runs of all subjects are looked at: one short query.
LOOK_SECONDS = 2.0
SUMMARY_SECONDS = 10.0  # between two summaries while no subject has come to its end
STILL_SECONDS = 10.0  # where nothing has changed for a while, as subjects may wait for days
_STILL_AFTER = 60.0


class SubjectsOperator(BaseOperator):
    """Has every subject go through a stretch of steps."""

    ui_color = "#e5f3ea"

    def __init__(self, *, plan: Plan, step_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.step_id = step_id

    def execute(self, context: Any) -> Any:
        """Start what has not been started for some subject, then wait."""
        with faults_told(self.log):
            run = self._step_run(context)
            try:
                run.check_plan()
                names = subjects.listed(run.home, run.record, self.plan)
            except (StepRefused, RecordError) as refused:
                if run.record.exists():
                    run.refuse(str(refused))
                raise AirflowFailException(str(refused)) from None
            self._start_all(run, names)
            self._wait(run)

    def resume(self, context: Any, event: dict[str, Any]) -> dict[str, int]:
        """Go on when enough subjects are done."""
        with faults_told(self.log):
            run = self._step_run(context)
            found = look(run.home, run.record, self.plan, self.step_id)
            if not found.may_go_on(self.plan.fan_in):
                self._wait(run)  # somebody cleared one meanwhile
            run.end_subjects(found)
            for subject in found.failed:
                self.log.warning("left out, as it failed: %s", subject)
            return {"succeeded": len(found.succeeded), "left out": len(found.failed)}

    def _start_all(self, run: StepRun, names: list[str]) -> None:
        attempt, again = run.begin_subjects()
        dag_id = subjects.dag_id(self.plan, self.step_id)
        known = children.states(dag_id, run.record)
        started = 0
        for name in names:
            part = run.record.subject(name)
            new = not part.exists()
            subjects.begin(part, self.plan)
            if again and not new:
                _, state = known.get(part.run, (0, ""))
                subjects.begin_again(part, self.plan, self.step_id, attempt, state)
            number = subjects.rounds(part, self.step_id)[-1].number
            if known.get(part.run, (0, ""))[0] < number:
                children.start(dag_id, subjects.run_id(part, number), part)
                started += 1
        self.log.info("%d subjects, %d started now, in %s", len(names), started, dag_id)
        run.refresh_summary()

    def _wait(self, run: StepRun) -> None:
        self.defer(
            trigger=SubjectsTrigger(
                pipeline=run.record.pipeline, run=run.record.run, partition=self.step_id
            ),
            method_name="resume",
        )

    def _step_run(self, context: Any) -> StepRun:
        home = instance.home()
        record = home.records.run(self.plan.pipeline, context["dag_run"].run_id)
        generation = int(context["task_instance"].max_tries)
        step = self.plan.step(self.step_id)
        return StepRun(home, self.plan, step, record, instance.runtime(), generation)


class SubjectsTrigger(BaseTrigger):
    """Waits until enough subjects are through a stretch; its event says no more than that."""

    def __init__(self, pipeline: str, run: str, partition: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pipeline, self.run_id, self.partition = pipeline, run, partition

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Everything that is needed to go on elsewhere."""
        told = {"pipeline": self.pipeline, "run": self.run_id, "partition": self.partition}
        return "proctor.airflow.fan_out.SubjectsTrigger", told

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event when what follows may start."""
        home = instance.home()
        record = home.records.run(self.pipeline, self.run_id)
        plan = home.records.plan(record.header().plan_digest)
        clock = asyncio.get_running_loop().time
        begun = changed = clock()
        told = float("-inf")
        last: Stand | None = None
        while True:
            try:
                found = await asyncio.to_thread(look, home, record, plan, self.partition)
            except psycopg2.Error as error:
                self.log.warning("the database does not answer: %s", error)
                await asyncio.sleep(STILL_SECONDS)
                continue
            if found != last:
                changed = clock()
                self._tell(found, last)
                last = found
                told = float("-inf")
            still = clock() - changed > _STILL_AFTER
            if clock() - told >= (_STILL_AFTER if still else SUMMARY_SECONDS):
                await asyncio.to_thread(refresh_summary, home, record)
                told = clock()
            if found.may_go_on(plan.fan_in):
                await asyncio.sleep(begun + SETTLE_SECONDS - clock())
                yield TriggerEvent({})  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(STILL_SECONDS if still else LOOK_SECONDS)

    def _tell(self, found: Stand, last: Stand | None) -> None:
        counts = (len(found.succeeded), len(found.failed), len(found.under_way))
        self.log.info("%d subjects done, %d failed, %d under way", *counts)
        for subject in sorted(set(found.failed) - set(last.failed if last else ())):
            self.log.warning(
                "failed: %s. See its run in %s.%s; when its cause is mended, clear the failed step "
                "there and it goes on",
                subject,
                self.pipeline,
                self.partition,
            )


def look(home: Home, record: RunRecord, plan: Plan, partition: str) -> Stand:
    """How far the subjects of a run are in a stretch."""
    names = subjects.listed(home, record, plan)
    known = children.states(subjects.dag_id(plan, partition), record)
    return subjects.stand(record, names, known)
