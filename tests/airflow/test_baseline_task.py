"""A gate of baselines as a task, alone: killed at every point, it leaves one entry in the book."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk.exceptions import AirflowFailException

from crash_points import dies_at
from history_kit import HOST, Run, loadgen, plan_of
from proctor.airflow.answers import ACCEPT, APPROVE, KEEP, RUN_AGAIN
from proctor.airflow.approval import ApprovalGate
from proctor.plan.model import Gate, Plan
from proctor.records.book import Book, current
from proctor.records.store import RunRecord
from proctor.site.home import HOME_VARIABLE, RUNTIME_VARIABLE, Home
from proctor.site.verify import verify

GATE = Gate(question="Is it true?", baseline=True, keep=True, rework="performance")
PLAN = plan_of("p", GATE)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = Home(tmp_path / "home")
    made.create()
    monkeypatch.setenv(HOME_VARIABLE, str(made.path))
    monkeypatch.setenv(RUNTIME_VARIABLE, "fake")
    monkeypatch.setattr("proctor.airflow.approval.forget_question", lambda task: None)
    monkeypatch.setattr(HITLOperator, "execute", lambda self, context: "asks")
    return made


def measured(home: Home, run: str = "r", plan: Plan = PLAN, **performed: Any) -> RunRecord:
    made = Run(home, run, plan).scored().performed(**performed)
    return made.performed(101, "performance-2", **performed).result("judge").write()


@pytest.fixture
def record(home: Home) -> RunRecord:
    return measured(home)


def context(generation: int = 3, run: str = "r") -> dict[str, Any]:
    task = SimpleNamespace(id="0", try_number=1, max_tries=generation)
    return {"dag_run": SimpleNamespace(run_id=run), "task_instance": task}


def gate(plan: Plan = PLAN) -> ApprovalGate:
    return ApprovalGate(task_id="gate", plan=plan, step_id="gate")


def take(choice: str, comment: str = "because", plan: Plan = PLAN, run: str = "r") -> Any:
    event = {
        "chosen_options": [choice],
        "params_input": {"comment": comment, "evidence_reviewed": True},
        "responded_at": datetime(2026, 1, 1, tzinfo=UTC),
        "responded_by_user": {"id": "7", "name": "ada"},
    }
    return gate(plan).execute_complete(context(run=run), event)


def kinds(record: RunRecord) -> list[str]:
    return [line.kind for line in record.lines() if line.step == "gate"]


def bad(home: Home, record: RunRecord) -> list[str]:
    return [x.message for x in verify(home, record) if x.what == "baseline" and x.message]


def test_the_form_has_three_answers_and_tells_what_the_first_would_do(
    home: Home, record: RunRecord
) -> None:
    made = gate()
    assert made.options == [ACCEPT, KEEP, RUN_AGAIN]
    assert made.execute(context()) == "asks"
    assert "becomes the baseline" in made.body
    assert "throughput 101.0 samples/s" in made.body


@pytest.mark.parametrize(("choice", "kind"), [(ACCEPT, "set"), (KEEP, "opened")])
@pytest.mark.parametrize("point", range(1, 6))
def test_wherever_it_is_killed_the_book_has_one_entry_in_the_end(
    home: Home, record: RunRecord, choice: str, kind: str, point: int
) -> None:
    assert gate().execute(context()) == "asks"
    edges: list[tuple[Any, str]] = [(RunRecord, "append"), (Book, "add")]
    died = dies_at(point, edges, lambda: take(choice))
    assert died == (point <= 4)
    again = gate().execute(context())
    if again == "asks":
        assert point == 1  # nothing was recorded, so the question is still open
        again = take(choice)
    assert again == [choice]
    assert take(choice) == [choice]  # and once more
    (entry,) = Book(home.path).entries()
    assert (entry.kind, entry.by, entry.why) == (kind, "ada", "because")
    assert kinds(record).count("approval") == 1
    assert bad(home, record) == []


def test_who_runs_again_accepts_nothing(home: Home, record: RunRecord) -> None:
    gate().execute(context())
    with pytest.raises(AirflowFailException, match="ada rejected: noisy; back to performance"):
        take(RUN_AGAIN, "noisy")
    assert Book(home.path).entries() == []


@pytest.mark.parametrize("choice", [KEEP, RUN_AGAIN])
def test_without_a_reason_it_does_not_count(home: Home, record: RunRecord, choice: str) -> None:
    gate().execute(context())
    assert take(choice, " ") == "asks"
    assert kinds(record) == ["asked", "uncounted", "asked"]
    assert Book(home.path).entries() == []


def test_an_approval_where_nothing_may_be_a_baseline_counts_and_says_so(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    record = measured(home, disturbed=["load 3.1"])
    gate().execute(context())
    assert take(ACCEPT) == [ACCEPT]
    assert Book(home.path).entries() == []
    line = record.last("approval", "gate")
    assert line is not None
    why = "the machine was disturbed: load 3.1"
    assert line.data["baselines"] == {"results": [], "refused": {"p/r/performance-2/1": why}}
    assert bad(home, record) == []


def test_what_was_measured_anew_is_another_answer_and_another_baseline(
    home: Home, record: RunRecord
) -> None:
    gate().execute(context())
    take(ACCEPT)
    outputs = {"logs": {"uri": "artifact:p/r/performance/2/logs", "sha256": "6" * 64, "bytes": 1}}
    data = {"state": "succeeded", "outputs": outputs, "metrics": {"loadgen": loadgen(70)}}
    begun = {"status": "running", "identity_parts": {"host": HOST}}
    for step in ("performance", "performance-2"):
        record.append("attempt", step=step, attempt=2, data=begun)
        record.append("result", step=step, attempt=2, data=data)
    assert gate().execute(context()) == "asks"  # the answer is to other evidence
    assert take(ACCEPT) == [ACCEPT]
    assert len(Book(home.path).entries()) == 2
    (now,) = current(Book(home.path).entries()).values()
    assert now.measured.of.endswith("/2")


def test_a_book_that_was_changed_stops_the_gate_before_it_asks(
    home: Home, record: RunRecord
) -> None:
    gate().execute(context())
    take(ACCEPT)
    book = Book(home.path).path
    book.write_bytes(book.read_bytes().replace(b'"by":"ada"', b'"by":"eve"'))
    measured(home, "next")
    with pytest.raises(AirflowFailException, match="the baselines were changed"):
        gate().execute(context(run="next"))
    assert kinds(home.records.run("p", "next"))[-1] == "refused"


def test_a_gate_that_only_accepts_keeps_its_two_answers(home: Home) -> None:
    plan = plan_of("p", GATE.model_copy(update={"keep": False, "rework": ""}))
    measured(home, plan=plan)
    made = gate(plan)
    assert made.options == ["Approve", "Reject"]
    made.execute(context())
    assert take(APPROVE, "", plan) == [APPROVE]
    assert len(current(Book(home.path).entries())) == 1


def test_a_plain_gate_makes_none(home: Home) -> None:
    plan = plan_of("p", Gate(question="?"))
    record = measured(home, plan=plan)
    made = gate(plan)
    made.execute(context())
    assert "becomes the baseline" not in made.body
    assert take(APPROVE, "", plan) == [APPROVE]
    assert Book(home.path).entries() == []
    line = record.last("approval", "gate")
    assert line is not None and "baselines" not in line.data
