"""A gate's task, alone: what it makes of answers, and of being killed when it had taken one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk.exceptions import AirflowFailException

from proctor.airflow.approval import ApprovalGate
from proctor.plan.model import Gate, Plan, PlannedOutput, PlanStep
from proctor.records.store import RunRecord
from proctor.site.home import HOME_VARIABLE, RUNTIME_VARIABLE, Home

OUT = (PlannedOutput(name="data", mount_path="/proctor/out/data"),)
FETCH = PlanStep(id="fetch", step="fetch", image="proctor/steps", outputs=OUT)
GATE = PlanStep(
    id="look",
    step="look",
    kind="approval",
    upstream=("fetch",),
    gate=Gate(question="Good?", approvers=("ada",), rework="fetch"),
)
PLAN = Plan(pipeline="p", steps=(FETCH, GATE))
# FAB's ids are its own numbers; that bob's is another's name would let him in.
BOB = {"id": "ada", "name": "bob"}
ADA = {"id": "7", "name": "ada"}
Task = Callable[..., Any]


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunRecord:
    home = Home(tmp_path / "home")
    home.create()
    monkeypatch.setenv(HOME_VARIABLE, str(home.path))
    monkeypatch.setenv(RUNTIME_VARIABLE, "fake")
    monkeypatch.setattr("proctor.airflow.approval.forget_question", lambda task: None)
    monkeypatch.setattr(HITLOperator, "execute", lambda self, context: "asks")
    home.records.save_plan(PLAN)
    made = home.records.run("p", "r")
    made.append("header", plan_digest=PLAN.digest, data={"params": {}})
    measured(made, "a")
    return made


def measured(record: RunRecord, sha256: str) -> None:
    outputs = {"data": {"uri": "artifact:p/r/fetch/1/data", "sha256": sha256 * 64, "bytes": 1}}
    record.append(
        "result", step="fetch", attempt=1, data={"state": "succeeded", "outputs": outputs}
    )


def context(generation: int) -> dict[str, Any]:
    task = SimpleNamespace(id="0", try_number=1, max_tries=generation)
    return {"dag_run": SimpleNamespace(run_id="r"), "task_instance": task}


def gate() -> ApprovalGate:
    return ApprovalGate(task_id="look", plan=PLAN, step_id="look")


def ask(generation: int = 3) -> Any:
    return gate().execute(context(generation))


def take(choice: str, generation: int = 3, user: dict[str, str] | None = ADA, **form: Any) -> Any:
    event = {
        "chosen_options": [choice],
        "params_input": form,
        "responded_at": datetime(2026, 1, 1, tzinfo=UTC),
        "responded_by_user": user,
    }
    return gate().execute_complete(context(generation), event)


def kinds(record: RunRecord) -> list[str]:
    return [line.kind for line in record.lines() if line.step == "look"]


def test_a_task_that_was_killed_after_an_approval_does_not_ask_again(record: RunRecord) -> None:
    assert ask() == "asks"
    assert take("Approve") == ["Approve"]
    assert ask() == ["Approve"]
    assert take("Reject", comment="late") == ["Approve"]
    assert kinds(record) == ["asked", "approval"]
    assert ask(generation=4) == "asks"  # a person cleared it
    assert kinds(record) == ["asked", "approval", "asked"]


def test_a_task_that_was_killed_after_a_rejection_fails_and_does_not_ask_again(
    record: RunRecord,
) -> None:
    ask()
    for again in (lambda: take("Reject", comment="empty"), ask, lambda: take("Approve")):
        with pytest.raises(AirflowFailException, match="ada rejected: empty; back to fetch"):
            again()
    assert kinds(record) == ["asked", "approval"]
    line = record.last("approval", "look")
    assert line is not None and line.data["rework"] == "fetch"


def test_an_approval_of_what_changed_before_the_task_came_back_is_asked_again(
    record: RunRecord,
) -> None:
    ask()
    take("Approve")
    measured(record, "b")
    assert ask() == "asks"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"choice": "Reject", "comment": "  "}, "ada rejected without a comment that says why"),
        ({"choice": "Reject", "comment": None}, "ada rejected without a comment that says why"),
        ({"choice": "Perhaps"}, "it is neither an approval nor a rejection"),
        ({"choice": "Approve", "user": None}, "it does not say whose it is"),
        ({"choice": "Approve", "user": BOB}, "bob may not answer here, but ada"),
    ],
)
def test_what_does_not_count_is_recorded_unsigned_and_asked_again(
    record: RunRecord, answer: dict[str, Any], why: str
) -> None:
    ask()
    assert take(**answer) == "asks"
    assert kinds(record) == ["asked", "uncounted", "asked"]
    line = record.last("uncounted", "look")
    assert line is not None
    assert line.data["message"] == why and "signature" not in line.data
    newest = record.last("asked", "look")
    assert newest is not None and newest.attempt == 2
    assert take("Approve") == ["Approve"]


@pytest.mark.parametrize("given", ["yes", 1, "true", None])
def test_only_a_ticked_box_is_a_review(record: RunRecord, given: Any) -> None:
    ask()
    take("Approve", evidence_reviewed=given, comment=["not", "text"])
    line = record.last("approval", "look")
    assert line is not None
    answer = line.data["answer"]
    assert isinstance(answer, dict) and answer["evidence_reviewed"] is False


def test_a_gate_without_evidence_fails_and_says_so(record: RunRecord) -> None:
    data = {"state": "failed", "message": "no"}
    record.append("result", step="fetch", attempt=2, data=data)
    with pytest.raises(AirflowFailException, match="has no recorded output 'data'"):
        ask()
    assert kinds(record) == ["refused"]
