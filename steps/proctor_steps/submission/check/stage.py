"""``submission check``: the validator as a step, so that a gate's evidence can hold its report.

Whatever it finds, the step succeeds: it measures nothing, and a person decides. ``stop`` makes it
fail instead, for pipelines in which nobody looks.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import Field

from proctor_steps.contract import Finding as StepFinding
from proctor_steps.stage import DataError, Stage, StageParams, StepIO
from proctor_steps.submission.check import render, run, table
from proctor_steps.submission.check.finding import Severity
from proctor_steps.submission.check.report import Report

_AS_STEP = {Severity.REJECTED: "error", Severity.AGAINST: "error", Severity.ADVICE: "info"}
_MOST = 200  # findings that the step's result carries; the report holds all


class Params(StageParams):
    """By which round."""

    round: str = Field(default="v6.1", description="MLPerf round")
    submitter: str = Field(default="", description="judge this submitter's results alone")
    stop: bool = Field(default=False, description="fail where a rule is missed")


def execute(params: Params, io: StepIO) -> None:
    """Judge the tree; write check.json, check.txt and summary.csv.

    Raises:
        DataError: with ``stop``: something is rejected, or against the rules.
    """
    report = run.check(tree_of(io.input("package")), params.round, params.submitter or None)
    write(report, io.output("check"))
    tell(report, io)
    if params.stop and not report.within_rules:
        raise DataError("\n".join(render.plain(line) for line in render.ending(report)))


def tree_of(package: Path) -> Path:
    """The submission tree in the output of ``submission package``, or the folder itself."""
    inner = package / "tree"
    return inner if inner.is_dir() else package


def write(report: Report, out: Path) -> None:
    """The report for machines, for people, and as a table."""
    text = json.dumps(report.data(), indent=1, ensure_ascii=False)
    (out / "check.json").write_text(text + "\n", encoding="utf-8")
    (out / "summary.csv").write_text(table.as_csv(report), encoding="utf-8")
    told = "\n".join(render.plain(line) for line in render.lines(report, everything=True))
    (out / "check.txt").write_text(told + "\n", encoding="utf-8")


def tell(report: Report, io: StepIO) -> None:
    """What the step's own result says of it."""
    io.metrics["check"] = {
        "results": len(report.results),
        "rejected": len(report.rejected()),
        "accepted_by_the_official_checker": report.accepted,
        "within_the_rules": report.within_rules,
        **{severity.name.lower(): count for severity, count in report.counts.items()},
    }
    for finding in report.findings[:_MOST]:
        io.findings.append(
            StepFinding.model_validate(
                {
                    "rule": finding.rule,
                    "severity": _AS_STEP[finding.severity],
                    "message": f"{finding.message}; {finding.advice}",
                    "where": finding.where,
                }
            )
        )
    for line in render.ending(report):
        io.say(render.plain(line))


STAGE = Stage(
    "submission check",
    "Judge a submission by its round's rules.",
    Params,
    execute,
    inputs={"package": "the submission: a tree, or the output of submission package"},
    outputs={"check": "check.json, check.txt, summary.csv"},
)
