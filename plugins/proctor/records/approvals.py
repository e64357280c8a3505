"""Answers at gates: signed by the site's key, bound to the evidence that was shown.

The key (Ed25519) is made once per home folder, mode 0600, and is mounted into no container. Its
public half stands in every record's header, so that a record can be checked away from the site.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import JsonValue, ValidationError

from proctor.records.model import Line
from proctor.records.store import RunRecord
from proctor_steps.contract import Approval, canonical_json

# The decisions with which a run goes on: `kept` approves of nothing, and opens a finding.
GOES_ON = ("approved", "kept")


class ApprovalInvalid(Exception):
    """A step may not go on: no answer, a rejection, other evidence, or a bad signature."""


class SigningKey:
    """The site's key, made at first use."""

    def __init__(self, home: Path) -> None:
        self._path = home / "keys" / "approvals.key"

    def public(self) -> str:
        """The public half, base64 of its 32 bytes."""
        raw = self._load().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base64.b64encode(raw).decode()

    def exists(self) -> bool:
        """Whether this home has a key: one that only reads a record needs none."""
        return self._path.is_file()

    def sign(self, message: bytes) -> str:
        """Signature, base64."""
        return base64.b64encode(self._load().sign(message)).decode()

    def _load(self) -> Ed25519PrivateKey:
        if not self._path.exists():
            self._make()
        raw = self._path.read_bytes()
        # A key in this form is exactly the 32 bytes of its seed.
        return Ed25519PrivateKey.from_private_bytes(raw)

    def _make(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        seed = Ed25519PrivateKey.generate().private_bytes(
            Encoding.Raw, PrivateFormat.Raw, NoEncryption()
        )
        scratch = self._path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(seed)
            file.flush()
            os.fsync(file.fileno())
        try:
            # link, not rename: of two processes that start at once, the first one's key stays.
            os.link(scratch, self._path)
        except FileExistsError:
            pass
        finally:
            scratch.unlink()


def record_answer(
    record: RunRecord,
    key: SigningKey,
    approval: Approval,
    *,
    attempt: int,
    plan_digest: str,
    more: Mapping[str, JsonValue] | None = None,
) -> Line:
    """Append a signed answer; ``more``: what stands beside it in its line."""
    data = {
        "answer": approval.model_dump(mode="json"),
        "signature": key.sign(message_of(record.pipeline, record.run, approval)),
        **(more or {}),
    }
    return record.append(
        "approval", step=approval.gate, attempt=attempt, plan_digest=plan_digest, data=data
    )


def last_answer(record: RunRecord, gate: str) -> Line | None:
    """The answer that this gate's lines end with: once it asks anew, they do not."""
    lines = [line for line in record.lines() if line.step == gate]
    return lines[-1] if lines and lines[-1].kind == "approval" else None


def valid_answer(record: RunRecord, gate: str, evidence_digest: str, trusted_key: str) -> Approval:
    """The newest answer at a gate, if it lets the run go on.

    Raises:
        ApprovalInvalid: there is none, it says no, it was given to other evidence, or it is not
            signed with the site's key (``trusted_key``, base64; the header's copy is only for
            readers elsewhere, as whoever can edit an answer can edit the header too).
    """
    line = record.last("approval", gate)
    if line is None:
        raise ApprovalInvalid(
            f"nobody has answered at the gate {gate!r} of this run: its record holds no approval. "
            "Setting the gate's state in Airflow is no answer; clear the gate and answer it."
        )
    approval = signed_answer(record, line, trusted_key)
    if approval.decision not in GOES_ON:
        raise ApprovalInvalid(f"{approval.by} rejected at the gate {gate!r}: {approval.comment}")
    if approval.evidence_digest != evidence_digest:
        raise ApprovalInvalid(
            f"the evidence at the gate {gate!r} has changed since {approval.by} answered "
            f"(then {approval.evidence_digest[:12]}, now {evidence_digest[:12]}); "
            "clear the gate and answer it again"
        )
    return approval


def signed_answer(record: RunRecord, line: Line, trusted_key: str) -> Approval:
    """The answer that an ``approval`` line holds, whatever it says.

    Raises:
        ApprovalInvalid: it is not signed with ``trusted_key``, or was given at another gate.
    """
    return check_signed(record.pipeline, record.run, line.step, line.data, trusted_key)


def check_signed(
    pipeline: str, run: str, gate: str, told: Mapping[str, JsonValue], trusted_key: str
) -> Approval:
    """The answer that ``told`` holds with its ``signature``, wherever it was written down.

    Raises:
        ApprovalInvalid: it is not signed with ``trusted_key``, or was given at another gate.
    """
    try:
        approval = Approval.model_validate(told.get("answer"))
        message = message_of(pipeline, run, approval)
        check_signature(trusted_key, str(told.get("signature")), message)
    except (ValidationError, ApprovalInvalid) as error:
        raise ApprovalInvalid(
            f"the answer at the gate {gate!r} is not signed with this site's key; "
            "clear the gate and answer it again"
        ) from error
    if approval.gate != gate:
        raise ApprovalInvalid(
            f"the answer at {gate!r} was given at another gate, {approval.gate!r}"
        )
    return approval


def check_signature(trusted_key: str, signature: str, message: bytes) -> None:
    """Check a signature (base64) with a public key (base64).

    Raises:
        ApprovalInvalid: it is not that key's, or not of this message.
    """
    try:
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(trusted_key))
        public.verify(base64.b64decode(signature, validate=True), message)
    except (ValueError, InvalidSignature) as error:
        raise ApprovalInvalid("it is not signed with this site's key") from error


def message_of(pipeline: str, run: str, approval: Approval) -> bytes:
    """What is signed of an answer: its run, and all that it says."""
    return canonical_json([pipeline, run, approval.model_dump(mode="json")])
