"""An upload that nobody asked for does not happen, and is not even asked about."""

from __future__ import annotations

from pathlib import Path

import pytest

from proctor.airflow.attempts import StepRun
from proctor.airflow.decisions import check_chosen, files_hold
from proctor.airflow.evidence import StepSkipped
from proctor.plan.compile import load_plan
from proctor.plan.model import FilesTest
from proctor.runtime.fake import FakeRuntime
from proctor.shipped import find_spec
from proctor.site.home import Home


@pytest.mark.parametrize("name", ["yolo-coco", "yolo-submission"])
@pytest.mark.parametrize("asked", [True, False])
def test_gate_and_upload_follow_the_decision(tmp_path: Path, name: str, asked: bool) -> None:
    plan, home = load_plan(find_spec(name)), Home(tmp_path / "home")
    home.create()
    home.records.save_plan(plan)
    record = home.records.run(name, "r1")
    record.append("header", plan_digest=plan.digest, data={"params": {}})
    decision = plan.step("next-check").decision
    assert decision is not None
    chosen = decision.branches[0 if asked else 1].targets
    record.append(
        "result", step="next-check", plan_digest=plan.digest, data={"targets": list(chosen)}
    )
    done = []
    for id in ("approve-upload", "no-upload", "upload"):  # in the order of the plan
        step = plan.step(id)
        try:
            check_chosen(StepRun(home, plan, step, record, FakeRuntime(home.path), 1))
            done.append(id)
        except StepSkipped:
            continue
    assert done == (["approve-upload", "upload"] if asked else ["no-upload"])


def test_an_address_in_the_package_is_what_asks(tmp_path: Path) -> None:
    plan = load_plan(find_spec("yolo-coco"))
    decision = plan.step("next-check").decision
    assert decision is not None and decision.branches[0].condition is not None
    test = decision.branches[0].condition.files
    assert isinstance(test, FilesTest)
    assert files_hold(tmp_path, test)[0] is False
    (tmp_path / "upload.json").write_text('{"uri": "s3://bucket/prefix"}\n')
    assert files_hold(tmp_path, test)[0] is True
