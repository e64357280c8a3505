"""A gate: evidence is shown, a person answers, the answer is signed and bound to the evidence.

Airflow's own state is no proof that somebody answered (anyone who may edit the DAG can set a task
to success), so the steps behind a gate look for the signed record that this task writes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, Literal, NoReturn

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from proctor.airflow import baselines, instance
from proctor.airflow.answers import answer_of, options, why_uncounted
from proctor.airflow.attempts import StepRun
from proctor.airflow.decisions import check_chosen
from proctor.airflow.evidence import StepRefused, StepSkipped, evidence_digest, shared_digests
from proctor.airflow.faults import faults_told
from proctor.airflow.question import evidence_markdown, forget_question
from proctor.airflow.recorded import refresh_summary
from proctor.plan.model import Gate, Plan
from proctor.records.approvals import SigningKey, last_answer, record_answer
from proctor.records.model import Line
from proctor.records.store import RecordError, RunRecord
from proctor_steps.contract import Approval

_COMMENT = "Needed when you {}: without one, such an answer does not count."


class ApprovalGate(HITLOperator):
    """Asks, waits without a worker, and records the answer before anything else happens."""

    ui_color = "#fff3d6"
    # A question is a spec's text and evidence is a step's: neither is a template to be filled in.
    template_fields: Collection[str] = ()

    def __init__(self, *, plan: Plan, step_id: str, **kwargs: Any) -> None:
        gate = plan.step(step_id).gate
        assert gate is not None  # noqa: S101 - the compiler gives every approval one
        kwargs.pop("params", None)  # Airflow hands the DAG's own down; the form has only its own
        super().__init__(
            subject=gate.question,
            body="The evidence is put together when the gate is reached.",
            options=list(options(gate)),
            assigned_users=[{"id": name, "name": name} for name in gate.approvers] or None,
            response_timeout=timedelta(seconds=gate.timeout_seconds) or None,
            params={
                "evidence_reviewed": Param(
                    False,
                    type="boolean",
                    title="I have looked at the evidence",
                    description="Kept with your answer; report and package show it.",
                ),
                "comment": Param(
                    "",
                    type=["string", "null"],
                    title="Comment",
                    description=_COMMENT.format("do not accept" if gate.keep else "reject"),
                ),
            },
            **kwargs,
        )
        self.plan = plan
        self.step_id = step_id
        self.gate: Gate = gate

    def execute(self, context: Any) -> Any:
        """Put the evidence together and ask."""
        with faults_told(self.log):
            run = self._step_run(context)
            self._check_wanted(run)
            if chosen := self._answered_before(run):
                return [chosen]
            self._ask(run, context["task_instance"].id)
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Record the answer, signed, then let the run go on or end it; or ask anew."""
        with faults_told(self.log):
            run = self._step_run(context)
            if chosen := self._answered_before(run) or self._take_answer(run, event):
                return [chosen]
            self._ask(run, context["task_instance"].id)
        return super().execute(context)

    def _check_wanted(self, run: StepRun) -> None:
        try:
            run.check_plan()
            check_chosen(run)
        except StepSkipped as skipped:
            raise AirflowSkipException(str(skipped)) from None
        except (StepRefused, RecordError) as refused:
            self._refuse(run, refused)

    def _answered_before(self, run: StepRun) -> str:
        """What was chosen where the task was killed when it had recorded that, and nobody cleared
        it; "" where there is no answer to go on with.

        Raises:
            AirflowFailException: it had recorded a rejection.
        """
        line = last_answer(run.record, self.step_id)
        if line is None or line.data.get("generation") != run.generation:
            return ""
        if _said(line)["decision"] == "rejected":
            raise AirflowFailException(rejection(line))
        if _said(line)["evidence_digest"] != self._evidence(run)[0]:
            return ""
        return self._settled(run, line)

    def _ask(self, run: StepRun, task: object) -> None:
        """Record that it is asked, with the number of the question, and make up its text."""
        shown, shared = self._evidence(run)
        take_unattended(run.record, self.step_id)  # one that nobody used must not count later
        asked = run.record.last("asked", self.step_id)
        number = asked.attempt + 1 if asked else 1
        held = {"shared": shared} if shared else {}
        self._append(run, "asked", number, {"evidence_digest": shown, **held})
        try:
            self.body = evidence_markdown(run, shown)
        except RecordError as refused:
            self._refuse(run, refused)
        forget_question(task)

    def _take_answer(self, run: StepRun, event: dict[str, Any]) -> str:
        """What was chosen, once it is recorded; "" where the answer does not count.

        Raises:
            AirflowFailException: it was a rejection, or nobody answered in time.
        """
        asked = run.record.last("asked", self.step_id)
        assert asked is not None  # noqa: S101 - there is no answer without a question
        if "error" in event:
            message = "nobody answered in time, which approves nothing; clear the gate to ask again"
            self._append(run, "refused", asked.attempt, {"message": message, "reason": "timeout"})
            raise AirflowFailException(message)
        answer = answer_of(event, self.step_id, self.gate)
        answer["evidence_digest"] = str(asked.data.get("evidence_digest"))
        if take_unattended(run.record, self.step_id):
            answer |= {"answered_via": "cli-yes", "evidence_reviewed": False}
        if why := why_uncounted(self.gate, answer, self._evidence(run)[0]):
            self._append(run, "uncounted", asked.attempt, {"answer": answer, "message": why})
            self.log.warning("the answer does not count: %s; the question is asked anew", why)
            return ""
        line = record_answer(
            run.record,
            SigningKey(run.home.path),
            Approval.model_validate(answer),
            attempt=asked.attempt,
            plan_digest=self.plan.digest,
            more={"generation": run.generation, **self._way_back(answer), **self._speaks_of(run)},
        )
        if _said(line)["decision"] == "rejected":
            refresh_summary(run.home, run.record)
            raise AirflowFailException(rejection(line))
        return self._settled(run, line)

    def _settled(self, run: StepRun, line: Line) -> str:
        """What was chosen, with all that follows from it written down, once.

        Raises:
            AirflowFailException: the baselines cannot be read; recorded.
        """
        if self.gate.baseline:
            try:
                for text in baselines.answered(run.home, run.record, run.plan, line):
                    self.log.info("%s", text)
            except RecordError as refused:
                self._refuse(run, refused)
        refresh_summary(run.home, run.record)
        decision = _said(line)["decision"]
        return next(name for name, is_it in options(self.gate).items() if is_it == decision)

    def _way_back(self, answer: Mapping[str, Any]) -> dict[str, str]:
        back = answer["decision"] == "rejected" and self.gate.rework
        return {"rework": back} if back else {}

    def _speaks_of(self, run: StepRun) -> dict[str, Any]:
        """The results that an answer at a gate of baselines is about."""
        if not self.gate.baseline:
            return {}
        try:
            found = baselines.before(run.home, run.record, run.plan, run.step)
        except RecordError as refused:
            self._refuse(run, refused)
        return {"baselines": baselines.told(found)}

    def _evidence(self, run: StepRun) -> tuple[str, dict[str, str]]:
        """The evidence's digest as it is now, and those of the directories that steps share.

        Raises:
            AirflowFailException: there is none, or it is of another plan; recorded.
        """
        try:
            run.check_plan()
            shared = shared_digests(run.home, run.record, run.plan, run.step)
            return evidence_digest(run.record, run.plan, run.step, shared), shared
        except (StepRefused, RecordError) as refused:
            self._refuse(run, refused)

    def _refuse(self, run: StepRun, refused: Exception) -> NoReturn:
        if run.record.exists():
            run.refuse(str(refused))
        raise AirflowFailException(str(refused)) from None

    def _append(
        self,
        run: StepRun,
        kind: Literal["asked", "refused", "uncounted"],
        attempt: int,
        data: dict[str, Any],
    ) -> None:
        run.record.append(
            kind, step=self.step_id, attempt=attempt, plan_digest=self.plan.digest, data=data
        )
        run.refresh_summary()

    def _step_run(self, context: Any) -> StepRun:
        home = instance.home()
        record = home.records.run(self.plan.pipeline, context["dag_run"].run_id)
        step = self.plan.step(self.step_id)
        # Clearing a task raises its limit of tries; asking anew does not.
        generation = int(context["task_instance"].max_tries)
        return StepRun(home, self.plan, step, record, instance.runtime(), generation)


def _said(line: Line) -> dict[str, Any]:
    answer = line.data["answer"]
    assert isinstance(answer, dict)  # noqa: S101 - record_answer wrote it
    return answer


def rejection(line: Line) -> str:
    """A rejection in words, from its line."""
    answer = _said(line)
    back = f"; back to {line.data['rework']}" if line.data.get("rework") else ""
    return f"{answer['by']} rejected: {answer['comment']}{back}"


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
