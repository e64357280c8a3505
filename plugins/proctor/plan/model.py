"""The Plan: what a run will do, as immutable data. Stored by digest and frozen per run.

Values of ``build`` parameters and of matrix cells are already in it. Values of ``run`` parameters
are not: where a string holds ``${params.NAME}`` or ``${run.date}``, it is filled in at the run by
:func:`resolve`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from proctor_steps.contract import Purpose, canonical_json, digest

PLAN_FORMAT = "proctor.plan/1"

_PART = re.compile(r"~[0-9a-f]{16}\Z")
RUN_DATE = "run.date"  # among a run's values: no parameter has a dot in its name
_REFERENCE = re.compile(r"\$\{(params\.[A-Za-z_][A-Za-z0-9_]*|run\.date)\}")


class PlanModel(BaseModel):
    """Base of the plan's parts: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Param(PlanModel):
    """A ``run`` parameter: one field of the trigger form.

    ``type``: ``string | number | integer | boolean | choice | choices | uri``; ``choices`` is a
    list drawn from ``choices``. A ``uri`` may be ``file://`` only below a root that the site
    allows.
    """

    name: str
    type: Literal["string", "number", "integer", "boolean", "choice", "choices", "uri"]
    title: str = ""
    help: str = ""
    default: JsonValue = None
    required: bool = False
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


class Source(PlanModel):
    """Where an input comes from: an output of a plan step. ``cell`` is "" outside a fan-in."""

    step: str
    output: str
    cell: str = ""


class Input(PlanModel):
    """A read-only mount. ``mount_path`` is where a container sees it.

    ``bound``: the logical mount that a site binds; such an input has no sources. ``per_subject``:
    the subject's own folder or file of the source, and no other. ``shared``: the name of a
    directory that steps of the run share; it can be written to, and its sources only give order.
    """

    name: str
    mount_path: str
    sources: tuple[Source, ...] = ()
    fan_in: bool = False
    type: Literal["directory", "file"] = "directory"
    bound: str = ""
    shared: str = ""
    per_subject: bool = False


class PlannedOutput(PlanModel):
    """A mount that the step fills. ``shared``: MedPerf's dialect lets steps share a directory."""

    name: str
    mount_path: str
    type: Literal["directory", "file"] = "directory"
    shared: bool = False


class Select(PlanModel):
    """The step runs only where the list in run parameter ``param`` holds ``value``."""

    param: str
    value: str


class Resources(PlanModel):
    """Limits of a step. ``cpus`` 0 means no limit; ``memory`` in bytes."""

    cpus: float = 0
    memory: int = 4 * 1024**3
    gpus: int = 0


class Gate(PlanModel):
    """What an approval step shows and who may answer it (empty: whoever may use the instance).

    ``rework``: the step with which the work begins again when somebody rejects; "": the run fails.
    ``baseline``: an approval makes what was measured before it the baseline. ``keep``: a third
    answer goes on, keeps the old one and leaves a finding open.
    ``timeout_seconds`` 0: waits for ever. A timeout never approves.
    """

    question: str
    evidence: tuple[Source, ...] = ()
    approvers: tuple[str, ...] = ()
    rework: str = ""
    baseline: bool = False
    keep: bool = False
    timeout_seconds: float = 0


class FilesTest(PlanModel):
    """How many files of an output a pattern matches; empty ones do not count."""

    of: Source
    glob: str
    at_least: int = 1
    at_most: int | None = None


class ValueTest(PlanModel):
    """What a value in a JSON file of an output is."""

    of: Source
    file: str
    key: str = ""
    equals: JsonValue = None
    at_least: float | None = None
    at_most: float | None = None


class Condition(PlanModel):
    """What a decision asks; one of the three."""

    id: str
    files: FilesTest | None = None
    value: ValueTest | None = None
    function: str = ""


class Branch(PlanModel):
    """Where a run goes when a condition holds; the one without a condition, when none does."""

    condition: Condition | None
    targets: tuple[str, ...]


