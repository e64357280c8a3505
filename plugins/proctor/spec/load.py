"""A spec's file becomes a Pipeline, or the list of everything that is wrong with it.

What does not fit the model is reported and set aside, so that the graph rules of check.py can look
at the rest in the same pass: a typo in one step does not hide a cycle among the others.
"""

from __future__ import annotations

import copy
import typing
from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import Any

from pydantic import BaseModel, ValidationError

from proctor.spec import document
from proctor.spec.check import Broken, check, warnings
from proctor.spec.document import DataPath, Document
from proctor.spec.errors import Problem, SpecErrors, did_you_mean
from proctor.spec.model import Pipeline

_ROUNDS = 6  # of setting aside what does not fit: each round removes at least one value
_HOST_KEYS = {"host_path", "host_mount", "bind", "volume", "volumes", "path"}


def load_pipeline(path: Path) -> Pipeline:
    """Read, check and return a pipeline.

    Raises:
        SpecErrors: every problem of the file.
    """
    try:
        read = document.read(path)
    except document.Unreadable as error:
        raise SpecErrors([error.problem], path.stem) from None
    return _pipeline(read, path.stem)


def parse_pipeline(text: str, file: str) -> Pipeline:
    """The same for text; ``file`` is what the problems name.

    Raises:
        SpecErrors: every problem of the text.
    """
    stem = Path(file).stem
    try:
        read = document.parse(text, file)
    except document.Unreadable as error:
        raise SpecErrors([error.problem], stem) from None
    return _pipeline(read, stem)


def _pipeline(read: Document, stem: str) -> Pipeline:
    if not isinstance(read.data, dict):
        what = "a list" if isinstance(read.data, list) else "a single value"
        message = f"a spec is a mapping with 'steps:'; this is {what}"
        problem = Problem(read.where(()), message, "see docs/spec.md")
        raise SpecErrors([*read.problems, problem], stem)
    data = _without_templates(read)
    name = data.setdefault("pipeline", stem)
    problems = list(read.problems)
    pipeline, broken = _validate(data, read, problems)
    if pipeline is not None:
        problems += check(pipeline, broken)
    if problems or pipeline is None:
        raise SpecErrors(problems, name if isinstance(name, str) and name else stem)
    pipeline._warnings = tuple(warnings(pipeline))
    return pipeline


def _without_templates(read: Document) -> dict[str, Any]:
    """Top-level keys that the language does not know and that hold anchors are templates."""
    assert isinstance(read.data, dict)  # noqa: S101
    known = set(_aliases(Pipeline))
    return {k: v for k, v in read.data.items() if k in known or k not in read.templates}


def _validate(
    data: dict[str, Any], read: Document, problems: list[Problem]
) -> tuple[Pipeline | None, Broken]:
    data = copy.deepcopy(data)
    broken = Broken()
    for _ in range(_ROUNDS):
        try:
            pipeline = Pipeline.model_validate(data)
        except ValidationError as error:
            found = error.errors(include_url=False)
            problems += [_problem(dict(item), read) for item in found]
            for item in found:
                _set_aside(data, item["loc"], broken)
        else:
            pipeline._document = read
            return pipeline, broken
        if not data.get("steps"):
            break
    return None, broken


# --- setting aside -------------------------------------------------------------------------------


def _set_aside(data: dict[str, Any], loc: DataPath, broken: Broken) -> None:
    """Remove what does not fit, keeping list indices, and note what must not be judged further."""
    if loc[0] == "steps":
        _set_aside_step(data, loc, broken)
    elif loc[0] == "params" and len(loc) > 1 and isinstance(data.get("params"), dict):
        broken.params.add(str(loc[1]))
        data["params"][str(loc[1])] = {"type": "string"}
    else:
        data.pop(str(loc[0]), None)


def _set_aside_step(data: dict[str, Any], loc: DataPath, broken: Broken) -> None:
    steps = data["steps"]
    if len(loc) < 2 or not isinstance(steps, list):
        data["steps"] = None
        return
    index = typing.cast(int, loc[1])
    broken.steps.add(index)
    step = steps[index]
    if not isinstance(step, dict) or len(loc) < 3 or loc[2] == "id":
        kept = step.get("id") if isinstance(step, dict) else None
        steps[index] = {"id": kept if isinstance(kept, str) and kept else f"step-{index + 1}"}
    else:
        step.pop(str(loc[2]), None)


