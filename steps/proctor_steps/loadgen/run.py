"""The stage ``loadgen run``: one LoadGen run, and what its logs say of it."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, model_validator

from proctor_steps import benchmarks, rounds, trouble
from proctor_steps.benchmarks import BenchmarkName
from proctor_steps.compliance import load
from proctor_steps.compliance.audit import TestName
from proctor_steps.loadgen import limits, rules, tuning, watch
from proctor_steps.loadgen.child import Job, Outcome
from proctor_steps.loadgen.log import LoadgenRun, Mode
from proctor_steps.loadgen.pulse import Beat, Phase, Pulse
from proctor_steps.rounds import LoadgenScenario
from proctor_steps.stage import BY_HAND, DataError, Stage, StageParams, StepError, StepIO
from proctor_steps.sut.base import BackendName
from proctor_steps.sut.endpoint_backend import Service

_TRACE = "mlperf_log_trace.json"
# A second run is made only if the deadline leaves room for so many times its length.
_ROOM = 1.5
_FASTER = 1.25
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


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

    @model_validator(mode="after")
    def _tests_measure(self) -> Params:
        if self.test and self.mode != "performance":
            raise ValueError(f"{self.test} is a run in performance mode; write mode: performance")
        return self


def run(params: Params, io: StepIO) -> None:
    """Run LoadGen in a process of its own, judge its logs."""
    began = time.monotonic()
    logs = io.output("logs")
    if any(logs.iterdir()):
        raise StepError(f"the output folder {logs} is not empty; old logs must not count as new")
    settled = _tuned(_loaded(params, io), io)
    judged = once(settled, io, logs, began)
    better = _better(params, judged)
    left = began + io.contract.deadline_seconds - time.monotonic()
    if better and left > _ROOM * (params.performance_seconds + time.monotonic() - began):
        io.find(
            "calibrated_again",
            "info",
            "the system was much faster than was expected of it, so that LoadGen ran out of "
            f"queries; the run was made again with {better}",
            _place(params.scenario, params.mode, params.test),
        )
        for old in logs.iterdir():
            old.unlink()
        judged = once(settled.model_copy(update=better), io, logs, began)
    (logs / "run.json").write_text(judged.model_dump_json(indent=1) + "\n", encoding="utf-8")
    # Under another key: the run of a test is no result, and must not be taken for one.
    io.metrics["compliance_run" if params.test else "loadgen"] = judged.model_dump(mode="json")
    _tell(io, judged)
    where = _place(params.scenario, params.mode, params.test)
    for folder in io.inputs("tuning").values():
        for difference in tuning.differences(folder, judged.sut):
            text = f"the tuning is of a system set up otherwise: {difference}"
            io.find("tuned_otherwise", "warning", text, where)


def _loaded(params: Params, io: StepIO) -> Params:
    """A test's run is given the load of the performance run, where nothing else is asked for."""
    if not params.test or not io.inputs("performance"):
        return params
    found = load.of_performance_run(io.input("performance"), params.scenario)
    return params.model_copy(update={k: v for k, v in found.items() if getattr(params, k) is None})


def _tuned(params: Params, io: StepIO) -> Params:
    """With what ``loadgen tune`` found, as far as the parameters do not say it themselves."""
    if not io.inputs("tuning"):
        return params
    key = benchmarks.get(params.benchmark).config_key
    taken = tuning.taken(io.input("tuning"), key, params.scenario, params.model_dump())
    told = ", ".join(f"{name} {value:g}" for name, value in taken.items())
    io.say(f"from the tuning: {told or 'nothing'}")
    return params.model_copy(update=taken)


