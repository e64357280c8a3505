"""Homes full of runs: records as Proctor writes them, made without running anything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from proctor.airflow.recorded import refresh_summary
from proctor.plan.model import Gate, Plan, PlannedOutput, PlanStep, Source
from proctor.records.model import Line
from proctor.records.store import RunRecord
from proctor.site.home import Home

SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
BEGAN = datetime(2026, 11, 1, 8, tzinfo=UTC)
RULES = ("min_duration", "min_query_count", "loadgen_version", "seed_qsl")


def plan_of(pipeline: str, approvers: tuple[str, ...] = ()) -> Plan:
    """Four scenarios, measured and scored, and a gate."""
    steps = [
        PlanStep(id=f"{step}.{cell}", step=step, cell=cell, image="i", outputs=(output,))
        for step, output in (
            ("performance", PlannedOutput(name="logs", mount_path="/out/logs")),
            ("score", PlannedOutput(name="score", mount_path="/out/score")),
        )
        for cell in SCENARIOS
    ]
    report = PlannedOutput(name="report", mount_path="/out/report")
    evidence = PlanStep(
        id="evidence",
        step="evidence",
        image="i",
        outputs=(report,),
        upstream=tuple(step.id for step in steps),
    )
    gate = Gate(
        question="May these results go into a submission package?",
        evidence=(Source(step="evidence", output="report"),),
        approvers=approvers,
    )
    asks = PlanStep(
        id="approve", step="approve", kind="approval", gate=gate, upstream=("evidence",)
    )
    return Plan(pipeline=pipeline, title=pipeline, steps=(*steps, evidence, asks))


def write_run(
    home: Home,
    plan: Plan,
    run: str,
    *,
    number: int = 0,
    scenarios: Sequence[str] = SCENARIOS,
    asked: bool = False,
    missed: Sequence[str] = ("min_duration",),
    params: Mapping[str, Any] | None = None,
    benchmark: str = "digits",
) -> RunRecord:
    """A run that measured and scored these scenarios; figures differ with ``number``."""
    record = home.records.run(plan.pipeline, run)
    home.records.save_plan(plan)
    lines = Lines(record, plan.digest, BEGAN + timedelta(hours=number))
    header = {
        "pipeline": plan.pipeline,
        "params": {"scenarios": list(scenarios), "threads": number % 3, **(params or {})},
        "given": {"threads": number % 3},
        "versions": {"proctor": "0.1.0", "mlcommons-loadgen": "6.0.17"},
        "spec": {"name": f"{plan.pipeline}.yaml", "sha256": "ab" * 32, "git_commit": "c" * 40},
        "runtime": "process",
        "public_key": "",
    }
    lines.add("header", data=header)
    for cell in scenarios:
        figures = loadgen(benchmark, cell, number, missed)
        lines.result(f"performance.{cell}", "logs", {"loadgen": figures})
    for cell in scenarios:
        lines.result(f"score.{cell}", "score", {"accuracy": accuracy(benchmark, cell, number)})
    lines.result("evidence", "report", {})
    if asked:
        lines.add("asked", "approve", 1, data={"evidence_digest": "e" * 64})
    lines.write()
    refresh_summary(home, record)
    return record


class Lines:
    """A record written in one go, chained as :meth:`RunRecord.append` chains it."""

    def __init__(self, record: RunRecord, plan_digest: str, began: datetime) -> None:
        self._record, self._plan_digest, self._at = record, plan_digest, began
        self._raw: list[bytes] = []

    def add(
        self,
        kind: Any,
        step: str = "",
        attempt: int = 0,
        data: Mapping[str, Any] | None = None,
        identity: str = "",
    ) -> None:
        """One line, a second after the one before."""
        self._at += timedelta(seconds=1)
        before = hashlib.sha256(self._raw[-1]).hexdigest() if self._raw else "0" * 64
        line = Line(
            seq=len(self._raw) + 1,
            prev_digest=before,
            at=self._at.isoformat(timespec="milliseconds"),
            kind=kind,
            run=self._record.run,
            step=step,
            attempt=attempt,
            identity=identity,
            host="bench-1",
            plan_digest=self._plan_digest,
            data=dict(data or {}),
        )
        self._raw.append(line.model_dump_json().encode())

    def result(self, step: str, output: str, metrics: Mapping[str, Any]) -> None:
        """An attempt that succeeded and left one output."""
        parts = {"image": "sha256:" + "1" * 64, "params": {"step": step}}
        began = {"status": "running", "identity_parts": parts}
        self.add("attempt", step, 1, began, identity="1d" * 32)
        uri = f"artifact:{self._record.pipeline}/{self._record.run}/{step}/1/{output}"
        left = {"uri": uri, "sha256": hashlib.sha256(uri.encode()).hexdigest(), "bytes": 1234}
        data = {
            "state": "succeeded",
            "metrics": dict(metrics),
            "outputs": {output: left},
            "image_digest": "sha256:" + "1" * 64,
            "started_at": (self._at - timedelta(seconds=8)).isoformat(),
        }
        self.add("result", step, 1, data, identity="1d" * 32)
        self.add("attempt", step, 1, {"status": "finished"})

    def write(self) -> None:
        """Write the file."""
        self._record.own.mkdir(parents=True)
        self._record.path.write_bytes(b"".join(raw + b"\n" for raw in self._raw))


def loadgen(benchmark: str, scenario: str, number: int, missed: Sequence[str]) -> dict[str, Any]:
    """Figures of a performance run, in the shape of LoadGen's summary as steps write it."""
    slow = 1 + number % 7 / 10
    rate = scenario in ("Server", "Offline")
    latency = {name: 1e6 * n * slow for n, name in enumerate(("p50", "p90", "p99", "p999"), 5)}
    return {
        "benchmark": benchmark,
        "round": "v6.1",
        "scenario": scenario,
        "mode": "performance",
        "valid": True,
        "official": not missed,
        "scenario_in_round": True,
        "samples": 800,
        "queries": 800,
        "duration_s": 8.0,
        "metric": {
            "name": "result_samples_per_second" if rate else "early_stopping_latency_ss",
            "value": 640 / slow if rate else 6e6 * slow,
            "unit": "samples/s" if rate else "ns",
        },
        "latency_ns": latency,
        "percentile": {"name": "p90", "value_ns": latency["p90"]},
        "settings": {"requested": {}, "effective": {"min_duration_ms": 8000 + number}},
        "rules": [
            {"rule": rule, "met": rule not in missed, "message": f"the round's {rule}"}
            for rule in RULES
        ],
        "loadgen_version": "6.0.17",
        "errors": [],
        "sut": {"backend": "onnxruntime", "threads": number % 3},
    }


def accuracy(benchmark: str, scenario: str, number: int) -> dict[str, Any]:
    """A score of an accuracy run."""
    value = 0.5361 + number % 5 / 1000
    return {
        "metric": "mAP",
        "value": value,
        "unit": "fraction",
        "benchmark": benchmark,
        "scenario": scenario,
        "samples": 72,
        "expected_samples": 72,
        "target": 0.5368,
        "met": value >= 0.5368,
    }


def full_home(
    folder: Path,
    runs: int,
    pipelines: Sequence[str] = ("digits", "yolo"),
    scenarios: Sequence[str] = SCENARIOS,
) -> Home:
    """A home with this many runs, spread over pipelines."""
    home = Home(folder)
    plans = [plan_of(name) for name in pipelines]
    for number in range(runs):
        plan = plans[number % len(plans)]
        name = f"2026-11-01T{number:06d}"
        write_run(home, plan, name, number=number, benchmark=plan.pipeline, scenarios=scenarios)
    return home
