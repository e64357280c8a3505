"""The process that holds LoadGen: ``python -m proctor_steps.loadgen.child JOB.json``.

One run, then it ends. It ends by ``os._exit``, as LoadGen may abort in its own clean-up; whether
the run succeeded is read from the outcome file and the logs, never from the exit code.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from proctor_steps import benchmarks, rounds, trouble
from proctor_steps.benchmarks.base import Task
from proctor_steps.compliance import audit
from proctor_steps.contract import write_atomically
from proctor_steps.loadgen import limits, settings
from proctor_steps.loadgen.calibrate import Calibration, calibrate, warm_up
from proctor_steps.loadgen.log import Mode
from proctor_steps.loadgen.pulse import Phase, Pulse
from proctor_steps.loadgen.settings import Wanted
from proctor_steps.packages import installed
from proctor_steps.rounds import LoadgenScenario
from proctor_steps.stage import OUT_OF_MEMORY, DataError, StepError, StepFailure
from proctor_steps.sut import base
from proctor_steps.sut.endpoint_backend import Endpoint, Service
from proctor_steps.sut.local import Failure, LocalSut, loadgen_complete

# Python hands the interpreter over every 5 ms by default: visible in a latency of milliseconds.
SWITCH_SECONDS = 0.0002
# When each query came and was answered, where that is to be kept.
SERVED = "served.npy"
_PR_SET_PDEATHSIG = 1
_REQUESTS = 4
_SAMPLES_PER_QUERY = 8  # MultiStream, in every round
_OFFLINE_BATCH = 4


class Job(BaseModel):
    """What the process is to do; written by the watcher."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: str
    backend: str | None
    endpoint: Service | None
    scenario: LoadgenScenario
    mode: Mode
    round: str
    performance_seconds: float
    threads: int
    workers: int | None
    batch: int
    target_qps: float | None
    expected_latency_ms: float | None
    server_target_latency_ms: float | None
    min_query_count: int
    test: str = ""
    most_outstanding: int = 0
    keep_served: bool = False
    dataset: Path
    model: Path
    logs: Path
    pulse: Path
    outcome: Path
    parent: int


class Outcome(BaseModel):
    """How it went. ``sut`` describes the system under test for the record."""

    status: Literal["ok", "data_error", "step_error"]
    message: str = ""
    sut: dict[str, JsonValue] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)


