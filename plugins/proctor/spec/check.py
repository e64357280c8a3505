"""The rules that no single value shows: names that must exist, graphs without cycles, cells.

Every rule is a function that yields Problems; none stops another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from proctor.spec import (
    check_conditions,
    check_gates,
    check_mounts,
    check_params,
    check_reviews,
    check_schedule,
    check_services,
    check_subjects,
    check_submission,
    graph,
)
from proctor.spec.check_params import PARAM_NAME
from proctor.spec.context import Broken, Context
from proctor.spec.document import DataPath
from proctor.spec.errors import Problem, did_you_mean
from proctor.spec.model import InputSpec, OutputSpec, Pipeline, Service, SourceRef, Step
from proctor_steps.stages import IMAGE_PREFIX
from proctor_steps.stages import MODULES as STAGES

STEP_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
PIPELINE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


def check(pipeline: Pipeline, broken: Broken | None = None) -> Iterator[Problem]:
    """Every problem of a pipeline that fits the model."""
    context = Context(pipeline, broken or Broken())
    for rule in RULES:
        yield from rule(context)


def warnings(pipeline: Pipeline) -> list[Problem]:
    """What is accepted and has no effect."""
    context = Context(pipeline, Broken())
    found: list[Problem] = []
    for number, step in enumerate(pipeline.steps):
        for key in sorted({"on_error", "cpu_share", "mem_limit"} & step.model_fields_set):
            remedy = "MedPerf ignores it, too" if key == "on_error" else "use 'resources'"
            found.append(context.at_key(("steps", number, key), f"{key!r} has no effect", remedy))
    used = {name for _, name in check_params.param_references(context)}
    for name in pipeline.params:
        if name not in used:
            found.append(context.at_key(("params", name), f"the parameter {name!r} is never used"))
    return found


# --- names ---------------------------------------------------------------------------------------


def _ids(context: Context) -> Iterator[Problem]:
    pipeline = context.pipeline
    if not PIPELINE_ID.fullmatch(pipeline.pipeline):
        remedy = "use letters, digits, '_', '-' and '.', 200 at most"
        yield context.at(("pipeline",), f"{pipeline.pipeline[:60]!r} is no pipeline id", remedy)
    for number, step in enumerate(pipeline.steps):
        path: DataPath = ("steps", number, "id")
        if not STEP_ID.fullmatch(step.id):
            remedy = "use letters, digits, '_' and '-', 100 at most"
            yield context.at(path, f"{step.id[:60]!r} is no step id", remedy)
        first = context.index[step.id]
        if first != number:
            line = pipeline.where("steps", first, "id").line
            message = f"the step id {step.id!r} is here twice, first in line {line}"
            yield context.at(path, message, "rename one of them")


def _mount_names(context: Context) -> Iterator[Problem]:
    for number in range(len(context.pipeline.steps)):
        yield from _twice(context, number, "inputs", "input_volumes")
        yield from _twice(context, number, "outputs", "output_volumes")
    for path, name, _ in _mounts(context):
        if not NAME.fullmatch(name):
            remedy = "use letters, digits, '_' and '-', beginning with a letter"
            yield context.at_key(path, f"{name!r} is no name for a mount", remedy)


def _mounts(context: Context) -> Iterator[tuple[DataPath, str, str]]:
    """Every mount of steps and services: its path in the file, its name, and its place."""
    for number, step in enumerate(context.pipeline.steps):
        mounts: list[tuple[str, tuple[DataPath, InputSpec | OutputSpec]]] = []
        mounts += [*step.all_inputs.items(), *step.all_outputs.items()]
        for name, (path, item) in mounts:
            yield ("steps", number, *path), name, item.mount_path
    for id, service in context.pipeline.services.items():
        for name, (path, given) in service.all_inputs.items():
            yield ("services", id, *path), name, given.mount_path


def _twice(context: Context, number: int, short: str, long: str) -> Iterator[Problem]:
    step = context.pipeline.steps[number]
    for name in set(getattr(step, short)) & set(getattr(step.mounts, long)):
        message = f"{name!r} stands under {short!r} and under 'mounts', too"
        yield context.at_key(("steps", number, short, name), message, "remove one of them")


def _mount_paths(context: Context) -> Iterator[Problem]:
    for path, _, place in _mounts(context):
        parts = place.split("/")
        if place and (not place.startswith("/") or ".." in parts or not place.strip("/")):
            message = f"{place!r} is no place for a mount"
            remedy = "write an absolute path inside the container, without '..'"
            yield context.at((*path, "mount_path"), message, remedy)


def _names_of_things(context: Context) -> Iterator[Problem]:
    for name in context.pipeline.params:
        if not PARAM_NAME.fullmatch(name):
            remedy = "use letters, digits and '_', beginning with a letter"
            yield context.at_key(("params", name), f"{name!r} is no parameter name", remedy)
    for number, step in enumerate(context.pipeline.steps):
        for index, secret in enumerate(step.secrets):
            if not NAME.fullmatch(secret):
                message = "this is no name of a secret"  # it may be the secret: do not show it
                remedy = "name a secret file of the site; never write its value into a spec"
                yield context.at(("steps", number, "secrets", index), message, remedy)


# --- what a step needs ---------------------------------------------------------------------------


def _kinds(context: Context) -> Iterator[Problem]:
    for number, step in enumerate(context.pipeline.steps):
        if number in context.broken.steps:
            continue
        path: DataPath = ("steps", number)
        if step.is_approval:
            yield from _gate_only(context, path, step)
        elif step.type == "container" and step.review is None:
            for key in ("image", "command"):
                if not getattr(step, key):
                    message = f"the step {step.id!r} has no {key!r}"
                    yield context.at(path, message, f"add '{key}:', or 'approval:' for a gate")
        if step.image:
            yield from check_services.image(context, path, step.image)


def _commands(context: Context) -> Iterator[Problem]:
    """What Proctor's own images run; of others nobody knows what they can do."""
    for number, step in enumerate(context.pipeline.steps):
        if number not in context.broken.steps and not step.is_approval and step.review is None:
            yield from _command(context, ("steps", number, "command"), step)
    for id, service in context.pipeline.services.items():
        yield from _command(context, ("services", id, "command"), service)


