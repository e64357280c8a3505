"""What leaves a site: one report of a fixed schema, and nothing else.

No field takes free text. States are fields of their own, so the only words that come from anywhere
are step ids of the spec, which the committee wrote; a coordinator that knows the plan checks them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from proctor.plan.model import Plan
from proctor_steps.contract import canonical_json

REPORT_FORMAT: Literal["proctor.site-report/1"] = "proctor.site-report/1"
LONGEST_REPORT = 256 * 1024  # bytes of one report
_MOST = 10_000_000  # of anything that is counted
_MOST_STEPS = 1000

StepState = Literal["pending", "running", "waiting", "succeeded", "failed", "skipped", "cancelled"]
RunState = Literal["running", "waiting", "succeeded", "failed", "interrupted"]
STEP_STATES: tuple[StepState, ...] = get_args(StepState)
RUN_STATES: tuple[RunState, ...] = get_args(RunState)

Number = Annotated[int, Field(ge=0, le=_MOST)]
StepId = Annotated[str, Field(pattern=r"\A[A-Za-z_][A-Za-z0-9_-]{0,63}\z")]
PlanDigest = Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]
Version = Annotated[
    str, Field(max_length=32, pattern=r"\A\d{1,6}(\.\d{1,6}){1,3}((a|b|rc|\.dev|\.post)\d{1,6})?\z")
]
Minute = Annotated[str, Field(pattern=r"\A\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\dZ\z")]


class ReportModel(BaseModel):
    """Base of a report's parts: immutable, no unknown key, no value of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Counts(ReportModel):
    """How many subjects of a step are in each state; a step without subjects counts as one."""

    pending: Number = 0
    running: Number = 0
    waiting: Number = 0
    succeeded: Number = 0
    failed: Number = 0
    skipped: Number = 0
    cancelled: Number = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.model_dump().values())

    @property
    def percent(self) -> float:
        """Of all, those that are through, to a tenth."""
        return round(100 * (self.succeeded + self.skipped) / max(1, self.total), 1)


class StepReport(ReportModel):
    """How far a step of the spec is. ``person``: how many wait for a person's act."""

    id: StepId
    total: Number
    counts: Counts
    percent: Annotated[float, Field(ge=0, le=100, strict=False)]
    person: Number

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.total != self.counts.total:
            raise ValueError("total is not the sum of the counts")
        if abs(self.percent - self.counts.percent) > 0.05:
            raise ValueError("percent is not what the counts give")
        if self.person > self.total:
            raise ValueError("more wait for a person than there are")
        return self


class SiteReport(ReportModel):
    """How far one run of a site is.

    ``run``: counts the site's runs of this plan, in the order in which they were first reported.
    ``sequence``: counts the reports of the site. Times in UTC, rounded down to the minute;
    ``updated`` is when the report was made.
    """

    format: Literal["proctor.site-report/1"]
    version: Version
    sequence: Annotated[int, Field(ge=1, le=1_000_000_000)]
    plan: PlanDigest
    run: Annotated[int, Field(ge=1, le=1_000_000)]
    state: RunState
    started: Minute
    updated: Minute
    steps: Annotated[tuple[StepReport, ...], Field(max_length=_MOST_STEPS, strict=False)]

    @model_validator(mode="after")
    def _each_step_once(self) -> Self:
        if len({step.id for step in self.steps}) < len(self.steps):
            raise ValueError("a step is there twice")
        return self

    def body(self) -> bytes:
        """The bytes that are kept, shown and sent."""
        return canonical_json(self.model_dump(mode="json")) + b"\n"

    def says_the_same(self, other: SiteReport) -> bool:
        """Whether two reports differ in their number and time alone."""
        same = {"sequence": 1, "updated": self.updated}
        return self.model_copy(update=same) == other.model_copy(update=same)


class BadReport(ValueError):
    """Bytes that are no report; ``reasons`` repeat nothing of what was sent."""

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("; ".join(reasons))


def read_report(body: bytes) -> SiteReport:
    """The report that bytes are.

    Raises:
        BadReport: they are none; the first reasons, with their places.
    """
    try:
        return SiteReport.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        found.sort(key=lambda item: item["type"] != "extra_forbidden")  # what must not be first
        reasons = [_reason(item["loc"], item["type"], item["msg"]) for item in found[:5]]
        raise BadReport(reasons) from None


_OWN_WORDS = re.compile(r"Value error, ([a-z ]+)")


def _reason(place: tuple[int | str, ...], kind: str, message: str) -> str:
    if kind == "json_invalid":
        return "this is no JSON"
    own = _OWN_WORDS.fullmatch(message)
    said = own[1] if own else kind.replace("_", " ")
    # The name of an unknown key is the sender's own words, and is not repeated.
    known = place[:-1] if kind == "extra_forbidden" else place
    return f"{'.'.join(map(str, known)) or 'the report'}: {said}"


def minute(at: datetime) -> str:
    """A time, rounded down."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%MZ}"


def reported_steps(plan: Plan) -> dict[str, list[str]]:
    """Step of the spec -> ids of the plan's steps that it became, in the plan's order.

    A matrix's cells are one step here: their names may be values that the site gave. What the
    compiler adds (stops, lists of subjects, decisions) is no step of the spec.
    """
    found: dict[str, list[str]] = {}
    for step in plan.steps:
        if step.kind in ("container", "approval", "review", "join") and step.id != plan.subjects:
            found.setdefault(step.step, []).append(step.id)
    return found


def step_report(id: str, counts: Mapping[str, int], person: int) -> StepReport:
    """A step's part of a report; a state that the schema does not have counts as pending."""
    told = dict.fromkeys(STEP_STATES, 0)
    for state, number in counts.items():
        known: StepState = state if state in STEP_STATES else "pending"
        told[known] += number
    made = Counts(**told)
    return StepReport(
        id=id,
        total=made.total,
        counts=made,
        percent=made.percent,
        person=min(person, made.total),
    )
