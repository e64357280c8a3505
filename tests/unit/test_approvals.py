"""Answers at gates: what lets a run go on, and every way in which it does not."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from proctor.records.approvals import ApprovalInvalid, SigningKey, record_answer, valid_answer
from proctor.records.store import RecordStore, RunRecord
from proctor_steps.contract import Approval

EVIDENCE = "e" * 64


def answer(decision: str = "approved", gate: str = "approve") -> Approval:
    return Approval.model_validate(
        {
            "gate": gate,
            "decision": decision,
            "by": "ada",
            "at": "2026-01-01T00:00:00+00:00",
            "answered_via": "ui",
            "evidence_reviewed": True,
            "evidence_digest": EVIDENCE,
        }
    )


def given(tmp_path: Path, approval: Approval, run: str = "one") -> tuple[RunRecord, str]:
    record, key = RecordStore(tmp_path).run("demo", run), SigningKey(tmp_path)
    record_answer(record, key, approval, attempt=1, plan_digest="p")
    return record, key.public()


def test_a_signed_approval_of_this_evidence_counts(tmp_path: Path) -> None:
    record, key = given(tmp_path, answer())
    assert valid_answer(record, "approve", EVIDENCE, key) == answer()


def test_no_answer_is_none(tmp_path: Path) -> None:
    record = RecordStore(tmp_path).run("demo", "one")
    with pytest.raises(ApprovalInvalid, match="nobody has answered"):
        valid_answer(record, "approve", EVIDENCE, SigningKey(tmp_path).public())


def test_a_rejection_does_not_let_on(tmp_path: Path) -> None:
    record, key = given(tmp_path, answer("rejected"))
    with pytest.raises(ApprovalInvalid, match="ada rejected"):
        valid_answer(record, "approve", EVIDENCE, key)


def test_the_newest_answer_counts(tmp_path: Path) -> None:
    given(tmp_path, answer())
    record, key = given(tmp_path, answer("rejected"))
    with pytest.raises(ApprovalInvalid, match="ada rejected"):
        valid_answer(record, "approve", EVIDENCE, key)


def test_other_evidence_voids_it(tmp_path: Path) -> None:
    record, key = given(tmp_path, answer())
    with pytest.raises(ApprovalInvalid, match="has changed since ada answered"):
        valid_answer(record, "approve", "f" * 64, key)


def test_an_edited_answer_is_not_signed(tmp_path: Path) -> None:
    record, key = given(tmp_path, answer("rejected"))
    record.path.write_text(record.path.read_text().replace("rejected", "approved"))
    with pytest.raises(ApprovalInvalid, match="not signed"):
        valid_answer(record, "approve", EVIDENCE, key)


def test_an_answer_of_another_run_is_not_signed_for_this(tmp_path: Path) -> None:
    theirs, key = given(tmp_path, answer(), run="other")
    line = theirs.last("approval", "approve")
    assert line is not None
    record = RecordStore(tmp_path).run("demo", "one")
    record.append("approval", step="approve", data=line.data)
    with pytest.raises(ApprovalInvalid, match="not signed"):
        valid_answer(record, "approve", EVIDENCE, key)


def test_an_answer_at_another_gate_does_not_open_this(tmp_path: Path) -> None:
    record, key = given(tmp_path, answer(gate="first"))
    line = record.last("approval", "first")
    assert line is not None
    record.append("approval", step="approve", data=line.data)
    with pytest.raises(ApprovalInvalid, match="another gate"):
        valid_answer(record, "approve", EVIDENCE, key)


def test_the_key_of_another_site_does_not_count(tmp_path: Path) -> None:
    record, _ = given(tmp_path, answer())
    with pytest.raises(ApprovalInvalid, match="not signed"):
        valid_answer(record, "approve", EVIDENCE, SigningKey(tmp_path / "other").public())


def test_the_key_is_its_owners_alone_and_stays_the_same(tmp_path: Path) -> None:
    first = SigningKey(tmp_path).public()
    path = tmp_path / "keys" / "approvals.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKey(tmp_path).public() == first
