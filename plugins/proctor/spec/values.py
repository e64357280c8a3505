"""Whether a value fits a parameter: used for defaults, forms and command lines alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import JsonValue

from proctor.spec.errors import did_you_mean

SCHEMES = ("http://", "https://", "s3://", "file://", "embedded:")


class ParamLike(Protocol):
    """A parameter as a spec writes it or as a plan holds it."""

    @property
    def type(self) -> str: ...  # noqa: D102
    @property
    def choices(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def minimum(self) -> float | None: ...  # noqa: D102
    @property
    def maximum(self) -> float | None: ...  # noqa: D102
    @property
    def required(self) -> bool: ...  # noqa: D102
    @property
    def default(self) -> JsonValue: ...  # noqa: D102


def misfit(param: ParamLike, value: JsonValue) -> tuple[str, str] | None:
    """What is wrong with a value, and what to do; ``None`` where it fits."""
    if param.type in ("number", "integer"):
        return _number(param, value)
    if param.type == "boolean":
        return None if isinstance(value, bool) else (f"must be true or false, {_is(value)}", "")
    if param.type == "choices":
        return _choices(param, value)
    if not isinstance(value, str):
        return f"must be text, {_is(value)}", "put it in quotes"
    if param.required and not value:
        return "is empty", "a value is required"
    if param.type == "choice":
        return _one_of(param, value)
    if param.type == "uri":
        return _uri(value)
    return None


def _number(param: ParamLike, value: JsonValue) -> tuple[str, str] | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        return f"must be a number, {_is(value)}", ""
    if param.type == "integer" and not isinstance(value, int):
        return f"must be a whole number, {_is(value)}", ""
    if param.minimum is not None and value < param.minimum:
        return f"must be at least {param.minimum:g}, {_is(value)}", ""
    if param.maximum is not None and value > param.maximum:
        return f"must be at most {param.maximum:g}, {_is(value)}", ""
    return None


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond what a float holds
        return False


def _choices(param: ParamLike, value: JsonValue) -> tuple[str, str] | None:
    if not isinstance(value, list | tuple):
        return f"must be a list, {_is(value)}", "choose from: " + ", ".join(param.choices)
    if not value and param.default != []:
        return "is an empty list", "choose one at least of: " + ", ".join(param.choices)
    for item in value:
        problem = _one_of(param, item)
        if problem:
            return problem
    if len({str(item) for item in value}) != len(value):
        return "names a choice twice", "name it once"
    return None


def _one_of(param: ParamLike, value: JsonValue) -> tuple[str, str] | None:
    if value in param.choices:
        return None
    return f"must be one of its choices, {_is(value)}", did_you_mean(str(value), param.choices)


def _uri(value: str) -> tuple[str, str] | None:
    try:
        place = urlsplit(value).netloc
    except ValueError as error:  # brackets that no address has
        return f"is no URI ({error})", "check how it is written"
    if "@" in place:
        # It would stand in the record and in Airflow's pages, so it is not even repeated here.
        return "must hold no user name or password", "put them into a secret file of the site"
    if not value or value.startswith(SCHEMES):
        return None
    remedy = "it begins with one of " + ", ".join(SCHEMES)
    if value.startswith("/"):
        remedy = f"for a file of this machine write file://{value}"
    return f"must be a URI, {_is(value)}", remedy


def _is(value: JsonValue) -> str:
    text = repr(value)
    return "this is " + (text if len(text) <= 60 else text[:57] + "...")
