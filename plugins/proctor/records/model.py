"""The lines of a record, one JSON object each, chained by digest."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

RECORD_FORMAT = "proctor.record/1"

LineKind = Literal[
    "header", "attempt", "result", "skipped", "refused", "asked", "approval", "uncounted", "round"
]


class Line(BaseModel):
    """One line. ``step`` is the id of a step or of a service; ``partition`` the subject, if any.

    ``header``: the first; data holds the parameters given and in effect, versions, the spec's
    revision, the runtime and the public key; data.started_by is what started the run, by
    ``clock``, ``backfill``, ``sources``, ``assets`` or ``person`` (airflow/schedule.py).
    ``attempt``: data.status is ``running``, ``cancelled`` or ``finished``; data.handle names it;
    data.identity_parts is what ``identity`` is the digest of (plan/identity.py).
    ``result``: what an attempt came to; data.state is ``succeeded`` or ``failed``.
    ``skipped``: the run's parameters leave the step out.
    ``refused``: the step would not start; data.message says why; of a gate that nobody answered in
    time, data.reason is ``timeout``.
    ``asked``: a gate shows evidence; data.evidence_digest names it.
    ``round``: a subject's stretch begins anew; data.round counts from 2, data.start is the step it
    begins with ("": whatever is not as it was), data.reason says why.
    ``approval``: an answer, signed; see :mod:`proctor.records.approvals`. data.generation: the
    tries that Airflow allowed the gate by then; data.rework, of a rejection that leads back: the
    step that the work begins again with.
    ``uncounted``: an answer that does not count, unsigned; data.answer and data.message say what
    was answered and why that is none.
    ``prev_digest`` is the sha256 of the line before, byte for byte.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["proctor.record/1"] = "proctor.record/1"
    seq: int
    prev_digest: str
    at: str
    kind: LineKind
    run: str
    step: str = ""
    partition: str = ""
    attempt: int = 0
    identity: str = ""
    host: str = ""
    plan_digest: str = ""
    data: dict[str, JsonValue] = Field(default_factory=dict)
