"""Runs that measured one system, as their records tell it: for histories and baselines."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from proctor.plan.model import Gate, Input, Plan, PlannedOutput, PlanStep, Source
from proctor.records.store import RunRecord
from proctor.site.home import Home
from results_kit import BEGAN, Lines

LOGS = PlannedOutput(name="logs", mount_path="/proctor/out/logs")
HOST = {"host": "bench-1", "kernel": "6.8.0", "governor": "performance", "engine": {"Driver": "o"}}


def step(id: str, *inputs: Input, **more: Any) -> PlanStep:
    """A step with an output ``logs``."""
    return PlanStep(id=id, step=id, image="proctor/steps", inputs=inputs, outputs=(LOGS,), **more)


SCORED = Input(
    name="logs", mount_path="/proctor/in/logs", sources=(Source(step="accuracy", output="logs"),)
)
STEPS = (
    step("accuracy", exclusive=True),
    step("score", SCORED, upstream=("accuracy",)),
    step("performance", exclusive=True, reuse="within_run"),
    step("performance-2", exclusive=True, reuse="within_run", upstream=("performance",)),
)


def plan_of(pipeline: str = "p", gate: Gate | None = None) -> Plan:
    """An accuracy run with its score, two performance runs, what judges them, and a gate."""
    judge = step("judge", upstream=("performance-2", "score"), history=True, reuse="never")
    asks = PlanStep(id="gate", step="gate", kind="approval", gate=gate, upstream=("judge",))
    return Plan(pipeline=pipeline, steps=(*STEPS, judge, *([asks] if gate else [])))


PLAN = plan_of()


def loadgen(value: float = 100.0, **more: Any) -> dict[str, Any]:
    """What ``loadgen run`` says of a performance run, as far as it is read."""
    sut = {"backend": "openvino", "precision": "float32", "config": {"HINT": "LATENCY"}}
    sut |= {"threads": 2, "service_ms": 3.5, "calibrated": None, "peak_rss_bytes": 1 << 20}
    return {
        "benchmark": "digits",
        "scenario": "Offline",
        "mode": "performance",
        "valid": True,
        "official": False,
        "samples": 640,
        "queries": 1,
        "metric": {"name": "result_samples_per_second", "value": value, "unit": "samples/s"},
        "latency_ns": {"p90": 9e6, "mean": 5e6, "max": 1e7},
        "settings": {"effective": {"min_duration_ms": 8000, "target_qps": value}},
        "loadgen_version": "5.1.2",
        "disturbed": [],
        "sut": sut,
        **more,
    }


def accuracy(value: float = 0.54, **more: Any) -> dict[str, Any]:
    """What ``accuracy score`` says."""
    told = {"metric": "mAP", "value": value, "unit": "fraction", "benchmark": "digits"}
    return told | {"scenario": "Offline", "samples": 72, "expected_samples": 72, **more}


class Run:
    """A run, written line by line."""

    def __init__(self, home: Home, run: str = "r", plan: Plan = PLAN, hours: float = 0) -> None:
        self.home, self.plan = home, plan
        self.record: RunRecord = home.records.run(plan.pipeline, run)
        home.records.save_plan(plan)
        self._lines = Lines(self.record, plan.digest, BEGAN + timedelta(hours=hours))
        versions = {"proctor": "0.1.0", "python": "3.11.9"}
        self._lines.add("header", data={"params": {}, "versions": versions})

    def result(
        self,
        step: str,
        metrics: Mapping[str, Any] | None = None,
        *,
        attempt: int = 1,
        host: Mapping[str, Any] | None = None,
        inputs: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Run:
        """A step that succeeded."""
        parts = {
            "params": {"threads": 2, "backend": "openvino"},
            "inputs": inputs or {"dataset/": "d" * 64},
            "host": dict(HOST if host is None else host),
        }
        self._lines.add("attempt", step, attempt, {"status": "running", "identity_parts": parts})
        uri = f"artifact:{self.plan.pipeline}/{self.record.run}/{step}/{attempt}/logs"
        data = {
            "state": "succeeded",
            "metrics": dict(metrics or {}),
            "image": "proctor/steps",
            "image_digest": "sha256:" + "1" * 64,
            "versions": {"numpy": "2.1.0", "openvino": "2026.1"},
            "outputs": {"logs": {"uri": uri, "sha256": "5" * 64, "bytes": 3}},
        }
        self._lines.add("result", step, attempt, data | more)
        self._lines.add("attempt", step, attempt, {"status": "finished"})
        return self

    def skipped(self, step: str) -> Run:
        """A step that was left out."""
        self._lines.add("skipped", step, data={"message": "not asked for"})
        return self

    def performed(self, value: float = 100.0, step: str = "performance", **more: Any) -> Run:
        """A performance run."""
        return self.result(step, {"loadgen": loadgen(value, **more)})

    def scored(self, value: float = 0.54, logs: str = "a" * 64, **more: Any) -> Run:
        """An accuracy run and its score."""
        told = loadgen(mode="accuracy", valid=None, metric=None, latency_ns={}, disturbed=None)
        self.result("accuracy", {"loadgen": told})
        inputs = {"dataset/": "d" * 64, "logs/": logs}
        return self.result("score", {"accuracy": accuracy(value, **more)}, inputs=inputs, host={})

    def write(self) -> RunRecord:
        """Write the record."""
        self._lines.write()
        return self.record
