"""TEST01, accuracy: answers logged in performance mode against those of the accuracy run.

The reference's script compares the first element of each payload and nothing else, of one byte
unless it is told another type; its README asks that the results match. So the verdict is the
script's, and every payload that differs at all is told. Where the answers differ, MLPerf accepts
what is not deterministic by its score: that of the logged samples must be the same in both runs
within a percentage.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from proctor_steps import benchmarks
from proctor_steps.accuracy import log
from proctor_steps.benchmarks.base import Score
from proctor_steps.compliance.verdict import Case, Check, Doubt
from proctor_steps.stage import DataError

TYPES: dict[str, Any] = {
    "byte": np.int8,
    "float32": np.float32,
    "int32": np.int32,
    "int64": np.int64,
}
_SHOWN = 10


@dataclass
class Comparison:
    """Both logs side by side; ``reference`` and ``logged`` hold the first payload of each sample.

    ``compared``: entries whose sample was answered before; ``first_differs`` of them in the first
    element. ``different``: samples with a payload other than the accuracy run's.
    """

    reference: dict[int, bytes] = field(default_factory=dict)
    logged: dict[int, bytes] = field(default_factory=dict)
    entries: int = 0
    compared: int = 0
    first_differs: int = 0
    different: set[int] = field(default_factory=set)
    absent: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Scores:
    """The logged samples scored in both runs: what the scorer printed, and the number therein."""

    metric: str
    lines: tuple[str, str]
    baseline: float
    compliance: float
    limit_percent: float

    @property
    def delta_percent(self) -> float | None:
        """As the official checker has it; ``None`` where one is 0, which it does not accept."""
        if not self.baseline or not self.compliance:
            return None
        return abs(1 - self.baseline / self.compliance) * 100

    @property
    def met(self) -> bool:
        """Whether they are the same within the limit."""
        return self.delta_percent is not None and self.delta_percent <= self.limit_percent


def same(case: Case) -> Check:
    """The logged answers are the accuracy run's, or score the same.

    Raises:
        DataError: a log is missing or malformed, or nothing was logged.
    """
    found = compare(case.want("accuracy") / log.NAME, case.logs / log.NAME, case.dtype)
    if not found.entries:
        raise DataError(
            f"LoadGen logged no answer in this run ({log.NAME} has no entry); make it longer"
        )
    if not found.different:
        return _check(case, found, None, "")
    try:
        return _check(case, found, _score(found, case), "nothing was given to score them with")
    except DataError as error:
        return _check(case, found, None, f"they cannot be scored: {error}")


def _check(case: Case, found: Comparison, scores: Scores | None, unscored: str) -> Check:
    """``unscored``: why there are no scores."""
    told = _delta(scores) if scores else unscored
    figures: dict[str, Any] = {
        "logged_samples": found.entries,
        "samples_compared": found.compared,
        "first_elements_different": found.first_differs,
        "payloads_different": len(found.different),
        "not_in_accuracy_log": len(found.absent),
        "deterministic": found.compared > 0 and not found.first_differs,
    }
    if scores:
        figures |= {
            "baseline_accuracy": scores.lines[0],
            "compliance_accuracy": scores.lines[1],
            "accuracy_delta_percent": scores.delta_percent,
            "accuracy_delta_limit_percent": scores.limit_percent,
        }
    passed = bool(figures["deterministic"]) or (scores is not None and scores.met)
    return Check(
        name="accuracy",
        verdict="pass" if passed else "fail",
        reason=_reason(found, told),
        figures=figures,
        doubts=_doubts(found, case.dtype, told, scores is not None and scores.met),
        lines=("TEST PASS" if figures["deterministic"] else "TEST FAIL",),
    )


def _reason(found: Comparison, told: str) -> str:
    if not found.compared:
        return "no logged sample is in the accuracy log; are both of the same dataset?"
    if not found.different:
        return f"all {found.compared} logged answers are those of the accuracy run"
    if not found.first_differs:
        return f"all {found.compared} logged answers begin as in the accuracy run"
    return (
        f"{found.first_differs} of {found.compared} logged answers differ from the accuracy run's "
        f"(samples {_listed(found.different)}); {told}"
    )


def _delta(scores: Scores) -> str:
    if scores.delta_percent is None:
        return f"scored, one run has {scores.metric} 0, which cannot be compared"
    return (
        f"{scores.metric} of the logged samples differs by {scores.delta_percent:.3g} %, "
        f"{'within' if scores.met else 'beyond'} the {scores.limit_percent:g} % allowed"
    )


def _doubts(found: Comparison, dtype: str, told: str, met: bool) -> tuple[Doubt, ...]:
    doubts = []
    if found.different and not found.first_differs:
        text = (
            f"{len(found.different)} logged payloads differ from the accuracy run's (samples "
            f"{_listed(found.different)}), though not in the first {dtype}, which is all that the "
            f"reference's script looks at; {told}"
        )
        severity: Literal["info", "error"] = "info" if met else "error"
        doubts.append(Doubt(rule="test01_payloads", severity=severity, message=text))
    if found.absent and found.compared:
        text = f"samples {_listed(found.absent)} are not in the accuracy log at all"
        doubts.append(Doubt(rule="test01_payloads", severity="error", message=text))
    return tuple(doubts)


def compare(reference: Path, test: Path, dtype: str) -> Comparison:
    """Compare two logs. The reference's, which may be larger than memory, is read once.

    Raises:
        DataError: a log is missing or no log of LoadGen, or a payload is no ``dtype``.
    """
    found = Comparison()
    tested = [(index, _bytes(data, test.name, index, dtype)) for index, data in log.entries(test)]
    wanted = {index for index, _ in tested}
    found.entries = len(tested)
    for index, data in log.entries(reference):
        if index in wanted and index not in found.reference:
            found.reference[index] = _bytes(data, reference.name, index, dtype)
    # As the reference does: each entry is held against the one before it of the same sample.
    before = dict(found.reference)
    for index, payload in tested:
        found.logged.setdefault(index, payload)
        if index in before:
            found.compared += 1
            found.first_differs += not _same_start(before[index], payload, dtype)
        before[index] = payload
        if index not in found.reference:
            found.absent.add(index)
        elif payload != found.reference[index]:
            found.different.add(index)
    return found


def _score(found: Comparison, case: Case) -> Scores | None:
    """Both runs' answers to the logged samples, scored; ``None`` without a dataset or scorer.

    Raises:
        DataError: a payload that cannot be scored.
    """
    name = case.round.name(case.benchmark) or case.benchmark
    if case.dataset is None or name not in get_args(benchmarks.BenchmarkName):
        return None
    benchmark = benchmarks.get(name)
    shared = sorted(found.reference)
    baseline, compliance = (
        benchmark.score([(i, of[i]) for i in shared], case.dataset)
        for of in (found.reference, found.logged)
    )
    return Scores(
        baseline.metric,
        (baseline.line, compliance.line),
        _printed(case, baseline),
        _printed(case, compliance),
        case.delta_percent,
    )


def _printed(case: Case, score: Score) -> float:
    """The number that the official checker reads in the scorer's line."""
    metric = case.round.metrics.get(score.metric)
    found = re.match(metric.pattern, score.line) if metric and metric.pattern else None
    return float(found[1]) if found else score.value


def _bytes(data: str, name: str, index: int, dtype: str) -> bytes:
    try:
        payload = bytes.fromhex(data)
    except ValueError as error:
        raise DataError(f"{name}: sample {index}: payload is no hexadecimal") from error
    if len(payload) % np.dtype(TYPES[dtype]).itemsize:
        raise DataError(f"{name}: sample {index}: {len(payload)} bytes are no whole {dtype}s")
    return payload


def _same_start(one: bytes, other: bytes, dtype: str) -> bool:
    if not one or not other:
        return one == other
    size = np.dtype(TYPES[dtype]).itemsize
    first = [np.frombuffer(data[:size], TYPES[dtype])[0] for data in (one, other)]
    return bool(first[0] == first[1])


def _listed(samples: Sequence[int] | set[int]) -> str:
    some = sorted(samples)
    return ", ".join(map(str, some[:_SHOWN])) + (", ..." if len(some) > _SHOWN else "")
