"""The ways through a re-validation: measured once where it is steady, three times at most."""

from __future__ import annotations

from pathlib import Path

import pytest

from proctor.airflow.attempts import StepRun
from proctor.airflow.decisions import check_chosen
from proctor.airflow.evidence import StepSkipped
from proctor.plan.compile import load_plan
from proctor.plan.model import PlanStep
from proctor.records.store import RunRecord
from proctor.runtime.fake import FakeRuntime
from proctor.shipped import find_spec
from proctor.site.home import Home

PLAN = load_plan(find_spec("revalidation"))
FIRST = [step.id for step in PLAN.steps].index("next-judge")
SECOND = ["performance-2.Offline", "performance-2.SingleStream", "judge-2"]
THIRD = ["performance-3.Offline", "performance-3.SingleStream", "judge-3"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.create()
    made.records.save_plan(PLAN)
    record = made.records.run("revalidation", "r1")
    record.append("header", plan_digest=PLAN.digest, data={"params": {}})
    return made


def decide(record: RunRecord, step: PlanStep, states: dict[str, str]) -> None:
    """As the conditions find a verdict with this state."""
    assert step.decision is not None
    state = states[step.id.removeprefix("next-")]
    held = next(
        b
        for b in step.decision.branches
        if b.condition is None or (b.condition.value and b.condition.value.equals == state)
    )
    data = {"state": "succeeded", "targets": list(held.targets)}
    record.append("result", step=step.id, plan_digest=PLAN.digest, data=data)


def way(home: Home, states: dict[str, str]) -> list[str]:
    """The steps that are done after the first verdict, with the scenarios of the default."""
    record = home.records.run("revalidation", "r1")
    done = []
    for step in PLAN.steps[FIRST:]:
        if any(select.value in ("Server", "MultiStream") for select in step.select):
            record.append("skipped", step=step.id, plan_digest=PLAN.digest, data={})
            continue
        try:
            check_chosen(StepRun(home, PLAN, step, record, FakeRuntime(home.path), 1))
        except StepSkipped:
            continue
        if step.decision:
            decide(record, step, states)
        else:
            record.append(
                "result", step=step.id, plan_digest=PLAN.digest, data={"state": "succeeded"}
            )
            done.append(step.id)
    return done


@pytest.mark.parametrize(
    ("states", "wanted"),
    [
        (["steady"], ["steady"]),
        (["drifted"], ["decide"]),
        (["no_baseline"], ["accept"]),
        (["undecided", "steady"], [*SECOND, "steady"]),
        (["undecided", "drifted"], [*SECOND, "decide"]),
        (["disturbed", "no_baseline"], [*SECOND, "accept"]),
        (["undecided", "undecided", "drifted"], [*SECOND, *THIRD, "decide"]),
        (["undecided", "disturbed", "steady"], [*SECOND, *THIRD, "steady"]),
        (["disturbed", "disturbed", "disturbed"], [*SECOND, *THIRD, "not-judged"]),
        (["disturbed", "undecided", "undecided"], [*SECOND, *THIRD, "decide"]),
        (["disturbed", "disturbed", "no_baseline"], [*SECOND, *THIRD, "accept"]),
    ],
)
def test_each_verdict_has_its_way(home: Home, states: list[str], wanted: list[str]) -> None:
    named = dict(zip(("judge", "judge-2", "judge-3"), states, strict=False))
    assert way(home, named) == wanted


def test_after_a_rejection_an_earlier_decision_does_not_count(home: Home) -> None:
    """The first time two runs were needed to see a drift; measured again, one finds it steady."""
    assert way(home, {"judge": "undecided", "judge-2": "drifted"}) == [*SECOND, "decide"]
    assert way(home, {"judge": "steady"}) == ["steady"]
