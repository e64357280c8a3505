"""Plans as DAGs: one per pipeline. A spec that is wrong becomes a DAG that shows its errors."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, BaseOperator, Param, TaskGroup, get_parsing_context
from airflow.sdk.exceptions import AirflowFailException
from pydantic import JsonValue

from proctor.airflow import begin, instance, subjects
from proctor.airflow.approval import ApprovalGate
from proctor.airflow.begin import BeginOperator
from proctor.airflow.branching import DecisionOperator, JoinOperator
from proctor.airflow.fan_out import SubjectsOperator
from proctor.airflow.operator import StepOperator
from proctor.airflow.schedule import Starts, starts_of
from proctor.airflow.stop import StopOperator
from proctor.airflow.subjects import MOST_SUBJECTS
from proctor.plan import model
from proctor.plan.compile import compile
from proctor.plan.params import ParamErrors
from proctor.site.home import Registered
from proctor.spec.errors import SpecErrors
from proctor.spec.load import load_pipeline

# Only what the step had no part in is tried again; the operators fail the rest for good.
RETRIES = 3
RETRY_DELAY = timedelta(seconds=5)
# Runs of subjects that Airflow goes through in its turns, for each of the host's slots.
ACTIVE_SUBJECTS = 4
BY_HAND = Starts()
# Stands behind steps that only stops follow. No step's id begins so.
OUTCOME = "_outcome"
# The only task of a pipeline whose spec is wrong.
SPEC_ERRORS = "spec-errors"
SCHEDULE_ERRORS = "schedule-errors"


def build_dags() -> dict[str, DAG]:
    """Every pipeline of this site as its DAGs; only the wanted one where Airflow wants just one."""
    wanted = get_parsing_context().dag_id
    dags: dict[str, DAG] = {}
    for name, entry in instance.home().pipelines().items():
        if wanted is None or wanted == name or wanted.startswith(f"{name}."):
            dags |= {dag.dag_id: dag for dag in build(entry)}
    return dags if wanted is None else {name: dags[name] for name in dags if name == wanted}


def build(entry: Registered) -> list[DAG]:
    """The DAGs of one pipeline, or the one that shows what is wrong with its spec."""
    try:
        pipeline = load_pipeline(entry.spec)
        plan = compile(pipeline, entry.build)
        return dags_of(plan, starts_of(plan, pipeline))
    except (SpecErrors, ParamErrors) as errors:
        return [broken_dag(entry, [str(problem) for problem in errors.problems])]
    except Exception as error:
        # A fault of ours in one pipeline must not take the others with it.
        traceback.print_exc()
        what = f"{entry.spec}: Proctor could not make a DAG of it ({type(error).__name__}: {error})"
        return [broken_dag(entry, [what])]


def dags_of(plan: model.Plan, starts: Starts = BY_HAND) -> list[DAG]:
    """A plan's DAGs: its own, and one for each stretch of steps that is done for each subject.

    The same plan and the same starts give the same DAGs, at any time and on any machine.
    """
    return [
        dag_of(plan, starts),
        *(stretch_dag(plan, partition) for partition in plan.partitions),
    ]


def dag_of(plan: model.Plan, starts: Starts = BY_HAND) -> DAG:
    """The DAG of what a run does once. ``starts``: what starts it by itself."""
    dag = DAG(
        dag_id=plan.pipeline,
        params={p.name: _param(p, starts.values) for p in plan.params},
        **(_settings() | starts.settings() | _words(plan, starts)),
    )
    with dag:
        first = BeginOperator(
            task_id=begin.TASK_ID, plan=plan, starts=starts, task_display_name="Begin"
        )
        _add_tasks(plan, "", first)
        if last := _last_but_for_stops(plan):
            # A run is as good as what stands last in it, and a stop succeeds after failures, too.
            outcome = EmptyOperator(
                task_id=OUTCOME, task_display_name="Outcome", trigger_rule="none_failed"
            )
            outcome.set_upstream([dag.get_task(id) for id in last])
    return dag


def _words(plan: model.Plan, starts: Starts) -> dict[str, Any]:
    """What people read of a DAG in the lists and on its page."""
    title, doc = plan.title or plan.pipeline, plan.description
    if not starts.problems:
        return {
            "dag_display_name": title,
            "description": plan.title or None,
            "doc_md": doc or None,
        }
    told = _errors("The schedule has errors: it starts no run", starts.problems)
    return {
        "dag_display_name": f"{title} (schedule has errors)",
        "description": "Its schedule starts no run; open the DAG's documentation to read why.",
        "doc_md": f"{told}\n{doc}",
        "tags": {"proctor", SCHEDULE_ERRORS},
    }


def _errors(title: str, problems: Sequence[str]) -> str:
    return "### {}\n\n```\n{}\n```\n".format(title, "\n".join(problems))


def stretch_dag(plan: model.Plan, partition: str) -> DAG:
    """The DAG of what is done for each subject: one run for each, started by the pipeline's own."""
    title = plan.title or plan.pipeline
    waits = any(step.decision for step in plan.part(partition).steps)
    dag = DAG(
        dag_id=subjects.dag_id(plan, partition),
        dag_display_name=f"{title}: each subject",
        description=f"Each run is one subject's way through {partition} of {plan.pipeline}.",
        # More than the host has room for: what waits for a slot is waited for by few.
        # Those that may wait for a person for days must not stand in the others' way.
        max_active_runs=MOST_SUBJECTS if waits else instance.slots() * ACTIVE_SUBJECTS,
        **_settings(),
    )
    with dag:
        _add_tasks(plan, partition, None)
    return dag