class Decision(PlanModel):
    """Branches in order. Where none counts, they are looked at again after ``wait_seconds``.

    ``back``: those targets with which a subject begins another round.
    """

    branches: tuple[Branch, ...]
    back: tuple[str, ...] = ()
    wait_seconds: float = 60.0


Kind = Literal["container", "approval", "stop", "service", "subjects", "decision", "join", "review"]


class Review(PlanModel):
    """What a person finishes by hand: the files of the input that ``files`` match."""

    instructions: str = ""
    files: tuple[str, ...] = ("**/*",)


class PlanStep(PlanModel):
    """One task. ``id`` is ``step`` or, for a member of a matrix, ``step.cell``.

    ``kind`` ``stop``: ends the service in ``services`` when every step that uses it is over,
    whatever became of them. ``subjects``: has a stretch done for every subject. ``decision``: says
    which of the steps behind it are done. ``review``: waits for files that a person finishes.
    ``join``: does nothing.

    ``deadline_seconds`` 0: none. ``partition``: the stretch of steps that it runs in once for each
    subject; "": once in a run. ``history``: it is told what all runs of the home have measured.
    ``limit``: of how many subjects at a time; 0: as many as there is
    room for. ``subject_option``: how an image that knows no contract is told the subject.
    ``leads_back_to``: where the subject begins another round when it is done.
    """

    id: str
    step: str
    cell: str = ""
    kind: Kind = "container"
    title: str = ""
    image: str = ""
    command: tuple[str, ...] = ()
    params: dict[str, JsonValue] = Field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    outputs: tuple[PlannedOutput, ...] = ()
    upstream: tuple[str, ...] = ()
    select: tuple[Select, ...] = ()
    gate: Gate | None = None
    decision: Decision | None = None
    review: Review | None = None
    leads_back_to: str = ""
    required_approvals: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    cache: bool = False
    secrets: tuple[str, ...] = ()
    runs_on: str = "local"
    resources: Resources = Resources()
    services: tuple[str, ...] = ()
    partition: str = ""
    subject_option: str = ""
    limit: int = 0
    reuse: Literal["across_runs", "within_run", "never"] = "across_runs"
    network: bool = False
    exclusive: bool = False
    history: bool = False
    deadline_seconds: float = 3600.0
    seed: int = 0

    @property
    def shares(self) -> bool:
        """Whether it works in directories that other steps work in, too."""
        return any(o.shared for o in self.outputs) or any(i.shared for i in self.inputs)

    @property
    def label(self) -> str:
        """What people read: the title, with the cell where the title does not name it."""
        name = self.title or self.step
        return name if not self.cell or self.cell in name else f"{name}: {self.cell}"


class PlannedService(PlanStep):
    """What runs beside the steps that name it, from the first one's start until its stop.

    It is described as a step is, and is no task: whichever step needs it first starts it.
    ``upstream``: the steps whose outputs it reads. ``port``: where it listens. ``ready``: the path
    whose GET is answered with 2xx when it is ready; "": when the port takes a connection.
    """

    kind: Literal["service"] = "service"
    port: int
    ready: str = ""
    ready_seconds: float = 120.0

    @property
    def stop(self) -> str:
        """The id of the step that ends it."""
        return f"stop-{self.id}"


class FanIn(PlanModel):
    """How many subjects must be done before what follows them starts.

    ``any_done``: all have ended, and one at least succeeded. ``at_least``: as many succeeded, and
    no other is under way.
    """

    policy: Literal["all", "any_done"] = "all"
    at_least: int | None = None


