"""The rules of each MLPerf round, as data: one YAML file a round, read by :func:`load`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from proctor_steps.stage import StepError

Scenario = Literal["SingleStream", "MultiStream", "Server", "Offline"]
SystemType = Literal["edge", "datacenter"]

_FOLDER = Path(__file__).parent


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Seeds(_Rules):
    """Seeds of LoadGen's three random generators; they are drawn anew for each round."""

    qsl: int
    sample_index: int
    schedule: int


class ScenarioRules(_Rules):
    """What every benchmark has to meet in one scenario.

    ``percentile``: the latency percentile that counts. ``samples_per_query``: ``None`` where the
    system chooses. ``early_stopping``: whether the early-stopping condition must be met.
    """

    percentile: float
    min_query_count: int
    samples_per_query: int | None = None
    early_stopping: bool


class AccuracyRules(_Rules):
    """The accuracy target of each submission name (``yolo-99``), in ``unit``."""

    metric: str
    unit: Literal["percent", "fraction"]
    targets: dict[str, float]

    def fraction(self, name: str) -> float:
        """The target of one submission name as a fraction of 1."""
        value = self.targets[name]
        return value / 100 if self.unit == "percent" else value

    @property
    def lowest(self) -> str:
        """The submission name that is easiest to meet: below it there is nothing to submit."""
        return min(self.targets, key=lambda name: self.targets[name])


class BenchmarkRules(_Rules):
    """One benchmark of the round.

    ``config_key`` is the model name that LoadGen's ``FromConfig`` knows, which is not the name of
    the submission folder. ``offline_min_samples``: samples in the Offline query at least.
    ``latency_limits_ms``: the Server scenario's bound, by scenario.
    """

    config_key: str
    dataset_samples: int
    performance_samples: int
    offline_min_samples: int
    scenarios: dict[SystemType, tuple[Scenario, ...]]
    accuracy: AccuracyRules
    latency_limits_ms: dict[Scenario, float] = Field(default_factory=dict)
    compliance_tests: tuple[str, ...] = ()

    def has(self, scenario: str) -> bool:
        """Whether the round has this scenario for the benchmark, for any type of system."""
        return any(scenario in scenarios for scenarios in self.scenarios.values())


class Round(_Rules):
    """One round. ``loadgen_versions``: the LoadGen releases that carry the round's settings."""

    round: str
    loadgen_versions: tuple[str, ...]
    seeds: Seeds
    min_duration_s: float
    scenarios: dict[Scenario, ScenarioRules]
    benchmarks: dict[str, BenchmarkRules]

    def benchmark(self, name: str) -> BenchmarkRules | None:
        """Rules of a benchmark; ``None`` where the round does not have it."""
        return self.benchmarks.get(name)


def names() -> list[str]:
    """The rounds that are known."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load(name: str) -> Round:
    """The rules of a round.

    Raises:
        StepError: no such round.
    """
    if name not in names():
        raise StepError(f"no round {name!r}; known: {', '.join(names())}")
    text = (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    return Round.model_validate(yaml.safe_load(text))
