"""What does not fit the model, in the words of the language rather than pydantic's."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from types import UnionType
from typing import Any

from pydantic import BaseModel

from proctor.spec.document import DataPath, Document
from proctor.spec.errors import Problem, did_you_mean
from proctor.spec.model import Pipeline

_HOST_KEYS = {"host_path", "host_mount", "bind", "volume", "volumes", "path"}
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
_TEXT_OR_LIST = {
    *("command", "after", "target", "else", "services", "send_back_to", "scenarios", "assets"),
}
_LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("over", "gt"),
    "less_than_equal": ("at most", "le"),
}


def problem_of(item: dict[str, Any], read: Document, root: type[BaseModel] = Pipeline) -> Problem:
    """One of pydantic's errors as a problem with its place. ``root``: what the file holds."""
    loc, kind = tuple(item["loc"]), item["type"]
    if kind == "extra_forbidden":
        return Problem(read.where_key(loc), *_unknown_key(loc, root))
    if kind == "missing":
        parent = f"step {loc[1] + 1}" if len(loc) == 3 and loc[0] == "steps" else "this"
        parent = f"the service {loc[1]!r}" if len(loc) == 3 and loc[0] == "services" else parent
        parent = "the spec" if len(loc) == 1 else parent
        return Problem(read.where(loc[:-1]), f"{parent} has no {loc[-1]!r}", f"add '{loc[-1]}:'")
    if kind == "value_error":
        message, _, remedy = str(item["ctx"]["error"]).partition("|")
        return Problem(read.where(loc), message, remedy)
    return Problem(read.where(loc), *_misfit(_name(loc), kind, item))


def _name(loc: DataPath) -> str:
    if isinstance(loc[-1], str):
        return repr(loc[-1])
    if loc[0] == "steps" and len(loc) == 2:
        return f"step {loc[1] + 1}" if isinstance(loc[1], int) else "a step"
    return f"each of {str(loc[-2])!r}" if len(loc) > 1 else "this"


def _misfit(name: str, kind: str, item: dict[str, Any]) -> tuple[str, str]:
    given, context = item.get("input"), item.get("ctx", {})
    if kind == "tuple_type" and name.strip("'") in _TEXT_OR_LIST:
        return f"{name} must be text or a list, this is {_described(given)}", ""
    if kind in _WANTED:
        message = f"{name} must be {_WANTED[kind]}, this is {_described(given)}"
        if kind == "string_type" and isinstance(given, int | float):
            return message, "put it in quotes"
        return message, f"write [{given}]" if kind == "tuple_type" and given and isinstance(
            given, str | int
        ) else ""
    if kind == "literal_error":
        known, word = _choices(str(context["expected"])), name.strip("'")
        return f"{_described(given)} is no {word}", did_you_mean(str(given), known)
    if kind in _LIMITS:
        words, key = _LIMITS[kind]
        return f"{name} must be {words} {context[key]:g}, this is {given}", ""
    if kind == "too_short":
        return f"{name} is empty", "give one at least"
    return f"{name}: {item['msg']}", ""


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


def _unknown_key(loc: DataPath, root: type[BaseModel]) -> tuple[str, str]:
    key, model = str(loc[-1]), _model_at(loc[:-1], root)
    if key in _HOST_KEYS and root is Pipeline:
        message = f"{key!r} names a place on the host"
        return message, "a spec never does: a mount has a mount_path inside the container"
    known = aliases(model) if model else []
    place = f" in {_PLACES[model.__name__]}" if model and model.__name__ in _PLACES else ""
    return f"unknown key {key!r}{place}", did_you_mean(key, known)


_PLACES = {
    "Pipeline": "a spec",
    "Profile": "a site's profile",
    "CoordinatorAddress": "coordinator",
    "Sites": "sites",
    "Start": "a start",
    "Notify": "notify",
    "Smtp": "smtp",
    "Slack": "slack",
    "Http": "http",
    "Step": "a step",
    "ParamSpec": "a parameter",
    "ResourceSpec": "resources",
    "Approval": "an approval",
    "OnReject": "'on_reject'",
    "Mounts": "mounts",
    "InputSpec": "an input",
    "OutputSpec": "an output",
    "Service": "a service",
    "Submission": "a submission",
    "Schedule": "a schedule",
    "Next": "next",
}


def aliases(model: type[BaseModel]) -> list[str]:
    """A model's keys as a file writes them."""
    return [info.alias or name for name, info in model.model_fields.items()]


def _model_at(loc: DataPath, root: type[BaseModel]) -> type[BaseModel] | None:
    """The model that describes the mapping at a path."""
    current: Any = root
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
