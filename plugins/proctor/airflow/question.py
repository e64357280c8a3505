"""What a gate's question says: figures, findings and digests, and where the full evidence is."""

from __future__ import annotations

import os
import re
from typing import Any

from proctor.airflow import baselines
from proctor.airflow.attempts import StepRun
from proctor.airflow.changes import connected
from proctor.records.figures import figure, machine
from proctor.records.rows import disturbed
from proctor.records.store import RunRecord
from proctor.records.summary import summarise
from proctor.site.home import DATABASE_VARIABLE

_JUDGED = ("LoadGen says", "Rules missed")


def forget_question(task: object) -> None:
    """Have Airflow take the next question of a task as a new one.

    It keeps a task's first question through clearing and tries, with its text and its figures, and
    has no call to change it; the row that goes is in Airflow's history of the task where it ended.
    """
    with connected(os.environ[DATABASE_VARIABLE]) as cursor:
        cursor.execute("DELETE FROM hitl_detail WHERE ti_id = %s", (str(task),))


def evidence_markdown(run: StepRun, shown: str) -> str:
    """The question's body. An answer that came before is told first, with what became of it."""
    summary = summarise(run.home.records, run.record)
    page = f"/proctor/evidence/{run.record.pipeline}/{run.record.run}/{run.step.id}"
    parts = (
        [f"**{_plain(earlier)}**"]
        if (earlier := earlier_answer(run.record, run.step.id, shown))
        else []
    )
    parts.append(f"[**Open the evidence page**]({page}) (plots, images, every finding)")
    if summary["accuracy"]:
        parts.append(
            _table(
                ("Scenario", "Accuracy", "Value", "Samples", "Target"),
                [
                    (
                        a.get("scenario"),
                        a.get("metric"),
                        _figure(a.get("value")),
                        f"{a.get('samples')} of {a.get('expected_samples')}",
                        _target(a),
                    )
                    for a in summary["accuracy"]
                ],
            )
        )
    runs = [r for r in summary["results"] if r["mode"] == "performance"]
    if runs:
        elsewhere = any(r.get("measured_in") for r in runs)
        unquiet = any(disturbed(r["metrics"]) for r in runs)
        parts.append(
            _table(
                (
                    "Scenario",
                    "Result",
                    *(["Machine"] * unquiet),
                    *(["Measured in"] * elsewhere),
                    *_JUDGED,
                ),
                [
                    (
                        r["scenario"],
                        figure(r["metrics"].get("metric") or {}),
                        *([machine(disturbed(r["metrics"]))] * unquiet),
                        *([r.get("measured_in") or "this run"] * elsewhere),
                        "VALID" if r["valid"] else "INVALID",
                        _missed(r),
                    )
                    for r in runs
                ],
            )
        )
    if summary["compliance"]:
        parts.append(
            _table(
                ("Scenario", "Compliance test", "Verdict", "Findings"),
                [
                    (t.get("scenario"), t["test"], t["verdict"], _told(t))
                    for t in summary["compliance"]
                ],
            )
        )
    if run.step.gate and run.step.gate.baseline:
        found = baselines.before(run.home, run.record, run.plan, run.step)
        head = ("Result", "Measured", "Baseline so far", "When accepted")
        parts.append(_table(head, list(baselines.rows(run.home, found))))
    parts.append(f"Evidence digest `{shown[:16]}`; the answer is stored against it.")
    return "\n\n".join(parts)


def earlier_answer(record: RunRecord, gate: str, shown: str) -> str:
    """What became of the answer before this question, in words; "" where there was none."""
    kinds = ("approval", "uncounted")
    lines = [line for line in record.lines() if line.step == gate and line.kind in kinds]
    if not lines:
        return ""
    answer = lines[-1].data.get("answer")
    told = answer if isinstance(answer, dict) else {}
    if lines[-1].kind == "uncounted":
        return (
            f"The last answer did not count: {lines[-1].data.get('message')}. Please answer again."
        )
    comment = f": {told['comment']}" if told.get("comment") else ""
    of = "this" if told.get("evidence_digest") == shown else "other"
    decision = told.get("decision")
    words = "kept the old baseline in view of" if decision == "kept" else decision
    return f"{told.get('by')} {words} {of} evidence before{comment}"


def _plain(cell: Any) -> str:
    """A step's words as words: no links, rows or markup of its own in the question."""
    return re.sub(r"([\\`*_\[\]<>|!#])", r"\\\1", " ".join(str(cell).split()))


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _told(row: dict[str, Any]) -> str:
    """Rules that a step's findings name, each once."""
    findings = row.get("findings")
    known = findings if isinstance(findings, list) else []
    rules = [
        str(f.get("rule")) for f in known if isinstance(f, dict) and f.get("severity") != "info"
    ]
    return ", ".join(dict.fromkeys(rules)) or "none"


def _figure(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _target(row: dict[str, Any]) -> str:
    if row.get("target") is None:
        return "none set"
    return f"{_figure(row['target'])} ({'met' if row.get('met') else 'missed'})"


def _missed(run: dict[str, Any]) -> str:
    rules = run["metrics"].get("rules") or []
    missed = [r["rule"] for r in rules if isinstance(r, dict) and r.get("met") is False]
    return ", ".join(missed).replace("_", " ") or "none"
