"""From rules and scores to a verdict in plain words.

A result is valid or it is not: one rule missed, or one that could not be judged, makes it invalid,
and each is named. What was never looked at is told as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from pydantic import JsonValue

from proctor_steps import rounds
from proctor_steps.contract import Finding
from proctor_steps.report.evidence import Evidence, Rule, Run, Score
from proctor_steps.rounds import BenchmarkRules, Scenarios

# The finding that the accuracy was held against nothing; it is told, not missed.
NO_TARGET = "no_accuracy_target"


@dataclass(frozen=True)
class Missed:
    """One rule, and each scenario that it was missed in with the reason."""

    rule: str
    places: tuple[tuple[str, str], ...]

    def reasons(self) -> list[tuple[str, str]]:
        """Each reason once, with all its scenarios: ``("SingleStream, Offline", "...")``."""
        where: dict[str, list[str]] = {}
        for place, reason in self.places:
            where.setdefault(reason, []).append(place)
        return [(", ".join(filter(None, places)), reason) for reason, places in where.items()]


@dataclass(frozen=True)
class Verdict:
    """``valid`` is true when every rule that was looked at is met and there was an accuracy target.

    Where the round sets no target, none was missed; still there is nothing to be valid against.
    """

    valid: bool
    headline: str
    missed: tuple[Missed, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Asked:
    """As what a result is judged: its division, and scenarios that are inferred, not measured."""

    division: str = "closed"
    inferred: tuple[str, ...] = ()


def judge(
    found: Evidence, benchmark: str = "", round_: str = "v6.1", asked: Asked = Asked()
) -> Verdict:
    """Weigh everything; the findings name each rule that stands in the way of a valid result."""
    rules = rounds.load(round_).benchmark(benchmark) if benchmark else None
    findings = [*_findings(found, rules), *_round_findings(found, benchmark, round_, rules, asked)]
    findings += [f for verified in found.compliance.values() for f in verified.findings("error")]
    if asked.division == "open":
        tests = {f"{scenario} {test}" for scenario, test in found.compliance}
        findings = [_lifted(finding, tests) for finding in findings]
    blocking = [f for f in findings if f.severity != "info"]
    missed = _by_rule(blocking)
    untargeted = any(f.rule == NO_TARGET for f in findings)
    if not found.scenarios():
        headline = "There is no result: neither a performance run nor an accuracy score was made."
    elif missed:
        names = _listed([words(m.rule) for m in missed])
        headline = f"This is not a valid MLPerf result: it misses the rules on {names}."
        headline += " No accuracy target is set." if untargeted else ""
    elif untargeted:
        headline = "This is not a valid MLPerf result: no accuracy target is set for it."
    else:
        headline = "Every rule that was checked is met."
    return Verdict(not missed and not untargeted, headline, missed, tuple(findings))


def unchecked(found: Evidence, benchmark: str, round_: str) -> list[str]:
    """What nobody has looked at, so that "every rule that was checked" is not read as "all"."""
    return [
        *_tests_not_run(found, benchmark, round_),
        "whether the system's description is true",
        "the review by MLCommons, without which nothing may be called an MLPerf result",
    ]


def _tests_not_run(found: Evidence, benchmark: str, round_: str) -> list[str]:
    """The compliance tests that the round asks for and that were not verified, by scenario."""
    rules = rounds.load(round_).benchmark(benchmark) if benchmark else None
    tests = (rules.compliance.value or ()) if rules else ()
    if not found.compliance:
        named = f" ({', '.join(tests)})" if tests else ""
        return [f"MLPerf's compliance runs{named}"]
    return [
        f"{test} of {scenario}"
        for test in tests
        for scenario in found.scenarios()
        if (scenario, test) not in found.compliance
    ]


def together(findings: Iterable[Finding]) -> list[Finding]:
    """Findings that differ in their scenario alone, as one that names them all; worst first."""
    places: dict[tuple[str, str, str], list[str]] = {}
    for finding in findings:
        key = (finding.severity, finding.rule, finding.message)
        places.setdefault(key, []).append(finding.where)
    order = {"error": 0, "warning": 1, "info": 2}
    merged = [_finding(k[1], k[2], ", ".join(filter(None, w)), k[0]) for k, w in places.items()]
    return sorted(merged, key=lambda finding: order[finding.severity])


def words(rule: str) -> str:
    """``min_duration`` -> ``minimum duration``: a rule's name as one would say it."""
    spoken = {"min": "minimum", "max": "maximum", "qsl": "QSL", "rng": "random"}
    return " ".join(spoken.get(part, part) for part in rule.split("_"))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]


