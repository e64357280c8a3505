"""A Pipeline becomes a Plan: cells written out, sources bound, steps in order. No clock, no host.

The same file and the same build parameters give the same bytes on every machine.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import JsonValue

from proctor.plan.model import (
    Branch,
    Condition,
    Decision,
    FanIn,
    Gate,
    Input,
    Param,
    Plan,
    PlannedOutput,
    PlannedService,
    PlanStep,
    Resources,
    Review,
    Select,
    Source,
)
from proctor.plan.params import resolve_params
from proctor.plan.refused import refused
from proctor.plan.shared import Volumes
from proctor.spec import graph
from proctor.spec import model as spec
from proctor.spec.document import DataPath
from proctor.spec.errors import Problem, SpecErrors
from proctor.spec.load import load_pipeline
from proctor.spec.model import (
    InputSpec,
    ParamSpec,
    Pipeline,
    ResourceSpec,
    Reuse,
    Service,
    SourceRef,
    Step,
)
from proctor.spec.submission import derive

OWN_STEPS = "proctor/steps"
IN = "/proctor/in"
OUT = "/proctor/out"
MAX_CELLS = 1_000  # of one step
MAX_STEPS = 5_000  # of a plan; Airflow shows none so large

LONGEST_ID = 250
# The step that says which subjects there are; `subjects-1` has its first stretch done for each.
LIST_SUBJECTS = "list-subjects"
STRETCH = "subjects-"
# Where MedPerf's functions lie, and how long one look at a condition may take.
FUNCTIONS = "additional_files"
FUNCTION_SECONDS = 300.0
REVIEW_SECONDS = 5.0  # between two looks at the files of a review
NEXT = "next-"  # and a step's id: what follows that one

_FILLED_IN = re.compile(r"\$\{(params|matrix|submission|run)\.([A-Za-z_][A-Za-z0-9_]*)\}")


def load_plan(path: Path, build_params: Mapping[str, JsonValue] | None = None) -> Plan:
    """Load, check and compile a spec's file.

    Raises:
        SpecErrors: every problem of the file.
        ParamErrors: a build parameter that does not fit.
    """
    return compile(load_pipeline(path), build_params)


def compile(pipeline: Pipeline, build_params: Mapping[str, JsonValue] | None = None) -> Plan:
    """Compile a checked pipeline.

    Raises:
        SpecErrors: it asks for something that does not work yet, or its cells do not fit together.
        ParamErrors: a build parameter that does not fit.
    """
    problems = list(refused(pipeline))
    if problems:
        raise SpecErrors(problems, pipeline.pipeline)
    specs = pipeline.params
    build = {name: param for name, param in specs.items() if param.when == "build"}
    values = resolve_params([_param(n, p) for n, p in build.items()], build_params or {})
    submission, problems = derive(pipeline, values)
    if problems:
        raise SpecErrors(problems, pipeline.pipeline)
    compiler = _Compiler(pipeline, values, submission)
    steps = compiler.steps()
    plan = Plan(
        pipeline=pipeline.pipeline,
        title=pipeline.title,
        description=pipeline.description,
        purpose=pipeline.purpose,
        params=tuple(_param(n, p) for n, p in specs.items() if p.when == "run"),
        build_params=dict(sorted(values.items())),
        steps=steps,
        services=compiler.planned_services(steps),
        subjects=LIST_SUBJECTS if any(step.kind == "subjects" for step in steps) else "",
        fan_in=_fan_in(pipeline),
    )
    return plan


def _condition(item: spec.Condition) -> Condition:
    found: dict[str, Any] = {"id": item.id, "function": item.function_name}
    for name, test in (("files", item.files), ("value", item.value)):
        if test:
            of = {"step": test.of.step, "output": test.of.output}
            found[name] = test.model_dump(exclude={"of"}) | {"of": of}
    return Condition.model_validate(found)


def _review(step: Step) -> Review | None:
    if step.review is None:
        return None
    files = step.review.files or ("**/*",)
    return Review(instructions=step.review.instructions, files=files)


def _sends_back(step: Step) -> Decision | None:
    if step.review is None:
        return None
    return Decision(branches=(), back=step.review.send_back_to, wait_seconds=REVIEW_SECONDS)


def _fan_in(pipeline: Pipeline) -> FanIn:
    return FanIn(**pipeline.subjects[1].fan_in.model_dump()) if pipeline.subjects else FanIn()


@lru_cache
def _resources(spec: ResourceSpec) -> Resources:
    """Most steps have the same: one object for all of them."""
    return Resources(**spec.model_dump())


def _subject_option(step: Step) -> str:
    """As MedPerf's runner does; images from before it spoke of partitions know the older word."""
    if step.partition:
        return "--partition"
    return "--subject-subdir" if step.per_subject else ""


