"""Logs of a compliance test's run, made by hand in the form in which LoadGen writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from proctor_steps import rounds
from proctor_steps.compliance import audit
from proctor_steps.compliance.verdict import Verification
from proctor_steps.compliance.verify import Params, verify

SEEDS = rounds.load("v6.1").seeds
# What `requested_*` becomes in the log where it is not the same word.
_EFFECTIVE = {"mode": "test_mode", "min_duration": "min_duration_ms"}


def detail(scenario: str, score: float, **changes: Any) -> dict[str, Any]:
    """Key and value of each line of a detail log; a change to ``None`` leaves the line out."""
    stream = {"SingleStream": "ss", "MultiStream": "ms"}.get(scenario)
    key = {"Offline": "result_samples_per_second", "Server": "result_completed_samples_per_sec"}
    values = {
        "loadgen_version": "6.0.17 @ d6147c7eb7",
        "qsl_reported_total_count": 1525,
        "effective_scenario": scenario,
        "effective_test_mode": "PerformanceOnly",
        "effective_samples_per_query": {"MultiStream": 8, "Offline": 24576}.get(scenario, 1),
        "effective_target_latency_ns": 100_000_000,
        "effective_target_latency_percentile": 0.99 if scenario != "SingleStream" else 0.9,
        "effective_min_duration_ms": 600_000,
        "effective_min_query_count": 100,
        **{f"effective_{k}_rng_seed": v.value for k, v in SEEDS.items()},
        "effective_performance_issue_same": False,
        "effective_performance_issue_unique": False,
        "effective_performance_issue_same_index": 0,
        "effective_performance_sample_count": 64,
        "effective_sample_concatenate_permutation": False,
        "power_begin": "11-26-2026 06:00:00.000",
        "power_end": "11-26-2026 06:10:01.000",
        "result_validity": "VALID",
        "result_min_duration_met": True,
        "result_min_queries_met": True,
        "early_stopping_met": True,
        "result_query_count": 20_000,
        f"early_stopping_latency_{stream}" if stream else key[scenario]: score,
        "result_90.00_percentile_latency_ns": 1_000_000,
        "result_99.00_percentile_latency_ns": 2_000_000,
        "num_errors": 0,
        **changes,
    }
    return {name: value for name, value in values.items() if value is not None}


def of_test(test: str, model: str, scenario: str, score: float, **changes: Any) -> dict[str, Any]:
    """A detail log of a test's run: its settings are in effect."""
    settings = {
        f"effective_{_EFFECTIVE.get(key, key)}": "PerformanceOnly" if key == "mode" else value
        for key, value in audit.rules(test).of(model).settings.items()
    }
    return detail(scenario, score, **{**settings, **changes})


def write_detail(folder: Path, values: dict[str, Any]) -> None:
    """``mlperf_log_detail.txt``."""
    lines = []
    for number, (key, value) in enumerate(values.items()):
        error = key.startswith("error_")
        about = {"is_error": error, "is_warning": False, "file": "x.cc", "line_no": number}
        entry = {"key": key, "value": value, "time_ms": float(number), "metadata": about}
        lines.append(f":::MLLOG {json.dumps(entry)}\n")
    (folder / "mlperf_log_detail.txt").write_text("".join(lines))


def summary(
    scenario: str, score: float | str, validity: str = "VALID", latency_ns: str = "100000000"
) -> str:
    """``mlperf_log_summary.txt``; ``score`` in its own words."""
    told = {
        "SingleStream": f" * Early stopping 90.0th percentile estimate: {score}",
        "MultiStream": f" * Early stopping 99.0th percentile estimate: {score}",
        "Server": f"Completed samples per second    : {score}",
        "Offline": f"Samples per second: {score}",
    }[scenario]
    return (
        f"SUT name : PyFastSUT\nScenario : {scenario}\nMode     : PerformanceOnly\n"
        f"Result is : {validity}\n{told}\n\nTest Parameters Used\n"
        f"target_latency (ns): {latency_ns}\n\nNo errors encountered during test.\n"
    )


def write_answers(folder: Path, entries: Iterable[dict[str, Any]]) -> None:
    """``mlperf_log_accuracy.json``, with the blanks that LoadGen writes."""
    lines = []
    for number, entry in enumerate(entries):
        pairs = {"seq_id": number, **entry}
        told = ", ".join(f'"{key}" : {json.dumps(value)}' for key, value in pairs.items())
        lines.append(f"{{ {told} }}")
    (folder / "mlperf_log_accuracy.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


def hexed(values: Sequence[float], dtype: str) -> str:
    """A payload as LoadGen writes it."""
    return np.array(values, dtype).tobytes().hex().upper()


@dataclass
class Kit:
    """The runs that a test looks at, each in a folder of its own."""

    root: Path
    test: str
    benchmark: str = "yolo"
    scenario: str = "SingleStream"
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def logs(self) -> Path:
        """The test's run."""
        return self._folder("logs")

    @property
    def performance(self) -> Path:
        """The performance run."""
        return self._folder("performance")

    @property
    def accuracy(self) -> Path:
        """The accuracy run."""
        return self._folder("accuracy")

    @property
    def score(self) -> Path:
        """What a scorer printed."""
        return self._folder("score")

    def fill(self, reference: float = 1e7, tested: float = 1e7, **changes: Any) -> Kit:
        """A performance run and a run of the test that passes, as far as speed is concerned."""
        write_detail(self.performance, detail(self.scenario, reference))
        made = of_test(self.test, self.benchmark, self.scenario, tested, **changes)
        write_detail(self.logs, made)
        for folder, value in ((self.performance, reference), (self.logs, tested)):
            (folder / "mlperf_log_summary.txt").write_text(summary(self.scenario, value))
        return self

    def answers(self, accuracy: Iterable[Any], tested: Iterable[Any]) -> Kit:
        """Both logs of answers: ``(sample, payload as hexadecimal)``."""
        for folder, pairs in ((self.accuracy, accuracy), (self.logs, tested)):
            write_answers(folder, [{"qsl_idx": i, "data": data} for i, data in pairs])
        return self

    def verify(self, dataset: Path | None = None) -> Verification:
        """Our verdict."""
        params = {"benchmark": self.benchmark, "test": self.test, **self.options}
        others = {name: self._folder(name) for name in ("performance", "accuracy", "score")}
        return verify(Params.model_validate(params), self.logs, {**others, "dataset": dataset})

    def verdict(self, name: str) -> str:
        """Our verdict on one check."""
        return next(check.verdict for check in self.verify().checks if check.name == name)

    def _folder(self, name: str) -> Path:
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        return path
