"""Proctor's validator and the official checker on one tree: where they agree, and where not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from proctor_steps.submission.check.finding import Finding, Scope, Severity, plain_name
from proctor_steps.submission.check.official import Opinion
from proctor_steps.submission.check.report import Report

Outcome = Literal[
    "both pass", "both reject", "only Proctor rejects", "only the official checker rejects",
    "not judged by the official checker",
]  # fmt: skip
AGREED: tuple[Outcome, ...] = ("both pass", "both reject")


@dataclass(frozen=True)
class Row:
    """One result. ``ours``, ``theirs``: the reasons of each, if it rejects."""

    scope: Scope
    outcome: Outcome
    ours: tuple[Finding, ...]
    theirs: tuple[Finding, ...]


@dataclass(frozen=True)
class Comparison:
    """All results of a tree, as both judge them."""

    report: Report
    opinion: Opinion
    rows: tuple[Row, ...]

    @property
    def counts(self) -> Counter[Outcome]:
        """How many results each outcome has."""
        return Counter(row.outcome for row in self.rows)

    @property
    def differing(self) -> list[Row]:
        """The results that one of them alone rejects."""
        told = (*AGREED, "not judged by the official checker")
        return [row for row in self.rows if row.outcome not in told]

    @property
    def agree(self) -> bool:
        """No result is judged differently; and where one ends early, the other foresaw it."""
        foresaw = bool(self.opinion.crash) == bool(self.report.stops)
        return not self.differing and foresaw

    def data(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "counts": dict(self.counts),
            "official_crash": self.opinion.crash,
            "crash_foreseen": bool(self.report.stops),
            "official_seconds": round(self.opinion.seconds, 3),
            "results": [
                {
                    "scope": [*map(plain_name, row.scope)],
                    "outcome": row.outcome,
                    "proctor": [finding.data() for finding in row.ours],
                    "official": [finding.data() for finding in row.theirs],
                }
                for row in self.rows
            ],
            "official_findings": [finding.data() for finding in self.opinion.findings],
        }


def compare(report: Report, opinion: Opinion) -> Comparison:
    """Put both opinions of each result side by side."""
    rows = []
    scopes = {row.scope for row in report.results} | opinion.passed | opinion.failed
    for scope in sorted(scopes):
        ours = tuple(f for f in report.about(scope) if f.severity is Severity.REJECTED)
        theirs = tuple(f for f in opinion.findings if f.scope and f.concerns(scope))
        rows.append(Row(scope, _outcome(scope, bool(ours), opinion), ours, theirs))
    return Comparison(report, opinion, tuple(rows))


def _outcome(scope: Scope, ours: bool, opinion: Opinion) -> Outcome:
    passes = opinion.passes(scope)
    if passes is None:
        return "not judged by the official checker"
    if passes:
        return "only Proctor rejects" if ours else "both pass"
    return "both reject" if ours else "only the official checker rejects"
