"""What the validator found in a tree: findings, and a row for each result."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from proctor_steps.submission.check.finding import Finding, Scope, Severity, plain_name

NOT_JUDGED = "not_judged"  # rule of findings about what nobody looked at
_SUBMISSION = 2  # names in the scope of a submission


@dataclass(frozen=True)
class ResultRow:
    """One result: its place, and the columns of the official summary.

    ``mark``: short text that two equal performance logs share.
    """

    scope: Scope
    columns: dict[str, Any]
    mark: str = ""

    def plain(self) -> dict[str, Any]:
        """The columns, such that every output takes them."""
        return {k: plain_name(v) if isinstance(v, str) else v for k, v in self.columns.items()}


@dataclass(frozen=True)
class Report:
    """A tree, judged. ``findings`` and ``results`` are in the order of their paths."""

    round: str
    findings: tuple[Finding, ...]
    results: tuple[ResultRow, ...] = field(default=())

    @cached_property
    def _by_scope(self) -> dict[Scope, list[Finding]]:
        found: dict[Scope, list[Finding]] = {}
        for finding in self.findings:
            found.setdefault(finding.scope, []).append(finding)
        return found

    def about(self, result: Scope) -> list[Finding]:
        """The findings that a result is subject to: its own, its system's, its submitter's."""
        return [f for n in range(len(result) + 1) for f in self._by_scope.get(result[:n], ())]

    def against(self, result: Scope) -> list[Finding]:
        """What is against a result. A rule that a file elsewhere in the submission breaks
        is not: it is against the submission."""
        return [
            finding
            for finding in self.about(result)
            if finding.severity is Severity.REJECTED
            or (finding.severity is Severity.AGAINST and len(finding.scope) > _SUBMISSION)
        ]

    def verdict(self, result: Scope) -> Severity | None:
        """What becomes of a result; ``None`` where nothing but advice is against it."""
        found = {finding.severity for finding in self.against(result)}
        return min(found, key=list(Severity).index) if found else None

    @property
    def counts(self) -> dict[Severity, int]:
        """Findings by severity."""
        counted = Counter(finding.severity for finding in self.findings)
        return {severity: counted[severity] for severity in Severity}

    def rejected(self) -> list[Scope]:
        """The results that the official checker refuses."""
        return [r.scope for r in self.results if self.verdict(r.scope) is Severity.REJECTED]

    @property
    def stops(self) -> list[Finding]:
        """Where the official checker ends with a traceback, and so judges nothing."""
        return [finding for finding in self.findings if finding.stops]

    @property
    def accepted(self) -> bool:
        """Whether the official checker takes the tree as it is."""
        return self.counts[Severity.REJECTED] == 0 and bool(self.results)

    @property
    def within_rules(self) -> bool:
        """Whether nothing was found that a rule forbids, and all was looked at."""
        unseen = any(finding.rule == NOT_JUDGED for finding in self.findings)
        return self.accepted and self.counts[Severity.AGAINST] == 0 and not unseen

    def data(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "round": self.round,
            "accepted_by_the_official_checker": self.accepted,
            "within_the_rules": self.within_rules,
            "counts": {severity.name.lower(): count for severity, count in self.counts.items()},
            "results": [
                {
                    "scope": [*map(plain_name, row.scope)],
                    "verdict": _word(self.verdict(row.scope)),
                    **row.plain(),
                }
                for row in self.results
            ],
            "findings": [finding.data() for finding in self.findings],
        }


def _word(severity: Severity | None) -> str:
    return "passed" if severity is None else severity.name.lower()
