"""Plans as DAG objects, without a running Airflow."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.sdk import TriggerRule

from proctor.airflow.dag import build, dag_of, dags_of, nearest_upstream, task_ids
from proctor.plan.compile import load_plan
from proctor.plan.model import Plan, PlannedService, PlanStep
from proctor.shipped import shipped
from proctor.site.home import Registered

ROOT = Path(__file__).resolve().parent.parent.parent


def plan_of(upstream: dict[str, tuple[str, ...]]) -> Plan:
    steps = [PlanStep(id=k, step=k, image="i", upstream=v) for k, v in upstream.items()]
    return Plan(pipeline="p", steps=tuple(steps))


def test_edges_that_say_nothing_new_are_not_drawn() -> None:
    plan = plan_of({"a": (), "b": ("a",), "c": ("a", "b"), "d": ("a", "b", "c"), "e": ("b", "a")})
    assert nearest_upstream(plan) == {"a": [], "b": ["a"], "c": ["b"], "d": ["c"], "e": ["b"]}


def test_a_stop_waits_for_each_of_its_steps_and_hides_no_failure() -> None:
    # `late` may be over (upstream_failed) while `early` still runs.
    early, other, late = (PlanStep(id=i, step=i, image="i") for i in ("early", "other", "late"))
    service = PlannedService(id="s", step="s", image="i", port=1)
    early = early.model_copy(update={"services": ("s",)})
    late = late.model_copy(update={"services": ("s",), "upstream": ("early", "other")})
    stop = PlanStep(
        id="stop-s", step="stop-s", kind="stop", services=("s",), upstream=("early", "late")
    )
    plan = Plan(pipeline="p", steps=(early, other, late, stop), services=(service,))
    dag = dag_of(plan)
    assert set(dag.task_ids) == task_ids(plan)[plan.pipeline]
    stops = dag.get_task("stop-s")
    assert stops.upstream_task_ids == {"early", "late"}
    assert stops.trigger_rule == TriggerRule.ALL_DONE
    leaves = {task.task_id for task in dag.tasks if not task.downstream_task_ids}
    assert leaves == {"stop-s", "_outcome"}
    assert dag.get_task("_outcome").upstream_task_ids == {"late"}


def test_a_step_that_began_earlier_goes_first() -> None:
    plan = load_plan(shipped("pipeline_specs") / "demo.yaml")
    dag = dag_of(plan)
    weights = [dag.get_task(step.id).priority_weight for step in plan.steps]
    assert weights == sorted(set(weights), reverse=True)
    # Airflow would add up what stands behind a task, and make of A and B equals again.
    assert {dag.get_task(s.id).weight_rule for s in plan.steps} == {"absolute"}


@pytest.mark.parametrize("name", ["demo", "yolo-coco", "yolo-submission"])
def test_a_shipped_pipeline_is_one_dag(name: str) -> None:
    plan = load_plan(shipped("pipeline_specs") / f"{name}.yaml")
    dag = dag_of(plan)
    assert dag.dag_id == name
    assert task_ids(plan) == {name: {step.id for step in plan.steps} | {"begin"}}
    assert set(dag.task_ids) == task_ids(plan)[name]
    # What a gate's answer lets through can be reached only through the gate.
    assert dag.get_task("package").upstream_task_ids == {"approve"}
    assert {p.name for p in plan.params} == set(dag.params)


def test_the_same_plan_gives_the_same_dag() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    plan = load_plan(shipped("pipeline_specs") / "demo.yaml")
    first, second = (DagSerialization.to_dict(dag_of(plan)) for _ in range(2))
    assert first == second


def test_a_broken_spec_is_a_dag_that_says_so(tmp_path: Path) -> None:
    spec = tmp_path / "broken.yaml"
    spec.write_text("pipeline: broken\nsteps: 7\n")
    dag = build(Registered("broken", spec, {}))[0]
    assert dag.task_ids == ["spec-errors"]
    assert f"{spec}:2:8" in str(dag.doc_md)


def test_a_spec_that_is_gone_is_a_dag_that_says_so(tmp_path: Path) -> None:
    dag = build(Registered("gone", tmp_path / "gone.yaml", {}))[0]
    assert dag.task_ids == ["spec-errors"]
    assert "gone.yaml" in str(dag.doc_md)


def test_a_fault_of_ours_takes_only_its_own_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("proctor.airflow.dag.dag_of", fail)
    dag = build(Registered("demo", shipped("pipeline_specs") / "demo.yaml", {}))[0]
    assert dag.task_ids == ["spec-errors"]
    assert "boom" in str(dag.doc_md)


def test_a_pipeline_of_subjects_is_two_dags() -> None:
    plan = load_plan(ROOT / "tests" / "golden" / "specs" / "loop.yaml")
    dags = {dag.dag_id: dag for dag in dags_of(plan)}
    assert {name: set(dag.task_ids) for name, dag in dags.items()} == task_ids(plan)
    assert set(dags) == {"loop", "loop.subjects-1"}
    each = dags["loop.subjects-1"]
    assert {t.task_id: t.upstream_task_ids for t in each.tasks} == {
        "check": set(),
        "next-check": {"check"},
        "compare": {"next-check"},
        "roll-back": {"next-check"},
    }
