"""LoadGen's figures with and without Airflow around.

Each pair: the demo's SingleStream performance run as a step of a pipeline, under an instance with
its default configuration, and the same container with the same request started by the runtime
alone, with nothing of the instance running. Compared are the samples per second of the whole run
and the latencies that LoadGen's own summary tells. A ratio of 1 means that nothing is disturbed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import Bench, Interval, ratio
from benchmarks.site import folder, launched, need_engine, proctor
from proctor.plan.compile import load_plan
from proctor.runtime.attempt import Attempt
from proctor.runtime.base import Handle, StartRequest
from proctor.runtime.docker import DockerRuntime
from proctor.runtime.ending import end_of
from proctor.site.home import Home

RESOLVED = 0.02
PIPELINE = "benchmark-disturbance"
_STEP = "performance"
_SECONDS = 20.0
_SPEC = """
pipeline: {pipeline}
steps:
  - id: images
    image: proctor/steps
    command: dataset fetch
    params: {{uri: "embedded:digits/scenes.zip"}}
    outputs: {{dataset: directory}}
  - id: annotations
    image: proctor/steps
    command: dataset fetch
    params: {{uri: "embedded:digits/annotations.json"}}
    outputs: {{dataset: directory}}
  - id: model
    image: proctor/steps
    command: model fetch
    params: {{uri: "embedded:digits/detector.onnx"}}
    outputs: {{model: directory}}
  - id: filter
    image: proctor/steps
    command: dataset filter-coco
    inputs: {{images: images.dataset, annotations: annotations.dataset}}
    outputs: {{dataset: directory}}
  - id: {step}
    image: proctor/sut-onnxruntime
    command: loadgen run
    params:
      benchmark: digits
      backend: onnxruntime
      scenario: SingleStream
      mode: performance
      threads: 0
      performance_seconds: {seconds}
    inputs: {{dataset: filter.dataset, model: model.model}}
    outputs: {{logs: directory}}
    exclusive: true
    reuse: within_run
    deadline: 30m
"""


@dataclass
class Pairs:
    """The same step with and without an instance; what LoadGen told is kept by kind."""

    scratch: Path
    seconds: float
    told: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    request: StartRequest | None = None
    number: int = 0

    def under(self) -> float:
        """As a step; seconds per sample."""
        spec = self.scratch / f"{PIPELINE}.yaml"
        spec.write_text(_SPEC.format(pipeline=PIPELINE, step=_STEP, seconds=self.seconds))
        home = self.scratch / "home"
        command = proctor("up", str(spec), "--home", str(home))
        with launched(home, command, [load_plan(spec, {})]) as instance:
            run = instance.start(PIPELINE)
            instance.wait_for_task(PIPELINE, run, _STEP, "deferred")
            self.request = self.request or _request(instance.home, run)
            instance.wait(PIPELINE, run, ask_seconds=self.seconds / 2)
            line = instance.home.records.run(PIPELINE, run).last("result", _STEP)
        assert line is not None
        metrics: Any = line.data["metrics"]
        return self._take("under", metrics)

    def alone(self) -> float:
        """The same request with nothing of Proctor running; seconds per sample."""
        if self.request is None:
            self.under()
            self.told.clear()
        assert self.request is not None
        self.number += 1
        runtime = DockerRuntime(self.scratch / "home")
        handle = runtime.start(
            self.request.model_copy(update={"run": "alone", "attempt": self.number})
        )
        try:
            _wait(runtime, handle)
            outcome = runtime.collect(handle)
        finally:
            runtime.remove(handle)
        if outcome.failure or outcome.result is None:
            raise RuntimeError(f"the step alone: {outcome.failure}")
        return self._take("alone", dict(outcome.result.metrics))

    def _take(self, kind: str, metrics: dict[str, Any]) -> float:
        figures = _figures(metrics["loadgen"])
        self.told.setdefault(kind, []).append(figures)
        return next(iter(figures.values()))


def measure(bench: Bench) -> None:
    """Interleaved pairs, and the ratio of each figure."""
    need_engine()
    with folder() as scratch:
        pairs = Pairs(scratch, bench.seconds or _SECONDS)
        if pairs.request is None:
            pairs.under()  # warms the machine up, and says what is asked for
            pairs.told.clear()
        bench.interleave({"under": pairs.under, "alone": pairs.alone})
    bench.result["told"] = pairs.told
    for name in pairs.told["under"][0]:
        values = {kind: [each[name] for each in pairs.told[kind]] for kind in ("under", "alone")}
        found = ratio(values["under"], values["alone"])
        bench.row(f"{name}, with an instance / without", _told(found), "+-2 % or not resolved")
    bench.note(__doc__.split("\n\n", 1)[1].replace("\n", " ").strip() if __doc__ else "")


def _told(found: Interval) -> str:
    # Of too few runs there is no interval, and nothing is resolved.
    resolved = max(found.high - found.median, found.median - found.low) <= RESOLVED
    return f"{found:.4f}" + ("" if resolved else "  not resolved")


def _request(home: Home, run: str) -> StartRequest:
    """What the instance asked the runtime for, while the attempt runs."""
    line = home.records.run(PIPELINE, run).last("attempt", _STEP)
    assert line is not None
    handle = Handle.model_validate(line.data["handle"])
    return Attempt.of(home.path, handle).request()


def _wait(runtime: DockerRuntime, handle: Handle) -> None:
    """Without asking: the kernel tells."""
    end = end_of(runtime, handle)
    while runtime.poll(handle).phase == "running":
        if end is None or end.wait(60):
            end = None


def _figures(loadgen: dict[str, Any]) -> dict[str, float]:
    """What is compared, by name. ``samples`` counts what ``duration_s`` took."""
    latencies = {f"latency {name}, ns": float(v) for name, v in loadgen["latency_ns"].items()}
    return {"time of a sample, s": loadgen["duration_s"] / loadgen["samples"], **latencies}