class Plan(PlanModel):
    """A compiled pipeline. ``steps`` is sorted so that every step stands behind its upstreams.

    ``purpose``: what the data are used for, where the spec says so. ``subjects``: the step whose
    output ``subjects`` lists the subjects; "" where there are none.
    """

    format: Literal["proctor.plan/1"] = "proctor.plan/1"
    pipeline: str
    title: str = ""
    description: str = ""
    purpose: Purpose | None = None
    params: tuple[Param, ...] = ()
    build_params: dict[str, JsonValue] = Field(default_factory=dict)
    steps: tuple[PlanStep, ...]
    services: tuple[PlannedService, ...] = ()
    subjects: str = ""
    fan_in: FanIn = FanIn()

    @cached_property
    def digest(self) -> str:
        """sha256 of :meth:`canonical`: the plan's name."""
        return digest(self.model_dump(mode="json"))

    def canonical(self) -> bytes:
        """The plan's bytes: the same on every machine and at every time."""
        return canonical_json(self.model_dump(mode="json"))

    def step(self, id: str) -> PlanStep:
        """The step of that id.

        Raises:
            KeyError: the plan has none.
        """
        return self._by_id[id]

    def ancestors(self, id: str) -> set[str]:
        """Every step that a step waits for, directly or not."""
        found: set[str] = set()
        todo = list(self.step(id).upstream)
        while todo:
            if (each := todo.pop()) not in found:
                found.add(each)
                todo += self.step(each).upstream
        return found

    @property
    def partitions(self) -> list[str]:
        """The stretches that run once for each subject, in their order."""
        return sorted({step.partition for step in self.steps if step.partition})

    def part(self, partition: str) -> Plan:
        """The steps of one stretch, or those outside all (""), with the edges among them."""
        inside = {step.id for step in self.steps if step.partition == partition}
        if len(inside) == len(self.steps):
            return self
        steps = tuple(
            step.model_copy(update={"upstream": tuple(u for u in step.upstream if u in inside)})
            for step in self.steps
            if step.id in inside
        )
        return self.model_copy(update={"steps": steps})

    def service(self, id: str) -> PlannedService:
        """The service of that id.

        Raises:
            KeyError: the plan has none.
        """
        return {service.id: service for service in self.services}[id]

    def bound(self, params: Mapping[str, Any] | None = None) -> dict[str, Input]:
        """Logical mount -> an input that it is; of the steps that ``params`` select, or of all."""
        steps = [s for s in self.steps if params is None or selected(s, params)]
        served = sorted({name for step in steps if step.image for name in step.services})
        readers = [*steps, *(self.service(name) for name in served)]
        return {i.bound: i for reader in readers for i in reader.inputs if i.bound}

    def files(self, params: Mapping[str, Any]) -> dict[str, str]:
        """Parameters that name something on this host -> its ``file://`` URI."""
        values = {p.name: params.get(p.name) for p in self.params if p.type == "uri"}
        return {name: str(uri) for name, uri in values.items() if str(uri).startswith("file:")}

    @cached_property
    def _by_id(self) -> dict[str, PlanStep]:
        return {step.id: step for step in self.steps}


def resolve(value: JsonValue, params: Mapping[str, JsonValue]) -> JsonValue:
    """Fill ``${params.NAME}`` in, and ``${run.date}``, which ``params`` has as ``RUN_DATE``.

    A string that is one reference alone takes the value's own type.

    Raises:
        KeyError: a reference to a parameter that ``params`` lacks.
    """
    if isinstance(value, str):
        whole = _REFERENCE.fullmatch(value)
        if whole:
            return params[whole[1].removeprefix("params.")]
        return _REFERENCE.sub(lambda m: str(params[m[1].removeprefix("params.")]), value)
    if isinstance(value, list):
        return [resolve(item, params) for item in value]
    if isinstance(value, dict):
        return {key: resolve(item, params) for key, item in value.items()}
    return value


def whole_run(run: str) -> str:
    """The run that an id belongs to: a subject's part of one is ``<run>~<16 hex digits>``."""
    return _PART.sub("", run)


def selected(step: PlanStep, params: Mapping[str, Any]) -> bool:
    """Whether a run with these parameters runs the step, or skips it."""
    return all(s.value in (params.get(s.param) or ()) for s in step.select)
