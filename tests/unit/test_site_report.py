"""What leaves a site: the schema, its numbers, and that nothing else gets in."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proctor.federation.report import BadReport, SiteReport, read_report, reported_steps
from proctor.federation.tally import Tally
from proctor.plan.compile import compile
from proctor.plan.model import Plan
from proctor.records.store import RecordStore, RunRecord
from proctor.spec.load import parse_pipeline

CANARY = "Canary-4711"
NOW = datetime(2026, 11, 26, 7, 31, 59, tzinfo=UTC)
SPEC = """
pipeline: prep
partition_def: {from: fetch.o}
steps:
  - {id: fetch, image: a/b, command: x, outputs: {o: directory}}
  - {id: prepare, image: a/b, command: x, outputs: {o: directory}, partition: true, after: fetch}
  - {id: check, after: prepare, approval: {question: "Good?", evidence: [fetch.o]}}
"""


def plan_of(text: str) -> Plan:
    return compile(parse_pipeline(text, "p.yaml"))


PLAN = plan_of(SPEC)


def begun(folder: Path, plan: Plan = PLAN, run: str = f"run-{CANARY}") -> RunRecord:
    """A run in whose record the canary is wherever a site can put it."""
    store = RecordStore(folder / CANARY)
    store.save_plan(plan)
    record = store.run(plan.pipeline, run)
    data = {"params": {"uri": f"file:///data/{CANARY}"}, "mounts": {"data": f"/x/{CANARY}"}}
    data |= {"spec": {"name": f"/home/{CANARY}/spec.yaml"}}
    record.append("header", plan_digest=plan.digest, data=data)
    record.append("result", step="fetch", attempt=1, data={"state": "succeeded"})
    for number, state in enumerate(("succeeded", "failed", "running", CANARY)):
        part = record.subject(f"{CANARY}/{number}")
        part.append("header", plan_digest=plan.digest, data={"subject": f"{CANARY}/{number}"})
        if state == "running":
            part.append("attempt", step="prepare", attempt=1, data={"status": "running"})
            continue
        told = {"state": state, "message": f"{CANARY} is not readable", "kind": CANARY}
        part.append("result", step="prepare", attempt=1, data=told)
    return record


def report_of(record: RunRecord, plan: Plan = PLAN, subjects: int = 0) -> SiteReport:
    return Tally().report(record, plan, NOW, subjects)


def test_the_numbers_are_those_of_the_record(tmp_path: Path) -> None:
    report = report_of(begun(tmp_path), subjects=12)
    told = {step.id: step for step in report.steps}
    assert list(told) == ["fetch", "prepare", "check"]
    assert told["fetch"].percent == 100.0 and told["fetch"].total == 1
    prepare = told["prepare"]
    assert (prepare.total, prepare.percent, prepare.person) == (12, 8.3, 0)
    counts = prepare.counts
    # A word that the schema does not have is no word that leaves: it counts as pending.
    assert (counts.succeeded, counts.failed, counts.running, counts.pending) == (1, 1, 1, 9)
    assert report.state == "running" and report.updated == "2026-11-26T07:31Z"
    assert read_report(report.body()) == report


def test_a_gate_and_a_review_wait_for_a_person(tmp_path: Path) -> None:
    record = begun(tmp_path)
    record.append("asked", step="check", attempt=1, data={"evidence_digest": "e"})
    check = report_of(record).steps[-1]
    assert (check.counts.waiting, check.person) == (1, 1)


def test_files_that_people_finish_are_counted_at_their_step(tmp_path: Path) -> None:
    plan = plan_of((Path(__file__).parent.parent / "golden/specs/review.yaml").read_text())
    review = next(step for step in plan.steps if step.kind == "review")
    record = begun(tmp_path, plan)
    for part in record.subjects()[:3]:
        part.waits_at(review.id).write_text(json.dumps({"step": review.id, "words": [CANARY]}))
    told = {step.id: step for step in report_of(record, plan).steps}
    assert told[review.step].person == 3


def test_no_string_of_the_site_is_in_a_report(tmp_path: Path) -> None:
    record = begun(tmp_path)
    record.append("refused", step=CANARY, data={"message": CANARY, "reason": CANARY})
    body = report_of(record, subjects=12).body()
    assert CANARY.encode() not in body and CANARY.lower().encode() not in body.lower()
    words = set(_strings(json.loads(body)))
    known = {"proctor.site-report/1", report_of(record).version, PLAN.digest, "running"}
    times = {report_of(record).started, report_of(record).updated}
    assert words == known | times | {"fetch", "prepare", "check"}


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [word for each in value.values() for word in _strings(each)]
    if isinstance(value, list):
        return [word for each in value for word in _strings(each)]
    return [value] if isinstance(value, str) else []


def test_the_cells_of_a_matrix_are_one_step() -> None:
    plan = plan_of((Path(__file__).parent.parent / "golden/specs/matrix.yaml").read_text())
    cells = [step for step in plan.steps if step.cell]
    found = reported_steps(plan)
    assert cells and all("." not in id for id in found)
    assert sum(map(len, found.values())) <= len(plan.steps)


GOOD = {
    "format": "proctor.site-report/1",
    "version": "0.1.0",
    "sequence": 3,
    "plan": "a" * 64,
    "run": 1,
    "state": "running",
    "started": "2026-11-26T07:00Z",
    "updated": "2026-11-26T07:31Z",
    "steps": [
        {"id": "prep", "total": 2, "percent": 50.0, "person": 1,
         "counts": {"succeeded": 1, "waiting": 1}},
    ],
}  # fmt: skip


def with_(path: str, value: Any) -> bytes:
    made = json.loads(json.dumps(GOOD))
    *parents, last = path.split("/")
    at: Any = made
    for name in parents:
        at = at[int(name)] if isinstance(at, list) else at[name]
    at[last] = value
    return json.dumps(made).encode()


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("note", CANARY, "the report: extra forbidden"),
        ("steps/0/subject", CANARY, "steps.0: extra forbidden"),
        ("steps/0/counts/lost", 1, "steps.0.counts: extra forbidden"),
        ("version", f"0.1.0-{CANARY}", "version: string pattern mismatch"),
        ("plan", CANARY, "plan: string pattern mismatch"),
        ("state", CANARY, "state: literal error"),
        ("run", CANARY, "run: int type"),
        ("run", 10**9, "run: less than equal"),
        ("sequence", True, "sequence: int type"),
        ("updated", "2026-11-26T07:31:22Z", "updated: string pattern mismatch"),
        ("updated", f"2026-11-26T07:31Z\n{CANARY}", "updated: string pattern mismatch"),
        ("steps/0/id", "../etc", "steps.0.id: string pattern mismatch"),
        ("steps/0/id", "prep\n", "steps.0.id: string pattern mismatch"),
        ("steps/0/total", 5, "steps.0: total is not the sum of the counts"),
        ("steps/0/percent", 99.0, "steps.0: percent is not what the counts give"),
        ("steps/0/person", 3, "steps.0: more wait for a person than there are"),
        ("steps", GOOD["steps"] * 2, "the report: a step is there twice"),  # type: ignore[operator]
        ("steps", GOOD["steps"] * 2000, "steps: too long"),  # type: ignore[operator]
        ("format", "proctor.site-report/2", "format: literal error"),
    ],
)
def test_what_is_no_report_is_told_without_repeating_it(path: str, value: Any, reason: str) -> None:
    with pytest.raises(BadReport) as caught:
        read_report(with_(path, value))
    assert reason in caught.value.reasons[0]
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 5000, b"\xff\xfe", b"null", b'"x"', b'{"run": NaN}']
)
def test_other_bytes_are_no_report(body: bytes) -> None:
    with pytest.raises(BadReport):
        read_report(body)


def test_a_good_one_is_read() -> None:
    assert read_report(json.dumps(GOOD).encode()).steps[0].person == 1
