"""The way back from a rejection: what Airflow's rows say about whether it was taken."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proctor.plan.model import Gate, Plan, PlanStep
from proctor.site.home import Home
from proctor.site.rework import Rework

FETCH = PlanStep(id="fetch", step="fetch", image="proctor/steps")
GATE = PlanStep(
    id="look",
    step="look",
    kind="approval",
    upstream=("fetch",),
    gate=Gate(question="Good?", rework="fetch"),
)
PLAN = Plan(pipeline="p", steps=(FETCH, GATE))


class Airflow:
    """One run with its gate, as the API shows them."""

    def __init__(self, run: str | None, task: str | None, max_tries: int) -> None:
        self.run, self.task = run, {"state": task, "max_tries": max_tries}
        self.cleared: list[Any] = []

    def run_state(self, pipeline: str, run: str) -> str | None:
        return self.run

    def task_states(self, pipeline: str, run: str) -> dict[str, dict[str, Any]]:
        return {"look": self.task}

    def clear(self, pipeline: str, run: str, tasks: list[str]) -> None:
        self.cleared.append(tasks)


@pytest.mark.parametrize(
    ("run", "task", "max_tries", "wanted"),
    [
        ("failed", "failed", 3, True),
        ("running", "failed", 3, True),  # beside it something goes on
        ("running", "running", 3, False),  # the answer is recorded, the task not yet over
        ("queued", None, 4, False),  # cleared
        ("running", "awaiting_input", 4, False),
        ("failed", "failed", 4, False),  # cleared, and failed for another reason
        ("failed", None, 4, True),  # cleared when the scheduler had found the run to be over
        ("success", "success", 3, False),  # set so by hand
        (None, "failed", 3, False),  # deleted
    ],
)
def test_the_step_is_cleared_only_where_that_was_not_done(
    tmp_path: Path, run: str | None, task: str | None, max_tries: int, wanted: bool
) -> None:
    home = Home(tmp_path / "home")
    home.create()
    home.records.save_plan(PLAN)
    record = home.records.run("p", "r")
    record.append("header", plan_digest=PLAN.digest, data={"params": {}})
    answer = {"answer": {"decision": "rejected"}, "rework": "fetch", "generation": 3}
    record.append("approval", step="look", plan_digest=PLAN.digest, data=answer)
    airflow = Airflow(run, task, max_tries)
    instance: Any = SimpleNamespace(home=home, client=airflow)
    assert len(Rework(instance).look_at(record)) == int(wanted)
    assert airflow.cleared == ([["fetch"]] if wanted else [])
