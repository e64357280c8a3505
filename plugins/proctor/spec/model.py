"""The Pipeline as written: native forms and MedPerf's workflow keys in one model.

Short forms are brought into one shape on the way in (``inputs: {dataset: filter.dataset}`` becomes
a mount with a source), so the rest of the program meets one shape only. What the file says is kept
apart from what it means: references and graph rules are checked in check.py.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, PrivateAttr

from proctor.spec.document import DataPath, Document
from proctor.spec.errors import Position, Problem
from proctor.spec.forms import (
    AXIS_REFERENCE,
    PARAMETER,
    TEXT,
    TEXTS,
    Command,
    Duration,
    Flag,
    Memory,
    Names,
    Number,
    Or,
    Text,
    Whole,
    axis_form,
    either,
    fan_in_form,
    input_form,
    next_form,
    on_reject_form,
    output_form,
    schedule_form,
    source_form,
)
from proctor_steps.contract import Purpose

ParamType = Literal["string", "number", "integer", "boolean", "choice", "choices", "uri"]
Reuse = Literal["across_runs", "within_run", "never"]
MountType = Literal["directory", "file"]


class SpecModel(BaseModel):
    """Base of the spec's parts: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceRef(SpecModel):
    """An output of a step. MedPerf calls it a mount."""

    step: Text
    output: Text = Field(alias="mount")


Source = Annotated[
    SourceRef,
    BeforeValidator(source_form),
    Or({"type": "string", "pattern": r"^.+\..+$"}),
]


class InputSpec(SpecModel):
    """A read-only mount. Without ``from`` it is a logical mount that a site binds (MedPerf).

    ``per_subject``: of the source, only the subject's own folder or file.
    """

    source: Source | None = Field(default=None, alias="from")
    mount_path: Text = ""
    type: MountType = "directory"
    per_subject: Flag = False


class OutputSpec(SpecModel):
    """A mount that the step fills."""

    type: MountType = "directory"
    mount_path: Text = ""


InputForm = Annotated[InputSpec, BeforeValidator(input_form), Or(TEXT)]
OutputForm = Annotated[
    OutputSpec,
    BeforeValidator(output_form),
    Or({"enum": ["directory", "file"]}),
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
    BeforeValidator(next_form),
    Or({"type": "null"}, TEXT, TEXTS),
]


class Axis(SpecModel):
    """One axis of a matrix: a parameter's choices, what a submission asks for, or values."""

    param: str = ""
    submission: str = ""
    values: tuple[str, ...] = ()


AxisForm = Annotated[
    Axis,
    BeforeValidator(axis_form),
    either(
        {"type": "string", "pattern": AXIS_REFERENCE},
        {"type": "array", "minItems": 1, "items": {"type": ["string", "integer"]}},
    ),
]


class OnReject(SpecModel):
    """What a rejection leads to: with ``rework``, that step and all that follows it run again."""

    model_config = ConfigDict(json_schema_extra={"required": ["rework"]})

    rework: Text = Field(default="", min_length=1)


OnRejectForm = Annotated[
    OnReject,
    BeforeValidator(on_reject_form),
    Or({"enum": ["fail"]}),
]


class Approval(SpecModel):
    """A gate: a person looks at the evidence and answers. ``timeout`` 0 waits for ever.

    ``baseline``: with an approval, what was measured before it becomes the baseline. ``keep``: a
    third answer, with which the run goes on, the baseline stays and a finding is left open.
    """

    question: Text = "Approve what has been made so far?"
    evidence: tuple[Source, ...] = ()
    approvers: tuple[Text, ...] = ()
    baseline: Flag = False
    keep: Flag = False
    on_reject: OnRejectForm = Field(default=OnReject(), json_schema_extra={"default": "fail"})
    timeout: Duration = 0.0


class Review(SpecModel):
    """A wait for files that a person finishes by hand: those of the input that match.

    ``send_back_to``: the step with which a subject begins anew where the person says so.
    """

    instructions: Text = ""
    files: tuple[Text, ...] = ()
    send_back_to: Names = ()


class ResourceSpec(SpecModel):
    """Limits of a step. ``cpus`` 0: no limit."""

    cpus: Number = Field(default=0, ge=0)
    memory: Memory = 4 * 1024**3
    gpus: Whole = Field(default=0, ge=0)


class Service(SpecModel):
    """A container that runs beside the steps that name it, for example an endpoint SUT.

    It is ready when a GET of ``ready`` is answered with 2xx or, where that is empty, when its port
    takes a connection.
    """

    title: Text = ""
    image: Text
    command: Command = ()
    params: dict[str, JsonValue] = Field(default_factory=dict)
    inputs: dict[str, InputForm] = Field(default_factory=dict)
    port: Whole = Field(ge=1, le=65535)
    ready: Text = ""
    ready_within: Duration = 120.0
    resources: ResourceSpec = ResourceSpec()

    @property
    def all_inputs(self) -> dict[str, tuple[DataPath, InputSpec]]:
        """Inputs: name -> path below the service, and the input."""
        return {name: (("inputs", name), item) for name, item in self.inputs.items()}

    @property
    def sources(self) -> set[str]:
        """The steps whose outputs it reads."""
        return {item.source.step for item in self.inputs.values() if item.source}


