"""TEST08: a recommender's predictions in performance mode against the accuracy run's.

Samples of a stream have no fixed place in the dataset, so they are told apart by what the payload
says of them. In float32: timestamp, query, and per candidate a prediction; of the accuracy run, a
label and a weight per candidate as well, and their number last.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proctor_steps.accuracy import log
from proctor_steps.compliance.verdict import Case, Check
from proctor_steps.stage import DataError

TOLERANCE = 0.001
_EPSILON = 1e-7
_Floats = NDArray[np.float32]
_Key = tuple[int, int]


def same(case: Case) -> Check:
    """The normalised entropy of every logged sample is the accuracy run's, within 0.1 %.

    Raises:
        DataError: a payload does not have the form above, or a value is NaN.
    """
    known: dict[_Key, tuple[float, _Floats, _Floats]] = {}
    for key, rest in _samples(case.want("accuracy") / log.NAME, _whole):
        predictions, labels, weights = np.split(rest[:-1], 3)
        known[key] = _entropy(predictions, labels, weights), labels, weights
    matched = unmatched = different = 0
    worst = 0.0
    for key, predictions in _samples(case.logs / log.NAME, lambda _: True):
        if key not in known:
            unmatched += 1
            continue
        matched += 1
        wanted, labels, weights = known[key]
        if len(predictions) != len(labels):
            raise DataError(
                f"{log.NAME}: {key} has {len(predictions)} predictions, not {len(labels)}"
            )
        change = _change(wanted, _entropy(predictions, labels, weights))
        worst = max(worst, change)
        different += change > TOLERANCE
    if not matched + unmatched:
        raise DataError(f"LoadGen logged no answer in this run ({log.NAME} has no entry)")
    passed = matched > 0 and not unmatched and not different
    return Check(
        name="accuracy",
        verdict="pass" if passed else "fail",
        reason=f"{different} of {matched} logged samples differ in entropy by more than "
        f"{100 * TOLERANCE:g} %; {unmatched} are not in the accuracy log",
        figures={
            "logged_samples": matched + unmatched,
            "samples_compared": matched,
            "not_in_accuracy_log": unmatched,
            "samples_different": different,
            "largest_change_percent": 100 * worst if np.isfinite(worst) else None,
            "tolerance_percent": 100 * TOLERANCE,
        },
        lines=("TEST PASS" if passed else "TEST FAIL",),
    )


def _change(wanted: float, found: float) -> float:
    """Relative; two zeros are equal, and a zero differs from all else."""
    if not wanted or not found:
        return 0.0 if wanted == found else float("inf")
    return float(abs(found - wanted) / abs(wanted))


def _samples(path: Path, fits: Callable[[_Floats], bool]) -> Any:
    """``(timestamp, query), the rest`` of each payload."""
    for index, data in log.entries(path):
        try:
            values = np.frombuffer(bytes.fromhex(data), np.float32)
        except ValueError as error:
            raise DataError(f"{path.name}: sample {index}: no list of float32: {error}") from error
        if len(values) < 2 or np.isnan(values).any() or not fits(values):
            raise DataError(
                f"{path.name}: sample {index}: {len(values)} values are not those of a sample, or "
                "one is NaN, which compares with nothing"
            )
        if not np.isfinite(values[:2]).all():
            raise DataError(f"{path.name}: sample {index}: timestamp or query is no number")
        yield (int(values[0]), int(values[1])), values[2:]


def _whole(values: _Floats) -> bool:
    return bool(np.isfinite(values[-1])) and len(values) == 3 + 3 * int(values[-1])


def _entropy(predictions: _Floats, labels: _Floats, weights: _Floats) -> Any:
    """Cross entropy over that of guessing the mean label; 0 where there is nothing to guess."""
    predictions, labels = (np.clip(v, _EPSILON, 1 - _EPSILON) for v in (predictions, labels))
    total = np.sum(weights)
    if total == 0:
        return 0.0
    terms = labels * np.log(predictions) + (1 - labels) * np.log(1 - predictions)
    mean = np.clip(np.sum(weights * labels) / total, _EPSILON, 1 - _EPSILON)
    guessed = -mean * np.log(mean) - (1 - mean) * np.log(1 - mean)
    return -np.sum(weights * terms) / (guessed * total) if guessed else 0.0