def _by_rule(findings: Iterable[Finding]) -> tuple[Missed, ...]:
    places: dict[str, list[tuple[str, str]]] = {}
    for finding in findings:
        places.setdefault(finding.rule, []).append((finding.where, finding.message))
    return tuple(Missed(rule, tuple(where)) for rule, where in places.items())


def _findings(found: Evidence, rules: BenchmarkRules | None) -> Iterable[Finding]:
    if not found.performance:
        yield _finding("performance_run", "no performance run was made")
    if not found.scores:
        yield _finding("accuracy_score", "the accuracy was not scored")
    for scenario in found.scenarios():
        run, score = found.performance.get(scenario), found.scores.get(scenario)
        if earlier := found.measured_in.get(scenario):
            text = f"measured in {earlier}, taken over from there and not measured in this run"
            yield _finding("measured_in_another_run", text, scenario, "info")
        if run is not None:
            yield from _run_findings(scenario, run)
            yield from _machine_findings(scenario, run)
        elif found.performance:
            yield _finding("performance_run", "no performance run of this scenario", scenario)
        if scenario in found.accuracy_runs:
            told = {rule.rule for rule in run.rules if rule.met is not True} if run else set()
            yield from _accuracy_run_findings(scenario, found.accuracy_runs[scenario], told)
        if score is not None:
            yield from _score_findings(scenario, score)
            yield from _target_findings(scenario, score, rules)
        elif found.scores:
            yield _finding("accuracy_score", "no accuracy score of this scenario", scenario)


def _round_findings(
    found: Evidence, benchmark: str, round_: str, rules: BenchmarkRules | None, asked: Asked
) -> Iterable[Finding]:
    """What the round asks of the benchmark as a whole."""
    for scenario, text in found.strangers(benchmark):
        yield _finding("other_benchmark", text, scenario)
    told = {rule.rule for run in found.performance.values() for rule in run.rules}
    if benchmark and rules is None and "benchmark_in_round" not in told:
        text = f"{benchmark} is no benchmark of MLPerf Inference {round_}"
        yield _finding("benchmark_in_round", text)
    if rules is None:
        return
    whole = rules.dataset_samples.value
    for scenario, score in found.scores.items():
        if whole not in (None, score.samples) and "dataset_size" not in told:
            text = f"{score.samples} samples scored; the dataset has {whole}"
            yield _finding("dataset_size", text, scenario)
    there = {*found.performance, *asked.inferred}
    absent = [_absent(rules.required(kind), there) for kind in rules.scenarios]
    if absent and all(absent):
        fewest = min(absent, key=len)
        text = f"the closed division wants {_listed(fewest)} as well"
        yield _finding("required_scenarios", text)


def _absent(required: Scenarios, there: set[str]) -> list[str]:
    """Required scenarios that are not there; ``Server or Interactive`` where one will do."""
    return sorted(" or ".join(one_of) for one_of in required if not there & set(one_of))


# What the open division does not ask for: the accuracy, the scenarios.
_LIFTED = ("accuracy_target", "required_scenarios", "scenario_in_round")


def _lifted(finding: Finding, tests: Set[str]) -> Finding:
    """``tests``: the places of the compliance tests, of which the open division wants none."""
    if finding.rule not in _LIFTED and finding.where not in tests:
        return finding
    text = f"{finding.message}; the open division does not ask for it"
    return finding.model_copy(update={"severity": "info", "message": text})


