"""Rules for what runs once for each subject, and for what says which subjects there are."""

from __future__ import annotations

from collections.abc import Iterator

from proctor.spec.context import Context
from proctor.spec.document import DataPath
from proctor.spec.errors import Problem, did_you_mean
from proctor.spec.model import Partition, Step


def subjects(context: Context) -> Iterator[Problem]:
    """Who runs per subject, what names the subjects, and what cannot be done per subject."""
    found = context.pipeline.subjects
    if context.pipeline.partition_def and context.pipeline.per_subject_def:
        message = "'partition_def' and 'per_subject_def' are two names of one thing"
        yield context.at_key(("per_subject_def",), message, "keep one of them")
    for number, step in enumerate(context.pipeline.steps):
        if number in context.broken.steps:
            continue
        path: DataPath = ("steps", number)
        if step.partitioned:
            yield from _partitioned(context, path, step, defined=found is not None)
        yield from _own_folders(context, path, step)
    if found:
        yield from _definition(context, *found)


def _partitioned(
    context: Context, path: DataPath, step: Step, *, defined: bool
) -> Iterator[Problem]:
    key = "partition" if step.partition else "per_subject"
    if not defined and not {"partition_def", "per_subject_def"} & context.broken.top:
        message = f"{step.id!r} runs per subject, but nothing says what the subjects are"
        yield context.at_key((*path, key), message, "add 'partition_def:'")
    if step.is_approval:
        message = f"the approval {step.id!r} cannot be asked for each subject"
        yield context.at_key((*path, key), message, f"take {key!r} out: one answer for all")
    if step.services:
        message = f"{step.id!r} runs per subject and cannot use services"
        yield context.at_key((*path, "services"), message, "use them before or behind the subjects")


def _own_folders(context: Context, path: DataPath, step: Step) -> Iterator[Problem]:
    for below, item in step.all_inputs.values():
        if not item.per_subject:
            continue
        place = (*path, *below, "per_subject")
        if not step.partitioned:
            message = f"{step.id!r} does not run per subject, so no folder is its own"
            yield context.at_key(place, message, "add 'partition: true', or take this out")
        elif item.source and _runs_per_subject(context, item.source.step):
            message = f"what {item.source.step!r} leaves is the subject's own already"
            yield context.at_key(place, message, "take 'per_subject' out")


def _runs_per_subject(context: Context, id: str) -> bool:
    return id in context.index and context.step(id).partitioned


def _definition(context: Context, path: DataPath, item: Partition) -> Iterator[Problem]:
    if item.kind == "function" and not item.function_name:
        yield context.at(path, "this function has no name", "add 'function_name: module.function'")
    if item.kind == "container" and not (item.image and item.command):
        yield context.at(path, "a container needs 'image' and 'command'", "add them")
    if item.kind == "glob" and item.source is None and not item.mount:
        remedy = "add 'from: step.output' or 'mount: name', whose folders are the subjects"
        yield context.at(path, "nothing says where the subjects are", remedy)
    if item.source and item.mount:
        message = "the subjects are either in an output or in a mount"
        yield context.at_key((*path, "mount"), message, "keep 'from' or 'mount'")
    if item.glob.startswith("/") or ".." in item.glob.split("/") or not item.glob.strip("/"):
        message = f"{item.glob!r} is no pattern of names in an output"
        yield context.at((*path, "glob"), message, "write '*/' for folders, '*/*/' for two levels")
    if item.source is None:
        return
    if item.source.step not in context.index:
        remedy = did_you_mean(item.source.step, context.index)
        message = f"there is no step {item.source.step!r}"
        yield context.at((*path, "from"), message, remedy)
        return
    source = context.step(item.source.step)
    if source.partitioned:
        message = f"{source.id!r} runs per subject, so it cannot say which subjects there are"
        yield context.at((*path, "from"), message, "name an output from before the subjects")
    elif item.source.output not in source.all_outputs:
        message = f"the step {source.id!r} has no output {item.source.output!r}"
        remedy = did_you_mean(item.source.output, source.all_outputs)
        yield context.at((*path, "from"), message, remedy)