def _texts(values: JsonValue) -> tuple[str, ...]:
    """A list's values as the cells of an axis."""
    return tuple(str(value) for value in values) if isinstance(values, list) else ()


def _param(name: str, spec: ParamSpec) -> Param:
    return Param(
        name=name,
        type=spec.type,
        title=spec.title,
        help=spec.help,
        default=spec.default,
        required=spec.required,
        choices=spec.choices,
        minimum=spec.minimum,
        maximum=spec.maximum,
    )


@dataclass(frozen=True)
class Cell:
    """One member of a step's matrix: its value on each axis; a step without matrix has one, ()."""

    axes: tuple[tuple[str, str], ...] = ()

    @property
    def values(self) -> dict[str, str]:
        """Axis -> value."""
        return dict(self.axes)

    def name(self, besides: frozenset[str] = frozenset()) -> str:
        """Its values, less those of the axes named, joined."""
        return "-".join(value for axis, value in self.axes if axis not in besides)


class _Compiler:
    """Compiles the steps of one pipeline; collects problems and raises them together."""

    def __init__(
        self,
        pipeline: Pipeline,
        build: Mapping[str, JsonValue],
        submission: Mapping[str, JsonValue],
    ) -> None:
        self.pipeline = pipeline
        self.build = build
        self.submission = submission
        self.before = graph.edges(pipeline)
        self.back = graph.back_edges(pipeline)
        self.volumes = Volumes(pipeline)
        self.spec = {step.id: step for step in pipeline.steps}
        self.number = {step.id: number for number, step in enumerate(pipeline.steps)}
        self.problems: list[Problem] = []
        self.cells: dict[str, tuple[Cell, ...]] = {}
        self.done: dict[str, PlanStep] = {}
        self.gates: dict[str, frozenset[str]] = {}
        self.services: dict[str, PlannedService] = {}
        self.stretch = {
            id: f"{STRETCH}{number}"
            for id, number in graph.stretches(pipeline, self.before).items()
        }

    def steps(self) -> tuple[PlanStep, ...]:
        """Every plan step, each behind its upstreams, otherwise by id."""
        self.cells = {step.id: self._cells_of(step) for step in self.pipeline.steps}
        if sum(len(cells) for cells in self.cells.values()) > MAX_STEPS:
            at = self.pipeline.where_key("steps")
            message = f"the plan would have over {MAX_STEPS:,} steps"
            raise SpecErrors(
                [Problem(at, message, "make the matrices smaller")], self.pipeline.pipeline
            )
        services = sorted(self.pipeline.services.items())
        self.services = {name: self._service(name, service) for name, service in services}
        for id in graph.order(self.before):
            for cell in self.cells[id]:
                step = self._step(self.spec[id], cell)
                self._decide(step)
                if len(step.id) > LONGEST_ID:
                    message = f"the id of a plan step would have {len(step.id)} characters"
                    self._problem(id, ("matrix",), message, f"Airflow takes {LONGEST_ID} at most")
                self.done[step.id] = step
        self._subjects()
        if self.problems:
            raise SpecErrors(self.problems, self.pipeline.pipeline)
        self.done |= {service.stop: self._stop(service) for service in self.services.values()}
        order = graph.order({id: step.upstream for id, step in self.done.items()})
        return tuple(self.done[id] for id in order)

    def _cells_of(self, step: Step) -> tuple[Cell, ...]:
        axes = [[(name, value) for value in self._values(step, name)] for name in step.matrix]
        if math.prod(len(axis) for axis in axes) > MAX_CELLS:
            message = f"the matrix of {step.id!r} has over {MAX_CELLS:,} cells"
            self._problem(step.id, ("matrix",), message, "make the axes shorter")
            return ()
        cells = tuple(Cell(axes) for axes in itertools.product(*axes))
        if len({cell.name() for cell in cells}) < len(cells):
            message = f"two cells of {step.id!r} would have the same name"
            self._problem(step.id, ("matrix",), message, "rename values, they are joined by '-'")
        return cells

    def _values(self, step: Step, axis: str) -> tuple[str, ...]:
        form = step.matrix[axis]
        if form.submission:
            return _texts(self.submission[form.submission])
        if not form.param:
            return form.values
        if self.pipeline.params[form.param].when == "build":
            return _texts(self.build[form.param])
        return self.pipeline.params[form.param].choices

    # --- one step --------------------------------------------------------------------------------

    def _step(self, step: Step, cell: Cell) -> PlanStep:
        inputs = tuple(self._inputs(step.id, step.all_inputs, cell))
        evidence = tuple(self._evidence(step))
        upstream = self._upstream(step, cell, inputs, evidence)
        required = self._required(upstream)
        name = cell.name()
        planned = PlanStep(
            id=f"{step.id}.{name}" if name else step.id,
            step=step.id,
            cell=name,
            kind=self._kind(step),
            review=_review(step),
            decision=_sends_back(step),
            title=str(self._fill(step.title, cell)),
            image="" if step.is_approval else str(self._fill(step.image, cell)),
            command=tuple(str(self._fill(word, cell)) for word in step.command),
            params={key: self._fill(step.params[key], cell) for key in sorted(step.params)},
            inputs=inputs,
            outputs=tuple(self._outputs(step)),
            upstream=upstream,
            select=self._select(step, cell, inputs),
            gate=self._gate(step, evidence),
            required_approvals=required,
            publish=step.publish,
            cache=step.cache,
            secrets=step.secrets,
            runs_on=step.runs_on,
            resources=_resources(step.resources),
            services=tuple(sorted(set(step.services))),
            partition=self.stretch.get(step.id, ""),
            subject_option=_subject_option(step),
            limit=(step.limit or 0) if step.partitioned else 0,
            leads_back_to="" if step.next.branches else next(iter(self.back[step.id]), ""),
            reuse=self._reuse(step, required),
            network=step.network,
            exclusive=step.exclusive,
            history=step.history,
            deadline_seconds=step.deadline,
            seed=step.seed,
        )
        own = {planned.id} if step.is_approval else set()
        self.gates[planned.id] = frozenset(own | set(planned.required_approvals))
        return planned

    # --- what follows ----------------------------------------------------------------------------

    def _decide(self, step: PlanStep) -> None:
        """The plan step that says, behind one with a conditional ``next``, what is done next."""
        following = self.spec[step.step].next
        if not following.branches:
            return
        name = f"{NEXT}{step.id}"
        if name in self.spec:
            self._problem(name, ("id",), f"{name!r} is the id of what decides there", "rename")
        conditions = {item.id: item for item in self.pipeline.conditions}
        found = [
            Branch(condition=_condition(conditions[b.condition]), targets=b.target)
            for b in following.branches
        ]
        if set(following.otherwise) - {step.id}:
            found.append(Branch(condition=None, targets=following.otherwise))
        targets = {target for branch in found for target in branch.targets}
        back = targets & set(self.back[step.id])
        functions = [b.condition.function for b in found if b.condition and b.condition.function]
        asked: dict[str, Any] = {}
        if functions:
            asked = {
                "image": OWN_STEPS,
                "command": ("medperf", "conditions"),
                "params": {"functions": functions},
                "inputs": self._function_inputs(),
            }
        self.done[name] = PlanStep(
            id=name,
            step=name,
            kind="decision",
            title=f"What follows: {step.label}",
            **asked,
            upstream=(step.id,),
            decision=Decision(
                branches=tuple(found), back=tuple(sorted(back)), wait_seconds=following.wait
            ),
            required_approvals=self._required((step.id,)),
            partition=step.partition,
            reuse="never",
            deadline_seconds=FUNCTION_SECONDS,
        )
        self.gates[name] = self.gates[step.id]

    def _function_inputs(self) -> tuple[Input, ...]:
        """What a function beside the file may look at: its module, and every logical mount."""
        types: dict[str, Literal["directory", "file"]] = {FUNCTIONS: "directory"}
        for step in self.pipeline.steps:
            for name, (_, item) in step.all_inputs.items():
                if item.source is None and not self.volumes.shared_by(name, item):
                    types[name] = item.type
        return tuple(
            Input(name=name, mount_path=f"{IN}/{name}", type=kind, bound=name)
            for name, kind in sorted(types.items())
        ) + tuple(
            Input(name=name, mount_path=f"{IN}/{name}", type=kind, shared=name)
            for name, kind in sorted(self.volumes.types.items())
            if name not in types
        )

    # --- subjects --------------------------------------------------------------------------------

    def _subjects(self) -> None:
        """The step that lists them, and one for each stretch that has it done for all of them."""
        if not self.stretch or not self.pipeline.subjects:
            return
        _, given = self.pipeline.subjects
        for id in (LIST_SUBJECTS, *sorted(set(self.stretch.values()))):
            if id in self.done:
                self._problem(id, ("id",), f"{id!r} is the id of a step for the subjects", "rename")
        inputs = {}
        if given.source:
            inputs = {"data": ((), InputSpec.model_validate({"from": given.source}))}
        bound = tuple(self._inputs(LIST_SUBJECTS, inputs, Cell()))
        if given.mount:
            bound = (Input(name="data", mount_path=f"{IN}/data", bound=given.mount),)
        upstream = tuple(sorted({source.step for item in bound for source in item.sources}))
        if given.kind == "function":
            bound = self._function_inputs()
            first = [s for s in self.done.values() if s.partition == f"{STRETCH}1"]
            inside = {s.id for s in first}
            upstream = tuple(sorted({id for s in first for id in s.upstream} - inside))
        image, command, params = {
            "glob": (OWN_STEPS, ("subjects", "list"), {"glob": given.glob}),
            "function": (OWN_STEPS, ("medperf", "subjects"), {"function": given.function_name}),
            "container": (given.image, given.command, {}),
        }[given.kind]
        self.done[LIST_SUBJECTS] = PlanStep(
            id=LIST_SUBJECTS,
            step=LIST_SUBJECTS,
            title="List the subjects",
            image=image,
            command=command,
            params=params,
            inputs=bound,
            outputs=(PlannedOutput(name="subjects", mount_path=f"{OUT}/subjects"),),
            upstream=upstream,
            required_approvals=self._required(upstream),
            reuse=(
                "never"
                if any(item.shared for item in bound)
                else "within_run"
                if self._required(upstream)
                else "across_runs"
            ),
        )
        for number in sorted({int(name.removeprefix(STRETCH)) for name in self.stretch.values()}):
            self._stretch(f"{STRETCH}{number}")

    def _stretch(self, name: str) -> None:
        inside = {id: step for id, step in self.done.items() if step.partition == name}
        before = {id for step in inside.values() for id in step.upstream} - set(inside)
        # Behind a stretch before this one, its end is waited for.
        waits = {self.done[id].partition or id for id in before}
        upstream = {LIST_SUBJECTS, *waits}
        self.done[name] = PlanStep(
            id=name,
            step=name,
            kind="subjects",
            title="Every subject",
            upstream=tuple(sorted(upstream)),
            reuse="never",
        )
        for id, step in self.done.items():
            if not step.partition and set(inside) & set(step.upstream):
                known = {"upstream": tuple(sorted({*step.upstream, name}))}
                self.done[id] = step.model_copy(update=known)

    @staticmethod
    def _kind(step: Step) -> Literal["approval", "container", "join", "review"]:
        if step.review:
            return "review"
        if step.is_approval:
            return "approval"
        return "join" if step.type == "dummy" else "container"

    # --- services --------------------------------------------------------------------------------

    def _service(self, name: str, service: Service) -> PlannedService:
        inputs = tuple(self._inputs(name, service.all_inputs, Cell()))
        return PlannedService(
            id=name,
            step=name,
            title=str(self._fill(service.title, Cell())),
            image=str(self._fill(service.image, Cell())),
            command=tuple(str(self._fill(word, Cell())) for word in service.command),
            params={key: self._fill(service.params[key], Cell()) for key in sorted(service.params)},
            inputs=inputs,
            upstream=tuple(sorted({source.step for item in inputs for source in item.sources})),
            resources=_resources(service.resources),
            reuse="never",
            deadline_seconds=0,
            port=service.port,
            ready=service.ready,
            ready_seconds=service.ready_within,
        )

    def planned_services(self, steps: tuple[PlanStep, ...]) -> tuple[PlannedService, ...]:
        """The services, each as quiet and as bound to its run as the steps that use it."""
        found = []
        for service in self.services.values():
            users = [step for step in steps if service.id in step.services and step.image]
            known = {
                "required_approvals": self._required(service.upstream),
                "exclusive": any(step.exclusive for step in users),
                "reuse": "within_run" if any(s.reuse == "within_run" for s in users) else "never",
            }
            found.append(service.model_copy(update=known))
        return tuple(found)

    def _stop(self, service: PlannedService) -> PlanStep:
        users = sorted(id for id, step in self.done.items() if service.id in step.services)
        return PlanStep(
            id=service.stop,
            step=service.stop,
            kind="stop",
            title=f"Stop: {service.label}",
            services=(service.id,),
            upstream=tuple(users),
            reuse="never",
        )

    # --- what is read ----------------------------------------------------------------------------

    def _inputs(
        self, id: str, inputs: Mapping[str, tuple[DataPath, InputSpec]], cell: Cell
    ) -> Iterator[Input]:
        for name, (path, item) in sorted(inputs.items()):
            place = item.mount_path or f"{IN}/{name}"
            shared = self.volumes.shared_by(name, item)
            if item.source is None:
                yield Input(
                    name=name,
                    mount_path=place,
                    type=item.type,
                    bound="" if shared else name,
                    shared=shared,
                    per_subject=item.per_subject,
                )
                continue
            if not self.cells[item.source.step]:
                continue  # a submission whose division or round asks for none of it
            _, output = self.spec[item.source.step].all_outputs[item.source.output]
            yield Input(
                name=name,
                mount_path=place,
                sources=tuple(self._sources(item.source, id, cell, path)),
                fan_in=self._fans_in(item.source.step, cell),
                type=output.type,
                per_subject=item.per_subject,
                shared=shared,
            )

    def _fans_in(self, source: str, cell: Cell) -> bool:
        return bool(set(self.spec[source].matrix) - set(cell.values))

    def _sources(self, source: SourceRef, id: str, cell: Cell, path: DataPath) -> Iterator[Source]:
        """The source's cells that agree with this cell on the axes that both have."""
        found = list(self._agreeing(source.step, cell))
        if not found and self.cells[source.step]:
            message = f"{source.step!r} has no cell for {id}.{cell.name()}"
            self._problem(id, path, message, "give both steps the same axis")
        for other in found:
            name = other.name()
            full = f"{source.step}.{name}" if name else source.step
            short = other.name(besides=frozenset(cell.values))
            yield Source(step=full, output=source.output, cell=short)

    def _agreeing(self, id: str, cell: Cell) -> Iterator[Cell]:
        mine = cell.values
        for other in self.cells[id]:
            if all(mine.get(axis, value) == value for axis, value in other.axes):
                yield other

    def _evidence(self, step: Step) -> Iterator[Source]:
        for index, source in enumerate(step.approval.evidence if step.approval else ()):
            path: DataPath = ("approval", "evidence", index)
            yield from self._sources(source, step.id, Cell(), path)

    def _upstream(
        self, step: Step, cell: Cell, inputs: tuple[Input, ...], evidence: tuple[Source, ...]
    ) -> tuple[str, ...]:
        ids = {source.step for item in inputs for source in item.sources}
        ids |= {source.step for source in evidence}
        ids |= {id for name in step.services for id in self.services[name].upstream}
        for id in self.before[step.id]:
            asked = self.spec[id].next
            if asked.branches and step.id in asked.targets:
                ids.add(f"{NEXT}{id}")
        for before in set(self.before[step.id]) - graph.sources(step):
            for other in self._agreeing(before, cell):
                name = other.name()
                ids.add(f"{before}.{name}" if name else before)
        return tuple(sorted(ids))

    def _select(self, step: Step, cell: Cell, inputs: tuple[Input, ...]) -> tuple[Select, ...]:
        """Own axes that a run chooses from, and those of every input that has no substitute."""
        found = {
            (form.param, cell.values[axis])
            for axis, form in step.matrix.items()
            if form.param and self.pipeline.params[form.param].when == "run"
        }
        for item in inputs:
            if not item.fan_in:
                for source in item.sources:
                    found |= {(s.param, s.value) for s in self.done[source.step].select}
        return tuple(Select(param=param, value=value) for param, value in sorted(found))

    def _outputs(self, step: Step) -> Iterator[PlannedOutput]:
        for name, (_, item) in sorted(step.all_outputs.items()):
            place = item.mount_path or f"{OUT}/{name}"
            shared = name in step.mounts.output_volumes and name in self.volumes.shared
            yield PlannedOutput(name=name, mount_path=place, type=item.type, shared=shared)

    def _gate(self, step: Step, evidence: tuple[Source, ...]) -> Gate | None:
        if not step.is_approval:
            return None
        if step.approval is None:
            return Gate(question="Approve what has been made so far?")
        return Gate(
            question=step.approval.question,
            evidence=evidence,
            approvers=step.approval.approvers,
            rework=step.approval.on_reject.rework,
            baseline=step.approval.baseline,
            keep=step.approval.keep,
            timeout_seconds=step.approval.timeout,
        )

    def _required(self, upstream: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(frozenset().union(*(self.gates[id] for id in upstream))))

    def _reuse(self, step: Step, required: tuple[str, ...]) -> Reuse:
        """What measures, and what stands behind a person's answer, belongs to its run."""
        if step.is_approval or step.review or step.history:
            return "never"
        if self._shares(step):
            if step.reuse not in (None, "never"):
                message = f"{step.id!r} works in a directory that other steps change, too"
                self._problem(step.id, ("reuse",), message, "write never, or leave it out")
            return "never"
        if required and step.reuse == "across_runs":
            message = (
                f"{step.id!r} stands behind the approval {required[0]!r}, given in one run only"
            )
            remedy = "write within_run or never, or leave 'reuse' out"
            self._problem(step.id, ("reuse",), message, remedy)
        kept: Reuse = "within_run" if step.exclusive or required else "across_runs"
        return step.reuse or kept

    def _shares(self, step: Step) -> bool:
        read = step.all_inputs.items()
        return bool(set(step.mounts.output_volumes) & self.volumes.shared) or any(
            self.volumes.shared_by(name, item) for name, (_, item) in read
        )

    def _fill(self, value: JsonValue, cell: Cell) -> JsonValue:
        """Fill in cells and build parameters; run parameters stay for the run."""
        if isinstance(value, str):
            return self._fill_text(value, cell)
        if isinstance(value, list):
            return [self._fill(item, cell) for item in value]
        if isinstance(value, dict):
            return {key: self._fill(item, cell) for key, item in sorted(value.items())}
        return value

    def _fill_text(self, text: str, cell: Cell) -> JsonValue:
        def known(match: re.Match[str]) -> JsonValue:
            if match[1] == "matrix":
                return cell.values[match[2]]
            if match[1] == "submission":
                return self.submission[match[2]]
            if match[1] == "run":  # the date is known when it starts
                return self.pipeline.purpose if match[2] == "purpose" else match[0]
            return self.build.get(match[2], match[0])

        whole = _FILLED_IN.fullmatch(text)
        if whole:
            return known(whole)
        return _FILLED_IN.sub(lambda match: str(known(match)), text)

    def _problem(self, id: str, path: DataPath, message: str, remedy: str = "") -> None:
        whose: DataPath = ("steps", self.number[id]) if id in self.number else ("services", id)
        at = self.pipeline.where(*whose, *path)
        self.problems.append(Problem(at, message, remedy))