# --- pydantic's errors in the words of the language ----------------------------------------------

_WANTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
}
_LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("over", "gt"),
    "less_than_equal": ("at most", "le"),
}


def _problem(item: dict[str, Any], read: Document) -> Problem:
    loc, kind = tuple(item["loc"]), item["type"]
    where = " -> ".join(str(part) for part in loc[2:]) if loc[0] == "steps" else ""
    if kind == "extra_forbidden":
        return Problem(read.where_key(loc), *_unknown_key(loc))
    if kind == "missing":
        parent = f"step {loc[1] + 1}" if len(loc) == 3 and loc[0] == "steps" else "this"
        parent = "the spec" if len(loc) == 1 else parent
        return Problem(read.where(loc[:-1]), f"{parent} has no {loc[-1]!r}", f"add '{loc[-1]}:'")
    if kind == "value_error":
        message, _, remedy = str(item["ctx"]["error"]).partition("|")
        return Problem(read.where(loc), message, remedy)
    name = str(loc[-1]) if isinstance(loc[-1], str) else where or str(loc[-1])
    return Problem(read.where(loc), *_misfit(name, kind, item))


def _misfit(name: str, kind: str, item: dict[str, Any]) -> tuple[str, str]:
    given, context = item.get("input"), item.get("ctx", {})
    if kind in _WANTED:
        message = f"{name!r} must be {_WANTED[kind]}, this is {_described(given)}"
        quoted = kind == "string_type" and isinstance(given, int | float)
        return message, "put it in quotes" if quoted else ""
    if kind == "literal_error":
        known = _choices(str(context["expected"]))
        return f"{given!r} is no {name}", did_you_mean(str(given), known)
    if kind in _LIMITS:
        words, key = _LIMITS[kind]
        return f"{name!r} must be {words} {context[key]:g}, this is {given}", ""
    if kind == "too_short":
        return f"{name!r} is empty", "give one at least"
    return f"{name!r}: {item['msg']}", ""


def _choices(expected: str) -> list[str]:
    return [part.strip().strip("'") for part in expected.replace(" or ", ",").split(",")]


def _described(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)[:60]


def _unknown_key(loc: DataPath) -> tuple[str, str]:
    key, model = str(loc[-1]), _model_at(loc[:-1])
    if key in _HOST_KEYS:
        message = f"{key!r} names a place on the host"
        return message, "a spec never does: a mount has a mount_path inside the container"
    known = _aliases(model) if model else []
    place = f" in {_PLACES[model.__name__]}" if model and model.__name__ in _PLACES else ""
    return f"unknown key {key!r}{place}", did_you_mean(key, known)


_PLACES = {
    "Pipeline": "a spec",
    "Step": "a step",
    "ParamSpec": "a parameter",
    "ResourceSpec": "resources",
    "Approval": "an approval",
    "Mounts": "mounts",
    "InputSpec": "an input",
    "OutputSpec": "an output",
    "Next": "next",
}


def _aliases(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def _model_at(loc: DataPath) -> type[BaseModel] | None:
    """The model that describes the mapping at a path."""
    current: Any = Pipeline
    for part in loc:
        current = _below(current, part)
    models = [m for m in _members(current) if isinstance(m, type) and issubclass(m, BaseModel)]
    return models[0] if models else None


def _below(annotation: Any, part: str | int) -> Any:
    for member in _members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            for name, info in member.model_fields.items():
                if (info.alias or name) == part:
                    return info.annotation
        origin, arguments = typing.get_origin(member), typing.get_args(member)
        if origin is tuple and isinstance(part, int):
            return arguments[0]
        if origin is dict:
            return arguments[1]
    return None


def _members(annotation: Any) -> Iterable[Any]:
    """An annotation without its ``Annotated``, or the members of a union."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _members(typing.get_args(annotation)[0])
    elif origin in (typing.Union, UnionType):
        for member in typing.get_args(annotation):
            yield from _members(member)
    else:
        yield annotation