def _command(context: Context, path: DataPath, given: Step | Service) -> Iterator[Problem]:
    name = " ".join(given.command[:2])
    known = not name or "${" in name or name in STAGES
    if given.image.startswith(IMAGE_PREFIX) and not known:
        yield context.at(path, f"{given.image} has no {name[:60]!r}", did_you_mean(name, STAGES))


_CONTAINER_ONLY = ("image", "command", "inputs", "outputs", "mounts", "matrix", "publish",
                   "secrets", "services", "cache", "network", "exclusive", "params",
                   "history")  # fmt: skip


def _gate_only(context: Context, path: DataPath, step: Step) -> Iterator[Problem]:
    for key in _CONTAINER_ONLY:
        # MedPerf's templates may give every step an image; an approval takes no notice of it.
        if key in step.model_fields_set and not (step.approval is None and key == "image"):
            message = f"an approval has no {key!r}"
            yield context.at_key((*path, key), message, "give that work a step of its own")


def _publish(context: Context) -> Iterator[Problem]:
    for number, step in enumerate(context.pipeline.steps):
        if number in context.broken.steps:
            continue
        for index, pattern in enumerate(step.publish):
            name, _, rest = pattern.partition("/")
            path: DataPath = ("steps", number, "publish", index)
            if name not in step.all_outputs:
                remedy = did_you_mean(name, step.all_outputs)
                yield context.at(path, f"{step.id!r} has no output {name!r}", remedy)
            elif step.all_outputs[name][1].type == "file":
                message = (
                    f"the output {name!r} is one file; only files of a directory are published"
                )
                yield context.at(path, message, "make it a directory, or leave it out of 'publish'")
            elif ".." in rest.split("/") or not rest:
                message = f"{pattern!r} names no file of an output"
                yield context.at(path, message, "write output/file; * and ? are patterns")


