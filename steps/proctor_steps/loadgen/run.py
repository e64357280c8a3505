"""The stage ``loadgen run``: a LoadGen run on a quiet machine, and what its logs say of it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from proctor_steps import benchmarks
from proctor_steps.compliance import load
from proctor_steps.loadgen import quiet, tuning
from proctor_steps.loadgen.log import Disturbed, LoadgenRun
from proctor_steps.loadgen.once import Params, once
from proctor_steps.stage import Stage, StepError, StepIO

# A second run is made only if the deadline leaves room for so many times its length.
_ROOM = 1.5
_FASTER = 1.25
# Of the deadline, what may be spent on waiting for a quiet moment.
_WAIT = 0.05
_SERVICE = "the system under test is a service, whose share cannot be told from others'"
# In the output `logs`: those of runs that do not count, as the machine was disturbed.
DISTURBED = "disturbed"


def run(params: Params, io: StepIO) -> None:
    """Run LoadGen in a process of its own, judge its logs and the machine."""
    began = time.monotonic()
    logs = io.output("logs")
    if any(logs.iterdir()):
        raise StepError(f"the output folder {logs} is not empty; old logs must not count as new")
    judged = _on_a_quiet_machine(_tuned(_loaded(params, io), io), io, logs, began)
    (logs / "run.json").write_text(judged.model_dump_json(indent=1) + "\n", encoding="utf-8")
    # Under another key: the run of a test is no result, and must not be taken for one.
    io.metrics["compliance_run" if params.test else "loadgen"] = judged.model_dump(mode="json")
    _tell(io, judged)
    where = _place(params.scenario, params.mode, params.test)
    for folder in io.inputs("tuning").values():
        for difference in tuning.differences(folder, judged.sut):
            text = f"the tuning is of a system set up otherwise: {difference}"
            io.find("tuned_otherwise", "warning", text, where)


def _on_a_quiet_machine(params: Params, io: StepIO, logs: Path, began: float) -> LoadgenRun:
    """The first run that nothing disturbed, or the last that parameters and deadline allow.

    The logs of those before it are kept in ``disturbed/1`` and so on.
    """
    left_out: list[Disturbed] = []
    while True:
        start = time.monotonic()
        judged = _calibrated(params, io, logs, began)
        took = time.monotonic() - start
        if not judged.disturbed or len(left_out) == params.disturbed_repeats:
            break
        left = began + io.contract.deadline_seconds - time.monotonic()
        if left < _ROOM * took:
            io.find(
                "disturbed_not_repeated",
                "warning",
                f"the machine was not quiet, and the deadline of the step leaves {left:.0f} s for "
                f"another run, which takes {took:.0f} s and some room; give the step a longer "
                "deadline",
                _place(params.scenario, params.mode, params.test),
            )
            break
        left_out.append(_set_aside(judged, logs, len(left_out) + 1))
        io.say(
            f"the machine was not quiet: {'; '.join(judged.disturbed)}; the run is made again "
            f"({len(left_out)} of at most {params.disturbed_repeats} times)"
        )
    return judged.model_copy(update={"left_out": tuple(left_out)})


def _set_aside(judged: LoadgenRun, logs: Path, number: int) -> Disturbed:
    """Move the logs of a disturbed run out of the way, with what was found of it."""
    folder = logs / DISTURBED / str(number)
    folder.mkdir(parents=True)
    for path in [path for path in logs.iterdir() if path.is_file()]:
        path.rename(folder / path.name)
    (folder / "run.json").write_text(judged.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return Disturbed(
        logs=f"{DISTURBED}/{number}",
        valid=judged.valid,
        metric=judged.metric,
        duration_s=judged.duration_s,
        disturbed=judged.disturbed or (),
    )


def _calibrated(params: Params, io: StepIO, logs: Path, began: float) -> LoadgenRun:
    """A run; made again where too little had been expected of the system."""
    start = time.monotonic()
    judged = _watched(params, io, logs, began)
    better = _better(params, judged)
    left = began + io.contract.deadline_seconds - time.monotonic()
    if not better or left < _ROOM * (params.performance_seconds + time.monotonic() - start):
        return judged
    io.find(
        "calibrated_again",
        "info",
        "the system was much faster than was expected of it, so that LoadGen ran out of "
        f"queries; the run was made again with {better}",
        _place(params.scenario, params.mode, params.test),
    )
    for old in [path for path in logs.iterdir() if path.is_file()]:
        old.unlink()
    return _watched(params.model_copy(update=better), io, logs, began)


def _watched(params: Params, io: StepIO, logs: Path, began: float) -> LoadgenRun:
    """A run, with the machine looked at around it where that is wanted."""
    if not params.watched:
        return once(params, io, logs, began)
    usable = len(os.sched_getaffinity(0))
    wait = min(quiet.QUIET.wait, _WAIT * io.contract.deadline_seconds)
    lookout = quiet.Lookout(
        params.performance_seconds,
        min(params.threads or usable, usable),
        foreign=_SERVICE if params.sut == "endpoint" else "",
        limits=replace(quiet.QUIET, wait=wait),
    )
    io.progress(0, note="looking whether the machine is quiet")
    lookout.before()
    judged = once(params, io, logs, began, lookout.during)
    io.progress(0, note="looking whether the machine was quiet")
    machine, probes = lookout.after()
    return judged.model_copy(
        update={
            "disturbed": quiet.disturbed(machine, probes),
            "machine": machine,
            "probe": probes,
        }
    )


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
    for left_out in run_.left_out:
        text = f"the run in {left_out.logs} does not count, as the machine was not quiet: "
        io.find("run_left_out", "info", text + "; ".join(left_out.disturbed), where)
    for reason in run_.disturbed or ():
        io.find("disturbed", "warning", f"the machine was not quiet: {reason}", where)
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
    outputs={
        "logs": "LoadGen's logs, user.conf, audit.config of a test, run.json, latencies.npy; those "
        "of runs that do not count in disturbed/1, disturbed/2, ..."
    },
    services="sut endpoint: the server that has the model, for example sut=http://127.0.0.1:8000",
)
