"""Answers at gates: which count, and what each one that was given is worth now.

Knows nothing of Airflow but how it spells an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from proctor.airflow.evidence import StepRefused, evidence_digest
from proctor.plan.model import Gate
from proctor.records.approvals import GOES_ON, ApprovalInvalid, SigningKey, signed_answer
from proctor.records.model import Line
from proctor.records.store import RecordError, RunRecord
from proctor.site.home import Home

APPROVE, REJECT = "Approve", "Reject"
# Of a gate where the old baseline may be kept.
ACCEPT, KEEP = "Accept as new baseline", "Keep the old and open a finding"
RUN_AGAIN = "Run again"
# Without a comment that says why, these do not count.
WITH_REASON = (REJECT, KEEP, RUN_AGAIN)
WORDS = {"approved": "approved", "rejected": "rejected", "kept": "kept the old baseline"}
_VIA = {"cli-yes": "--yes", "ui": "in the UI"}


def options(gate: Gate) -> dict[str, str]:
    """What a person can choose at a gate, in order, and the decision that it is."""
    if not gate.keep:
        return {APPROVE: "approved", REJECT: "rejected"}
    no = RUN_AGAIN if gate.rework else REJECT
    return {ACCEPT: "approved", KEEP: "kept", no: "rejected"}


def unattended(gate: Gate) -> str:
    """What ``--yes`` chooses: to go on, and to leave a baseline as it is."""
    return KEEP if gate.keep else APPROVE


def answer_of(event: Mapping[str, Any], gate: str, asked: Gate) -> dict[str, Any]:
    """What Airflow says was answered, in the shape of an Approval.

    ``by`` is the user's name, which both auth managers keep unique; an id is FAB's own number.
    """
    form = event.get("params_input")
    given = form if isinstance(form, Mapping) else {}
    chosen = event.get("chosen_options") or []
    return {
        "gate": gate,
        "decision": options(asked).get(str(chosen[0]), "") if len(chosen) == 1 else "",
        "by": str((event.get("responded_by_user") or {}).get("name") or ""),
        "at": event["responded_at"].isoformat(timespec="milliseconds"),
        "answered_via": "ui",
        "evidence_reviewed": given.get("evidence_reviewed") is True,
        "comment": str(given.get("comment") or ""),
    }


def why_uncounted(gate: Gate, answer: Mapping[str, Any], shown: str) -> str:
    """Why an answer is none, in words without a full stop; "" where it counts.

    ``shown``: the digest of the evidence as it is now.
    """
    if not answer["by"]:
        return "it does not say whose it is"
    if gate.approvers and answer["by"] not in gate.approvers:
        return f"{answer['by']} may not answer here, but {', '.join(gate.approvers)}"
    if answer["evidence_digest"] != shown:
        return "the evidence changed while the question was open"
    if not answer["decision"]:
        return "it is neither an approval nor a rejection"
    if answer["decision"] != "approved" and not answer["comment"].strip():
        return f"{answer['by']} {WORDS[answer['decision']]} without a comment that says why"
    return ""


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
    elif decision in GOES_ON and told.get("evidence_digest") != now:
        but = (
            "voided: the evidence changed" if now else "voided: the evidence is not there any more"
        )
    elif decision in GOES_ON and replaced:
        but = "replaced by a later answer"
    elif step := line.data.get("rework"):
        but = f"back to {step}"
    said = WORDS.get(decision, decision)
    verdict = f"{said}; {but}" if but else said
    return Given(
        gate=line.step,
        attempt=line.attempt,
        at=str(told.get("at") or line.at),
        verdict=verdict,
        counts=decision in GOES_ON and not but,
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