def _history(context: Context) -> Iterator[Problem]:
    """What was measured before goes to a container that runs once, and runs each time."""
    for number, step in enumerate(context.pipeline.steps):
        if not step.history or step.is_approval or number in context.broken.steps:
            continue
        path: DataPath = ("steps", number)
        if step.review or step.type != "container":
            kind = "review" if step.review else step.type
            message = f"a {kind} reads no history"
            yield context.at_key((*path, "history"), message, "give it to a container")
        if step.partitioned:
            message = f"{step.id!r} runs per subject, and the history is of whole runs"
            remedy = "give it to a step that runs once"
            yield context.at_key((*path, "history"), message, remedy)
        if step.reuse not in (None, "never"):
            message = f"{step.id!r} reads the history, which every run changes"
            yield context.at((*path, "reuse"), message, "write never, or leave it out")


# --- references to steps and mounts --------------------------------------------------------------


def _sources(context: Context) -> Iterator[tuple[DataPath, SourceRef]]:
    for number, step in enumerate(context.pipeline.steps):
        for path, item in step.all_inputs.values():
            if item.source is not None:
                yield ("steps", number, *path), item.source
        for index, source in enumerate(step.approval.evidence if step.approval else ()):
            yield ("steps", number, "approval", "evidence", index), source
    for name, service in context.pipeline.services.items():
        for below, item in service.all_inputs.values():
            if item.source is not None:
                yield ("services", name, *below), item.source


def _outputs_exist(context: Context) -> Iterator[Problem]:
    for path, source in _sources(context):
        if source.step not in context.index:
            yield _unknown_step(context, (*path, "from"), source.step)
        elif context.index[source.step] not in context.broken.steps:
            outputs = context.step(source.step).all_outputs
            if source.output not in outputs:
                message = f"the step {source.step!r} has no output {source.output!r}"
                remedy = did_you_mean(source.output, outputs)
                yield context.at((*path, "from", "mount"), message, remedy)


def _steps_exist(context: Context) -> Iterator[Problem]:
    for number, step in enumerate(context.pipeline.steps):
        for index, id in enumerate(step.after):
            if id not in context.index:
                yield _unknown_step(context, ("steps", number, "after", index), id)
        for id in step.next.targets:
            if id not in context.index:
                yield _unknown_step(context, ("steps", number, "next"), id)
        for id in step.review.send_back_to if step.review else ():
            if id not in context.index:
                yield _unknown_step(context, ("steps", number, "review", "send_back_to"), id)


def _unknown_step(context: Context, path: DataPath, id: str) -> Problem:
    return context.at(path, f"there is no step {id!r}", did_you_mean(id, context.index))


def _cycles(context: Context) -> Iterator[Problem]:
    for cycle in graph.cycles(graph.edges(context.pipeline)):
        path = graph.reference(context.pipeline, cycle[-2], cycle[-1])
        remedy = "take one reference away; only a conditional 'next' leads back"
        yield context.at(path, f"the steps form a cycle: {' -> '.join(cycle)}", remedy)


RULES = (
    _ids,
    _mount_names,
    _mount_paths,
    check_mounts.mounts,
    _names_of_things,
    _kinds,
    _commands,
    _history,
    _publish,
    check_params.host_paths,
    _outputs_exist,
    _steps_exist,
    check_conditions.conditions,
    check_services.services,
    check_subjects.subjects,
    check_reviews.reviews,
    check_gates.gates,
    _cycles,
    check_params.param_specs,
    check_params.references,
    check_params.matrices,
    check_submission.submission,
    check_params.purpose,
    check_schedule.schedule,
)
