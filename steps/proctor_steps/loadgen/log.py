"""LoadGen's logs as data: what was measured, what was set, which rules of the round are met.

A run is judged by its logs alone: exit codes and return values say nothing reliable. Cut-off or
malformed logs are a :class:`DataError` that names the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from proctor_steps.loadgen.quiet import Machine, Probes
from proctor_steps.loadgen.scan import Scan, scan
from proctor_steps.rounds import LoadgenScenario
from proctor_steps.stage import DataError

SUMMARY = "mlperf_log_summary.txt"
DETAIL = "mlperf_log_detail.txt"
Mode = Literal["accuracy", "performance"]

_MODES: dict[str, Mode] = {"AccuracyOnly": "accuracy", "PerformanceOnly": "performance"}
_ALWAYS = ("loadgen_version", "effective_scenario", "effective_test_mode", "power_end")
_PERFORMANCE = (
    "result_validity",
    "result_min_duration_met",
    "result_min_queries_met",
    "early_stopping_met",
    "result_query_count",
    "power_begin",
    "num_errors",
)
_TELLS_ERRORS = (5, 0, 20)  # the first releases with num_errors lie between 5.0.15 and 5.0.21
_PERCENTILES = {"50.00": "p50", "90.00": "p90", "95.00": "p95", "97.00": "p97"}
_PERCENTILES |= {"99.00": "p99", "99.90": "p999"}
# What is reckoned with, by key; LoadGen writes nothing but numbers and these texts there.
_NUMBERS = re.compile(
    r"result_\w*[\w.]*_(ns|count|per_sec|per_second)|early_stopping_latency_\w+|num_errors"
    r"|qsl_reported_total_count|effective_(min_duration_ms|samples_per_query"
    r"|performance_sample_count|target_latency_percentile|target_latency_ns)"
)
_TEXTS = ("loadgen_version", "effective_scenario", "effective_test_mode", "result_validity")
_TIMES = ("power_begin", "power_end")
_TIME = "%m-%d-%Y %H:%M:%S.%f"
# The figure of each scenario, by LoadGen's own key, and what stands in for it where early stopping
# could not be computed.
_METRICS: dict[str, tuple[str, str, str]] = {
    "SingleStream": ("early_stopping_latency_ss", "result_90.00_percentile_latency_ns", "ns"),
    "MultiStream": (
        "early_stopping_latency_ms",
        "result_99.00_percentile_per_query_latency_ns",
        "ns",
    ),
    "Server": ("result_completed_samples_per_sec", "", "samples/s"),
    "Offline": ("result_samples_per_second", "", "samples/s"),
}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(_Record):
    """One rule of the round. ``met`` is ``None`` where the logs cannot tell."""

    rule: str
    met: bool | None
    required: JsonValue
    found: JsonValue
    message: str


class Metric(_Record):
    """The scenario's figure, by LoadGen's name for it."""

    name: str
    value: float
    unit: str


class Percentile(_Record):
    """The latency percentile that counts in the scenario (``p90``), in nanoseconds."""

    name: str
    value_ns: float


class Disturbed(_Record):
    """A run that does not count, as the machine was disturbed. ``logs``: where they are kept."""

    logs: str
    valid: bool | None
    metric: Metric | None
    duration_s: float
    disturbed: tuple[str, ...]


class LoadgenRun(_Record):
    """One run, as its logs tell it.

    ``valid``: LoadGen's own verdict, ``None`` in accuracy mode. ``official``: every rule of the
    round is met. ``queries``: ``None`` in accuracy mode, where LoadGen does not say.
    ``duration_s``: measured, not configured; in accuracy mode it includes the loading of samples.
    ``test``: the compliance test that this is a run of, empty for a plain run.
    ``sut``: the system under test and its settings, as it
    described itself.

    ``disturbed``: why the machine was not quiet, in words; empty where it was, ``None`` where
    nobody looked (accuracy runs, short ones). The orchestrator adds what it alone can see: other
    containers that ran beside an exclusive step. ``machine``, ``probe``: what the words were
    found by (:mod:`quiet`). ``left_out``: runs of this step before this one, which was made
    because they were disturbed.
    """

    benchmark: str
    round: str
    scenario: LoadgenScenario
    mode: Mode
    test: str = ""
    valid: bool | None
    official: bool
    scenario_in_round: bool
    samples: int
    queries: int | None
    duration_s: float
    metric: Metric | None
    latency_ns: dict[str, float]
    percentile: Percentile | None
    settings: dict[str, dict[str, JsonValue]]
    rules: tuple[Rule, ...]
    loadgen_version: str
    errors: tuple[str, ...]
    sut: dict[str, JsonValue] = Field(default_factory=dict)
    disturbed: tuple[str, ...] | None = None
    machine: Machine | None = None
    probe: Probes | None = None
    left_out: tuple[Disturbed, ...] = ()


@dataclass(frozen=True)
class Detail:
    """mlperf_log_detail.txt: the last value of each key, and the lines marked as errors.

    ``elapsed_s``: LoadGen's own clock at the last line.
    """

    values: dict[str, Any]
    errors: tuple[str, ...]
    elapsed_s: float = 0.0

    @property
    def mode(self) -> Mode:
        """Accuracy or performance."""
        return _MODES[self.values["effective_test_mode"]]

    @property
    def scenario(self) -> LoadgenScenario:
        """The scenario that ran."""
        made: LoadgenScenario = self.values["effective_scenario"]
        return made

    @property
    def version(self) -> str:
        """LoadGen's release, without the commit."""
        return str(self.values["loadgen_version"]).split(" ")[0]

    @property
    def queries(self) -> int:
        """Queries that were completed (performance mode)."""
        return int(self.values["result_query_count"])

    @property
    def samples(self) -> int:
        """Samples that were completed (performance mode)."""
        return self.queries * int(self.values["effective_samples_per_query"])

    @property
    def duration_s(self) -> float:
        """Time between the first query and the last answer, to the millisecond.

        By the machine's clock: negative where that was set back meanwhile.
        """
        begin, end = (datetime.strptime(self.values[key], _TIME) for key in _TIMES)
        return (end - begin).total_seconds()

    @property
    def late(self) -> int:
        """Queries over the latency limit (Server)."""
        return int(self.values.get("result_overlatency_query_count", 0))

    def settings(self, kind: str) -> dict[str, JsonValue]:
        """The settings asked for (``requested``) or in effect (``effective``)."""
        start = f"{kind}_"
        return {k.removeprefix(start): v for k, v in self.values.items() if k.startswith(start)}

    def percentile(self, percent: float) -> Percentile | None:
        """A latency percentile; per query where LoadGen tells it so."""
        text = f"{percent:.2f}"
        for key in (f"result_{text}_percentile_per_query_latency_ns", _latency_key(text)):
            if key in self.values:
                name = _PERCENTILES.get(text, f"p{percent:g}")
                return Percentile(name=name, value_ns=self.values[key])
        return None

    def latency_ns(self) -> dict[str, float]:
        """mean, min, max and the percentiles, as far as LoadGen tells them."""
        found: dict[str, float] = {}
        for name in ("mean", "min", "max"):
            for key in (f"result_{name}_query_latency_ns", f"result_{name}_latency_ns"):
                if key in self.values:
                    found[name] = self.values[key]
                    break
        for text, name in _PERCENTILES.items():
            percentile = self.percentile(float(text))
            if percentile:
                found[name] = percentile.value_ns
        return found

    def metric(self) -> Metric | None:
        """The scenario's figure (performance mode)."""
        first, second, unit = _METRICS[self.scenario]
        for key in (first, second):
            # LoadGen writes 0 for an estimate that it could not make.
            if self.values.get(key):
                return Metric(name=key, value=self.values[key], unit=unit)
        return None


