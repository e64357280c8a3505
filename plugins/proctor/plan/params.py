"""The values of a run's parameters: defaults, text forms of the command line, checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from pydantic import JsonValue

from proctor.plan.model import Param, Plan
from proctor.spec.errors import did_you_mean
from proctor.spec.model import Pipeline
from proctor.spec.values import misfit

T = TypeVar("T")

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_EMPTY: dict[str, JsonValue] = {"string": "", "uri": ""}


class ParamErrors(Exception):
    """Values that do not fit the parameters; ``problems`` holds one text for each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def check_params(plan: Plan, given: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The value of every run parameter: what is given (text is read by type), else the default.

    Raises:
        ParamErrors: an unknown name, a missing one, or a value that does not fit.
    """
    return resolve_params(plan.params, given, plan.build_params)


def resolve_params(
    params: Iterable[Param],
    given: Mapping[str, JsonValue],
    fixed: Mapping[str, JsonValue] | None = None,
) -> dict[str, JsonValue]:
    """The same for any parameters. ``fixed``: build parameters, known but not to be given here.

    Raises:
        ParamErrors: an unknown name, a missing one, or a value that does not fit.
    """
    known = {param.name: param for param in params}
    problems = [_unknown(name, known, fixed or {}) for name in given if name not in known]
    resolved: dict[str, JsonValue] = {}
    for name, param in known.items():
        value = read_text(param, given[name]) if name in given else default_of(param)
        if name not in given and param.required:
            problems.append(f"{name}: a value is required{_help(param)}; give {name}=...")
        elif problem := misfit(param, value):
            problems.append(f"{name}: it {problem[0]}" + (f"; {problem[1]}" if problem[1] else ""))
        resolved[name] = value
    if problems:
        raise ParamErrors(problems)
    return resolved


def split_params(pipeline: Pipeline, given: Mapping[str, T]) -> tuple[dict[str, T], dict[str, T]]:
    """Values given on a command line, by when they count: for the plan, and for the run.

    Names that nobody knows go to the run's, whose check reports them.
    """
    build = {n for n, param in pipeline.params.items() if param.when == "build"}
    return (
        {name: value for name, value in given.items() if name in build},
        {name: value for name, value in given.items() if name not in build},
    )


def default_of(param: Param) -> JsonValue:
    """What holds where nothing is given: the default, for text without one the empty text."""
    return _EMPTY.get(param.type) if param.default is None else param.default


def read_text(param: Param, value: JsonValue) -> JsonValue:
    """Text of a command line as the parameter's type; what does not read so is left as it is."""
    if not isinstance(value, str):
        return value
    if param.type == "choices":
        return [part.strip() for part in value.strip("[]").split(",") if part.strip()]
    if param.type == "boolean":
        return _WORDS.get(value.lower(), value)
    if param.type in ("number", "integer"):
        return _number(value)
    return value


def _number(text: str) -> JsonValue:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _unknown(name: str, known: Mapping[str, Param], fixed: Mapping[str, JsonValue]) -> str:
    if name in fixed:
        return f"{name}: it is a build parameter, settled when the plan was made"
    shown = name if len(name) <= 60 else f"{name[:60]}…"
    return f"{shown}: there is no such parameter; {did_you_mean(name, known)}"


def _help(param: Param) -> str:
    return f" ({param.help})" if param.help else ""
