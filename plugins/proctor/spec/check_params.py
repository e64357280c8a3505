"""The rules about parameters, ``${...}`` and the cells of a matrix."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import JsonValue

from proctor.spec import check_purpose, check_submission, submission
from proctor.spec.context import Context
from proctor.spec.document import DataPath
from proctor.spec.errors import Problem, did_you_mean
from proctor.spec.forms import is_host_path
from proctor.spec.model import Axis, ParamSpec
from proctor.spec.values import misfit

PARAM_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
CELL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
REFERENCE = re.compile(r"\$\{([^{}]*)\}?")


def param_specs(context: Context) -> Iterator[Problem]:
    """A parameter's own words agree with each other, and its default fits."""
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
    if param.type == "choices" and param.when == "build" and param.default == []:
        message = f"{name!r} is settled when the plan is made, and must choose something"
        yield context.at((*path, "default"), message, "name a choice, or make it 'when: run'")
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
    for id, service in context.pipeline.services.items():
        path = ("services", id)
        yield (*path, "image"), service.image
        yield (*path, "title"), service.title
        for word in service.command:
            yield (*path, "command"), word
        for name, value in service.params.items():
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


def references(context: Context) -> Iterator[Problem]:
    """Every ``${...}`` names a parameter or an axis."""
    params = context.pipeline.params
    for path, text in _texts(context):
        of_step = path[0] == "steps"
        axes = context.pipeline.steps[int(path[1])].matrix if of_step else {}
        for match in REFERENCE.finditer(text):
            kind, _, name = match[1].partition(".")
            known = kind in ("params", "matrix", "submission", "run")
            if not known or not name or not match[0].endswith("}"):
                remedy = "write ${params.NAME}, ${matrix.AXIS} or ${submission.NAME}"
                yield context.at(path, f"{match[0]!r} refers to nothing", remedy)
                continue
            if kind == "run":
                yield from check_purpose.reference(context, path, name)
            elif kind == "submission":
                yield from check_submission.reference(context, path, name)
            elif kind == "matrix" and name not in axes and path[1] not in context.broken.steps:
                message = f"this step's matrix has no axis {name!r}"
                remedy = did_you_mean(name, axes)
                if not of_step:
                    message, remedy = "a service has no matrix", "one serves all cells of a step"
                yield context.at(path, message, remedy)
            elif kind == "params" and name not in params and "params" not in context.broken.top:
                message = f"there is no parameter {name!r}"
                yield context.at(path, message, did_you_mean(name, params))
            elif kind == "params" and path[-1] == "title" and _of_a_run(context, name):
                message = f"a title is settled with the plan; {name!r} is known at the run only"
                yield context.at(path, message, "leave it out of the title")


def purpose(context: Context) -> Iterator[Problem]:
    """A stated purpose is one that a step checks."""
    found = (match[1] for _, text in _texts(context) for match in REFERENCE.finditer(text))
    yield from check_purpose.checked(context, found)


def _of_a_run(context: Context, name: str) -> bool:
    params = context.pipeline.params
    return name in params and params[name].when == "run"


def param_references(context: Context) -> Iterator[tuple[DataPath, str]]:
    """Every parameter that something refers to, with the place."""
    for path, text in _texts(context):
        for match in REFERENCE.finditer(text):
            if match[1].startswith("params."):
                yield path, match[1].removeprefix("params.")
    for number, step in enumerate(context.pipeline.steps):
        for name, axis in step.matrix.items():
            if axis.param:
                yield ("steps", number, "matrix", name), axis.param
    if context.pipeline.submission:
        for path, text in submission.texts(context.pipeline.submission):
            if name := submission.parameter(text):
                yield path, name


def matrices(context: Context) -> Iterator[Problem]:
    """Axes come from lists or from parameters of type choices; their values can be cells."""
    for number, step in enumerate(context.pipeline.steps):
        for name, axis in step.matrix.items():
            path: DataPath = ("steps", number, "matrix", name)
            if not PARAM_NAME.fullmatch(name):
                yield context.at_key(path, f"{name!r} is no axis name", "use letters and digits")
            yield from _axis(context, path, axis)


def _axis(context: Context, path: DataPath, axis: Axis) -> Iterator[Problem]:
    if axis.submission:
        yield from check_submission.reference(context, path, axis.submission, axis=True)
        return
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


def host_paths(context: Context) -> Iterator[Problem]:
    """No value names a place on the host."""
    remedy = "a spec never does; make it a parameter of type uri and give it at the run"
    for path, text in _texts(context):
        if "params" in path and text.startswith("file:"):
            yield context.at(path, f"{text!r} names a place on the host", remedy)
    for name, param in context.pipeline.params.items():
        default = param.default
        if param.type == "uri" and isinstance(default, str) and is_host_path(default):
            message = f"{default!r} names a place on the host"
            yield context.at(("params", name, "default"), message, remedy)
