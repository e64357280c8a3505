"""TEST07: the score of the test's own run, which the benchmark's scorer printed."""

from __future__ import annotations

import re

from proctor_steps.compliance import audit
from proctor_steps.compliance.verdict import Case, Check
from proctor_steps.stage import DataError

_FILE = "accuracy.txt"


def high_enough(case: Case) -> Check:
    """The score in ``accuracy.txt`` is not below the benchmark's threshold.

    Raises:
        DataError: the test has no threshold for the benchmark, or the text holds no score.
    """
    thresholds = audit.rules("TEST07").of(case.model).thresholds
    if not thresholds:
        raise DataError(f"TEST07 is no test of {case.model}: there is no threshold for it")
    threshold = thresholds["test07_accuracy_threshold"]
    path = case.want("score") / _FILE
    if not path.is_file():
        raise DataError(f"the input score has no {_FILE}")
    value = _score(case.score_pattern, path.read_text(encoding="utf-8", errors="replace"))
    passed = value >= threshold
    return Check(
        name="accuracy",
        verdict="pass" if passed else "fail",
        reason=f"the score is {value:g}, at least {threshold:g} is wanted",
        figures={"score": value, "threshold": threshold},
        lines=("TEST PASS" if passed else "TEST FAIL",),
    )


def _score(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    try:
        if found is not None:
            return float(found[1])
    except ValueError:
        pass
    raise DataError(f"{_FILE} holds no score that {pattern!r} finds")
