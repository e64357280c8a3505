"""A gate: evidence is shown, a person answers, the answer is signed and bound to the evidence.

Airflow's own state is no proof that somebody answered (anyone who may edit the DAG can set a task
to success), so the steps behind a gate look for the signed record that this task writes.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from proctor.airflow import instance
from proctor.airflow.attempts import StepRun
from proctor.airflow.evidence import StepRefused, evidence_digest
from proctor.airflow.faults import faults_told
from proctor.airflow.recorded import refresh_summary
from proctor.plan.model import Plan
from proctor.records.approvals import SigningKey, record_answer
from proctor.records.figures import figure
from proctor.records.store import RecordError, RunRecord
from proctor.records.summary import summarise
from proctor_steps.contract import Approval

APPROVE, REJECT = "Approve", "Reject"


class ApprovalGate(HITLOperator):
    """Asks, waits without a worker, and records the answer before anything else happens."""

    ui_color = "#fff3d6"

    def __init__(self, *, plan: Plan, step_id: str, **kwargs: Any) -> None:
        step = plan.step(step_id)
        assert step.gate is not None  # noqa: S101 - the compiler gives every gate one
        timeout = step.gate.timeout_seconds
        kwargs.pop("params", None)  # Airflow hands the DAG's own down; the form has only its own
        super().__init__(
            subject=step.gate.question,
            body="The evidence is put together when the gate is reached.",
            options=[APPROVE, REJECT],
            assigned_users=[{"id": name, "name": name} for name in step.gate.approvers] or None,
            response_timeout=timedelta(seconds=timeout) if timeout else None,
            params={
                "evidence_reviewed": Param(
                    False,
                    type="boolean",
                    title="I have looked at the evidence",
                    description="Kept with your answer; report and package show it.",
                ),
                "comment": Param("", type=["string", "null"], title="Comment"),
            },
            **kwargs,
        )
        self.plan = plan
        self.step_id = step_id

    def execute(self, context: Any) -> Any:
        """Put the evidence together and ask."""
        with faults_told(self.log):
            self._show_evidence(context)
        return super().execute(context)

    def _show_evidence(self, context: Any) -> None:
        run = self._step_run(context)
        try:
            run.check_plan()
            shown = evidence_digest(run.record, run.plan, run.step)
        except (StepRefused, RecordError) as refused:
            if run.record.exists():
                run.refuse(str(refused))
            raise AirflowFailException(str(refused)) from None
        take_unattended(run.record, self.step_id)  # one that nobody used must not count later
        attempt = context["task_instance"].try_number
        run.record.append(
            "asked",
            step=self.step_id,
            attempt=attempt,
            plan_digest=self.plan.digest,
            data={"evidence_digest": shown},
        )
        run.refresh_summary()
        self.body = evidence_markdown(run, shown)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Record the answer, signed, then let the run go on or end it."""
        with faults_told(self.log):
            return self._take_answer(context, event)

    def _take_answer(self, context: Any, event: dict[str, Any]) -> Any:
        run = self._step_run(context)
        try:
            run.check_plan()
        except StepRefused as refused:
            run.refuse(str(refused))
            raise AirflowFailException(str(refused)) from None
        if "error" in event:
            run.refuse("nobody answered in time; a timeout never approves")
            raise AirflowFailException("nobody answered in time; a timeout never approves")
        approval = self._approval(run, event)
        record_answer(
            run.record,
            SigningKey(run.home.path),
            approval,
            attempt=context["task_instance"].try_number,
            plan_digest=self.plan.digest,
        )
        refresh_summary(run.home, run.record)
        answer = super().execute_complete(context, event)
        if approval.decision == "rejected":
            raise AirflowFailException(
                f"{approval.by} rejected: {approval.comment or '(no comment)'}"
            )
        return answer["chosen_options"]

    def _approval(self, run: StepRun, event: dict[str, Any]) -> Approval:
        given = event.get("params_input") or {}
        user = event.get("responded_by_user") or {}
        asked = run.record.last("asked", self.step_id)
        shown = str(asked.data.get("evidence_digest")) if asked else ""
        if shown != evidence_digest(run.record, run.plan, run.step):
            message = (
                "the evidence changed while the question was open; clear the gate and answer again"
            )
            run.refuse(message)
            raise AirflowFailException(message)
        unattended = take_unattended(run.record, self.step_id)
        return Approval(
            gate=self.step_id,
            decision="approved" if event["chosen_options"] == [APPROVE] else "rejected",
            by=str(user.get("name") or user.get("id") or "unknown"),
            at=event["responded_at"].isoformat(timespec="milliseconds"),
            answered_via="cli-yes" if unattended else "ui",
            evidence_reviewed=bool(given.get("evidence_reviewed")) and not unattended,
            evidence_digest=shown,
            comment=str(given.get("comment") or ""),
        )

    def _step_run(self, context: Any) -> StepRun:
        home = instance.home()
        record = home.records.run(self.plan.pipeline, context["dag_run"].run_id)
        return StepRun(home, self.plan, self.plan.step(self.step_id), record, instance.runtime())


def announce_unattended(record: RunRecord, gate: str) -> None:
    """``--yes`` is about to answer: say so first, so that the record cannot call it a review."""
    (record.own / f"unattended-{gate}.json").write_text(json.dumps({"gate": gate}))


def take_unattended(record: RunRecord, gate: str) -> bool:
    """Whether the answer that came was announced as unattended; each announcement counts once."""
    path = record.own / f"unattended-{gate}.json"
    if not path.exists():
        return False
    path.unlink()
    return True


def evidence_markdown(run: StepRun, shown: str) -> str:
    """The question's body: figures, findings and digests, and where the full evidence is."""
    summary = summarise(run.home.records, run.record)
    page = f"/proctor/evidence/{run.record.pipeline}/{run.record.run}/{run.step.id}"
    parts = [f"[**Open the evidence page**]({page}) (plots, images, every finding)"]
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
        parts.append(
            _table(
                ("Scenario", "Result", "LoadGen says", "Rules missed"),
                [
                    (
                        r["scenario"],
                        figure(r["metrics"].get("metric") or {}),
                        "VALID" if r["valid"] else "INVALID",
                        _missed(r),
                    )
                    for r in runs
                ],
            )
        )
    parts.append(f"Evidence digest `{shown[:16]}`; the answer is stored against it.")
    return "\n\n".join(parts)


def _plain(cell: Any) -> str:
    """A step's words as words: no links, rows or markup of its own in the question."""
    return re.sub(r"([\\`*_\[\]<>|!#])", r"\\\1", " ".join(str(cell).split()))


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


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
