"""TEST01 and TEST04, performance: the test's run against the performance run."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proctor_steps.compliance.verdict import Case, Check, Doubt
from proctor_steps.loadgen import log
from proctor_steps.loadgen.log import Detail
from proctor_steps.stage import DataError

TOLERANCE = 0.10
# Short latencies vary more; the bounds are nanoseconds.
TOLERANCE_SHORT = 0.20
_SHORT = {"SingleStream": 200_000.0, "MultiStream": 1_600_000.0}
_SCORES = {
    "Offline": "result_samples_per_second",
    "SingleStream": "early_stopping_latency_ss",
    "MultiStream": "early_stopping_latency_ms",
    "Server": "result_completed_samples_per_sec",
}


def same(case: Case) -> Check:
    """TEST01: the score is that of the performance run within 10 % (20 % of short latencies).

    Raises:
        DataError: a log does not tell what is compared.
    """
    reference, test = log.read(case.want("performance")), case.detail
    figures = _figures(reference.scenario, _score(reference), _score(test))
    wrong = _unlike(reference, test)
    bound = figures["tolerance_percent"] / 100
    low, high = (figures["reference_score"] * (1 + sign * bound) for sign in (-1, 1))
    passed = not wrong and low <= figures["test_score"] <= high
    reason = wrong or (
        f"the score is {_change(figures)} against the performance run's, "
        f"{'within' if passed else 'beyond'} the {figures['tolerance_percent']:g} % allowed"
    )
    return _made(passed, reason, figures)


def not_faster(case: Case) -> Check:
    """TEST04: with one sample over and over the run is less than 10 % faster (20 % of short
    latencies).

    The reference reads the summaries, and compares a rate with the bounds that are meant for a
    latency, so that streams nearly always have 20 %; the verdict here is the same, and what is
    faster than the README allows is told, and so is a summary that its detail log denies.

    Raises:
        DataError: a summary does not tell what is compared, or no sample was repeated.
    """
    if not case.detail.values.get("effective_performance_issue_same"):
        raise DataError("this is no run of TEST04: one sample was not issued over and over")
    reference, test = _summary(case.want("performance")), _summary(case.logs)
    if reference.scenario != test.scenario:
        wrong = f"the performance run is of {reference.scenario}, the test's of {test.scenario}"
    else:
        wrong = _invalid(reference.validity, test.validity)
    unit = "queries/s" if test.scenario in _SHORT else "samples/s"
    figures = _figures(test.scenario, reference.rate, test.rate) | {"unit": unit}
    bound = figures["tolerance_percent"] / 100
    passed = not wrong and test.rate < reference.rate * (1 + bound)
    reason = wrong or (
        f"with one sample over and over the rate is {_change(figures)} against the performance "
        f"run's, {'below' if passed else 'not below'} the "
        f"{figures['tolerance_percent']:g} % allowed"
    )
    doubts = _faster_than_the_rules(reference, test) if passed else ()
    doubts += _not_as_logged("performance", reference, log.read(case.want("performance")))
    doubts += _not_as_logged("test's", test, case.detail)
    return _made(passed, reason, figures, doubts)


def _made(
    passed: bool, reason: str, figures: dict[str, Any], doubts: tuple[Doubt, ...] = ()
) -> Check:
    return Check(
        name="performance",
        verdict="pass" if passed else "fail",
        reason=reason,
        figures=figures,
        doubts=doubts,
        lines=("TEST PASS" if passed else "TEST FAIL",),
    )


def _figures(scenario: str, reference: float, test: float) -> dict[str, Any]:
    short = reference <= _SHORT.get(scenario, -1.0)
    return {
        "scenario": scenario,
        "reference_score": reference,
        "test_score": test,
        "unit": "ns" if scenario in _SHORT else "samples/s",
        "change_percent": 100 * (test / reference - 1) if reference else None,
        "tolerance_percent": 100 * (TOLERANCE_SHORT if short else TOLERANCE),
    }


def _change(figures: dict[str, Any]) -> str:
    change = figures["change_percent"]
    return "nothing that compares" if change is None else f"{change:+.2f} %"


def _score(detail: Detail) -> float:
    key = _SCORES[detail.scenario]
    value = detail.values.get(key)
    if value is None or detail.mode != "performance":
        raise DataError(f"{log.DETAIL} does not tell {key}; give the logs of a performance run")
    return float(value)


def _unlike(reference: Detail, test: Detail) -> str:
    """Why two runs cannot be the same, whatever their scores; empty where they can."""
    if reference.scenario != test.scenario:
        return f"the performance run is of {reference.scenario}, the test's of {test.scenario}"
    bounds = [run.values.get("effective_target_latency_ns") for run in (reference, test)]
    if test.scenario == "Server" and bounds[0] != bounds[1]:
        return f"the target latency is {bounds[1]} ns, the performance run's {bounds[0]} ns"
    for what, run in (("performance", reference), ("test's", test)):
        # Older releases of LoadGen do not count them.
        errors = run.values.get("num_errors", len(run.errors))
        if errors:
            return f"LoadGen logged {errors} error(s) in the {what} run"
    return _invalid(*(str(run.values["result_validity"]) for run in (reference, test)))


def _invalid(reference: str, test: str) -> str:
    for what, validity in (("performance", reference), ("test's", test)):
        if validity != "VALID":
            return f"LoadGen calls the {what} run {validity}"
    return ""


@dataclass(frozen=True)
class Summary:
    """What TEST04 reads of mlperf_log_summary.txt; ``rate``: per second, of samples or queries."""

    scenario: str
    validity: str
    rate: float
    target_latency_ns: float


def _summary(folder: Path) -> Summary:
    path = folder / log.SUMMARY
    if not path.is_file():
        raise DataError(f"{log.SUMMARY} is missing: LoadGen did not finish this run")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{log.SUMMARY} is no text ({error}); was it damaged?") from error
    scenario = _told(r"^Scenario\b[^:\n]*: (.*)$", text, "the scenario")
    if scenario not in _RATES:
        raise DataError(f"{log.SUMMARY}: scenario {ascii(scenario)[:40]} is not known")
    pattern, rate = _RATES[scenario]
    return Summary(
        scenario,
        _told(r"^Result is\b[^:\n]*: (.*)$", text, "whether the run is VALID"),
        rate(_number(_told(pattern, text, "the scenario's score"))),
        _number(_told(r"^target_latency \(ns\): (.*)$", text, "the target latency")),
    )


def _told(pattern: str, text: str, what: str) -> str:
    """The last that matches counts, as in the reference."""
    found = re.findall(pattern, text, re.MULTILINE)
    if not found:
        raise DataError(f"{log.SUMMARY} does not tell {what}; give the logs of a performance run")
    return str(found[-1]).strip()


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{log.SUMMARY}: {ascii(text)[:40]} is no number")
    return value


def _per_second(latency_ns: float) -> float:
    if latency_ns <= 0:
        raise DataError(f"{log.SUMMARY}: a latency of {latency_ns:g} ns is none")
    return 1e9 / latency_ns


def _as_is(rate: float) -> float:
    return rate


_RATES: dict[str, tuple[str, Callable[[float], float]]] = {
    "SingleStream": (
        r"^.*Early stopping (?:90th|90\.0th|99\.9th) percentile estimate[^:\n]*: (.*)$",
        _per_second,
    ),
    "MultiStream": (
        r"^.*Early stopping (?:99th|99\.0th) percentile estimate[^:\n]*: (.*)$",
        _per_second,
    ),
    "Server": (r"^Completed samples per second[^:\n]*: (.*)$", _as_is),
    "Offline": (r"^Samples per second[^:\n]*: (.*)$", _as_is),
}


def _faster_than_the_rules(reference: Summary, test: Summary) -> tuple[Doubt, ...]:
    doubts = []
    short = 1e9 / reference.rate <= _SHORT.get(test.scenario, -1.0) if reference.rate else False
    bound = TOLERANCE_SHORT if short else TOLERANCE
    if test.rate > reference.rate * (1 + bound):
        text = (
            f"the same sample over and over is {100 * (test.rate / reference.rate - 1):.2f} % "
            f"faster; the rules allow {100 * bound:g} %, the reference's script 20 %"
        )
        doubts.append(Doubt(rule="test04_faster", severity="warning", message=text))
    if test.scenario == "Server" and test.target_latency_ns != reference.target_latency_ns:
        text = (
            f"the target latency is {test.target_latency_ns:g} ns, the performance run's "
            f"{reference.target_latency_ns:g} ns; the reference's script does not find that line"
        )
        doubts.append(Doubt(rule="test04_target_latency", severity="warning", message=text))
    return tuple(doubts)


def _not_as_logged(what: str, summary: Summary, detail: Detail) -> tuple[Doubt, ...]:
    """LoadGen writes the same score into both files; the summary is easily edited."""
    value = detail.values.get(_SCORES[detail.scenario])
    if not value:
        return ()
    logged = _RATES[detail.scenario][1](float(value))
    # The summary has two decimals of a rate.
    same_rate = math.isclose(summary.rate, logged, rel_tol=1e-3, abs_tol=0.01)
    if summary.scenario == detail.scenario and same_rate:
        return ()
    text = (
        f"{log.SUMMARY} of the {what} run tells {summary.rate:g} per second in {summary.scenario}, "
        f"{log.DETAIL} {logged:g} in {detail.scenario}; give the logs of a run as they are"
    )
    return (Doubt(rule="test04_summary", severity="error", message=text),)
