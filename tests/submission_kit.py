"""A submission without fault: closed, edge, yolo-99 of v6.1, on logs of real LoadGen runs.

The runs are short (:mod:`null_run`), and VALID for their length. What a run of ten minutes would
have written differently is put in: the minimum duration that was set, and when the run ended.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import null_run
from proctor_steps.compliance import audit as compliance
from proctor_steps.submission.archive import truncate_accuracy_log
from proctor_steps.submission.system import FIELDS, MEASUREMENTS, without_accelerator

ROUND, SUBMITTER, SYSTEM, BENCHMARK = "v6.1", "Example", "one-server", "yolo-99"
SCENARIOS = ("SingleStream", "MultiStream", "Offline")
SUBMISSION = f"closed/{SUBMITTER}"
RESULTS = f"{SUBMISSION}/results/{SYSTEM}/{BENCHMARK}"
SINGLE = f"{RESULTS}/SingleStream"
DESCRIPTION = f"{SUBMISSION}/systems/{SYSTEM}.json"
DETAIL, SUMMARY = "mlperf_log_detail.txt", "mlperf_log_summary.txt"
PREFIX = ":::MLLOG "
LASTED_MS = 601_234
# The figure that a scenario is judged by: its key in the detail log, its line in the summary.
_SCORES = {
    "SingleStream": (
        "early_stopping_latency_ss",
        r"^.*Early stopping 90(?:\.0)?th percentile.*$",
    ),
    "MultiStream": (
        "early_stopping_latency_ms",
        r"^.*Early stopping 99(?:\.0)?th percentile.*$",
    ),
    "Offline": ("result_samples_per_second", r"^Samples per second.*$"),
}


def make_runs(folder: Path) -> Path:
    """The logs that :func:`make_tree` needs: every scenario in performance, accuracy and TEST01."""
    audit = folder / "audit.config"
    folder.mkdir(parents=True, exist_ok=True)
    audit.write_text(compliance.text("TEST01", "yolo"))
    for scenario in SCENARIOS:
        for name, mode, config in (
            ("performance", "PerformanceOnly", ""),
            ("accuracy", "AccuracyOnly", ""),
            ("TEST01", "PerformanceOnly", str(audit)),
        ):
            command = [sys.executable, null_run.__file__, str(folder / scenario / name)]
            subprocess.run([*command, scenario, mode, config], check=True, timeout=120)
    return folder


def make_tree(root: Path, runs: Path) -> Path:
    """The submission, in a folder that is not there yet."""
    submission = root / SUBMISSION
    write(submission / "src" / BENCHMARK / "README.md", "# The code that measured\n")
    write(submission / "documentation" / "calibration.md", "# Calibration\n\nNone.\n")
    write_json(root / DESCRIPTION, description())
    for scenario in SCENARIOS:
        _scenario(root / RESULTS / scenario, runs / scenario)
    return root


def _scenario(folder: Path, runs: Path) -> None:
    write_json(folder / "measurements.json", dict.fromkeys(MEASUREMENTS, "fp32"))
    write(folder / "user.conf", (runs / "performance" / "user.conf").read_text())
    write(folder / "README.md", "# How to make this result again\n")
    _ten_minutes(runs / "performance", folder / "performance" / "run_1")
    test = folder / "TEST01" / "performance" / "run_1"
    _ten_minutes(runs / "TEST01", test)
    _as_fast(folder / "performance" / "run_1", test, folder.name)
    for name in ("verify_accuracy.txt", "verify_performance.txt"):
        write(folder / "TEST01" / name, "TEST PASS\n")
    accuracy = folder / "accuracy"
    for name in (SUMMARY, DETAIL):
        write(accuracy / name, (runs / "accuracy" / name).read_text())
    name = "mlperf_log_accuracy.json"
    digest = truncate_accuracy_log(runs / "accuracy" / name, accuracy / name)
    write(accuracy / "accuracy.txt", f"mAP=53.103%\n\nhash={digest}\n")


def _ten_minutes(source: Path, target: Path) -> None:
    """Logs as of a run of ten minutes."""
    detail = (source / DETAIL).read_text()
    for kind in ("requested", "effective"):
        detail = with_value(detail, f"{kind}_min_duration_ms", 600_000)
    write(target / DETAIL, with_duration(detail, LASTED_MS))
    summary = re.sub(r"min_duration \(ms\): \d+", "min_duration (ms): 600000",
                     (source / SUMMARY).read_text())  # fmt: skip
    write(target / SUMMARY, summary)


def _as_fast(reference: Path, test: Path, scenario: str) -> None:
    """Give a run another one's score: those of microseconds differ by more than is allowed."""
    key, line = _SCORES[scenario]
    values = [json.loads(each.removeprefix(PREFIX)) for each in (reference / DETAIL).open()]
    (value,) = (each["value"] for each in values if each["key"] == key)
    edit(test / DETAIL, lambda text: with_value(text, key, value))
    (told,) = re.findall(line, (reference / SUMMARY).read_text(), re.MULTILINE)
    edit(test / SUMMARY, lambda text: re.sub(line, told, text, flags=re.MULTILINE))


def description() -> dict[str, Any]:
    """A server without an accelerator."""
    fields: dict[str, Any] = dict.fromkeys(FIELDS, "as built")
    return fields | without_accelerator() | {
        "division": "closed",
        "submitter": SUBMITTER,
        "status": "available",
        "system_type": "edge",
        "system_name": "One server",
        "number_of_nodes": "1",
        "host_processors_per_node": "2",
        "host_processor_core_count": "16",
    }  # fmt: skip


def write(path: Path, text: str) -> None:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file."""
    write(path, json.dumps(value, indent=1) + "\n")


def with_value(log: str, key: str, value: Any) -> str:
    """A detail log with another value of a key."""
    lines = log.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.startswith(f'{PREFIX}{{"key": "{key}"'):
            entry = json.loads(line.removeprefix(PREFIX)) | {"value": value}
            lines[number] = f"{PREFIX}{json.dumps(entry)}\n"
    return "".join(lines)


def with_duration(log: str, lasted_ms: int) -> str:
    """A detail log of a run that lasted so long."""
    from datetime import datetime, timedelta

    form = "%m-%d-%Y %H:%M:%S.%f"
    match = re.search(r'"power_begin", "value": "([^"]+)"', log)
    assert match
    end = datetime.strptime(match[1], form) + timedelta(milliseconds=lasted_ms)
    return with_value(log, "power_end", end.strftime(form)[:-3])


def edit(path: Path, change: Callable[[str], str]) -> None:
    """Change a text file."""
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def edit_json(path: Path, change: dict[str, Any]) -> None:
    """Change fields of a JSON file; ``...`` takes one away."""
    fields = json.loads(path.read_text()) | change
    write_json(path, {key: value for key, value in fields.items() if value is not ...})