def read(folder: Path) -> Detail:
    """Read and check the logs of one run.

    Raises:
        DataError: a log is missing, empty, malformed, cut off, or of no run that this project does.
    """
    for name in (SUMMARY, DETAIL):
        path = folder / name
        if not path.is_file() or path.stat().st_size == 0:
            raise DataError(f"{name} is missing or empty: LoadGen did not finish this run")
    found = scan(folder / DETAIL)
    for problem in found.problems:
        raise DataError(f"{DETAIL}:{problem.line}: {problem.text}")
    detail = of(found)
    for text in problems(detail):
        raise DataError(f"{DETAIL}: {text}")
    return detail


def of(found: Scan) -> Detail:
    """What a detail log tells, unchecked: see :func:`problems`."""
    return Detail(found.values, tuple(error.text for error in found.errors), found.elapsed_s)


def problems(detail: Detail) -> Iterator[str]:
    """Why this is not the whole log of a run that this project knows; nothing where it is."""
    for key, value in detail.values.items():
        if not _fits(key, value):
            yield (
                f"{key} is {ascii(value)[:80]}, which LoadGen does not write; the file "
                "was damaged or edited: give the logs of a run as they are"
            )
    missing = [key for key in _ALWAYS if key not in detail.values]
    mode = detail.values.get("effective_test_mode", "AccuracyOnly")
    if not isinstance(mode, str) or mode not in _MODES:
        yield f"test mode {mode} is not known"
    elif not missing and detail.mode == "performance":
        missing = [key for key in _performance_keys(detail) if key not in detail.values]
    if missing:
        yield f"does not tell {', '.join(missing)}; it was cut off"
    scenario = detail.values.get("effective_scenario")
    if isinstance(scenario, str) and scenario not in _METRICS:
        yield f"scenario {scenario!r} is not known"


def _performance_keys(detail: Detail) -> tuple[str, ...]:
    """What the log of a performance run tells if it is whole; num_errors is its last line."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", detail.version)[:3])
    return _PERFORMANCE if numbers >= _TELLS_ERRORS or not numbers else _PERFORMANCE[:-1]


@cache
def _is_number(key: str) -> bool:
    return _NUMBERS.fullmatch(key) is not None


def _fits(key: str, value: Any) -> bool:
    """Whether a value is of the kind that LoadGen writes under a key."""
    if _is_number(key):
        return type(value) in (int, float) and abs(value) < 1e300
    if key in _TEXTS:
        return isinstance(value, str)
    if key in _TIMES:
        try:
            datetime.strptime(value, _TIME)
        except (TypeError, ValueError):
            return False
    return True


def _latency_key(text: str) -> str:
    return f"result_{text}_percentile_latency_ns"
