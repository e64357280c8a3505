"""Rules for a review: what it looks at, what it leaves, and where it may send a subject back."""

from __future__ import annotations

from collections.abc import Iterator

from proctor.spec import graph
from proctor.spec.context import Context
from proctor.spec.document import DataPath
from proctor.spec.errors import Problem
from proctor.spec.model import Review, Step

_NOT_OF_A_REVIEW = ("image", "command", "params", "matrix", "secrets", "services", "cache",
                    "network", "exclusive", "mounts", "approval")  # fmt: skip


def reviews(context: Context) -> Iterator[Problem]:
    """Every rule of them."""
    for number, step in enumerate(context.pipeline.steps):
        if step.review and number not in context.broken.steps:
            path: DataPath = ("steps", number)
            yield from _shape(context, path, step)
            yield from _files(context, path, step.review)
            yield from _send_back(context, path, step, step.review)


def _shape(context: Context, path: DataPath, step: Step) -> Iterator[Problem]:
    for key in _NOT_OF_A_REVIEW:
        if key in step.model_fields_set:
            message = f"a review has no {key!r}"
            yield context.at_key((*path, key), message, "give that work a step of its own")
    if len(step.inputs) != 1:
        message = f"the review {step.id!r} looks at one input, here are {len(step.inputs)}"
        yield context.at(path, message, "write 'inputs: {name: step.output}'")
    if len(step.outputs) != 1 or any(o.type == "file" for o in step.outputs.values()):
        message = f"the review {step.id!r} leaves one directory, with the files as finished"
        yield context.at(path, message, "write 'outputs: {name: directory}'")


def _files(context: Context, path: DataPath, review: Review) -> Iterator[Problem]:
    for index, pattern in enumerate(review.files):
        if pattern.startswith("/") or ".." in pattern.split("/") or not pattern.strip("/"):
            message = f"{pattern!r} is no pattern of names in the input"
            yield context.at((*path, "review", "files", index), message, "write '*.nii.gz'")


def _send_back(context: Context, path: DataPath, step: Step, review: Review) -> Iterator[Problem]:
    known = [id for id in review.send_back_to if id in context.index]
    place = (*path, "review", "send_back_to")
    if len(known) > 1:
        message = "a subject is sent back to one step, here are several"
        yield context.at_key(place, message, "name the one to begin with")
    if known and not step.partitioned:
        message = f"{step.id!r} runs once, and only a subject is sent back"
        yield context.at_key(place, message, "add 'partition: true', or take it out")
        return
    before = graph.edges(context.pipeline)
    stretch = graph.stretches(context.pipeline, before)
    for id in known:
        here = stretch.get(id) == stretch.get(step.id)
        if not (here and id != step.id and graph.stands_before(id, step.id, before)):
            message = f"{id!r} does not stand before {step.id!r} on a subject's way"
            yield context.at_key(place, message, "name a step that runs per subject before it")