def _settings() -> dict[str, Any]:
    return {
        "schedule": None,
        "tags": {"proctor"},
        "catchup": False,
        "is_paused_upon_creation": False,
        "default_args": {"owner": "proctor", "retries": RETRIES, "retry_delay": RETRY_DELAY},
        # Parameters go to the run's record through `begin`, never into templates.
        "render_template_as_native_obj": False,
    }


def _add_tasks(plan: model.Plan, partition: str, first: BaseOperator | None) -> None:
    """The tasks of one DAG, behind ``first`` where nothing else stands before them."""
    part = plan.part(partition)
    groups = _groups(part)
    tasks = {s.id: _task(plan, s, groups.get(s.step)) for s in part.steps}
    # In the plan's order. A step that comes back to collect what it measured goes before those
    # that wait to measure: it had the slots, began earlier, and so stands earlier.
    for number, step in enumerate(part.steps):
        tasks[step.id].priority_weight = len(part.steps) - number
    drawn = nearest_upstream(part)
    for step in part.steps:
        upstream: list[BaseOperator] = [tasks[id] for id in drawn[step.id]]
        if first and not upstream:
            upstream = [first]
        tasks[step.id].set_upstream(upstream)


def task_ids(plan: model.Plan) -> dict[str, set[str]]:
    """Every task of a plan, by DAG."""
    ids = {p: {step.id for step in plan.part(p).steps} for p in ("", *plan.partitions)}
    outcome = {OUTCOME} if _last_but_for_stops(plan) else set()
    found = {subjects.dag_id(plan, p): ids[p] for p in plan.partitions}
    return {plan.pipeline: ids[""] | {begin.TASK_ID} | outcome, **found}


def _last_but_for_stops(plan: model.Plan) -> list[str]:
    """The steps that nothing follows but the stops of their services."""
    followed = {id for step in plan.steps if step.kind != "stop" for id in step.upstream}
    served = [step.id for step in plan.steps if step.services and step.kind != "stop"]
    return [id for id in served if id not in followed]


def _groups(plan: model.Plan) -> dict[str, TaskGroup]:
    """A group for each matrix, titled as its steps are, less what tells them apart."""
    titles = {s.step: s.label.replace(s.cell, "").strip(" ,:") for s in plan.steps if s.cell}
    return {
        name: TaskGroup(name, prefix_group_id=False, group_display_name=title)
        for name, title in sorted(titles.items())
    }


