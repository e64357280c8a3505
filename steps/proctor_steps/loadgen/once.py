"""One LoadGen run in a process of its own: what it is given, and its logs judged."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, model_validator

from proctor_steps import rounds, trouble
from proctor_steps.benchmarks import BenchmarkName
from proctor_steps.compliance.audit import TestName
from proctor_steps.loadgen import limits, rules, watch
from proctor_steps.loadgen.child import Job, Outcome
from proctor_steps.loadgen.log import LoadgenRun, Mode
from proctor_steps.loadgen.pulse import Beat, Phase, Pulse
from proctor_steps.rounds import LoadgenScenario
from proctor_steps.stage import BY_HAND, DataError, StageParams, StepError, StepIO
from proctor_steps.sut.base import BackendName
from proctor_steps.sut.endpoint_backend import Service

_TRACE = "mlperf_log_trace.json"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
# From this length on it is looked whether the machine is quiet: below, looking takes too large a
# part of the time, and what others take is counted too coarsely.
WATCHED_S = 10.0
# Called while the LoadGen process runs, with its pid and phase, and once after its end with 0.
Observer = Callable[[int, Phase], None]


class Measured(StageParams):
    """What is measured, and how: parameters of every stage that runs LoadGen."""

    benchmark: BenchmarkName = Field(description="the benchmark: yolo or digits")
    backend: BackendName | None = Field(
        default=None, description="sut local: onnxruntime, openvino or torch"
    )
    scenario: LoadgenScenario = Field(description="SingleStream, MultiStream, Server or Offline")
    round: str = Field(default="v6.1", description="MLPerf round whose rules are checked")
    performance_seconds: float = Field(
        default=600, gt=0, description="least duration of a performance run; the round asks for 600"
    )
    threads: int = Field(default=0, ge=0, description="threads in all; 0: one per usable CPU")
    workers: int | None = Field(
        default=None, ge=0, description="inferences at a time; default: what suits the scenario"
    )
    batch: int = Field(
        default=0,
        ge=0,
        description="samples per inference; 0: the model's own, or what suits the scenario",
    )
    server_target_latency_ms: float | None = Field(
        default=None, gt=0, description="Server: the latency bound; default: the round's, or 100"
    )
    min_query_count: int = Field(
        default=0,
        ge=0,
        description="least queries (Offline: samples); 0: the round's. Fewer miss a rule",
    )
    stall_seconds: float = Field(
        default=300, gt=0, description="stop the run when nothing has moved for so long"
    )
    sut: Literal["local", "endpoint"] = Field(
        default="local", description="where the model runs: in this step, or behind a service"
    )
    service: str = Field(default="", description="endpoint: which service; default: the only one")
    model: str = Field(default="model", description="endpoint: the model's name at the server")
    connect_seconds: float = Field(
        default=5, gt=0, description="endpoint: longest wait for a connection"
    )
    timeout_seconds: float = Field(
        default=30, gt=0, description="endpoint: longest wait for an answer, all tries together"
    )
    retries: int = Field(
        default=3,
        ge=0,
        description="endpoint: how often a query is sent again where the connection was refused "
        "or lost, or the server had no room (503)",
    )


class Params(Measured):
    """Parameters of the stage."""

    mode: Mode = Field(description="accuracy or performance")
    test: TestName | Literal[""] = Field(
        default="", description="the compliance test to run, for example TEST01 (mode performance)"
    )
    target_qps: float | None = Field(
        default=None,
        gt=0,
        description="Offline, Server: samples per second; default: tuned, or calibrated",
    )
    expected_latency_ms: float | None = Field(
        default=None,
        gt=0,
        description="SingleStream, MultiStream: per query; default: tuned, or calibrated",
    )

    watch_machine: bool | None = Field(
        default=None,
        description="look whether the machine is quiet before, during and after a performance "
        "run; default: in one of 10 s and more",
    )
    disturbed_repeats: int = Field(
        default=0,
        ge=0,
        le=5,
        description="how often a performance run is made again while the machine was not quiet, "
        "as far as the step's deadline allows",
    )

    @model_validator(mode="after")
    def _tests_measure(self) -> Params:
        if self.test and self.mode != "performance":
            raise ValueError(f"{self.test} is a run in performance mode; write mode: performance")
        return self

    @model_validator(mode="after")
    def _accuracy_takes_no_time(self) -> Params:
        asked = self.watch_machine or self.disturbed_repeats
        if asked and self.mode == "accuracy":
            raise ValueError(
                "an accuracy run measures no time, so that nothing disturbs it; leave "
                "watch_machine and disturbed_repeats out"
            )
        if self.disturbed_repeats and self.watch_machine is False:
            raise ValueError("disturbed_repeats wants watch_machine: else nobody looks")
        return self

    @property
    def watched(self) -> bool:
        """Whether it is looked whether the machine is quiet."""
        if self.watch_machine is not None:
            return self.watch_machine
        long = self.performance_seconds >= WATCHED_S
        return self.mode == "performance" and (long or self.disturbed_repeats > 0)


def once(
    params: Params,
    io: StepIO,
    logs: Path,
    began: float,
    observe: Observer = lambda child, phase: None,
) -> LoadgenRun:
    """One LoadGen run in a process of its own, judged by its logs.

    Args:
        logs: an empty folder.
        began: when the step began (``time.monotonic``); its deadline counts from there.
        observe: told of the LoadGen process while it runs.

    Raises:
        DataError, StepError: there are no logs of a finished run.
    """
    with tempfile.TemporaryDirectory(prefix="loadgen-") as folder:
        outcome = _run_process(params, io, Path(folder), logs, began, observe)
    io.versions.update(outcome.versions)
    trace = logs / _TRACE
    if trace.is_file() and trace.stat().st_size == 0:
        trace.unlink()
    sut = outcome.sut | {"limits": asdict(limits.read())}
    if io.contract.image:
        sut["image"] = io.contract.image
    sut["devices"] = list(io.contract.devices)
    judged = _judge(params, logs, sut)
    if (judged.scenario, judged.mode) != (params.scenario, params.mode):
        raise StepError(f"LoadGen ran {judged.scenario} {judged.mode}, not what was asked for")
    return judged


def _judge(params: Params, logs: Path, sut: dict[str, JsonValue]) -> LoadgenRun:
    """LoadGen does not say when it could not write: its logs are cut off, and the disk is full."""
    try:
        return rules.judge(logs, rounds.load(params.round), params.benchmark, sut, params.test)
    except DataError as error:
        if not trouble.is_full(logs):
            raise
        raise StepError(
            f"No space left on device; make room there, and start again: LoadGen's logs in {logs} "
            f"are not whole ({error})"
        ) from error


def _run_process(
    params: Params, io: StepIO, folder: Path, logs: Path, began: float, observe: Observer
) -> Outcome:
    job = _job(params, io, folder, logs)
    path = folder / "job.json"
    path.write_text(job.model_dump_json(), encoding="utf-8")
    pulse = Pulse(job.pulse)
    limit = io.contract.deadline_seconds
    # Before the orchestrator's own deadline, so that the step can still say what happened.
    deadline = began + limit - min(10.0, 0.1 * limit)
    status = watch.supervise(
        path,
        pulse,
        stall_s=params.stall_seconds,
        deadline=deadline,
        tell=lambda beat, phase, seconds: _progress(params, io, beat, phase, seconds),
        observe=observe,
    )
    if not job.outcome.is_file():
        raise StepError(watch.died(status))
    outcome = Outcome.model_validate_json(job.outcome.read_bytes())
    if outcome.status == "data_error":
        raise DataError(outcome.message)
    if outcome.status == "step_error":
        raise StepError(outcome.message)
    return outcome


def _job(params: Params, io: StepIO, folder: Path, logs: Path) -> Job:
    given = params.model_dump(include=set(Job.model_fields) - {"model", "threads"})
    remote = params.sut == "endpoint"
    if remote == (params.backend is not None):
        wanted = "takes no backend: its server has one" if remote else "wants a backend"
        raise StepError(f"the parameters do not fit: sut: {params.sut} {wanted}")
    return Job(
        **given,
        endpoint=_service(params, io) if remote else None,
        threads=params.threads or len(os.sched_getaffinity(0)),
        dataset=io.input("dataset"),
        model=Path(params.model) if remote else io.input("model"),
        logs=logs,
        pulse=folder / "pulse",
        outcome=folder / "outcome.json",
        parent=os.getpid(),
    )


def _service(params: Params, io: StepIO) -> Service:
    """The service that the contract has, or that the parameters choose among several."""
    known = io.contract.services
    name = params.service or (next(iter(known)) if len(known) == 1 else "")
    if name not in known:
        wanted = f"the service {params.service!r}" if params.service else "a service"
        there = ", ".join(known) or "none"
        raise StepError(
            f"sut: endpoint wants {wanted}; this step has: {there}. Name it in the step's "
            "`services`, and by the parameter `service` where there are several"
        )
    url = known[name]
    near = io.contract.pipeline != BY_HAND or urlsplit(url).hostname in _LOOPBACK
    given = params.model_dump(include=set(Service.model_fields))
    return Service(**given, name=name, url=url, same_host=near)


def _progress(params: Params, io: StepIO, beat: Beat, phase: str, seconds: float) -> None:
    note = phase
    if beat.phase is Phase.RUNNING and params.mode == "performance":
        note = f"running, {seconds:.0f} s of at least {params.performance_seconds:g} s"
    io.progress(beat.done, beat.total, "samples", note)
