"""The validator's report for people: findings by submitter, system and result, and an end line.

It is made of lines with styles, which a terminal shows (:mod:`.commands`) and a file leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from proctor_steps.submission.check.compare import AGREED, Comparison
from proctor_steps.submission.check.finding import Finding, Severity, plain_name
from proctor_steps.submission.check.report import NOT_JUDGED, Report

# Pieces of text, each with a style of rich's; an empty style is plain.
Line = tuple[tuple[str, str], ...]

_ORDER = list(Severity)
_MARKS = {Severity.REJECTED: "✗", Severity.AGAINST: "!", Severity.ADVICE: "·"}
_STYLES = {Severity.REJECTED: "bold red", Severity.AGAINST: "yellow", Severity.ADVICE: "dim"}
_EACH = 3  # findings of one rule that are shown of a submitter; more are counted
_REASONS = 5  # findings that are shown of a result which the two judge differently


def plain(line: Line) -> str:
    """A line without its styles."""
    return "".join(text for text, _ in line)


def lines(report: Report, *, everything: bool = False) -> Iterator[Line]:
    """The report; ``everything``: also what is alike, one by one."""
    for scope, group in groupby(report.findings, key=lambda finding: finding.scope[:2]):
        findings = list(group)
        heading = plain_name("/".join(scope))
        yield ((heading or "the tree", "bold"),)
        shown = findings if everything else _short(findings)
        for place, found in groupby(shown, key=lambda finding: finding.scope[2:]):
            if place:
                yield (("  " + plain_name("  ".join(place)), "cyan"),)
            for finding in found:
                yield from _finding(finding, heading)
        yield ()
    yield from ending(report)


def _short(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The first few of each rule, and how many more there are."""
    kinds: dict[tuple[str, Severity], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.rule, finding.severity), []).append(finding)
    kept: list[Finding] = []
    for (rule, severity), group in kinds.items():
        kept += group[:_EACH]
        if len(group) > _EACH:
            text = f"{len(group) - _EACH} more of this kind ({rule}); --all shows them"
            kept.append(Finding(severity, rule, "", text, "", group[0].scope[:2]))
    yield from sorted(kept, key=lambda each: (each.scope, _ORDER.index(each.severity)))


def _finding(finding: Finding, heading: str) -> Iterator[Line]:
    mark = (f"    {_MARKS[finding.severity]} ", _STYLES[finding.severity])
    where = (finding.where.removeprefix(f"{heading}/") + " " if finding.path else "", "bold")
    stops = " (the official checker ends here with a traceback)" if finding.stops else ""
    yield (mark, where, (finding.message, ""), (stops, "red"))
    if finding.advice:
        yield ((f"        {finding.advice}", "dim"),)


def ending(report: Report) -> Iterator[Line]:
    """Counts, and in a sentence each what the official checker and the rules say."""
    verdicts = [report.verdict(row.scope) for row in report.results]
    rejected, against = (verdicts.count(s) for s in (Severity.REJECTED, Severity.AGAINST))
    submissions = len({row.scope[:2] for row in report.results})
    yield _text(
        f"{_count(len(verdicts), 'result')} of {_count(submissions, 'submission')}, "
        f"{report.round}: {verdicts.count(None)} without fault, {against} against the rules, "
        f"{rejected} rejected"
    )
    counts = report.counts
    told = (f"{_MARKS[s]} {counts[s]} {s.value}" for s in Severity if counts[s])
    yield _text("; ".join(told) or "nothing found")
    unseen = sum(finding.rule == NOT_JUDGED for finding in report.findings)
    if unseen:
        yield _text(f"{_count(unseen, 'part')} of it could not be judged.", "yellow")
    yield _text(f"The official checker would {_official(report)}", "bold")
    yield _text(f"By the rules of {report.round}, {_rules(report, rejected + against)}", "bold")


def _official(report: Report) -> str:
    if report.stops:
        return f"end with a traceback at {report.stops[0].where}, and judge nothing."
    if not report.results:
        return "find no result in it."
    return "take it." if report.accepted else "refuse it."


def _rules(report: Report, faulty: int) -> str:
    if not report.results:
        return "there is nothing to submit."
    if report.within_rules:
        return "nothing is wrong with it."
    if not faulty:
        return "it may not be submitted like this."
    return f"{faulty} of its results may not be submitted like this."


def comparison(both: Comparison) -> Iterator[Line]:
    """Counts, each difference with the reasons, and the official checker's crash."""
    for outcome, count in sorted(both.counts.items()):
        yield _text(f"{count:6} {outcome}", "" if outcome in AGREED else "yellow")
    for row in both.differing:
        yield _text(f"{plain_name('/'.join(row.scope))}: {row.outcome}", "bold")
        for name, findings in (("Proctor", row.ours), ("official", row.theirs)):
            for finding in findings[:_REASONS]:
                yield _text(f"  {name}: {finding.where} {finding.message}")
    if both.opinion.crash:
        yield _text(f"The official checker ended without a verdict: {both.opinion.crash}", "red")
        yield _text(f"Proctor {'foresaw' if both.report.stops else 'did not foresee'} it.", "bold")
        for finding in both.report.stops[:_REASONS]:
            yield _text(f"  {finding.where} {finding.message}")
    elif both.agree:
        yield _text("They agree on every result.", "bold")


def _text(text: str, style: str = "") -> Line:
    return ((text, style),)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
