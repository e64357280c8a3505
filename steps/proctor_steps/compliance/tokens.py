"""TEST06 and TEST09: the tokens of a language model's answers, as LoadGen logged them."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proctor_steps.accuracy import log
from proctor_steps.compliance import audit
from proctor_steps.compliance.verdict import Case, Check, Doubt
from proctor_steps.stage import DataError

TYPES: dict[str, Any] = {"int64": np.int64, "int32": np.int32, "int16": np.int16}
TYPES["float32"] = np.float32
_TOKEN_BYTES = 4
_NAMES = {
    "first_token": "First token check pass",
    "end_of_sequence": "EOS check pass",
    "length": "Sample length check pass",
}


def consistent(case: Case) -> Check:
    """TEST06: the first token is the one that was reported, at most one end of sequence stands at
    the end, and there are as many tokens as were counted.

    Raises:
        DataError: the log holds no tokens, or none of type ``dtype``.
    """
    streamed = case.detail.scenario != "Offline"
    wrong = dict.fromkeys(_NAMES, 0)
    samples = unreported = 0
    for entry in log.objects(case.logs / log.NAME):
        samples += 1
        tokens = _tokens(entry, "data", case.dtype)
        if streamed:
            first = _tokens(entry, "token_data", case.dtype)
            unreported += not len(first)
            wrong["first_token"] += any(a != b for a, b in zip(tokens, first, strict=False))
        wrong["end_of_sequence"] += _ends(tokens, case.eos_token_id) >= 2
        wrong["length"] += len(tokens) != _count(entry)
    if not samples:
        raise DataError(f"LoadGen logged no answer in this run ({log.NAME} has no entry)")
    failed = [name.replace("_", " ") for name, count in wrong.items() if count]
    said = {name: str(not count) for name, count in wrong.items()}
    said |= {} if streamed else {"first_token": "Skipped"}
    doubts = []
    if unreported:
        text = f"{unreported} answers have no first token reported, which the script takes as equal"
        doubts.append(Doubt(rule="test06_first_token", severity="error", message=text))
    return Check(
        name="accuracy",
        verdict="fail" if failed else "pass",
        reason=f"{', '.join(failed)} wrong" if failed else f"all {samples} logged answers agree",
        figures={"logged_samples": samples, **{f"wrong_{k}": v for k, v in wrong.items()}},
        doubts=tuple(doubts),
        lines=tuple(f"{_NAMES[name]}: {ok}" for name, ok in said.items()),
    )


def _tokens(entry: dict[str, Any], key: str, dtype: str) -> NDArray[Any]:
    kind, where = np.dtype(TYPES[dtype]), f"{log.NAME}: sample {entry['qsl_idx']}"
    text = entry.get(key)
    if not isinstance(text, str):
        raise DataError(f"{where} has no {key}; was the run made with use_token_latencies?")
    try:
        return np.frombuffer(bytes.fromhex(text), kind)
    except ValueError as error:
        raise DataError(f"{where}: {key} is no list of {dtype}: {error}") from error


def _count(entry: dict[str, Any]) -> int:
    count = entry.get("token_count")
    if type(count) is not int:
        raise DataError(
            f"{log.NAME}: sample {entry['qsl_idx']} has no token_count; was the run made with "
            "use_token_latencies?"
        )
    return count


def _ends(tokens: NDArray[Any], eos: int) -> int:
    """End-of-sequence tokens at the end; an answer's first token is not looked at."""
    others = np.flatnonzero(tokens[1:] != eos)
    last = int(others[-1]) + 1 if len(others) else 0
    return max(0, len(tokens) - 1 - last)


def long_enough(case: Case) -> Check:
    """TEST09: the mean number of tokens (int32) lies between the benchmark's bounds.

    Raises:
        DataError: the test has no bounds for the benchmark, or a payload is no tokens.
    """
    bounds = audit.rules("TEST09").of(case.model).thresholds
    if not bounds:
        raise DataError(f"TEST09 is no test of {case.model}: there are no bounds for it")
    low, high = bounds["test09_min_output_tokens"], bounds["test09_max_output_tokens"]
    lengths = [_length(index, data) for index, data in log.entries(case.logs / log.NAME)]
    if not lengths:
        raise DataError(f"LoadGen logged no answer in this run ({log.NAME} has no entry)")
    mean = sum(lengths) / len(lengths)
    passed = low <= mean <= high
    return Check(
        name="output_length",
        verdict="pass" if passed else "fail",
        reason=f"{mean:.2f} tokens on average; wanted are {low:g} to {high:g}",
        figures={
            "logged_samples": len(lengths),
            "mean_tokens": mean,
            "least_tokens": min(lengths),
            "most_tokens": max(lengths),
            "deviation_tokens": statistics.pstdev(lengths),
            "bounds": [low, high],
        },
        lines=("TEST PASS" if passed else "TEST FAIL",),
    )


def _length(index: int, data: str) -> int:
    try:
        return len(bytes.fromhex(data)) // _TOKEN_BYTES
    except ValueError as error:
        raise DataError(f"{log.NAME}: sample {index}: payload is no hexadecimal") from error