def nearest_upstream(plan: model.Plan) -> dict[str, list[str]]:
    """Upstream steps without those that another upstream waits for anyway: a graph one can read.

    Nothing runs earlier for it: a failure or a wait comes through the steps in between. It does
    not for what runs after failures, too: a stop waits for each of its steps itself.
    """
    bit = {step.id: 1 << index for index, step in enumerate(plan.steps)}
    before: dict[str, int] = {}
    nearest: dict[str, list[str]] = {}
    for step in plan.steps:  # upstream steps come first
        farther = 0
        for id in step.upstream:
            farther |= before[id]
        keeps = step.kind == "stop"
        nearest[step.id] = [id for id in step.upstream if keeps or not farther & bit[id]]
        before[step.id] = farther
        for id in step.upstream:
            before[step.id] |= bit[id]
    return nearest


def _task(plan: model.Plan, step: model.PlanStep, group: TaskGroup | None) -> BaseOperator:
    common: dict[str, Any] = {
        "task_id": step.id,
        "task_display_name": step.label,
        "task_group": group,
        "weight_rule": "absolute",
        "plan": plan,
        "step_id": step.id,
    }
    if step.kind in ("decision", "review"):
        return DecisionOperator(trigger_rule="none_failed", **common)
    if step.kind == "join":
        return JoinOperator(trigger_rule="none_failed", **common)
    if step.kind == "subjects":
        # It waits for the others, and so takes no slot from them.
        return SubjectsOperator(trigger_rule="none_failed", **common)
    if step.kind == "stop":
        return StopOperator(pool=instance.POOL, trigger_rule="all_done", **common)
    # A skipped scenario must not skip what gathers the others; a failed one must stop it.
    common["trigger_rule"] = "none_failed"
    if step.kind == "approval":
        return ApprovalGate(**common)
    if step.limit:
        common["max_active_tis_per_dag"] = step.limit
    slots = instance.slots() if step.exclusive else 1
    return StepOperator(pool=instance.POOL, pool_slots=slots, **common)


def _param(param: model.Param, scheduled: Mapping[str, JsonValue]) -> Param:
    """``scheduled``: what a run is given that nobody fills the form for."""
    types = {
        "string": "string",
        "uri": "string",
        "choice": "string",
        "number": "number",
        "integer": "integer",
        "boolean": "boolean",
        "choices": "array",
    }
    # The form refuses an empty field whose type does not allow null, and sends null for it.
    optional = not param.required and param.default in (None, "", [])
    kind = types[param.type]
    schema: dict[str, Any] = {
        "type": ["null", kind] if optional else kind,
        "title": param.title or param.name,
    }
    if param.help:
        schema["description_md"] = param.help
    if param.type == "choice":
        schema["enum"] = list(param.choices)
    if param.type == "choices":
        schema["examples"] = list(param.choices)
    if param.minimum is not None:
        schema["minimum"] = param.minimum
    if param.maximum is not None:
        schema["maximum"] = param.maximum
    if param.required and param.default is None:
        if param.name in scheduled:  # Airflow schedules no DAG whose form has to be filled in
            return Param(scheduled[param.name], **schema)
        return Param(**schema)  # no default: the form asks for it
    return Param(param.default, **schema)


class SpecErrorsOperator(BaseOperator):
    """The one task of a broken pipeline: fails, saying what is wrong with the spec."""

    ui_color = "#f7d4d4"

    def __init__(self, *, problems: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.problems = problems

    def execute(self, context: Any) -> None:
        """Fail with the spec's errors."""
        raise AirflowFailException(f"the pipeline's spec has errors:\n{self.problems}")


def broken_dag(entry: Registered, errors: list[str]) -> DAG:
    """A DAG under the pipeline's name whose description and only task are the errors."""
    problems = "\n".join(errors)
    dag = DAG(
        dag_id=entry.name,
        dag_display_name=f"{entry.name} (spec has errors)",
        description="The spec has errors; open the DAG's documentation to read them.",
        doc_md=_errors("The spec has errors", errors),
        schedule=None,
        tags={"proctor", SPEC_ERRORS},
        catchup=False,
        is_paused_upon_creation=False,
    )
    with dag:
        SpecErrorsOperator(task_id=SPEC_ERRORS, problems=problems)
    return dag
