"""Reader of ``mlperf_log_accuracy.json``: one entry a line, as LoadGen writes it.

Read line by line: a log may be far larger than memory is, and an error can name its line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proctor_steps.stage import DataError

NAME = "mlperf_log_accuracy.json"
_SHOWN = 20


@dataclass(frozen=True)
class AccuracyLog:
    """Payloads by sample, the first of each; and how many entries the log has in all."""

    answers: dict[int, bytes]
    entries: int

    @property
    def duplicates(self) -> int:
        """Entries beyond the first of their sample (MultiStream pads its last query)."""
        return self.entries - len(self.answers)


def entries(path: Path) -> Iterator[tuple[int, str]]:
    """``(qsl_idx, hexadecimal payload)`` of each entry, in the log's order.

    Raises:
        DataError: the file is empty, cut off, or a line is no entry.
    """
    return ((entry["qsl_idx"], entry["data"]) for entry in objects(path))


def objects(path: Path) -> Iterator[dict[str, Any]]:
    """Each entry with all its keys: ``qsl_idx`` and ``data``, and of a token run ``token_count``
    and ``token_data``.

    Raises:
        DataError: as :func:`entries`.
    """
    if not path.is_file() or path.stat().st_size == 0:
        raise DataError(f"{path.name} is missing or empty; was this a run in accuracy mode?")
    closed = False
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            text = line.strip().rstrip(",")
            if closed and text:
                raise DataError(f"{path.name}:{number}: text after the end of the list")
            if text in ("", "[") and (number == 1 or not text):
                continue
            if text == "]":
                closed = True
            else:
                yield _entry(text, path, number)
    if not closed:
        raise DataError(f"{path.name} ends without its closing bracket; it was cut off")


def read(path: Path, samples: int) -> AccuracyLog:
    """Read a log and account for every one of the dataset's ``samples``.

    Raises:
        DataError: as :func:`entries`; or a sample has no entry, or an entry no sample.
    """
    answers: dict[int, bytes] = {}
    count = 0
    for index, data in entries(path):
        count += 1
        if index in answers:
            continue
        try:
            answers[index] = bytes.fromhex(data)
        except ValueError as error:
            raise DataError(f"{path.name}: sample {index}: payload is no hexadecimal") from error
    _account(answers, samples, path.name)
    return AccuracyLog(answers, count)


def _account(answers: dict[int, bytes], samples: int, name: str) -> None:
    strange = sorted(i for i in answers if not 0 <= i < samples)
    if strange:
        raise DataError(
            f"{name}: sample {_listed(strange)} out of range: the dataset has {samples} samples; "
            "are log and dataset of the same run?"
        )
    missing = [i for i in range(samples) if i not in answers]
    if missing:
        raise DataError(
            f"{name}: {len(missing)} of {samples} samples have no entry: {_listed(missing)}; "
            "leaving them out would raise the score, so it is not computed"
        )


def _entry(text: str, path: Path, number: int) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = json.loads(text)
        index, data = entry["qsl_idx"], entry["data"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path.name}:{number}: no entry of an accuracy log ({error}); was the file cut off?"
        ) from error
    if type(index) is not int or not isinstance(data, str):
        raise DataError(f"{path.name}:{number}: qsl_idx or data is of the wrong type")
    return entry


def _listed(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:_SHOWN])) + (", ..." if len(ids) > _SHOWN else "")
