"""Runs that measured one scenario, with what a trend tells of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from proctor.airflow.recorded import refresh_summary
from proctor.records.book import Accepted, Book
from proctor.records.measured import measured
from proctor.records.store import RunRecord
from proctor.site.home import Home
from results_kit import BEGAN, Lines, loadgen, plan_of

OFFLINE = "performance.Offline"
IMAGE, OTHER_IMAGE = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def measured_run(
    home: Home,
    number: int,
    value: float = 600.0,
    *,
    pipeline: str = "digits",
    image: str = IMAGE,
    versions: Mapping[str, str] | None = None,
    disturbed: Sequence[str] | None = None,
    valid: bool = True,
    sut: Mapping[str, Any] | None = None,
    answer: Mapping[str, Any] | None = None,
    drift: Mapping[str, Any] | None = None,
) -> RunRecord:
    """A run of day ``number`` that measured Offline; the system does not change by itself."""
    plan = plan_of(pipeline)
    home.records.save_plan(plan)
    record = home.records.run(plan.pipeline, f"day-{number:04d}")
    lines = Lines(record, plan.digest, BEGAN + timedelta(days=number))
    lines.add("header", data={"params": {}, "versions": {"proctor": "0.1.0"}, "runtime": "process"})
    figures = loadgen("digits", "Offline", 0, ())
    figures["metric"] = figures["metric"] | {"value": value}
    figures |= {"valid": valid, "sut": {"backend": "onnxruntime", "threads": 2, **(sut or {})}}
    if disturbed is not None:
        figures["disturbed"] = list(disturbed)
    parts = {"image": image, "params": {}}
    began = {"status": "running", "identity_parts": parts}
    lines.add("attempt", OFFLINE, 1, began, identity="1d" * 32)
    data = {"state": "succeeded", "metrics": {"loadgen": figures}, "outputs": {}}
    data |= {"image": "steps", "image_digest": image, "versions": dict(versions or {})}
    lines.add("result", OFFLINE, 1, data, identity="1d" * 32)
    if drift is not None:
        judged = {"state": "succeeded", "metrics": {"drift": dict(drift)}, "outputs": {}}
        lines.add("result", "evidence", 1, judged)
    if answer is not None:
        lines.add("asked", "approve", 1, data={"evidence_digest": "e" * 64})
        lines.add("approval", "approve", 1, {"answer": dict(answer), "signature": "s"})
    lines.write()
    refresh_summary(home, record)
    return record


def approved(by: str = "ada", **more: Any) -> dict[str, Any]:
    """An answer as records hold it."""
    return {
        "gate": "approve",
        "decision": "approved",
        "by": by,
        "at": "2026-11-01T09:00:00.000+00:00",
        "answered_via": "ui",
        "evidence_reviewed": True,
        "evidence_digest": "e" * 64,
        "comment": "",
        **more,
    }


def accept(home: Home, record: RunRecord, by: str = "ada") -> None:
    """Make what a run measured the baseline."""
    (found,) = measured(home.records, record)
    accepted = Accepted(identity=found.identity, measured=found.measured)
    Book(home.path).add("set", by=by, accepted=[accepted])


def judged(low: float, high: float, **more: Any) -> dict[str, Any]:
    """What a drift step tells, with limits of the throughput."""
    identity = {"benchmark": "digits", "scenario": "Offline", "system": "bench-1"}
    limits = {**identity, "backend": "onnxruntime", "precision": "", "figure": "throughput"}
    return {"state": "steady", "limits": [{**limits, "low": low, "high": high}], **more}


def finding(**more: Any) -> dict[str, Any]:
    """What a drift step found."""
    return {
        "rule": "drift",
        "decision": "drifted",
        "series": "digits Offline",
        "figure": "latency_p99",
        "direction": "worse",
        "size": 0.123456,
        "differs": ["parameters uri: file:///data/patients → file:///data/other"],
        **more,
    }
