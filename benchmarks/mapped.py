"""The mapped task group that subjects are compared with: Proctor's operator, expanded by hand.

What a spec's author would write without Proctor's fan-out: one DAG, one task group that is expanded
over the names. Each task is a :class:`StepOperator` that finds its subject in its argument instead
of its run's id; record, runtime and figures are the same. It is in Airflow's own pool, and so may
have twice as many tasks at once as Proctor's, which has a slot for each processor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task_group

from proctor.airflow import begin, instance, subjects
from proctor.airflow.attempts import StepRun
from proctor.airflow.begin import BeginOperator
from proctor.airflow.dag import _settings as settings
from proctor.airflow.operator import StepOperator
from proctor.airflow.schedule import Starts
from proctor.plan.compile import load_plan


class MappedStep(StepOperator):
    """A step for the subject that it is mapped over."""

    template_fields = ("subject",)

    def __init__(self, *, subject: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.subject = subject

    def _step_run(self, context: Any, frozen: bool = False) -> StepRun:
        home = instance.home()
        whole = home.records.run(self.plan.pipeline, context["dag_run"].run_id)
        record = whole.subject(str(self.subject))
        subjects.begin(record, self.plan)
        generation = subjects.generation(1, int(context["task_instance"].max_tries))
        step = self.plan.step(self.step_id)
        return StepRun(home, self.plan, step, record, instance.runtime(), generation)


def mapped_dag(spec: Path, names: list[str]) -> DAG:
    """begin -> each subject's steps, mapped -> what runs once behind them."""
    plan = load_plan(spec, {})
    (partition,) = plan.partitions
    each, behind = plan.part(partition).steps, plan.steps[-1]
    common: dict[str, Any] = {"plan": plan}
    with DAG(dag_id=plan.pipeline, **settings()) as dag:
        first = BeginOperator(task_id=begin.TASK_ID, plan=plan, starts=Starts())

        @task_group
        def one(subject: str) -> None:
            before = None
            for step in each:
                task = MappedStep(task_id=step.id, step_id=step.id, subject=subject, **common)
                if before is not None:
                    before >> task
                before = task

        last = StepOperator(task_id=behind.id, step_id=behind.id, **common)
        first >> one.expand(subject=names) >> last
    return dag
