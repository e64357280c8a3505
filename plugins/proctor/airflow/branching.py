"""A conditional ``next`` as an Airflow task: decide, or wait without a worker until one can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from proctor.airflow import children, instance, subjects
from proctor.airflow.attempts import StepRun
from proctor.airflow.decisions import DecisionRun, Look, Made, check_chosen, next_round
from proctor.airflow.evidence import StepRefused, StepSkipped
from proctor.airflow.faults import faults_told
from proctor.airflow.reviews import ReviewRun
from proctor.airflow.triggers import SETTLE_SECONDS
from proctor.plan.model import Plan
from proctor.records.store import RecordError
from proctor.runtime.base import EngineError

_KINDS: dict[str, type[DecisionRun]] = {"review": ReviewRun}


class DecisionOperator(BaseOperator):
    """Says which of the steps behind it are done."""

    ui_color = "#efe6f5"

    def __init__(self, *, plan: Plan, step_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.step_id = step_id

    def execute(self, context: Any) -> list[str]:
        """Look once; where nothing holds yet, wait."""
        with faults_told(self.log):
            run = _decision_run(self.plan, self.step_id, context)
            try:
                run.check_plan()
                check_chosen(run)
                made = run.begin()
                if made is None:
                    seen = run.look()
                    for words in seen.words:
                        self.log.info(words)
                    run.tell(seen)
                    if seen.made is None:
                        self._wait(run)
                    made = seen.made
            except StepSkipped as skipped:
                raise AirflowSkipException(str(skipped)) from None
            except (StepRefused, RecordError) as refused:
                run.refuse(str(refused))
                raise AirflowFailException(str(refused)) from None
            return self._go_on(run, made)

    def resume(self, context: Any, event: dict[str, Any]) -> list[str]:
        """Go on when the trigger has found a condition that holds."""
        with faults_told(self.log):
            run = _decision_run(self.plan, self.step_id, context)
            if error := event.get("refused"):
                run.refuse(error)
                raise AirflowFailException(error)
            return self._go_on(run, Made(tuple(event["targets"]), event["condition"]))

    def _wait(self, run: DecisionRun) -> None:
        trigger = DecisionTrigger(
            pipeline=run.record.pipeline,
            run=run.record.run,
            step=self.step_id,
            generation=run.generation,
        )
        self.defer(trigger=trigger, method_name="resume")

    def _go_on(self, run: DecisionRun, made: Made | None) -> list[str]:
        assert made is not None  # noqa: S101 - deferred otherwise
        if run.begin() is None:
            run.end(made)
        run.tell(None)
        self.log.info("%s leads to %s", made.condition or "else", ", ".join(made.targets) or "on")
        if start := run.way_back(made):
            reason = f"{self.step_id}, attempt {run.attempts}: {made.condition or 'else'}"
            send_back(run, start, reason)
            self.log.info("%s goes back to %s", run.record.partition, start)
        return list(made.targets)


class DecisionTrigger(BaseTrigger):
    """Looks at the conditions again and again, until one holds."""

    def __init__(self, pipeline: str, run: str, step: str, generation: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pipeline, self.run_id, self.step, self.generation = pipeline, run, step, generation

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Everything that is needed to go on elsewhere."""
        told: dict[str, Any] = {"pipeline": self.pipeline, "run": self.run_id}
        told |= {"step": self.step, "generation": self.generation}
        return "proctor.airflow.branching.DecisionTrigger", told

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event when it is decided."""
        home = instance.home()
        record = home.records.run(self.pipeline, self.run_id)
        plan = home.records.plan(record.header().plan_digest)
        step = plan.step(self.step)
        kind = _KINDS.get(step.kind, DecisionRun)
        run = kind(home, plan, step, record, instance.runtime(), self.generation)
        last: Look | None = None
        await asyncio.sleep(SETTLE_SECONDS)
        while True:
            try:
                seen = await asyncio.to_thread(run.look)
            except (StepRefused, RecordError) as refused:
                yield TriggerEvent({"refused": str(refused)})  # type: ignore[no-untyped-call]
                return
            except EngineError as error:
                self.log.warning("the engine does not answer: %s", error)
                seen = Look(None)
            if seen != last:
                for words in seen.words:
                    self.log.info(words)
                await asyncio.to_thread(run.tell, seen)
                last = seen
            if made := seen.made:
                told = {"targets": list(made.targets), "condition": made.condition}
                yield TriggerEvent(told)  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(run.decision.wait_seconds)


class JoinOperator(BaseOperator):
    """Does nothing but stand behind other steps (MedPerf's dummy)."""

    ui_color = "#f4f4f4"

    def __init__(self, *, plan: Plan, step_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.step_id = step_id

    def execute(self, context: Any) -> None:
        """Record that everything before it is done."""
        with faults_told(self.log):
            run = _decision_run(self.plan, self.step_id, context)
            try:
                run.check_plan()
                check_chosen(run)
            except StepSkipped as skipped:
                raise AirflowSkipException(str(skipped)) from None
            except (StepRefused, RecordError) as refused:
                run.refuse(str(refused))
                raise AirflowFailException(str(refused)) from None
            if run.begin() is None:
                run.end(Made(()))


def send_back(run: StepRun, start: str, reason: str) -> None:
    """Have a subject go through its stretch anew, from a step on; once for each reason."""
    try:
        number = next_round(run, start, reason).number
    except StepRefused as refused:
        run.refuse(str(refused))
        raise AirflowFailException(str(refused)) from None
    dag_id = subjects.dag_id(run.plan, run.step.partition)
    children.start(dag_id, subjects.run_id(run.record, number), run.record)


def _decision_run(plan: Plan, step_id: str, context: Any) -> DecisionRun:
    home = instance.home()
    name, round = subjects.parse_run_id(context["dag_run"].run_id)
    record = home.records.run(plan.pipeline, name)
    generation = subjects.generation(round, int(context["task_instance"].max_tries))
    step = plan.step(step_id)
    kind = _KINDS.get(step.kind, DecisionRun)
    return kind(home, plan, step, record, instance.runtime(), generation)
