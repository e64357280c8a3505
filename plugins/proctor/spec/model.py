"""The Pipeline as written: native forms and MedPerf's workflow keys in one model.

Short forms are brought into one shape on the way in (``inputs: {dataset: filter.dataset}`` becomes
a mount with a source), so the rest of the program meets one shape only. What the file says is kept
apart from what it means: references and graph rules are checked in check.py.
"""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    WithJsonSchema,
)

from proctor.spec.document import DataPath, Document
from proctor.spec.errors import Position, Problem

ParamType = Literal["string", "number", "integer", "boolean", "choice", "choices", "uri"]
Reuse = Literal["across_runs", "within_run", "never"]
MountType = Literal["directory", "file"]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY = {"k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_LONGEST_COMMAND = 10_000
_HOST_PATH = re.compile(r"(/|~|\.\.?/|file:|[A-Za-z]:\\)")


def is_host_path(text: str) -> bool:
    """Whether a text names a place on the machine that runs the pipeline."""
    return bool(_HOST_PATH.match(text))


# --- forms of values -----------------------------------------------------------------------------


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


def _source(value: Any) -> Any:
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


def _input(value: Any) -> Any:
    return {"from": value} if isinstance(value, str) else value


def _output(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


def _names(value: Any) -> Any:
    return [value] if isinstance(value, str) else [] if value is None else value


def _axis(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"\$\{params\.([A-Za-z_][A-Za-z0-9_]*)\}", value)
        if match is None:
            raise ValueError(f"{value!r} is no axis|write a list, or ${{params.NAME}}")
        return {"param": match[1]}
    if not isinstance(value, list) or not value:
        raise ValueError("an axis is a list with one value or more|or ${params.NAME}")
    for item in value:
        if isinstance(item, bool) or not isinstance(item, str | int):
            raise ValueError(f"{_shown(item)} cannot be a cell|cells are text or whole numbers")
    return {"values": [str(item) for item in value]}


def _next(value: Any) -> Any:
    if value is None or isinstance(value, str | list):
        return {"to": _names(value)}
    if isinstance(value, dict) and "to" in value:
        raise ValueError("a conditional next has if, else and wait|an unconditional one is a name")
    return value


def _shown(value: Any) -> str:
    return "a mapping" if isinstance(value, dict) else repr(value)[:60]


Text = Annotated[str, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True)]


def _either(*schemas: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": list(schemas)})


_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT}
_NUMBER: dict[str, Any] = {"type": "number", "minimum": 0}

Duration = Annotated[Number, BeforeValidator(_duration), Field(ge=0), _either(_TEXT, _NUMBER)]
Memory = Annotated[Whole, BeforeValidator(_memory), Field(gt=0), _either(_TEXT, _NUMBER)]
Command = Annotated[tuple[Text, ...], BeforeValidator(_command), _either(_TEXT, _TEXTS)]
Names = Annotated[tuple[Text, ...], BeforeValidator(_names), _either(_TEXT, _TEXTS)]


# --- the parts of a pipeline ---------------------------------------------------------------------


class SpecModel(BaseModel):
    """Base of the spec's parts: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceRef(SpecModel):
    """An output of a step. MedPerf calls it a mount."""

    step: Text
    output: Text = Field(alias="mount")


Source = Annotated[
    SourceRef,
    BeforeValidator(_source),
    _either({"type": "string", "pattern": r"^.+\..+$"}, {"$ref": "#/$defs/SourceRef"}),
]


class InputSpec(SpecModel):
    """A read-only mount. Without ``from`` it is a logical mount that a site binds (MedPerf)."""

    source: Source | None = Field(default=None, alias="from")
    mount_path: Text = ""
    type: MountType = "directory"


class OutputSpec(SpecModel):
    """A mount that the step fills."""

    type: MountType = "directory"
    mount_path: Text = ""


InputForm = Annotated[
    InputSpec, BeforeValidator(_input), _either(_TEXT, {"$ref": "#/$defs/InputSpec"})
]
OutputForm = Annotated[
    OutputSpec,
    BeforeValidator(_output),
    _either({"enum": ["directory", "file"]}, {"$ref": "#/$defs/OutputSpec"}),
]


class Mounts(SpecModel):
    """MedPerf's ``mounts``: the long form of ``inputs`` and ``outputs``."""

    input_volumes: dict[str, InputForm] = Field(default_factory=dict)
    output_volumes: dict[str, OutputForm] = Field(default_factory=dict)


class Branch(SpecModel):
    """Where a run goes when a condition holds."""

    condition: Text
    target: Names


class Next(SpecModel):
    """What follows a step: names (``to``), or branches by condition, waiting between looks."""

    to: Names = ()
    branches: tuple[Branch, ...] = Field(default=(), alias="if")
    otherwise: Names = Field(default=(), alias="else")
    wait: Duration = 60.0

    @property
    def targets(self) -> tuple[str, ...]:
        """Every step named."""
        return (*self.to, *(t for branch in self.branches for t in branch.target), *self.otherwise)


NextForm = Annotated[
    Next,
    BeforeValidator(_next),
    _either({"type": "null"}, _TEXT, _TEXTS, {"$ref": "#/$defs/Next"}),
]


class Axis(SpecModel):
    """One axis of a matrix: a parameter's choices, or values."""

    param: str = ""
    values: tuple[str, ...] = ()


AxisForm = Annotated[
    Axis,
    BeforeValidator(_axis),
    _either(
        {"type": "string", "pattern": r"^\$\{params\.[A-Za-z_][A-Za-z0-9_]*\}$"},
        {"type": "array", "minItems": 1, "items": {"type": ["string", "integer"]}},
    ),
]


class Approval(SpecModel):
    """A gate: a person looks at the evidence and answers. ``timeout`` 0 waits for ever."""

    question: Text = "Approve what has been made so far?"
    evidence: tuple[Source, ...] = ()
    approvers: tuple[Text, ...] = ()
    timeout: Duration = 0.0


class Review(SpecModel):
    """A wait for files that a person finishes by hand (MedPerf's manual review)."""

    instructions: Text = ""
    files: tuple[Text, ...] = ()
    send_back_to: Names = ()


class ResourceSpec(SpecModel):
    """Limits of a step. ``cpus`` 0: no limit."""

    cpus: Number = Field(default=0, ge=0)
    memory: Memory = 4 * 1024**3
    gpus: Whole = Field(default=0, ge=0)


class Service(SpecModel):
    """A container that runs beside the steps that name it, for example an endpoint SUT."""

    image: Text
    command: Command = ()
    params: dict[str, JsonValue] = Field(default_factory=dict)
    port: Whole = Field(default=0, ge=0, le=65535)
    ready: Text = ""
    resources: ResourceSpec = ResourceSpec()


class Function(SpecModel):
    """Code of the spec's author: MedPerf's function, or a command in a container."""

    id: Text = ""
    type: Literal["function", "container"] = "function"
    function_name: Text = ""
    image: Text = ""
    command: Command = ()


class ParamSpec(SpecModel):
    """A parameter. ``when: run`` is a field of the form; ``when: build`` shapes the graph."""

    type: ParamType
    when: Literal["run", "build"] = "run"
    title: Text = ""
    help: Text = ""
    default: JsonValue = None
    required: Flag = False
    choices: tuple[Text, ...] = ()
    minimum: Number | None = None
    maximum: Number | None = None


class Step(SpecModel):
    """One step: a container, an approval, or (parsed only) a review or MedPerf's dummy."""

    id: Text
    title: Text = ""
    type: Literal["container", "manual_approval", "dummy"] = "container"
    image: Text = ""
    command: Command = ()
    params: dict[str, JsonValue] = Field(default_factory=dict)
    inputs: dict[str, InputForm] = Field(default_factory=dict)
    outputs: dict[str, OutputForm] = Field(default_factory=dict)
    mounts: Mounts = Field(default_factory=Mounts)
    after: Names = ()
    next: NextForm = Next()
    matrix: dict[str, AxisForm] = Field(default_factory=dict)
    approval: Approval | None = None
    review: Review | None = None
    publish: tuple[Text, ...] = ()
    network: Flag = False
    cache: Flag = False
    secrets: tuple[Text, ...] = ()
    services: Names = ()
    runs_on: Text = "local"
    resources: ResourceSpec = ResourceSpec()
    exclusive: Flag = False
    reuse: Reuse | None = None
    deadline: Duration = 3600.0
    seed: Whole = Field(default=0, ge=0)
    partition: Flag = False
    per_subject: Flag = False
    limit: Whole | None = Field(default=None, gt=0)
    on_error: JsonValue = None
    cpu_share: JsonValue = None
    mem_limit: JsonValue = None

    @property
    def is_approval(self) -> bool:
        """Whether a person, not a container, does this step."""
        return self.approval is not None or self.type == "manual_approval"

    @property
    def all_inputs(self) -> dict[str, tuple[DataPath, InputSpec]]:
        """Inputs of both forms: name -> path below the step, and the input."""
        found: dict[str, tuple[DataPath, InputSpec]] = {}
        for name, item in self.mounts.input_volumes.items():
            found[name] = (("mounts", "input_volumes", name), item)
        return found | {name: (("inputs", name), item) for name, item in self.inputs.items()}

    @property
    def all_outputs(self) -> dict[str, tuple[DataPath, OutputSpec]]:
        """Outputs of both forms: name -> path below the step, and the output."""
        found: dict[str, tuple[DataPath, OutputSpec]] = {}
        for name, item in self.mounts.output_volumes.items():
            found[name] = (("mounts", "output_volumes", name), item)
        return found | {name: (("outputs", name), item) for name, item in self.outputs.items()}


class Pipeline(SpecModel):
    """A pipeline as its file says it. ``where`` gives the place of any part of it."""

    pipeline: Text = ""
    title: Text = ""
    description: Text = ""
    params: dict[str, ParamSpec] = Field(default_factory=dict)
    steps: tuple[Step, ...] = Field(min_length=1)
    services: dict[str, Service] = Field(default_factory=dict)
    schedule: Text = ""
    conditions: tuple[Function, ...] = ()
    partition_def: Function | None = None
    per_subject_def: Function | None = None

    _document: Document = PrivateAttr(default_factory=lambda: Document("<memory>"))
    _warnings: tuple[Problem, ...] = PrivateAttr(default=())

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is accepted but has no effect, or is probably a slip."""
        return self._warnings

    def where(self, *path: str | int) -> Position:
        """Place of the value at a path, or of what is nearest around it."""
        return self._document.where(path)

    def where_key(self, *path: str | int) -> Position:
        """Place of the key at a path."""
        return self._document.where_key(path)
