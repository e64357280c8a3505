"""LoadGen with a null model: what our SUT layer adds to a query.

The model answers at once with what it has, the task with a payload made beforehand, so that what
is left is LoadGen and what lies between it and a model. Beside it, in the same rounds: LoadGen's
own floor, a callback that answers every query with nothing on the spot.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import ROOT, Bench, interval, ratio
from proctor_steps.benchmarks.base import Array, Signature, Task
from proctor_steps.loadgen import log, settings
from proctor_steps.loadgen.child import SWITCH_SECONDS
from proctor_steps.loadgen.pulse import Phase, Pulse
from proctor_steps.sut.base import Backend
from proctor_steps.sut.local import LocalSut, loadgen_complete

_SECONDS = 3.0
_SAMPLES = 64
_SERVER_QPS = 20_000
_WANTED_US = 6.0
# Workers and samples per inference, as a run has them by default on one processor or on two.
_CASES = {
    "SingleStream": (0, 1),
    "MultiStream": (0, 8),
    "Offline": (0, 4),
    "Offline, 2 workers": (2, 4),
    "Server": (1, 1),
}


class NullTask(Task):
    """Samples and payloads made beforehand: 20 boxes of 7 numbers each, as a detector gives."""

    count, fixed_batch = _SAMPLES, None

    def __init__(self) -> None:
        self._sample = np.zeros((3, 8, 8), np.float32)
        self._payloads = [np.full((20, 7), i, np.float32) for i in range(_SAMPLES)]

    def load(self, index: int) -> Array:
        """The one sample."""
        return self._sample

    def preprocess(self, index: int, loaded: Array) -> Array:
        """Nothing to do."""
        return loaded

    def blank(self) -> Array:
        """The one sample."""
        return self._sample

    def check(self, outputs: Sequence[Array], batch: int) -> None:
        """Anything goes."""

    def postprocess(self, outputs: Sequence[Array], indices: Sequence[int]) -> list[Any]:
        """One answer per sample."""
        return [outputs] * len(indices)

    def payload(self, index: int, answer: Any) -> Array:
        """What was made beforehand."""
        return self._payloads[index]


class NullModel(Backend):
    """Gives its input back."""

    formats = ()

    def load(self, model: Path, threads: int, streams: int = 1) -> None:
        """Nothing to load."""

    def signature(self) -> Signature:
        """Takes anything."""
        return Signature()

    def infer(self, batch: Array) -> Sequence[Array]:
        """The input."""
        return (batch,)

    def describe(self) -> dict[str, Any]:
        """Nothing to say."""
        return {}


def measure(bench: Bench) -> None:
    """Every scenario, our layer and the floor in turn."""
    seconds = bench.seconds or _SECONDS
    cases: dict[str, Callable[[], float]] = {}
    for name, (workers, batch) in _CASES.items():
        scenario = name.split(",")[0]
        for kind in ("floor", "ours"):
            if kind == "ours" or scenario == name:
                cases[f"{name}, {kind}"] = _case(kind, scenario, workers, batch, seconds)
    found = bench.interleave(cases)
    for name in _CASES:
        ours, floor = found[f"{name}, ours"], found.get(f"{name}, floor")
        middle = interval(ours)
        what = f"{name}, us {_unit(name)}"
        if name == "SingleStream":
            bench.row(what, middle, f"<= {_WANTED_US:g} us", middle.median <= _WANTED_US)
        else:
            bench.row(what, middle)
        if floor:
            bench.row("  LoadGen's floor", interval(floor))
            bench.row("  ours / floor", ratio(ours, floor))
    bench.note(
        "SingleStream, MultiStream: whole time of the run per query, LoadGen's own work included"
    )
    bench.note(f"Server: mean latency at {_SERVER_QPS} queries/s; ours answers on a worker thread")
    bench.note(f"each run {seconds:g} s in a process of its own, performance mode, no trace")


def _unit(name: str) -> str:
    if name == "Server":
        return "latency"
    return "per sample" if name.startswith("Offline") else "per query"


def _case(
    kind: str, scenario: str, workers: int, batch: int, seconds: float
) -> Callable[[], float]:
    command = [sys.executable, "-m", "benchmarks.null_model"]
    command += [kind, scenario, str(workers), str(batch), str(seconds)]

    def once() -> float:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        return float(json.loads(done.stdout))

    return once


def _run(kind: str, scenario: str, workers: int, batch: int, seconds: float) -> float:
    """One LoadGen run in this process; microseconds per query or sample, or of latency."""
    import mlperf_loadgen as loadgen

    sys.setswitchinterval(SWITCH_SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        ours = kind == "ours"
        system, close = _ours(loadgen, workers, batch, folder) if ours else _floor(loadgen)
        test = _settings(loadgen, scenario, seconds)
        library = loadgen.ConstructQSL(_SAMPLES, _SAMPLES, lambda _: None, lambda _: None)
        logs = settings.log_settings(loadgen, Path(folder))
        loadgen.StartTestWithLogSettings(system, library, test, logs, settings.NO_AUDIT)
        close()
        return _figure(log.read(Path(folder)))


def _floor(loadgen: Any) -> tuple[Any, Callable[[], None]]:
    response, complete = loadgen.QuerySampleResponse, loadgen.QuerySamplesComplete

    def issue(ids: list[int], indices: list[int]) -> None:
        complete([response(id_, 0, 0) for id_ in ids])

    return loadgen.ConstructFastSUT(issue, lambda: None), lambda: None


def _ours(loadgen: Any, workers: int, batch: int, folder: str) -> tuple[Any, Callable[[], None]]:
    pulse = Pulse(Path(folder) / "pulse")
    sut = LocalSut(
        NullTask(),
        NullModel(),
        batch=batch,
        workers=workers,
        complete=loadgen_complete(loadgen),
        beat=pulse.beat,
    )
    sut.load(range(_SAMPLES))
    pulse.enter(Phase.RUNNING)

    def close() -> None:
        sut.close()
        if sut.failure:
            raise sut.failure.error

    return loadgen.ConstructFastSUT(sut.issue, sut.flush), close


def _settings(loadgen: Any, scenario: str, seconds: float) -> Any:
    made = loadgen.TestSettings()
    made.scenario = getattr(loadgen.TestScenario, scenario)
    made.mode = loadgen.TestMode.PerformanceOnly
    made.min_duration_ms = round(1000 * seconds)
    made.single_stream_expected_latency_ns = made.multi_stream_expected_latency_ns = 3_000
    made.offline_expected_qps = 600_000
    made.server_target_qps = _SERVER_QPS
    return made


def _figure(detail: log.Detail) -> float:
    if detail.scenario == "Server":
        return float(detail.latency_ns()["mean"] / 1e3)
    if detail.scenario == "Offline":
        return float(1e6 / detail.values["result_samples_per_second"])
    return 1e6 * detail.duration_s / detail.queries


if __name__ == "__main__":
    _, kind, scenario, workers, batch, seconds = sys.argv
    print(json.dumps(_run(kind, scenario, int(workers), int(batch), float(seconds))))
