"""A task of a subject's earlier round that comes late: the record belongs to the later round."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_subjects import TWO, plan_of

from proctor.airflow.attempts import StepRun
from proctor.airflow.decisions import check_chosen
from proctor.airflow.evidence import StepSkipped
from proctor.airflow.subjects import begin, begin_round, generation
from proctor.runtime.fake import FakeRuntime
from proctor.site.home import Home

PLAN = plan_of(TWO)


def test_it_does_nothing_and_leaves_the_record_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    home.records.save_plan(PLAN)
    whole = home.records.run("p", "r1")
    whole.append("header", plan_digest=PLAN.digest, data={"params": {}})
    part = whole.subject("AAAC_1/2008")
    begin(part, PLAN)

    def run(round: int) -> StepRun:
        step, fake = PLAN.step("c"), FakeRuntime(home.path)
        return StepRun(home, PLAN, step, part, fake, generation(round, 3))

    check_chosen(run(1))  # while its round is the newest
    begin_round(part, PLAN, "subjects-1", "b", "check sent it back")
    before = part.path.read_bytes()
    with pytest.raises(StepSkipped, match="round 2 of AAAC_1/2008 has begun"):
        check_chosen(run(1))
    assert part.path.read_bytes() == before
    check_chosen(run(2))
