"""Rules for gates: who may answer, and where the work begins again when somebody rejects."""

from __future__ import annotations

from collections.abc import Iterator

from proctor.spec import graph
from proctor.spec.context import Context
from proctor.spec.document import DataPath
from proctor.spec.errors import Problem, did_you_mean
from proctor.spec.model import Approval, Step


def gates(context: Context) -> Iterator[Problem]:
    """Approvers have names, ``rework`` names a step before the gate, and a baseline is measured."""
    for number, step in enumerate(context.pipeline.steps):
        if step.approval is None or number in context.broken.steps:
            continue
        path: DataPath = ("steps", number, "approval")
        for index, name in enumerate(step.approval.approvers):
            if not name.strip():
                remedy = "write the name that this person logs in with"
                yield context.at((*path, "approvers", index), "an approver has no name", remedy)
        if step.approval.on_reject.rework:
            yield from _rework(context, (*path, "on_reject", "rework"), step, step.approval)
        yield from _baseline(context, path, step, step.approval)


def _baseline(
    context: Context, path: DataPath, gate: Step, approval: Approval
) -> Iterator[Problem]:
    if approval.keep and not approval.baseline:
        message = "without 'baseline' there is no old one that could be kept"
        yield context.at_key((*path, "keep"), message, "write 'baseline: true' beside it")
    before = {id for id in graph.ancestors(context.pipeline, gate.id) if id in context.index}
    if any(context.index[id] in context.broken.steps for id in before):
        return  # what a step that was set aside reads is not known
    once = [id for id in before if context.step(id).image and not context.step(id).partitioned]
    if approval.baseline and not once:
        message = f"nothing that could measure runs before {gate.id!r}, once in a run"
        remedy = "name the measuring step in 'after' or 'evidence'"
        yield context.at_key((*path, "baseline"), message, remedy)


def _rework(context: Context, path: DataPath, gate: Step, approval: Approval) -> Iterator[Problem]:
    wanted = approval.on_reject.rework
    before = graph.ancestors(context.pipeline, gate.id)
    once = {id for id in before if not context.step(id).partitioned}
    remedy = did_you_mean(wanted, once)
    if wanted not in context.index:
        yield context.at(path, f"there is no step {wanted!r}", remedy)
    elif wanted in before and wanted not in once:
        message = f"{wanted!r} runs per subject: a rejection leads back to a step that runs once"
        yield context.at(path, message, remedy)
    elif wanted not in before and not any(
        context.index[id] in context.broken.steps for id in before
    ):
        # What a step that was set aside reads is not known.
        message = f"{wanted!r} does not stand before the gate {gate.id!r}"
        yield context.at(path, message, remedy)
