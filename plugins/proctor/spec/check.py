"""The rules that no single value shows: names that must exist, graphs without cycles, cells.

Every rule is a function that yields Problems; none stops another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from pydantic import JsonValue

from proctor.spec import graph
from proctor.spec.document import DataPath
from proctor.spec.errors import Problem, did_you_mean
from proctor.spec.model import Axis, ParamSpec, Pipeline, SourceRef, Step, is_host_path
from proctor.spec.values import misfit

STEP_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
PIPELINE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
PARAM_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
CELL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
REFERENCE = re.compile(r"\$\{([^{}]*)\}?")
IMAGE = re.compile(r"[a-z0-9][\w./:@-]*")


@dataclass
class Broken:
    """What was set aside already; rules that would judge it again keep silent."""

    steps: set[int] = field(default_factory=set)
    params: set[str] = field(default_factory=set)
    top: set[str] = field(default_factory=set)


@dataclass
class Context:
    """The pipeline under check, with what several rules look up."""

    pipeline: Pipeline
    broken: Broken

    @cached_property
    def index(self) -> dict[str, int]:
        """Step id -> its first position in the list."""
        found: dict[str, int] = {}
        for number, step in enumerate(self.pipeline.steps):
            found.setdefault(step.id, number)
        return found

    def step(self, id: str) -> Step:
        """The step of an id that exists."""
        return self.pipeline.steps[self.index[id]]

    def at(self, path: DataPath, message: str, remedy: str = "") -> Problem:
        """A problem at the value of a path."""
        return Problem(self.pipeline.where(*path), message, remedy)

    def at_key(self, path: DataPath, message: str, remedy: str = "") -> Problem:
        """A problem at the key of a path."""
        return Problem(self.pipeline.where_key(*path), message, remedy)


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
    used = {name for _, name in _param_references(context)}
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
    for number, step in enumerate(context.pipeline.steps):
        yield from _twice(context, number, "inputs", "input_volumes")
        yield from _twice(context, number, "outputs", "output_volumes")
        for name, (path, _) in [*step.all_inputs.items(), *step.all_outputs.items()]:
            if not NAME.fullmatch(name):
                remedy = "use letters, digits, '_' and '-', beginning with a letter"
                yield context.at_key(
                    ("steps", number, *path), f"{name!r} is no name for a mount", remedy
                )


def _twice(context: Context, number: int, short: str, long: str) -> Iterator[Problem]:
    step = context.pipeline.steps[number]
    for name in set(getattr(step, short)) & set(getattr(step.mounts, long)):
        message = f"{name!r} stands under {short!r} and under 'mounts', too"
        yield context.at_key(("steps", number, short, name), message, "remove one of them")


def _mount_paths(context: Context) -> Iterator[Problem]:
    for number, step in enumerate(context.pipeline.steps):
        mounts = [(path, item.mount_path) for path, item in step.all_inputs.values()]
        mounts += [(path, item.mount_path) for path, item in step.all_outputs.values()]
        for path, place in mounts:
            parts = place.split("/")
            if place and (not place.startswith("/") or ".." in parts or not place.strip("/")):
                message = f"{place!r} is no place for a mount"
                remedy = "write an absolute path inside the container, without '..'"
                yield context.at(("steps", number, *path, "mount_path"), message, remedy)


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
            bare = REFERENCE.sub("x", step.image)
            if step.image and not IMAGE.fullmatch(bare):
                message = f"{step.image!r} is no image name"
                yield context.at((*path, "image"), message, "write it as in 'proctor/steps'")


_CONTAINER_ONLY = ("image", "command", "inputs", "outputs", "mounts", "matrix", "publish",
                   "secrets", "services", "cache", "network", "exclusive", "params")  # fmt: skip


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
            elif ".." in rest.split("/") or not rest:
                message = f"{pattern!r} names no file of an output"
                yield context.at(path, message, "write output/file; * and ? are patterns")


def _host_paths(context: Context) -> Iterator[Problem]:
    remedy = "a spec never does; make it a parameter of type uri and give it at the run"
    for path, text in _texts(context):
        if "params" in path and text.startswith("file:"):
            yield context.at(path, f"{text!r} names a place on the host", remedy)
    for name, param in context.pipeline.params.items():
        default = param.default
        if param.type == "uri" and isinstance(default, str) and is_host_path(default):
            message = f"{default!r} names a place on the host"
            yield context.at(("params", name, "default"), message, remedy)


# --- references to steps and mounts --------------------------------------------------------------


def _sources(context: Context) -> Iterator[tuple[DataPath, SourceRef]]:
    for number, step in enumerate(context.pipeline.steps):
        for path, item in step.all_inputs.values():
            if item.source is not None:
                yield ("steps", number, *path), item.source
        for index, source in enumerate(step.approval.evidence if step.approval else ()):
            yield ("steps", number, "approval", "evidence", index), source


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


def _definitions_exist(context: Context) -> Iterator[Problem]:
    pipeline = context.pipeline
    conditions = [item.id for item in pipeline.conditions]
    for number, step in enumerate(pipeline.steps):
        path: DataPath = ("steps", number)
        for index, branch in enumerate(step.next.branches):
            if branch.condition not in conditions and "conditions" not in context.broken.top:
                place = (*path, "next", "if", index, "condition")
                message = f"there is no condition {branch.condition!r}"
                yield context.at(place, message, did_you_mean(branch.condition, conditions))
        for name in step.services:
            if name not in pipeline.services and "services" not in context.broken.top:
                message = f"there is no service {name!r}"
                remedy = did_you_mean(name, pipeline.services)
                yield context.at((*path, "services"), message, remedy)
        partitioned = step.partition or step.per_subject
        if partitioned and not (pipeline.partition_def or pipeline.per_subject_def):
            key = "partition" if step.partition else "per_subject"
            message = f"{step.id!r} runs per subject, but nothing says what the subjects are"
            yield context.at_key((*path, key), message, "add 'partition_def:'")


def _cycles(context: Context) -> Iterator[Problem]:
    for cycle in graph.cycles(graph.edges(context.pipeline)):
        path = graph.reference(context.pipeline, cycle[-2], cycle[-1])
        remedy = "take one reference away; only a conditional 'next' leads back"
        yield context.at(path, f"the steps form a cycle: {' -> '.join(cycle)}", remedy)


# --- parameters and cells ------------------------------------------------------------------------


def _param_specs(context: Context) -> Iterator[Problem]:
    for name, param in context.pipeline.params.items():
        if name not in context.broken.params:
            yield from _param_spec(context, ("params", name), param)


def _param_spec(context: Context, path: DataPath, param: ParamSpec) -> Iterator[Problem]:
    name, listed = path[-1], param.type in ("choice", "choices")
    if listed and not param.choices:
        yield context.at_key(path, f"{name!r} is a {param.type} without choices", "add 'choices:'")
        return
    for key, fits in (("choices", listed), *((k, param.type in ("number", "integer"))
                                             for k in ("minimum", "maximum"))):  # fmt: skip
        if key in param.model_fields_set and not fits:
            message = f"a parameter of type {param.type} has no {key!r}"
            yield context.at_key((*path, key), message, "remove it, or change the type")
    if len(set(param.choices)) != len(param.choices):
        yield context.at((*path, "choices"), f"{name!r} lists a choice twice", "remove one")
    given = "default" in param.model_fields_set
    if param.required and given:
        message = f"{name!r} is required and has a default, too"
        yield context.at_key((*path, "required"), message, "remove one of them")
    elif not param.required and not given and param.type not in ("string", "uri"):
        yield context.at_key(path, f"{name!r} has no default", "add one, or 'required: true'")
    elif given and (problem := misfit(param, param.default)):
        yield context.at((*path, "default"), f"the default of {name!r} {problem[0]}", problem[1])


def _texts(context: Context) -> Iterator[tuple[DataPath, str]]:
    """Every text in which ``${...}`` is filled in, with its path."""
    for number, step in enumerate(context.pipeline.steps):
        path: DataPath = ("steps", number)
        yield (*path, "image"), step.image
        yield (*path, "title"), step.title
        for word in step.command:
            yield (*path, "command"), word
        for name, value in step.params.items():
            yield from _leaves((*path, "params", name), value)


def _leaves(path: DataPath, value: JsonValue) -> Iterator[tuple[DataPath, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves((*path, index), item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves((*path, key), item)


def _references(context: Context) -> Iterator[Problem]:
    params = context.pipeline.params
    for path, text in _texts(context):
        axes = context.pipeline.steps[int(path[1])].matrix
        for match in REFERENCE.finditer(text):
            kind, _, name = match[1].partition(".")
            if kind not in ("params", "matrix") or not name or not match[0].endswith("}"):
                remedy = "write ${params.NAME} or ${matrix.AXIS}"
                yield context.at(path, f"{match[0]!r} refers to nothing", remedy)
                continue
            if kind == "matrix" and name not in axes and path[1] not in context.broken.steps:
                message = f"this step's matrix has no axis {name!r}"
                yield context.at(path, message, did_you_mean(name, axes))
            elif kind == "params" and name not in params and "params" not in context.broken.top:
                message = f"there is no parameter {name!r}"
                yield context.at(path, message, did_you_mean(name, params))


def _param_references(context: Context) -> Iterator[tuple[DataPath, str]]:
    for path, text in _texts(context):
        for match in REFERENCE.finditer(text):
            if match[1].startswith("params."):
                yield path, match[1].removeprefix("params.")
    for number, step in enumerate(context.pipeline.steps):
        for name, axis in step.matrix.items():
            if axis.param:
                yield ("steps", number, "matrix", name), axis.param


def _matrices(context: Context) -> Iterator[Problem]:
    for number, step in enumerate(context.pipeline.steps):
        for name, axis in step.matrix.items():
            path: DataPath = ("steps", number, "matrix", name)
            if not PARAM_NAME.fullmatch(name):
                yield context.at_key(path, f"{name!r} is no axis name", "use letters and digits")
            yield from _axis(context, path, axis)


def _axis(context: Context, path: DataPath, axis: Axis) -> Iterator[Problem]:
    params = context.pipeline.params
    if axis.param in context.broken.params or "params" in context.broken.top:
        return
    if axis.param and axis.param not in params:
        message = f"there is no parameter {axis.param!r}"
        yield context.at(path, message, did_you_mean(axis.param, params))
        return
    if axis.param and params[axis.param].type != "choices":
        message = f"the parameter {axis.param!r} is of type {params[axis.param].type}"
        yield context.at(path, message, "an axis needs one of type choices")
        return
    values = params[axis.param].choices if axis.param else axis.values
    if len(set(values)) != len(values) and not axis.param:
        yield context.at(path, "the axis lists a cell twice", "remove one")
    for value in values:
        if not CELL.fullmatch(value):
            message = f"{value!r} cannot be a cell"
            yield context.at(path, message, "use letters, digits, '_' and '-'")


RULES = (
    _ids,
    _mount_names,
    _mount_paths,
    _names_of_things,
    _kinds,
    _publish,
    _host_paths,
    _outputs_exist,
    _steps_exist,
    _definitions_exist,
    _cycles,
    _param_specs,
    _references,
    _matrices,
)