def once(params: Params, io: StepIO, logs: Path, began: float) -> LoadgenRun:
    """One LoadGen run in a process of its own, judged by its logs.

    Args:
        logs: an empty folder.
        began: when the step began (``time.monotonic``); its deadline counts from there.

    Raises:
        DataError, StepError: there are no logs of a finished run.
    """
    with tempfile.TemporaryDirectory(prefix="loadgen-") as folder:
        outcome = _run_process(params, io, Path(folder), logs, began)
    io.versions.update(outcome.versions)
    trace = logs / _TRACE
    if trace.is_file() and trace.stat().st_size == 0:
        trace.unlink()
    sut = outcome.sut | {"limits": asdict(limits.read())}
    if io.contract.image:
        sut["image"] = io.contract.image
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


def _better(params: Params, judged: LoadgenRun) -> dict[str, float]:
    """What to expect instead, when a run ended early because too little was expected of the system.

    Nothing where the user said what to expect, or the run lasted as long as it was to.
    """
    expected_more = judged.duration_s < params.performance_seconds and judged.valid is False
    if not expected_more or judged.metric is None:
        return {}
    if params.scenario == "Offline" and params.target_qps is None:
        return {"target_qps": _FASTER * judged.metric.value}
    if params.scenario.endswith("Stream") and params.expected_latency_ms is None:
        return {"expected_latency_ms": judged.latency_ns["min"] / 1e6 / _FASTER}
    return {}


def _run_process(params: Params, io: StepIO, folder: Path, logs: Path, began: float) -> Outcome:
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
        raise StepError(f"parameters of {STAGE.name!r} do not fit: sut: {params.sut} {wanted}")
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


def _tell(io: StepIO, run_: LoadgenRun) -> None:
    where = _place(run_.scenario, run_.mode, run_.test)
    if run_.metric:
        io.say(
            f"{run_.scenario}: {run_.metric.name} {run_.metric.value:g} {run_.metric.unit}, "
            f"{run_.samples} samples in {run_.duration_s:.1f} s, "
            f"{'VALID' if run_.valid else 'INVALID'}"
        )
    for rule in run_.rules:
        if rule.met is False:
            text = f"{rule.message} (required: {rule.required}, found: {rule.found})"
            io.find(rule.rule, "warning", text, where)
    for error in run_.errors:
        io.find("loadgen_error", "error", error, where)
    given = run_.sut["limits"]
    if isinstance(given, dict) and isinstance(given["cpu_quota"], float):
        io.find(
            "cpu_quota",
            "warning",
            f"a quota of {given['cpu_quota']:g} processors stops all threads for the rest of each "
            "period when it is used up; limit a measurement by cpuset instead",
            where,
        )
    endpoint = run_.sut.get("endpoint")
    if isinstance(endpoint, dict):
        _tell_endpoint(io, endpoint, where)


def _place(scenario: str, mode: str, test: str) -> str:
    """What a finding is about: ``Offline performance``, ``Offline TEST01``."""
    return f"{scenario} {test or mode}"


def _tell_endpoint(io: StepIO, endpoint: dict[str, JsonValue], where: str) -> None:
    if endpoint["retries"]:
        io.find(
            "endpoint_retries",
            "warning",
            f"{endpoint['retries']} tries beyond the {endpoint['requests']} requests were needed "
            f"({endpoint['retried_for']}); the time is part of their queries' latencies",
            where,
        )
    if endpoint["tensors"] == "json":
        io.find(
            "endpoint_json",
            "info",
            f"{endpoint['server']} does not list the binary tensor data extension; tensors travel "
            "as JSON, which is slow",
            where,
        )


STAGE = Stage(
    "loadgen run",
    "Run one scenario with LoadGen, in accuracy or performance mode.",
    Params,
    run,
    inputs={
        "dataset": "output of filter-coco",
        "model": "output of model fetch; none for sut: endpoint",
        "performance": "logs of the performance run that a compliance test is compared with "
        "(optional): the test is given the same load",
        "tuning": "output of loadgen tune (optional)",
    },
    outputs={"logs": "LoadGen's logs, user.conf, audit.config of a test, run.json, latencies.npy"},
    services="sut endpoint: the server that has the model, for example sut=http://127.0.0.1:8000",
)
