"""A run as a few figures, made from its record: ``summary.json``.

Of what its answers left open, the book of baselines says whether it still is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, TypeGuard

from pydantic import JsonValue

from proctor.plan.model import Plan, PlanStep
from proctor.records.book import Book, open_findings
from proctor.records.model import Line
from proctor.records.store import RecordError, RecordStore, RunRecord

SUMMARY_FORMAT = "proctor.summary/1"
SUMMARY_FILE = "summary.json"
_DONE = ("succeeded", "skipped")


def summarise(store: RecordStore, record: RunRecord) -> dict[str, Any]:
    """State, steps, LoadGen results and accuracy of a run.

    ``state`` is ``succeeded`` when every step succeeded or was skipped, ``failed`` when a step
    failed and none is under way, ``interrupted`` when one was stopped from outside, else
    ``running`` or ``waiting`` (for a person).
    """
    lines = record.lines()
    header = record.header()
    plan = store.plan(header.plan_digest)
    by_step = _by_step(record)
    parts = [_by_step(part) for part in record.subjects()] if plan.partitions else []
    steps = [
        _for_subjects(step, parts, by_step) if step.partition else _step(step, by_step[step.id])
        for step in plan.steps
        if bool(step.partition) >= bool(record.partition)
    ]
    return {
        "format": SUMMARY_FORMAT,
        "pipeline": record.pipeline,
        "run": record.run,
        "state": run_state([s["state"] for s in steps]),
        "began": header.at,
        "last": lines[-1].at,
        "plan_digest": header.plan_digest,
        "runtime": header.data.get("runtime"),
        "params": header.data.get("params"),
        "steps": steps,
        **figures(plan, by_step),
        "approvals": [x.data.get("answer") for x in lines if x.kind == "approval"],
        "open_findings": _open_findings(store, record, lines),
    }


def _open_findings(
    store: RecordStore, record: RunRecord, lines: list[Line]
) -> list[dict[str, JsonValue]]:
    """What answers of this run left open, as the book of baselines tells it now.

    Where that cannot be read, every such answer counts as open, with the ``problem``.
    """
    kept = [line for line in lines if line.kind == "approval" and _decision(line) == "kept"]
    if not kept:
        return []
    try:
        entries = Book(store.home).entries()
    except RecordError as error:
        return [{"gate": line.step, "at": line.at, "problem": str(error)} for line in kept]
    here = (record.pipeline, record.run)
    return [
        {
            "id": entry.id,
            "gate": entry.answer.gate,
            "by": entry.by,
            "at": entry.at,
            "comment": entry.why,
            "identities": [asdict(identity) for identity in left],
        }
        for entry, left in open_findings(entries)
        if entry.answer and (entry.answer.pipeline, entry.answer.run) == here
    ]


def _decision(line: Line) -> str:
    answer = line.data.get("answer")
    return str(answer.get("decision")) if isinstance(answer, dict) else ""


def medperf_report(plan: Plan, summary: Mapping[str, Any]) -> dict[str, Any]:
    """How far a run is, in the form of MedPerf's ``report.yaml``: percent of each step.

    Of a step that is done for each subject: of those that are through. No name of any is in it.
    """
    written = {s.id for s in plan.steps if s.kind in ("container", "approval", "join")}
    progress = {
        s["id"]: _percent(s) for s in summary["steps"] if s["id"] in written - {plan.subjects}
    }
    words = {"succeeded": "done", "failed": "failure", "interrupted": "failure"}
    status = words.get(summary["state"], "running")
    return {"execution_status": status, "progress": progress}


def _percent(step: Mapping[str, Any]) -> float:
    counts = step.get("subjects")
    if counts is None:
        return 100.0 if step["state"] in _DONE else 0.0
    done, every = sum(counts.get(state, 0) for state in _DONE), max(1, sum(counts.values()))
    return float(round(100 * done / every, 3))


def _by_step(record: RunRecord) -> defaultdict[str, list[Line]]:
    found: defaultdict[str, list[Line]] = defaultdict(list)
    for line in record.lines():
        found[line.step].append(line)
    return found


def _for_subjects(
    step: PlanStep, parts: list[defaultdict[str, list[Line]]], whole: Mapping[str, list[Line]]
) -> dict[str, Any]:
    """A step that is done for each subject: how many are how far, and which failed."""
    counts: Counter[str] = Counter()
    failed, attempts = [], 0
    for part in parts:
        state, message = step_state(part[step.id])
        counts[state] += 1
        attempts += len({line.attempt for line in part[step.id] if line.kind == "attempt"})
        if state == "failed":
            failed.append(f"{part[''][0].partition}: {message}")
    row: dict[str, Any] = {"id": step.id, "state": "pending", "attempts": attempts}
    row["subjects"] = dict(sorted(counts.items()))
    if step.shares:
        row["shares"] = True
    over = _newest(whole.get(step.partition, []), "result")
    row["state"] = stretch_state(counts, over=over is not None)
    if step.title:
        row["title"] = step.title
    if failed:
        row["message"] = "; ".join(sorted(failed)[:3]) + (
            f"; {len(failed)} in all" if failed[3:] else ""
        )
    return row


def stretch_state(counts: Mapping[str, int], *, over: bool) -> str:
    """The state of a step that is done for each subject. ``over``: what follows has begun."""
    if over or (counts and set(counts) <= {"succeeded"}):
        return "succeeded"
    return next((state for state in ("running", "failed") if counts.get(state)), "pending")


def figures(plan: Plan, by_step: dict[str, list[Line]]) -> dict[str, list[Any]]:
    """The newest good result of every step that measured something, or judged a measurement."""
    results, accuracy, compliance, drift = [], [], [], []
    for step in plan.steps:
        line = _newest(by_step.get(step.id, []), "result")
        if line is None or line.data.get("state") != "succeeded":
            continue
        if step_state(by_step[step.id])[0] == "skipped":
            continue  # measured once, and left out when the run went back
        metrics = line.data.get("metrics")
        metrics = metrics if isinstance(metrics, dict) else {}
        if _has(loadgen := metrics.get("loadgen"), scenario=str, mode=str):
            results.append(_loadgen(step.id, loadgen, line))
        if _has(score := metrics.get("accuracy"), metric=str, value=int | float):
            accuracy.append({**score, "step": step.id, "findings": line.data.get("findings")})
        if _has(tested := metrics.get("compliance"), test=str, verdict=str):
            compliance.append({**tested, "step": step.id, "findings": line.data.get("findings")})
        if _has(judged := metrics.get("drift"), state=str):
            drift.append({**judged, "step": step.id})
    return {"results": results, "accuracy": accuracy, "compliance": compliance, "drift": drift}


def _has(metrics: Any, **wanted: Any) -> TypeGuard[dict[str, JsonValue]]:
    """Whether a step's figures have the shape that is shown; any image may write what it likes."""
    if not isinstance(metrics, dict):
        return False
    good = all(isinstance(metrics.get(key), kind) for key, kind in wanted.items())
    return good and isinstance(metrics.get("metric") or {}, dict | str)