def _run_findings(scenario: str, run: Run) -> Iterable[Finding]:
    named = {rule.rule for rule in run.rules if rule.met is not True}
    for rule in run.rules:
        if rule.met is False:
            yield _finding(rule.rule, _reason(rule), scenario)
        elif rule.met is None:
            yield _finding(rule.rule, f"could not be judged: {_reason(rule)}", scenario, "warning")
    if run.valid is not True and not named:
        yield _finding("loadgen_valid", "LoadGen did not call this run VALID", scenario)
    # Where the round does not have the benchmark, it has none of its scenarios either.
    if run.scenario_in_round is False and not named & {"scenario_in_round", "benchmark_in_round"}:
        text = f"the round{f' {run.round}' if run.round else ''} does not have this scenario"
        yield _finding("scenario_in_round", text, scenario)
    unexplained = run.valid is True and run.scenario_in_round is not False and not named
    if run.official is not True and unexplained:
        yield _finding("official", "the run misses a rule that it does not name", scenario)
    for error in run.errors if "loadgen_errors" not in named else ():
        yield _finding("loadgen_errors", str(error), scenario)


def _machine_findings(scenario: str, run: Run) -> Iterable[Finding]:
    """No rule of MLPerf: a disturbed run is no invalid one, but worth measuring again."""
    for left_out in run.left_out:
        text = f"an earlier run does not count ({left_out.logs} of its logs), as the machine was "
        text += f"not quiet: {'; '.join(left_out.disturbed)}"
        yield _finding("run_left_out", text, scenario, "info")
    for reason in run.disturbed or ():
        yield _finding("disturbed", f"the machine was not quiet: {reason}", scenario, "info")


def _accuracy_run_findings(scenario: str, run: Run, told: set[str]) -> Iterable[Finding]:
    """What the accuracy run misses beyond what the performance run does (``told``)."""
    for rule in run.rules:
        if rule.met is False and rule.rule not in told:
            yield _finding(rule.rule, f"accuracy run: {_reason(rule)}", scenario)


def _score_findings(scenario: str, score: Score) -> Iterable[Finding]:
    if score.expected_samples is not None and score.samples != score.expected_samples:
        text = f"{score.samples} of {score.expected_samples} samples were scored"
        yield _finding("accuracy_samples", text, scenario)
    if score.duplicates:
        text = f"{score.duplicates} repeated log entries (LoadGen pads its queries) count once"
        yield _finding("duplicates", text, scenario, "info")


def _target_findings(
    scenario: str, score: Score, rules: BenchmarkRules | None
) -> Iterable[Finding]:
    """A target missed is an error; a target that the round does not set cannot be missed."""
    if score.met is False:
        text = f"{score.metric} {percent(score.value)} is below the target {percent(score.target)}"
        yield _finding("accuracy_target", text, scenario)
    elif score.met is None and rules is None and score.target is None:
        yield _finding(NO_TARGET, "no accuracy target is set for this benchmark", scenario, "info")
    elif score.met is None:
        text = "the score does not tell whether the accuracy target is met"
        yield _finding("accuracy_target", text, scenario)


def percent(value: float | None) -> str:
    """A figure of 0..1 as ``46.59 %``."""
    return "unknown" if value is None else f"{100 * value:.2f} %"


def _reason(rule: Rule) -> str:
    """The rule's message, with the figures where it does not name what was found."""
    plain = isinstance(rule.found, str | int | float) and not isinstance(rule.found, bool)
    if not rule.message:
        return f"required {rule.required}, found {rule.found}"
    if not plain or _shown(rule.found) in rule.message:
        return rule.message
    wanted = (
        f", required {_shown(rule.required)}"
        if isinstance(rule.required, str | int | float)
        else ""
    )
    return f"{rule.message} (found {_shown(rule.found)}{wanted})"


def _shown(value: JsonValue) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _finding(rule: str, message: str, where: str = "", severity: str = "error") -> Finding:
    return Finding.model_validate(
        {"rule": rule, "severity": severity, "message": message, "where": where}
    )
