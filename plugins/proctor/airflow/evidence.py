"""What a gate's answer is bound to, and whether a step behind it may go on."""

from __future__ import annotations

from proctor.plan.model import Plan, PlanStep, selected
from proctor.records.approvals import ApprovalInvalid, SigningKey, valid_answer
from proctor.records.store import RunRecord
from proctor.records.summary import step_state
from proctor.site.home import Home
from proctor_steps.contract import Approval, digest


class StepSkipped(Exception):
    """The run's parameters leave this step out."""


class StepRefused(Exception):
    """The step may not start in this run; the message is for the person who reads it."""


def output_of(record: RunRecord, step: str, output: str) -> tuple[str, str]:
    """URI and sha256 of a step's newest good output.

    Raises:
        StepRefused: the step has none in this run.
    """
    line = record.last("result", step)
    outputs = line.data.get("outputs") if line else None
    entry = outputs.get(output) if isinstance(outputs, dict) else None
    if line is None or line.data.get("state") != "succeeded" or not isinstance(entry, dict):
        raise StepRefused(
            f"step {step!r} has no recorded output {output!r} in this run; a task set to success "
            "by hand leaves none. Clear it and let it run."
        )
    return str(entry["uri"]), str(entry["sha256"])


def gathered(record: RunRecord, partition: str) -> list[str]:
    """The subjects that what stands behind a stretch goes on with.

    Raises:
        StepRefused: the stretch is not over.
    """
    line = record.whole.last("result", partition)
    done = line.data.get("succeeded") if line else None
    if line is None or line.data.get("state") != "succeeded" or not isinstance(done, list):
        raise StepRefused(
            f"{partition!r} has no recorded end in this run; a task set to success by hand leaves "
            "none. Clear it and let it run."
        )
    return [str(subject) for subject in done]


def was_skipped(record: RunRecord, step: str) -> bool:
    """Whether a step was left out, and not run since."""
    return step_state(line for line in record.lines() if line.step == step)[0] == "skipped"


def evidence_digest(record: RunRecord, plan: Plan, gate: PlanStep) -> str:
    """Digest of all that led to a gate: every output of every step that it waits for.

    Not of the evidence page alone: a run measured anew after the answer is not what was approved,
    even where nobody made the page anew. A directory that steps share counts by its name alone: the
    steps behind the gate change it, too.

    Raises:
        StepRefused: a step that the run selected has no recorded output.
    """
    params, seen = record.params(), ancestors(plan, gate)
    outputs: list[list[str]] = []
    for step in plan.steps:
        if step.id not in seen or not selected(step, params):
            continue
        for subject, part in _parts(record, step):
            named = [step.id, subject] if subject else [step.id]
            if was_skipped(part, step.id):
                outputs.append([*named, "left out"])
                continue
            for output in step.outputs:
                held = "shared" if output.shared else output_of(part, step.id, output.name)[1]
                outputs.append([*named, output.name, held])
    return digest(outputs)


def _parts(record: RunRecord, step: PlanStep) -> list[tuple[str, RunRecord]]:
    if not step.partition:
        return [("", record)]
    return [(subject, record.subject(subject)) for subject in gathered(record, step.partition)]


def ancestors(plan: Plan, step: PlanStep) -> set[str]:
    """Every step that a step waits for, directly or not."""
    found: set[str] = set()
    todo = list(step.upstream)
    while todo:
        if (id := todo.pop()) not in found:
            found.add(id)
            todo += plan.step(id).upstream
    return found


def covered(plan: Plan, step: PlanStep, source: str) -> bool:
    """Whether what a step behind gates reads was seen by one of them, or stands behind it, too."""
    gates = step.required_approvals
    if any(gate in plan.step(source).required_approvals for gate in gates):
        return True
    return any(source in ancestors(plan, plan.step(gate)) for gate in gates)


def approvals_for(
    home: Home, record: RunRecord, plan: Plan, step: PlanStep
) -> tuple[Approval, ...]:
    """The answers a step stands behind, each checked: record, signature and evidence.

    Of a gate that a conditional ``next`` of the spec left out, none is wanted.

    Raises:
        StepRefused: one does not let it go on.
    """
    if not step.required_approvals:
        return ()
    if problems := record.verify_chain():
        raise StepRefused("the run's record was changed: " + "; ".join(problems[:3]))
    public = SigningKey(home.path).public()
    try:
        return tuple(
            valid_answer(record, gate, evidence_digest(record, plan, plan.step(gate)), public)
            for gate in step.required_approvals
            if not was_skipped(record, gate)
        )
    except ApprovalInvalid as error:
        raise StepRefused(str(error)) from error