class FilesTest(SpecModel):
    """Files of an output: ``glob`` matches one at least, or as many as said. Empty ones count not.

    ``of`` is an output of a step; of the subject's own, where that runs per subject.
    """

    of: Source
    glob: Text = "**/*"
    at_least: Whole = Field(default=1, ge=0)
    at_most: Whole | None = Field(default=None, ge=0)


class ValueTest(SpecModel):
    """A value in a JSON file of an output. ``key``: names and places in lists, joined by dots."""

    of: Source
    file: Text
    key: Text = ""
    equals: JsonValue = None
    at_least: Number | None = None
    at_most: Number | None = None


class Condition(SpecModel):
    """What a conditional ``next`` asks: files, a value, or a function in a container (MedPerf)."""

    id: Text = ""
    type: Literal["function"] | None = None
    function_name: Text = ""
    files: FilesTest | None = None
    value: ValueTest | None = None


class FanIn(SpecModel):
    """How many subjects must be done before what follows them may start.

    ``any_done``: all have ended and one at least succeeded. ``at_least``: as many succeeded, and no
    other is under way.
    """

    policy: Literal["all", "any_done"] = "all"
    at_least: Whole | None = Field(default=None, ge=1)


class Partition(SpecModel):
    """What the subjects are: names matched in an output, or what code in a container says.

    ``mount``: they are in what a site binds to it, not in an output.
    """

    id: Text = ""
    type: Literal["function", "container", "glob"] | None = None
    function_name: Text = ""
    image: Text = ""
    command: Command = ()
    source: Source | None = Field(default=None, alias="from")
    mount: Text = ""
    glob: Text = "*/"
    fan_in: Annotated[FanIn, BeforeValidator(fan_in_form), Or({"enum": ["all", "any_done"]})] = (
        FanIn()
    )

    @property
    def kind(self) -> Literal["function", "container", "glob"]:
        """The type; where it is left out, what the other keys make it."""
        if self.type:
            return self.type
        return "function" if self.function_name else "container" if self.image else "glob"


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


class Submission(SpecModel):
    """What the results are to be submitted as, from which follows what has to be run.

    Each is text, or ``${params.NAME}`` of a build parameter. ``scenarios``: which to submit, where
    not just those that the round requires. ``infer``: scenario -> the measured one that it is
    inferred from, or ``measured``.
    """

    benchmark: Text
    round: Text
    system_type: Annotated[
        Text, either({"enum": ["edge", "datacenter", "datacenter,edge"]}, PARAMETER)
    ]
    division: Annotated[Text, either({"enum": ["closed", "open", "network"]}, PARAMETER)]
    scenarios: Names = ()
    infer: dict[str, Text] = Field(default_factory=dict)


class Schedule(SpecModel):
    """When a pipeline starts by itself: at a time (``cron``), when a source changes, or both.

    ``assets``: parameters of type uri, or steps with a parameter ``uri``, whose sources are looked
    at ``every`` so often. ``params``: what such a run is given. ``catch_up``: every tick that was
    missed is run, not the last one alone.
    """

    cron: Text = ""
    timezone: Text = "UTC"
    assets: Names = ()
    every: Duration = 300.0
    params: dict[str, JsonValue] = Field(default_factory=dict)
    catch_up: Flag = False

    @property
    def label(self) -> str:
        """What people read: times and sources."""
        told = [f"{self.cron} ({self.timezone})"] if self.cron else []
        if self.assets:
            told.append(f"changes of {', '.join(self.assets)}, looked at every {self.every:g} s")
        return "; ".join(told)


ScheduleForm = Annotated[Schedule, BeforeValidator(schedule_form), Or(TEXT)]


class Step(SpecModel):
    """One step: a container, an approval, a review, or MedPerf's dummy."""

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
    history: Flag = False
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
    def partitioned(self) -> bool:
        """Whether it runs once for each subject."""
        return self.partition or self.per_subject

    @property
    def is_approval(self) -> bool:
        """Whether a person, not a container, does this step."""
        return self.approval is not None or self.type == "manual_approval"

    @cached_property
    def all_inputs(self) -> dict[str, tuple[DataPath, InputSpec]]:
        """Inputs of both forms: name -> path below the step, and the input."""
        found: dict[str, tuple[DataPath, InputSpec]] = {}
        for name, item in self.mounts.input_volumes.items():
            found[name] = (("mounts", "input_volumes", name), item)
        return found | {name: (("inputs", name), item) for name, item in self.inputs.items()}

    @cached_property
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
    purpose: Purpose | None = None
    submission: Submission | None = None
    steps: tuple[Step, ...] = Field(min_length=1)
    services: dict[str, Service] = Field(default_factory=dict)
    schedule: ScheduleForm | None = None
    conditions: tuple[Condition, ...] = ()
    partition_def: Partition | None = None
    per_subject_def: Partition | None = None

    @property
    def subjects(self) -> tuple[DataPath, Partition] | None:
        """What says which subjects there are, and its path in the file."""
        if self.partition_def:
            return ("partition_def",), self.partition_def
        return (("per_subject_def",), self.per_subject_def) if self.per_subject_def else None

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
