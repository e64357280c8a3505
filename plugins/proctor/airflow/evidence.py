"""What a gate's answer is bound to, and whether a step behind it may go on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from pydantic import JsonValue

from proctor.plan.model import Plan, PlanStep, selected
from proctor.records.approvals import ApprovalInvalid, SigningKey, valid_answer
from proctor.records.model import Line
from proctor.records.store import RunRecord
from proctor.records.summary import step_state
from proctor.runtime.artifacts import LocalArtifacts
from proctor.runtime.hashes import content_digest
from proctor.site.home import Home
from proctor_steps.contract import Approval, digest


class StepSkipped(Exception):
    """The run's parameters leave this step out."""


class StepRefused(Exception):
    """The step may not start in this run; the message is for the person who reads it."""


class Left(NamedTuple):
    """An output of a step. ``measured_in``: ``pipeline/run/step/attempt`` of another run whose
    measurement was taken over. ``fetched``: what a step that fetched told of its source."""

    uri: str
    sha256: str
    measured_in: str = ""
    fetched: Mapping[str, JsonValue] = MappingProxyType({})


def output_of(record: RunRecord, step: str, output: str) -> Left:
    """A step's newest good output.

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
    measured_in = str(line.data.get("reused_from")) if line.data.get("measurement") else ""
    metrics = line.data.get("metrics")
    source = metrics.get("source") if isinstance(metrics, dict) else None
    fetched = source if isinstance(source, dict) else {}
    return Left(str(entry["uri"]), str(entry["sha256"]), measured_in, fetched)


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


def evidence_digest(
    record: RunRecord, plan: Plan, gate: PlanStep, shared: Mapping[str, str] | None = None
) -> str:
    """Digest of all that led to a gate: every output of every step that it waits for.

    Not of the evidence page alone: a run measured anew after the answer is not what was approved,
    even where nobody made the page anew. Directories that such steps share count by what they held
    at the gate, ``shared``, and each step that works in them by its attempt, as nothing else tells
    that it was done anew. Without ``shared``, what the gate recorded when it asked: steps behind it
    change these directories, so that their bytes cannot be compared again.

    Raises:
        StepRefused: a step that the run selected has no recorded output.
    """
    params, seen = record.params(), plan.ancestors(gate.id)
    found: list[list[str]] = []
    for step in plan.steps:
        if step.id not in seen or not selected(step, params):
            continue
        for subject, part in _parts(record, step):
            named = [step.id, subject] if subject else [step.id]
            if was_skipped(part, step.id):
                found.append([*named, "left out"])
                continue
            own = [output.name for output in step.outputs if not output.shared]
            found += [[*named, name, output_of(part, step.id, name).sha256] for name in own]
            if step.shares and step.kind == "container":
                found.append([*named, "attempt", str(_good(part, step.id).attempt)])
    held = _asked_with(record, gate) if shared is None else shared
    found += [["shared", name, sha256] for name, sha256 in sorted(held.items())]
    return digest(found)


def shared_digests(home: Home, record: RunRecord, plan: Plan, gate: PlanStep) -> dict[str, str]:
    """What the directories that steps before a gate share hold now; by name.

    Raises:
        StepRefused: one cannot be read.
    """
    before = [plan.step(id) for id in plan.ancestors(gate.id)]
    names = {output.name for step in before for output in step.outputs if output.shared}
    names |= {item.shared for step in before for item in step.inputs if item.shared}
    found, store = {}, LocalArtifacts(home.path)
    for name in sorted(names):
        place = store.shared(record.pipeline, record.run, name)
        try:
            found[name] = content_digest(place) if place.exists() else "absent"
        except (OSError, ValueError) as error:
            raise StepRefused(f"the shared directory {name!r} cannot be read: {error}") from error
    return found


def _asked_with(record: RunRecord, gate: PlanStep) -> dict[str, str]:
    asked = record.last("asked", gate.id)
    held = asked.data.get("shared") if asked else None
    return {name: str(sha256) for name, sha256 in held.items()} if isinstance(held, dict) else {}


def _good(record: RunRecord, step: str) -> Line:
    line = record.last("result", step)
    if line is None or line.data.get("state") != "succeeded":
        raise StepRefused(
            f"step {step!r} has not succeeded in this run; a task set to success by hand has not "
            "either. Clear it and let it run."
        )
    return line


def _parts(record: RunRecord, step: PlanStep) -> list[tuple[str, RunRecord]]:
    if not step.partition:
        return [("", record)]
    return [(subject, record.subject(subject)) for subject in gathered(record, step.partition)]


def covered(plan: Plan, step: PlanStep, source: str) -> bool:
    """Whether what a step behind gates reads was seen by one of them, or stands behind it, too."""
    gates = step.required_approvals
    if any(gate in plan.step(source).required_approvals for gate in gates):
        return True
    return any(source in plan.ancestors(gate) for gate in gates)


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
