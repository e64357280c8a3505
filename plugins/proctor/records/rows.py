"""What a run measured and scored, as rows: from its summary, a row for each scenario."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# Of a text that a step wrote; any image may write what it likes.
_LONGEST = 200


@dataclass(frozen=True)
class Missed:
    """A rule of the round that a performance run does not meet."""

    rule: str
    message: str


@dataclass(frozen=True)
class Score:
    """Accuracy. ``target`` and ``met`` are ``None`` where the round sets no target.

    ``low``, ``high``: its confidence interval (95 %), where the step that scored gives one.
    """

    metric: str
    value: float | None
    unit: str = ""
    target: float | None = None
    met: bool | None = None
    samples: int | None = None
    expected: int | None = None
    low: float | None = None
    high: float | None = None
    step: str = ""


@dataclass(frozen=True)
class Compliance:
    """A compliance test's verdict, as the step that verified it wrote it (``pass``, ``fail``).

    ``official``: whether the run that it was given on meets the round's rules.
    """

    test: str
    verdict: str
    official: bool | None = None

    def __str__(self) -> str:
        missed = ", in a run that misses rules" if self.official is False else ""
        return f"{self.test}: {self.verdict}{missed}"


@dataclass(frozen=True)
class Row:
    """One scenario of a run: its performance run, its accuracy and its compliance tests.

    ``valid``: LoadGen's own verdict; ``official``: whether every rule of the round is met; both
    ``None`` where nothing was measured. ``latency_ns``: percentile (``p99``) to nanoseconds.
    ``measured_in``: the other run that the figure was taken over from. ``disturbed``: why the
    machine was not quiet; empty where it was, ``None`` where nobody looked.
    """

    step: str
    benchmark: str
    scenario: str
    metric: str = ""
    value: float | None = None
    unit: str = ""
    valid: bool | None = None
    official: bool | None = None
    missed: tuple[Missed, ...] = ()
    latency_ns: Mapping[str, float] = field(default_factory=dict)
    measured_in: str = ""
    disturbed: tuple[str, ...] | None = None
    score: Score | None = None
    compliance: tuple[Compliance, ...] = ()


def rows(summary: Mapping[str, Any]) -> tuple[Row, ...]:
    """The rows of a summary: each performance run with what belongs to its scenario.

    An accuracy or a compliance test that may be of several performance runs is a row of its own.
    """
    runs = [each for each in summary["results"] if each.get("mode") == "performance"]
    scores = list(summary["accuracy"])
    found = []
    for run in runs:
        score = _score_of(run, runs, scores)
        if score is not None:
            scores.remove(score)
        found.append(_row(run, score))
    found += [Row(str(s["step"]), *_where(s), score=_score(s)) for s in scores]
    for each in summary.get("compliance") or ():
        verdict = _verdict(each.get("official"))
        given = Compliance(text(each["test"]), text(each["verdict"]), verdict)
        mine = [row for row in found if row.scenario == each.get("scenario") and row.metric]
        row = mine[0] if len(mine) == 1 else Row(str(each["step"]), *_where(each))
        found = [other for other in found if other is not row]
        found.append(dataclasses.replace(row, compliance=(*row.compliance, given)))
    return tuple(sorted(found, key=lambda row: (row.benchmark, row.scenario, row.step)))


def _score_of(
    run: Mapping[str, Any], runs: list[Any], scores: list[dict[str, Any]]
) -> dict[str, Any] | None:
    """The accuracy that belongs to a performance run: of the same cell of a matrix, or the only
    one of its scenario."""
    key = (text(run["metrics"].get("benchmark")), text(run["scenario"]))
    mine = [s for s in scores if _where(s) == key]
    cell = _cell(run)
    of_cell = [s for s in mine if cell and _cell(s) == cell]
    if len(of_cell) == 1:
        return of_cell[0]
    rivals = [r for r in runs if (text(r["metrics"].get("benchmark")), r["scenario"]) == key]
    return mine[0] if len(mine) == 1 and len(rivals) == 1 else None


def _cell(each: Mapping[str, Any]) -> str:
    return str(each["step"]).partition(".")[2]


def _where(score: Mapping[str, Any]) -> tuple[str, str]:
    return text(score.get("benchmark")), text(score.get("scenario"))


def _row(run: Mapping[str, Any], score: Mapping[str, Any] | None) -> Row:
    told = run["metrics"]
    metric = told.get("metric")
    metric = metric if isinstance(metric, dict) else {}
    latency = told.get("latency_ns")
    percentiles = latency.items() if isinstance(latency, dict) else ()
    rules = told.get("rules")
    return Row(
        step=str(run["step"]),
        benchmark=text(told.get("benchmark")),
        scenario=text(run["scenario"]),
        metric=text(metric.get("name")),
        value=number(metric.get("value")),
        unit=text(metric.get("unit")),
        valid=_verdict(run.get("valid")),
        official=_verdict(told.get("official")),
        missed=tuple(_missed(rules if isinstance(rules, list) else [])),
        latency_ns={text(k): n for k, v in percentiles if (n := number(v)) is not None},
        measured_in=text(run.get("measured_in")),
        disturbed=disturbed(told),
        score=_score(score) if score else None,
    )


def disturbed(told: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Why the machine was not quiet during a run, as its metrics tell it; ``None``: not known."""
    reasons = told.get("disturbed")
    return tuple(map(text, reasons)) if isinstance(reasons, list) else None


def _missed(rules: list[Any]) -> Iterator[Missed]:
    for rule in rules:
        if isinstance(rule, dict) and rule.get("met") is False:
            yield Missed(text(rule.get("rule")), text(rule.get("message")))


def _score(score: Mapping[str, Any]) -> Score:
    samples, expected = (number(score.get(key)) for key in ("samples", "expected_samples"))
    return Score(
        metric=text(score["metric"]),
        value=number(score.get("value")),
        unit=text(score.get("unit")),
        target=number(score.get("target")),
        met=_verdict(score.get("met")),
        samples=None if samples is None else int(samples),
        expected=None if expected is None else int(expected),
        low=number(score.get("low")),
        high=number(score.get("high")),
        step=str(score["step"]),
    )


def text(value: Any) -> str:
    """A text that a step wrote, cut to what a page can show."""
    return "" if value is None else str(value)[:_LONGEST]


def number(value: Any) -> float | None:
    """A finite number that a step wrote; ``None`` for anything else."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if good and abs(value) < float("inf") else None


def _verdict(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None
