"""A disturbed machine where people look: summary, terminal, and the gate's question."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from proctor.airflow.attempts import StepRun
from proctor.airflow.question import evidence_markdown
from proctor.airflow.reuse import Wish
from proctor.plan.model import Gate, Plan, PlannedOutput, PlanStep, Source
from proctor.records.summary import summarise
from proctor.site.terminal import results_table
from results_kit import loadgen
from reuse_kit import Site

OUT = (PlannedOutput(name="logs", mount_path="/proctor/out/logs"),)
PLAN = Plan(
    pipeline="p",
    steps=(
        PlanStep(
            id="measure", step="measure", image="proctor/sut-onnxruntime", outputs=OUT,
            command=("loadgen", "run"), exclusive=True, reuse="within_run",
        ),
        PlanStep(
            id="look", step="look", kind="approval", upstream=("measure",),
            gate=Gate(question="Good?", evidence=(Source(step="measure", output="logs"),)),
        ),
    ),
)  # fmt: skip
REASON = "others took 1.00 of 2 processors during the run"


@pytest.mark.parametrize("disturbed", [None, [], [REASON]])
def test_it_is_marked_wherever_the_figure_is(disturbed: Any, tmp_path: Path) -> None:
    site = Site(tmp_path)
    metrics = {"loadgen": loadgen("digits", "Offline", 0, ()) | {"disturbed": disturbed}}
    site.acts = {"measure": {"outputs": {"logs": {"run.json": "{}"}}, "metrics": metrics}}
    record, _ = site.drive(PLAN, {}, Wish())
    summary = summarise(site.home.records, record)
    (result,) = summary["results"]
    assert result["metrics"]["disturbed"] == disturbed
    console = Console(file=io.StringIO(), width=200, record=True)
    results_table(console, summary, record)
    told = console.export_text()
    gate = StepRun(site.home, PLAN, PLAN.step("look"), record, site.fake)
    question = evidence_markdown(gate, "f" * 64)
    if disturbed:
        assert "640.0 samples/s !" in told
        assert f"! Offline was measured on a machine that was not quiet: {REASON}" in told
        assert f"| Offline | 640.0 samples/s | not quiet: {REASON} |" in question
    else:
        assert "!" not in told
        assert "quiet" not in told + question
