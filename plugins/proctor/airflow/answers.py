"""Every answer that a run's gates were given, and what each is worth now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from proctor.airflow.evidence import StepRefused, evidence_digest
from proctor.records.approvals import ApprovalInvalid, SigningKey, signed_answer
from proctor.records.model import Line
from proctor.records.store import RecordError, RunRecord
from proctor.site.home import Home

_VIA = {"cli-yes": "--yes", "ui": "in the UI"}


@dataclass(frozen=True)
class Given:
    """One answer, or a question that nobody answered in time, in words for people.

    ``signature``: ``good``, ``none`` where nothing was signed, or ``bad``.
    """

    gate: str
    attempt: int
    at: str
    verdict: str
    counts: bool
    signature: Literal["good", "none", "bad"]
    by: str = ""
    via: str = ""
    reviewed: bool = False
    comment: str = ""


def given(home: Home, record: RunRecord, gate: str = "") -> list[Given]:
    """All answers at all gates, or at one, in the order they were given."""
    key = SigningKey(home.path)
    own = str(record.header().data.get("public_key") or "")
    trusted = key.public() if key.exists() else own
    lines = record.lines()
    newest = {line.step: line.seq for line in lines if line.kind == "approval"}
    now: dict[str, str] = {}
    found = []
    for line in lines:
        if line.kind not in ("approval", "uncounted", "refused") or gate not in ("", line.step):
            continue
        if line.kind == "refused" and line.data.get("reason") != "timeout":
            continue
        if line.step not in now:
            now[line.step] = _evidence_now(home, record, line.step)
        replaced = line.seq < newest.get(line.step, 0)
        found.append(_given(record, line, now[line.step], trusted, replaced))
    return found


def _given(record: RunRecord, line: Line, now: str, trusted: str, replaced: bool) -> Given:
    if line.kind == "refused":
        return Given(line.step, line.attempt, line.at, "nobody answered in time", False, "none")
    answer = line.data.get("answer")
    told = answer if isinstance(answer, dict) else {}
    decision = str(told.get("decision") or "no decision")
    signature: Literal["good", "none", "bad"] = "none"
    if line.kind == "approval":
        try:
            signed_answer(record, line, trusted)
            signature = "good"
        except ApprovalInvalid:
            signature = "bad"
    but = ""
    if line.kind == "uncounted":
        but = f"does not count: {line.data.get('message')}"
    elif signature == "bad":
        but = "does not count: not signed with this site's key"
    elif decision == "approved" and told.get("evidence_digest") != now:
        but = (
            "voided: the evidence changed" if now else "voided: the evidence is not there any more"
        )
    elif decision == "approved" and replaced:
        but = "replaced by a later answer"
    elif step := line.data.get("rework"):
        but = f"back to {step}"
    verdict = f"{decision}; {but}" if but else decision
    return Given(
        gate=line.step,
        attempt=line.attempt,
        at=str(told.get("at") or line.at),
        verdict=verdict,
        counts=verdict == "approved",
        signature=signature,
        by=str(told.get("by") or ""),
        via=_VIA.get(str(told.get("answered_via")), str(told.get("answered_via") or "")),
        reviewed=told.get("evidence_reviewed") is True,
        comment=str(told.get("comment") or ""),
    )


def _evidence_now(home: Home, record: RunRecord, gate: str) -> str:
    """The digest of a gate's evidence; "" where not all of it is there any more."""
    try:
        plan = home.records.plan(record.header().plan_digest)
        return evidence_digest(record, plan, plan.step(gate))
    except (StepRefused, RecordError, KeyError):
        return ""
