"""The rules of a run (:mod:`proctor_steps.loadgen.rules`) on a submission's logs, as findings.

They are measured on what happened. A rule that the official checker has already refused the result
for is not told again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from proctor_steps.loadgen import log as loadgen_log
from proctor_steps.loadgen import rules
from proctor_steps.submission.check import files
from proctor_steps.submission.check.asked import bounds_in_words
from proctor_steps.submission.check.finding import Finding
from proctor_steps.submission.check.result import Log, Result, Run
from proctor_steps.submission.check.scores import LARGEST_CUT

# What the open division lifts, besides scenarios and the target of accuracy.
_LIFTED_IN_OPEN = {"latency_bound", "token_latencies", "token_latency_bound", "equal_issue"}
# Told by the family that looks at the whole benchmark, for all its scenarios.
_TOLD_ELSEWHERE = {"benchmark_in_round", "scenario_in_round"}
_ADVICE = {
    "result_validity": "find the load that the system holds, and run again",
    "min_duration": "run again; a run lasts at least as long as the round asks, measured",
    "loadgen_errors": "mend what LoadGen names, and run again",
    "accuracy_samples": "run the accuracy run again, on every sample",
}
_ANEW = "run again with the round's settings"


def performance(run: Run, told: Collection[str]) -> Iterator[Finding]:
    """The rules of a performance run that are not in ``told``."""
    lifted = set(told) | _TOLD_ELSEWHERE | (_LIFTED_IN_OPEN if run.result.open else set())
    lifted |= {"answers_logged"}  # a submission may leave out what a test logged
    yield from _measured(run.result, run.log, "performance", 0, lifted, run.test)


def accuracy(result: Result, told: Collection[str]) -> Iterator[Finding]:
    """The rules of an accuracy run that are not in ``told``."""
    lifted, size = set(told) | _TOLD_ELSEWHERE, files.size(result.entries) or 0
    # A log of some entries that is as short as a cut one was cut, in whatever way.
    if result.logged is None or (not result.whole and size <= LARGEST_CUT):
        lifted |= {"accuracy_samples"}
    yield from _measured(result, result.accuracy, "accuracy", result.logged or 0, lifted)


def _measured(
    result: Result, log: Log, mode: str, logged: int, lifted: Collection[str], test: str = ""
) -> Iterator[Finding]:
    assert log.scan is not None  # noqa: S101 (such logs are not judged)
    tell, scan = result.tell, log.scan
    detail = loadgen_log.of(scan)
    problems = list(loadgen_log.problems(detail))
    for problem in problems:
        yield tell.against(
            "detail_log", log.path, problem, f"give the log of the {mode} run as LoadGen wrote it"
        )
    if problems:
        return
    if detail.mode != mode:
        yield tell.against(
            "mode", log.path, f"is the log of a run in {detail.mode} mode",
            f"put the log of the {mode} run there", log.line("effective_test_mode"),
        )  # fmt: skip
        return
    name = result.asked.name if result.asked else result.place.benchmark
    known = result.asked.rules if result.asked else None
    case = rules.Case(
        detail, result.system.round, name, known, logged, test,
        interactive=result.scenario == "Interactive",
    )  # fmt: skip
    for rule in rules.measure(case):
        if rule.met is False and rule.rule not in lifted:
            make = tell.advice if _is_advice(rule.rule, mode) else tell.against
            text = f"{rule.message} (wanted {rule.required}, found {rule.found})"
            yield make(rule.rule, log.path, text, _ADVICE.get(rule.rule, _ANEW))


def _is_advice(rule: str, mode: str) -> bool:
    """What no rule forbids by itself: seeds decide nothing where every sample is run once."""
    return rule in ("loadgen_version", "max_query_count") or (
        mode == "accuracy" and rule.startswith("seed_")
    )


def score(result: Result, values: dict[str, float], line: int | None) -> Iterator[Finding]:
    """The targets that are in force where the checker's are others, or none."""
    asked = result.asked
    if asked is None or result.open:
        return
    refused = {
        target.metric
        for target in asked.targets(result.scenario)
        if target.metric in values and not target.met(values[target.metric])
    }
    for metric, bound in asked.rules.bounds(asked.name, result.scenario or "Offline").items():
        value = values.get(metric)
        if value is not None and metric not in refused and bound.met(value) is False:
            low = bound.at_least.value if bound.at_least else None
            high = bound.at_most.value if bound.at_most else None
            limits = bounds_in_words(low, high)
            yield result.tell.against(
                "accuracy_target", result.score.path,
                f"{metric} is {value:g}; by the rules it must be {limits}",
                "submit what reaches the target, or submit to the open division", line,
            )  # fmt: skip
