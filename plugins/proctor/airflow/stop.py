"""The end of a service as an Airflow task: behind every step that uses it, whatever became of them.

It runs when they are all over, failed and skipped ones too, so its success says nothing about
theirs. Airflow's teardown tasks would be meant for that, but a run with one that somebody marks as
failed goes on to it and then counts as a success.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from proctor.airflow import instance
from proctor.airflow.recorded import refresh_summary
from proctor.airflow.services import ServiceRun
from proctor.plan.model import Plan
from proctor.runtime.base import EngineError

# A line of a service's log that is longer is cut: the task's log is for people.
LONGEST_LINE = 2000


class StopOperator(BaseOperator):
    """Stops and removes one service and puts the end of its log into the task's."""

    ui_color = "#f4f4f4"

    def __init__(self, *, plan: Plan, step_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.step_id = step_id

    def execute(self, context: Any) -> str:
        """End the service; run again, it ends nothing that has ended."""
        home = instance.home()
        record = home.records.run(self.plan.pipeline, context["dag_run"].run_id)
        if not record.exists():
            raise AirflowSkipException("the run never began")
        # It belongs to the plan that the run began with, even where the spec has been edited since.
        plan = home.records.plan(record.header().plan_digest)
        service = plan.service(plan.step(self.step_id).services[0])
        result = {"state": "succeeded", "message": ""}
        try:
            said, lines = ServiceRun(home, plan, service, record, instance.runtime()).end()
            result["message"] = said
        except EngineError as error:
            result |= {"state": "failed", "kind": "engine", "message": str(error)}
        record.append("result", step=self.step_id, plan_digest=plan.digest, data=result)
        refresh_summary(home, record)
        if result["state"] == "failed":
            raise AirflowException(f"the engine failed: {result['message']}")
        for line in lines:
            self.log.info(line[:LONGEST_LINE])
        self.log.info("%s: %s", service.id, said)
        return said