def _loadgen(step: str, run: dict[str, JsonValue], line: Line) -> dict[str, JsonValue]:
    first = {key: run.get(key) for key in ("scenario", "mode", "valid")}
    rest = {key: value for key, value in run.items() if key not in first}
    if not isinstance(rest.get("metric"), dict):
        rest.pop("metric", None)
    if "rules" in rest:
        rules = rest["rules"] if isinstance(rest["rules"], list) else []
        rest["rules"] = [rule for rule in rules if isinstance(rule, dict) and "rule" in rule]
    found = {"step": step, **first, "findings": line.data.get("findings"), "metrics": rest}
    if line.data.get("measurement"):
        found["measured_in"] = line.data.get("reused_from")
    return found


def _step(step: PlanStep, lines: list[Line]) -> dict[str, Any]:
    state, message = step_state(lines)
    attempts = len({x.attempt for x in lines if x.kind in ("attempt", "asked")})
    row: dict[str, Any] = {"id": step.id, "state": state, "attempts": attempts}
    if step.title:
        row["title"] = step.title
    if message:
        row["message"] = message
    newest = _newest(lines, "result")
    if newest and (earlier := newest.data.get("reused_from")):
        row["reused_from"] = earlier
        if newest.data.get("measurement"):
            row["measurement"] = True
    if step.shares:
        row["shares"] = True
    if host := _host(lines):
        row["host"] = host
    return row


def _host(lines: Iterable[Line]) -> dict[str, JsonValue]:
    """What the host was doing before and after the newest attempt of an exclusive step."""
    found: dict[str, JsonValue] = {}
    newest = 0
    for line in lines:
        if "host" in line.data and line.attempt >= newest:
            if line.attempt > newest:
                found, newest = {}, line.attempt
            found["before" if line.kind == "attempt" else "after"] = line.data["host"]
    return found


def step_state(lines: Iterable[Line]) -> tuple[str, str]:
    """A step's state from its own lines, and a message for the reader where there is one."""
    state, message = "pending", ""
    newest = 0
    for line in lines:
        if line.kind == "attempt" and line.attempt < newest:
            continue  # a cancellation, written after its successor had begun
        newest = max(newest, line.attempt)
        match line.kind:
            case "attempt":
                status = str(line.data.get("status"))
                if status in ("running", "cancelled"):
                    state, message = status, ""
            case "result":
                state, message = str(line.data.get("state")), str(line.data.get("message") or "")
            case "skipped":
                state, message = "skipped", str(line.data.get("message") or "")
            case "refused":
                state, message = "failed", str(line.data.get("message") or "")
            case "asked" | "uncounted":
                state, message = "waiting", ""
            case "approval":
                state, message = _answered(line)
    return state, message


def _answered(line: Line) -> tuple[str, str]:
    answer = line.data.get("answer")
    told = answer if isinstance(answer, dict) else {}
    if told.get("decision") == "approved":
        return "succeeded", ""
    if told.get("decision") == "kept":
        return "succeeded", f"{told.get('by')} kept the old baseline: {told.get('comment')}"
    message = f"{told.get('by')} rejected: {told.get('comment') or '(no comment)'}"
    if step := line.data.get("rework"):
        return "pending", f"{message}; back to {step}"
    return "failed", message


def run_state(states: Iterable[str]) -> str:
    """A run's state from those of its steps; see :func:`summarise`."""
    states = list(states)
    if all(state in ("succeeded", "skipped") for state in states):
        return "succeeded"
    if "running" in states:
        return "running"
    if "failed" in states:
        return "failed"
    if "cancelled" in states:
        return "interrupted"
    return "waiting" if "waiting" in states else "running"


def _newest(lines: list[Line], kind: str) -> Line | None:
    return next((x for x in reversed(lines) if x.kind == kind), None)