def main(argv: list[str]) -> None:
    """Run the job, write its outcome, end the process."""
    job = Job.model_validate_json(Path(argv[1]).read_bytes())
    _die_with(job.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the watcher's to handle
    faulthandler.enable()
    pulse = Pulse(job.pulse)
    try:
        outcome = _execute(job, pulse)
    except BaseException as error:
        outcome = _failed(error, traceback.format_exc())
    _write(job, outcome)
    pulse.enter(Phase.FINISHED if outcome.status == "ok" else Phase.FAILED)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _execute(job: Job, pulse: Pulse) -> Outcome:
    import mlperf_loadgen as loadgen

    sys.setswitchinterval(SWITCH_SECONDS)
    pulse.enter(Phase.LOADING_MODEL)
    sut = _system(job, pulse, loadgen)
    calibration = _prepare(job, sut, pulse)
    sut.backend.reset()
    wanted = _wanted(job, sut.task, calibration)
    _test(job, sut, pulse, loadgen, wanted)
    if sut.failure:
        return _failed(sut.failure.error, sut.failure.trace)
    if job.mode == "performance":
        np.save(job.logs / "latencies.npy", sut.latencies)
        if job.keep_served:
            np.save(job.logs / SERVED, sut.served)
    described = {
        **sut.backend.describe(),
        "batch": sut.batch,
        "workers": sut.workers,
        **({} if job.endpoint else {"threads": job.threads}),
        "service_ms": sut.service_ns / 1e6 if sut.service_ns else None,
        "calibrated": _calibrated(calibration),
        "peak_rss_bytes": limits.peak_rss(),
    }
    return Outcome(status="ok", sut=described, versions=_versions(job))


def _system(job: Job, pulse: Pulse, loadgen: Any) -> LocalSut:
    """Backend, task and system under test, tried once: a model that does not fit ends here."""
    backend, model = _backend(job)
    workers = _workers(job)
    backend.load(model, job.threads, streams=max(1, workers))
    task = benchmarks.get(job.benchmark).bind(job.dataset, backend.signature())
    batch = _batch(job, task, backend, workers, model.name)
    return LocalSut(
        task,
        backend,
        batch=batch,
        workers=workers,
        complete=loadgen_complete(loadgen),
        beat=pulse.beat,
        failed=lambda failure: _tell(job, pulse, failure),
    )


def _backend(job: Job) -> tuple[base.Backend, Path]:
    """What runs the model, and the model: a file, or its name at the endpoint."""
    if job.endpoint is not None:
        return Endpoint(job.endpoint), job.model
    backend = base.make(job.backend or "")
    return backend, base.locate(job.model, backend.formats)


def _workers(job: Job) -> int:
    """Offline has many samples at once: one stream per thread gives the most. Server must not
    answer on the thread that issues, or LoadGen falls behind its schedule. An endpoint gets a few
    requests at a time, so that it need not wait for the way there and back."""
    if job.workers is not None:
        return max(job.workers, 1) if job.scenario == "Server" else job.workers
    if job.endpoint is not None:
        return 0 if job.scenario == "SingleStream" else _REQUESTS
    many = job.threads if job.threads > 1 else 0
    most = {"Offline": many, "MultiStream": min(many, _SAMPLES_PER_QUERY), "Server": 1}
    return most.get(job.scenario, 0)


def _batch(job: Job, task: Task, backend: base.Backend, workers: int, name: str) -> int:
    """The batch that was asked for or that the model is fixed to, tried on the model; where there
    is neither, the one that suits the scenario if the model takes it, else 1."""
    fixed = task.fixed_batch
    if fixed and job.batch not in (0, fixed):
        raise StepError(
            f"the model is fixed to a batch of {fixed}, the parameter batch says {job.batch}; "
            "leave it out, or use a model with a free batch dimension"
        )
    chosen = fixed or job.batch or (1 if job.endpoint else _suiting(job.scenario, workers))
    try:
        _try(task, backend, chosen, name)
    except DataError:
        if fixed or job.batch or chosen == 1:
            raise
        chosen = 1
        _try(task, backend, chosen, name)
    return chosen


def _suiting(scenario: LoadgenScenario, workers: int) -> int:
    """Offline: a few samples at a time take a tenth less work each on small models, more of them
    no less. MultiStream: every worker gets its share of a query."""
    share = -(-_SAMPLES_PER_QUERY // max(1, workers))
    return {"Offline": _OFFLINE_BATCH, "MultiStream": share}.get(scenario, 1)


def _try(task: Task, backend: base.Backend, batch: int, name: str) -> None:
    try:
        outputs = backend.infer(np.stack([task.blank()] * batch))
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        shape = (batch, *task.blank().shape)
        raise DataError(f"{name} cannot be run on an input of shape {shape}: {first}") from error
    task.check(outputs, batch)


def _prepare(job: Job, sut: LocalSut, pulse: Pulse) -> Calibration | None:
    """Warm up; calibrate unless everything that LoadGen wants to know was given."""
    performance = job.mode == "performance"
    length = min(max(0.05 * job.performance_seconds, 0.3), 3.0) if performance else 0.3
    pulse.enter(Phase.WARMING_UP)
    warm_up(sut, job.scenario, length if performance else 0)
    by_rate = job.scenario in ("Server", "Offline")
    given = job.target_qps if by_rate else job.expected_latency_ms
    # In accuracy mode only Server goes by the clock.
    if given is not None or (not performance and job.scenario != "Server"):
        return None
    pulse.enter(Phase.CALIBRATING)
    return calibrate(sut, job.scenario, length)


def _wanted(job: Job, task: Task, calibration: Calibration | None) -> Wanted:
    round_ = rounds.load(job.round)
    rules = round_.benchmark(job.benchmark)
    qps, latency = job.target_qps, job.expected_latency_ms
    if calibration:
        qps, latency = calibration.qps, calibration.latency_ms
    if job.scenario == "Server":
        latency = settings.server_limit_ms(rules, job.server_target_latency_ms)
    by_rate = job.scenario in ("Server", "Offline")
    performance = job.mode == "performance"
    asked = job.performance_seconds
    shorter = performance and asked != round_.min_duration_s.value
    few = rules is not None and task.count < (rules.performance_samples.value or 0)
    return Wanted(
        min_duration_s=asked if shorter else None,
        min_query_count=settings.min_queries(rules, job.scenario, job.mode, job.min_query_count),
        target_qps=qps if by_rate else None,
        target_latency_ms=latency if job.scenario != "Offline" else None,
        # mlperf.conf's number would make LoadGen ask for samples that are not there.
        performance_samples=task.count if few else None,
        max_async_queries=job.most_outstanding or None,
    )


def _test(job: Job, sut: LocalSut, pulse: Pulse, loadgen: Any, wanted: Wanted) -> None:
    benchmark = benchmarks.get(job.benchmark)
    conf = job.logs / settings.USER_CONF
    key = benchmark.config_key
    settings.write_user_conf(conf, key, job.scenario, wanted)
    test = settings.make(loadgen, conf, key, job.scenario, job.mode, wanted)
    pulse.enter(Phase.RUNNING, sut.task.count if job.mode == "accuracy" else 0)
    system = loadgen.ConstructFastSUT(sut.issue, sut.flush)
    library = loadgen.ConstructQSL(
        sut.task.count, min(sut.task.count, benchmark.performance_samples), sut.load, sut.unload
    )
    log = settings.log_settings(loadgen, job.logs)
    audited = job.logs / (audit.FILE if job.test else settings.NO_AUDIT)
    if job.test:
        audited.write_text(audit.text(job.test, key), encoding="ascii")
    loadgen.StartTestWithLogSettings(system, library, test, log, str(audited))
    sut.close()
    loadgen.DestroyQSL(library)
    loadgen.DestroyFastSUT(system)


def _calibrated(calibration: Calibration | None) -> dict[str, JsonValue] | None:
    if calibration is None:
        return None
    return {"expected_latency_ms": calibration.latency_ms, "target_qps": calibration.qps}


def _versions(job: Job) -> dict[str, str]:
    # OpenCV and numpy make what the model is given.
    return installed(
        "mlcommons-loadgen", "numpy", "opencv-python-headless", *filter(None, [job.backend])
    )


def _tell(job: Job, pulse: Pulse, failure: Failure) -> None:
    """At once: LoadGen may need long to come to an end, or never do so."""
    _write(job, _failed(failure.error, failure.trace))
    pulse.enter(Phase.FAILED)


def _failed(error: BaseException, trace: str) -> Outcome:
    if isinstance(error, StepFailure):
        status: Any = error.status
        return Outcome(status=status, message=str(error))
    if isinstance(error, MemoryError):
        return Outcome(status="step_error", message=OUT_OF_MEMORY)
    if isinstance(error, OSError) and (told := trouble.explain(error, {})):
        return Outcome(status="step_error", message=told)
    print(trace, file=sys.stderr, flush=True)
    return Outcome(status="step_error", message=f"{type(error).__name__}: {error}")


def _write(job: Job, outcome: Outcome) -> None:
    write_atomically(job.outcome, outcome.model_dump_json().encode())


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its watcher dies, however that dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv)
