"""A compliance test's verdict where people look: summary, terminal, and the gate's question."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue
from rich.console import Console

from proctor.airflow.attempts import StepRun
from proctor.airflow.question import evidence_markdown
from proctor.airflow.reuse import Wish
from proctor.plan.compile import load_plan
from proctor.plan.model import Gate, Plan, PlannedOutput, PlanStep, Source
from proctor.plan.params import check_params
from proctor.records.summary import summarise
from proctor.shipped import find_spec
from proctor.site.terminal import results_table
from reuse_kit import Site

OUT = (PlannedOutput(name="compliance", mount_path="/proctor/out/compliance"),)
PLAN = Plan(
    pipeline="p",
    steps=(
        PlanStep(
            id="verify", step="verify", image="proctor/steps", command=("compliance", "verify"),
            outputs=OUT,
        ),
        PlanStep(
            id="look", step="look", kind="approval", upstream=("verify",),
            gate=Gate(question="Good?", evidence=(Source(step="verify", output="compliance"),)),
        ),
    ),
)  # fmt: skip
TOLD: dict[str, Any] = {
    "test": "TEST01",
    "scenario": "Offline",
    "verdict": "pass",
    "official": False,
    "checks": {"performance": {"verdict": "pass", "change_percent": 1.2}},
}
SHORT = {"rule": "min_duration", "severity": "warning", "message": "too short", "where": "Offline"}


@pytest.mark.parametrize("verdict", ["pass", "fail", "cannot be verified"])
def test_the_verdict_is_shown(verdict: str, tmp_path: Path) -> None:
    site = Site(tmp_path)
    metrics = {"compliance": {**TOLD, "verdict": verdict}}
    site.acts = {
        "verify": {
            "outputs": {"compliance": {"compliance.json": "{}"}},
            "metrics": metrics,
            "findings": [SHORT],
        }
    }
    record, _ = site.drive(PLAN, {}, Wish())
    summary = summarise(site.home.records, record)
    assert summary["results"] == []
    (tested,) = summary["compliance"]
    assert (tested["step"], tested["verdict"]) == ("verify", verdict)
    console = Console(file=io.StringIO(), width=80, record=True)
    results_table(console, summary, record)
    assert f"Offline TEST01: {verdict}" in console.export_text()
    gate = StepRun(site.home, PLAN, PLAN.step("look"), record, site.fake)
    assert f"| Offline | TEST01 | {verdict} |" in evidence_markdown(gate, "f" * 64)


def test_figures_of_another_shape_are_left_out(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.acts = {
        "verify": {
            "outputs": {"compliance": {"x": "x"}},
            "metrics": {"compliance": {"test": 1, "verdict": ["pass"]}},
        }
    }
    record, _ = site.drive(PLAN, {}, Wish())
    assert summarise(site.home.records, record)["compliance"] == []


@pytest.mark.parametrize(("tests", "cells"), [([], []), (["TEST01"], ["Offline-TEST01"])])
def test_what_was_not_asked_for_is_not_run(
    tests: list[JsonValue], cells: list[str], tmp_path: Path
) -> None:
    site = Site(tmp_path)
    given: dict[str, JsonValue] = {"scenarios": ["Offline"], "compliance": tests}
    given |= dict.fromkeys(("images_uri", "annotations_uri", "model_uri"), "https://example.org/x")
    plan = load_plan(find_spec("yolo-coco"))
    outputs = {s.id: {o.name: {"x": s.id} for o in s.outputs} for s in plan.steps}
    published = {"report": "report.html", "package": "submission.tar.gz"}
    for step, name in published.items():
        outputs[step] = {output: {name: "x"} for output in outputs[step]}
    site.acts = {step: {"outputs": found} for step, found in outputs.items()}
    record, started = site.drive(plan, check_params(plan, given), Wish())
    assert [s for s in started if s.startswith("verify")] == [f"verify.{cell}" for cell in cells]
    for step in ("evidence", "package", "report"):
        (start,) = site.fake.starts(step)
        assert [i["cell"] for i in start["inputs"] if i["name"] == "compliance"] == cells
    assert summarise(site.home.records, record)["state"] == "succeeded"
