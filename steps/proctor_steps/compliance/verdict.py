"""What the verification of a compliance test says, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from proctor_steps.compliance.audit import TestName
from proctor_steps.contract import Finding
from proctor_steps.loadgen.log import Detail, Metric, Rule
from proctor_steps.rounds import Round
from proctor_steps.stage import DataError

Verdict = Literal["pass", "fail", "cannot be verified"]
CheckName = Literal["accuracy", "performance", "output_length"]
Severity = Literal["info", "warning", "error"]
FILE = "compliance.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Doubt(_Record):
    """What the reference's script does not look at, or lets pass although the rules do not.

    ``severity``: ``info`` where nothing is against the rules.
    """

    rule: str
    severity: Severity
    message: str


class Check(_Record):
    """One part of a test, with the verdict of the reference's script on the same logs.

    ``file``: the text that the official checker reads, ``lines``: what it reads there.
    """

    name: CheckName
    verdict: Verdict
    reason: str
    figures: dict[str, JsonValue] = Field(default_factory=dict)
    doubts: tuple[Doubt, ...] = ()
    lines: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Where the official checker looks for it."""
        return f"verify_{'output_len' if self.name == 'output_length' else self.name}.txt"


class Verification(_Record):
    """One test of one scenario.

    ``verdict``: that of all checks together. ``rules``: those of the round that the test's run met
    or missed. ``official``: the verdict is ``pass``, no rule was missed and nothing is in doubt.
    """

    format: Literal["proctor.compliance/1"] = "proctor.compliance/1"
    benchmark: str
    round: str
    test: TestName
    scenario: str
    verdict: Verdict
    official: bool
    checks: tuple[Check, ...]
    metric: Metric | None
    duration_s: float | None
    rules: tuple[Rule, ...]

    def findings(self, missed: Severity = "warning") -> list[Finding]:
        """Everything that stands in the way, each with its rule; ``missed``: a rule of the round's
        that the run misses."""
        where = f"{self.scenario} {self.test}".strip()
        told = []
        for check in self.checks:
            if check.verdict != "pass":
                text = f"{check.name.replace('_', ' ')}: {check.verdict}: {check.reason}"
                told.append((f"{self.test.lower()}_{check.name}", "error", text))
            told += [(doubt.rule, doubt.severity, doubt.message) for doubt in check.doubts]
        told += [(rule.rule, missed, rule.message) for rule in self.rules if rule.met is False]
        return [
            Finding.model_validate(
                {"rule": rule, "severity": severity, "message": message, "where": where}
            )
            for rule, severity, message in told
        ]


@dataclass(frozen=True)
class Case:
    """What a check is given: the logs of the test's run, and what it may be compared with.

    ``model``: LoadGen's name for the benchmark. ``dtype``: how a payload's numbers are stored.
    """

    test: TestName
    benchmark: str
    round: Round
    model: str
    detail: Detail
    logs: Path
    performance: Path | None
    accuracy: Path | None
    dataset: Path | None
    score: Path | None
    dtype: str
    eos_token_id: int
    score_pattern: str
    delta_percent: float

    def want(self, name: Literal["performance", "accuracy", "score"]) -> Path:
        """An input that the test cannot do without.

        Raises:
            DataError: it was not given.
        """
        path: Path | None = getattr(self, name)
        if path is None:
            raise DataError(f"{self.test} is verified against the input {name}, which is not there")
        return path


def overall(checks: tuple[Check, ...]) -> Verdict:
    """The worst: what could not be verified, before what failed, before what passed."""
    found = {check.verdict for check in checks}
    for verdict in ("cannot be verified", "fail"):
        if verdict in found:
            return verdict
    return "pass" if found else "cannot be verified"


def tried(
    name: Literal["accuracy", "performance", "output_length"], made: Callable[[], Check]
) -> Check:
    """A check, or that its logs do not allow one and why."""
    try:
        return made()
    except DataError as error:
        return Check(
            name=name, verdict="cannot be verified", reason=str(error), lines=("TEST FAIL",)
        )
