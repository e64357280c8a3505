"""Gates: the signed answer counts, not Airflow's state."""

from __future__ import annotations

import json
import time

import pytest
from airflow_site import Site, Started

from proctor.runtime.artifacts import LocalArtifacts
from proctor.site.client import AirflowUnavailable
from proctor.site.runs import SETTLE_SECONDS

GATED = """
    pipeline: {name}
    steps:
      - id: evidence
        image: proctor/steps
        command: report html
        outputs: {{report: directory}}
      - id: approve
        approval: {{question: "{question}", evidence: [evidence.report]{more}}}
      - id: package
        after: [approve]
        image: proctor/steps
        command: submission package
        inputs: {{report: evidence.report}}
        outputs: {{package: directory}}
"""


def show(site: Site, page: str) -> None:
    site.fake.script({"evidence": {"outputs": {"report": {"report.html": page}}}})


def at_the_gate(site: Site, name: str, more: str = "", question: str = "Good enough?") -> Started:
    """``more``: keys of the approval."""
    show(site, "<h1>evidence</h1>")
    run = site.start(name, GATED.format(name=name, more=more, question=question))
    asked(run)
    return run


def asked(run: Started, times: int = 1) -> None:
    """Until the question is open for the ``times``-th time; a person is no faster."""

    def open_question() -> bool:
        lines = [line for line in run.record.lines() if line.kind == "asked"]
        return len(lines) == times and run.tasks()["approve"] == "awaiting_input"

    run.until(open_question)
    time.sleep(SETTLE_SECONDS)


def answer(run: Started, option: str, reviewed: bool = True, comment: str = "looks right") -> None:
    form = {"evidence_reviewed": reviewed, "comment": comment}
    run.site.instance.client.answer(run.record.pipeline, run.record.run, "approve", option, form)


def test_an_approval_is_signed_and_reaches_the_step_behind_it(site: Site) -> None:
    run = at_the_gate(site, "approved")
    assert run.summary()["state"] == "waiting"
    answer(run, "Approve")
    assert run.ended() == "success"
    (approval,) = run.summary()["approvals"]
    assert approval["decision"] == "approved"
    assert approval["answered_via"] == "ui"
    assert approval["evidence_reviewed"] is True
    started = next(r for r in site.fake.starts("package") if r["run"] == run.record.run)
    assert started["approvals"] == [approval]
    with pytest.raises(AirflowUnavailable, match=r"409|404"):
        answer(run, "Reject")


def test_a_rejection_ends_the_run_and_nothing_behind_it_starts(site: Site) -> None:
    run = at_the_gate(site, "rejected")
    answer(run, "Reject")
    assert run.ended() == "failed"
    assert run.tasks()["package"] == "upstream_failed"
    assert run.summary()["approvals"][0]["decision"] == "rejected"


def test_yes_is_recorded_as_an_answer_without_a_review(site: Site) -> None:
    run = at_the_gate(site, "unattended")
    run.watched.yes = True
    run.watched.watch(lambda view: None)
    (approval,) = run.summary()["approvals"]
    assert approval["answered_via"] == "cli-yes"
    assert approval["evidence_reviewed"] is False


def test_a_gate_set_to_success_by_hand_opens_nothing(site: Site) -> None:
    run = at_the_gate(site, "by-hand")
    site.instance.client.set_task_state("by-hand", run.record.run, "approve", "success")
    assert run.ended() == "failed"
    assert run.tasks() | {"package": "failed"} == run.tasks()
    assert "nobody has answered at the gate 'approve'" in run.log("package")
    assert not [r for r in site.fake.starts("package") if r["run"] == run.record.run]


def test_a_forged_answer_is_refused(site: Site) -> None:
    run = at_the_gate(site, "forged")
    forged = {
        "gate": "approve",
        "decision": "approved",
        "by": "mallory",
        "at": "2026-01-01",
        "answered_via": "ui",
        "evidence_reviewed": True,
        "evidence_digest": "0" * 64,
    }
    run.record.append("approval", step="approve", data={"answer": forged, "signature": "AAAA"})
    site.instance.client.set_task_state("forged", run.record.run, "approve", "success")
    assert run.ended() == "failed"
    assert "not signed with this site's key" in run.log("package")


def test_changed_evidence_voids_the_answer(site: Site) -> None:
    run = at_the_gate(site, "changed")
    line = run.record.last("result", "evidence")
    assert line is not None
    outputs = json.loads(json.dumps(line.data["outputs"]))
    outputs["report"]["sha256"] = "f" * 64
    run.record.append(
        "result", step="evidence", attempt=1, data={"state": "succeeded", "outputs": outputs}
    )
    answer(run, "Approve")
    asked(run, 2)
    assert "the evidence changed while the question was open" in run.log("approve")
    assert not run.summary()["approvals"]


def test_what_was_measured_anew_after_the_answer_was_not_approved(site: Site) -> None:
    run = at_the_gate(site, "anew")
    answer(run, "Approve")
    assert run.ended() == "success"
    site.fake.script({"evidence": {"outputs": {"report": {"report.html": "<h1>other</h1>"}}}})
    client = site.instance.client
    client.clear("anew", run.record.run, ["evidence"], downstream=False)
    assert run.ended() == "success"
    client.clear("anew", run.record.run, ["package"])
    assert run.ended() == "failed"
    assert "the evidence at the gate 'approve' has changed" in run.log("package", 2)


def test_bytes_that_were_changed_after_the_answer_are_refused(site: Site) -> None:
    run = at_the_gate(site, "tampered")
    line = run.record.last("result", "evidence")
    assert line is not None
    uri = line.data["outputs"]["report"]["uri"]  # type: ignore[index,call-overload]
    page = LocalArtifacts(site.instance.home.path).path(str(uri)) / "report.html"
    for path in (page, page.parent):
        path.chmod(0o755)
    page.write_text("<h1>better figures</h1>")
    answer(run, "Approve")
    assert run.ended() == "failed"
    assert "its bytes have changed" in run.log("package")
