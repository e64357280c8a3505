"""A step of a plan as an Airflow task: wait a little in the worker, then without one."""

from __future__ import annotations

import os
import time
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from proctor.airflow import instance, subjects
from proctor.airflow.attempts import StepRun
from proctor.airflow.branching import send_back
from proctor.airflow.decisions import check_chosen
from proctor.airflow.evidence import StepRefused, StepSkipped
from proctor.airflow.faults import faults_told
from proctor.airflow.triggers import StepTrigger, deadline_passed
from proctor.plan.model import Plan
from proctor.records.store import RecordError
from proctor.runtime.base import EngineError, Failure, Handle, Outcome
from proctor.runtime.ending import end_of

# Deferring costs about three seconds a step; what ends sooner than this never pays them.
PATIENCE_SECONDS = 10.0
# What deferring costs is processor time, too: an exclusive step pays it while it still loads.
EXCLUSIVE_PATIENCE_SECONDS = 4.0
POLL_FIRST_SECONDS = 0.05
POLL_LONGEST_SECONDS = 0.5
# Where the kernel tells of the end, the engine is asked now and then, for the log and the deadline.
LOOK_SECONDS = 1.0


class StepOperator(BaseOperator):
    """Runs one step of a plan.

    The plan travels with the operator inside this process only: the serialised DAG does not hold
    it. Only a failure that the step had no part in is raised so that Airflow tries again.
    """

    ui_color = "#e8eef7"

    def __init__(self, *, plan: Plan, step_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.step_id = step_id
        self._log_position = ""

    def execute(self, context: Any) -> dict[str, Any]:
        """Start the step, or take it up where it is."""
        with faults_told(self.log):
            return self._take_up_or_start(self._step_run(context))

    def _take_up_or_start(self, run: StepRun) -> dict[str, Any]:
        try:
            run.check_plan()
            run.check_selected()
            check_chosen(run)
            taken = run.take_up_or_start()
        except StepSkipped as skipped:
            raise AirflowSkipException(str(skipped)) from None
        except (StepRefused, RecordError) as refused:
            if run.record.exists():
                run.refuse(str(refused))
            raise AirflowFailException(str(refused)) from None
        if isinstance(taken, Outcome):
            return self._told(run, taken)
        return self._wait(run, taken)

    def resume(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """Go on when the trigger says that the attempt ended."""
        with faults_told(self.log):
            # It ends under the plan it began with, even where the spec was edited meanwhile.
            run = self._step_run(context, frozen=True)
            handle = Handle.model_validate(event["handle"])
            self._log_position = event["log_position"]
            if event["reason"] == "engine":
                raise AirflowException(f"the engine failed: {event['message']}")
            return self._finish(run, handle, deadline=event["reason"] == "deadline")

    def on_kill(self) -> None:
        """Signalled: end at once, as if killed, and leave the container alone.

        Nobody tells a person's word from a launcher, supervisor or API server that died, and those
        must not end a measurement. What a person cleared, the next start ends; what one marked, the
        launcher does (site/reaper.py).
        """
        os._exit(1)

    def _wait(self, run: StepRun, handle: Handle) -> dict[str, Any]:
        self.log.info("%s, attempt %d: %s", self.step_id, handle.attempt, handle.image or "fake")
        patience = EXCLUSIVE_PATIENCE_SECONDS if run.step.exclusive else PATIENCE_SECONDS
        give_up = time.monotonic() + patience
        pause, end = POLL_FIRST_SECONDS, end_of(run.runtime, handle)
        try:
            while time.monotonic() < give_up:
                state = run.runtime.poll(handle)
                # One piece a turn: a log may grow faster than it is copied, and never end.
                self._copy_piece(run, handle)
                if state.phase != "running":
                    return self._finish(run, handle)
                if deadline_passed(handle):
                    run.runtime.stop(handle)
                    return self._finish(run, handle, deadline=True)
                if end is None:
                    time.sleep(pause)
                    pause = min(pause * 1.5, POLL_LONGEST_SECONDS)
                elif end.wait(LOOK_SECONDS):
                    # The engine learns of it a little later.
                    end = None
        except EngineError as error:
            # The step may well go on meanwhile, and the trigger has more patience.
            self.log.warning("the engine does not answer: %s", error)
        self.defer(
            trigger=StepTrigger(
                handle=handle.model_dump(mode="json"),
                log_position=self._log_position,
                quiet=run.step.exclusive,
            ),
            method_name="resume",
        )

    def _finish(self, run: StepRun, handle: Handle, deadline: bool = False) -> dict[str, Any]:
        failure = None
        if deadline:
            limit = run.step.deadline_seconds
            failure = Failure(
                kind="deadline", message=f"not done within its deadline of {limit:g} s; stopped"
            )
        self._copy_log(run, handle)
        return self._told(run, run.finish(handle, failure))

    def _told(self, run: StepRun, outcome: Outcome) -> dict[str, Any]:
        if outcome.failure is None:
            if start := run.step.leads_back_to:
                send_back(run, start, f"{run.step.id}, attempt {run.attempts}")
            return {"outputs": outcome.outputs}
        words = f"{_WORDS[outcome.failure.kind]}: {outcome.failure.message}"
        if outcome.failure.kind in _TRIED_AGAIN:
            raise AirflowException(words)
        raise AirflowFailException(words)

    def _copy_log(self, run: StepRun, handle: Handle) -> None:
        """All that is left of an ended attempt's log; the runtime keeps no more than so much."""
        while self._copy_piece(run, handle):
            pass

    def _copy_piece(self, run: StepRun, handle: Handle) -> bool:
        chunk = run.runtime.logs(handle, self._log_position)
        for line in chunk.lines:
            self.log.info(line)
        self._log_position = chunk.next
        return bool(chunk.lines)

    def _step_run(self, context: Any, frozen: bool = False) -> StepRun:
        home = instance.home()
        run, round = subjects.parse_run_id(context["dag_run"].run_id)
        record = home.records.run(self.plan.pipeline, run)
        # Clearing a task raises its limit of tries; a retry of Airflow's own does not.
        generation = subjects.generation(round, int(context["task_instance"].max_tries))
        plan = home.records.plan(record.header().plan_digest) if frozen else self.plan
        step = plan.step(self.step_id)
        return StepRun(home, plan, step, record, instance.runtime(), generation)


# What the step itself had no part in.
_TRIED_AGAIN = ("engine", "killed")
_WORDS = {
    "data": "the data is wrong",
    "step": "the step failed",
    "out_of_memory": "out of memory",
    "killed": "killed from outside",
    "deadline": "deadline",
    "cancelled": "cancelled",
    "engine": "the engine failed",
}
