"""Short forms and units of a spec's values, brought into one shape.

A ValueError of a form holds what is wrong and, behind a bar, what to do.
"""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema

# A value that comes from elsewhere: a parameter's choices, or what a submission's round asks for.
AXIS_REFERENCE = r"^\$\{(params|submission)\.([A-Za-z_][A-Za-z0-9_]*)\}$"
DAY = "${run.date}"  # the day on which a run began
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY = {"k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_LONGEST_COMMAND = 10_000
_HOST_PATH = re.compile(r"(/|~|\.\.?/|file:|[A-Za-z]:\\)")


def of_a_day(value: Any) -> bool:
    """Whether a value is another one each day."""
    return isinstance(value, str) and DAY in value


def is_host_path(text: str) -> bool:
    """Whether a text names a place on the machine that runs the pipeline."""
    return bool(_HOST_PATH.match(text))


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        value = value[:40]  # the pattern takes its time over long text
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", value)
        if not parts or re.sub(r"(\d+(?:\.\d+)?)\s*([smhd])\s*", "", value.strip()):
            raise ValueError(f"{value!r} is no duration|write 90s, 15m, 2h, 1h30m or seconds")
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{_shown(value)} is no duration|write 90s, 15m, 2h, 1h30m or seconds")
    return value


def _memory(value: Any) -> Any:
    hint = "write 512MiB, 4GiB, 2GB or bytes"
    if isinstance(value, str):
        value = value[:40]
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", value.strip(), re.IGNORECASE)
        if match is None or (match[3] and not match[2]):
            raise ValueError(f"{value!r} is no amount of memory|{hint}")
        factor = (_BINARY if match[3] else _BYTES)[match[2].lower()]
        return int(float(match[1]) * factor)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{_shown(value)} is no amount of memory|{hint}")
    return value


def _command(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if len(value) > _LONGEST_COMMAND:
        raise ValueError(f"the command is longer than {_LONGEST_COMMAND:,} characters|use a file")
    try:
        return shlex.split(value)
    except ValueError as error:
        raise ValueError(
            f"the command does not split into words: {error}|mend its quotes"
        ) from None


def source_form(value: Any) -> Any:
    """``step.output`` as a mapping."""
    if not isinstance(value, str):
        return value
    if is_host_path(value):
        raise ValueError(
            f"{value!r} names a place on the host|"
            "a spec never does; use step.output, or a parameter of type uri and a fetch step"
        )
    step, dot, output = value.rpartition(".")
    if not (dot and step and output):
        raise ValueError(f"{value!r} names no output|write step.output")
    return {"step": step, "mount": output}


def input_form(value: Any) -> Any:
    """The short form of an input as a mapping."""
    return {"from": value} if isinstance(value, str) else value


def output_form(value: Any) -> Any:
    """The short form of an output as a mapping."""
    return {"type": value} if isinstance(value, str) else value


def _names(value: Any) -> Any:
    return [value] if isinstance(value, str) else [] if value is None else value


def axis_form(value: Any) -> Any:
    """A list, ``${params.NAME}`` or ``${submission.NAME}``, as a mapping."""
    if isinstance(value, str):
        match = re.fullmatch(AXIS_REFERENCE, value)
        if match is None:
            remedy = "write a list, ${params.NAME} or ${submission.NAME}"
            raise ValueError(f"{value!r} is no axis|{remedy}")
        return {"param" if match[1] == "params" else "submission": match[2]}
    if not isinstance(value, list) or not value:
        raise ValueError("an axis is a list with one value or more|or ${params.NAME}")
    for item in value:
        if isinstance(item, bool) or not isinstance(item, str | int):
            raise ValueError(f"{_shown(item)} cannot be a cell|cells are text or whole numbers")
    return {"values": [str(item) for item in value]}


def next_form(value: Any) -> Any:
    """A name, a list of names or nothing as a mapping; branches stay as they are."""
    if value is None or isinstance(value, str | list):
        return {"to": _names(value)}
    if isinstance(value, dict) and "to" in value:
        raise ValueError("a conditional next has if, else and wait|an unconditional one is a name")
    return value


def fan_in_form(value: Any) -> Any:
    """``all`` or ``any_done`` as a mapping; ``{at_least: n}`` stays as it is."""
    return {"policy": value} if isinstance(value, str) else value


def schedule_form(value: Any) -> Any:
    """Text is the cron of a schedule that says nothing else."""
    return {"cron": value} if isinstance(value, str) else value


def on_reject_form(value: Any) -> Any:
    """``fail`` as an empty mapping; ``{rework: step}`` stays as it is."""
    if value == "fail":
        return {}
    if not isinstance(value, dict) or not value or value.get("rework") == "":
        raise ValueError(
            f"{_shown(value)} does not say what a rejection leads to|"
            "write fail, or {rework: step}"
        )
    return value


def _shown(value: Any) -> str:
    return "a mapping" if isinstance(value, dict) else repr(value)[:60]


Text = Annotated[str, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True)]


def either(*schemas: dict[str, Any]) -> WithJsonSchema:
    """A JSON Schema of alternatives, in place of the one that the type would give."""
    return WithJsonSchema({"anyOf": list(schemas)})


class Or:
    """Adds short forms to the JSON Schema of a long one."""

    def __init__(self, *schemas: dict[str, Any]) -> None:
        self.schemas = schemas

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [*self.schemas, handler(core)]}


TEXT: dict[str, Any] = {"type": "string"}
PARAMETER: dict[str, Any] = {
    "type": "string",
    "pattern": r"^\$\{params\.[A-Za-z_][A-Za-z0-9_]*\}$",
}
TEXTS: dict[str, Any] = {"type": "array", "items": TEXT}
_NUMBER: dict[str, Any] = {"type": "number", "minimum": 0}

Duration = Annotated[Number, BeforeValidator(_duration), Field(ge=0), either(TEXT, _NUMBER)]
Memory = Annotated[Whole, BeforeValidator(_memory), Field(gt=0), either(TEXT, _NUMBER)]
Command = Annotated[tuple[Text, ...], BeforeValidator(_command), either(TEXT, TEXTS)]
Names = Annotated[tuple[Text, ...], BeforeValidator(_names), either(TEXT, TEXTS)]
