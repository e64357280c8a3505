"""The rules of one round, as data: what ``rounds/*.yaml`` holds.

A benchmark here is what is run (``yolo``); it is submitted under one of the official folder names,
each with an accuracy target of its own (``yolo-95``, ``yolo-99``), and LoadGen knows it by a third
name (``loadgen_key``). :meth:`Round.benchmark` takes either of the first two, and the official
checker's aliases.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from proctor_steps.rounds.figure import Figure, Rules

LoadgenScenario = Literal["SingleStream", "MultiStream", "Server", "Offline"]
# Interactive is run as LoadGen's Server, with tighter limits on the latency of tokens.
Scenario = Literal["SingleStream", "MultiStream", "Server", "Interactive", "Offline"]
SystemType = Literal["edge", "datacenter", "datacenter,edge"]
Test = Literal["TEST01", "TEST04", "TEST06", "TEST07", "TEST08", "TEST09"]


def _alternatives(value: object) -> object:
    """``Server|Interactive`` -> both, of which at least one is wanted."""
    return value.split("|") if isinstance(value, str) else value


# One scenario that is wanted, or several of which at least one is.
OneOf = Annotated[tuple[Scenario, ...], BeforeValidator(_alternatives)]
Scenarios = tuple[OneOf, ...]


class Seeds(Rules):
    """Seeds of LoadGen's three random generators; they are drawn anew for each round."""

    qsl: Figure[int]
    sample_index: Figure[int]
    schedule: Figure[int]

    def items(self) -> Iterator[tuple[str, Figure[int]]]:
        """``("qsl", figure)`` and so on, in LoadGen's order."""
        yield from (("qsl", self.qsl), ("sample_index", self.sample_index))
        yield "schedule", self.schedule


class Reported(Rules):
    """The figure that a result is known by.

    ``key``: in LoadGen's detail log. ``factor`` brings it to ``unit``, the words of the official
    summary. Source: the checker.
    """

    key: str
    unit: str
    factor: float = 1.0
    better: Literal["higher", "lower"]


class ScenarioRules(Rules):
    """What every benchmark has to meet in one scenario.

    ``percentile``: the latency percentile that counts. ``samples_per_query``: unknown where the
    system chooses. ``early_stopping``: whether the early-stopping condition must be met.
    """

    percentile: Figure[float]
    min_query_count: Figure[int]
    samples_per_query: Figure[int]
    early_stopping: Figure[bool]
    reported: Reported | None


class Metric(Rules):
    """A measure of accuracy.

    ``pattern``: the line of accuracy.txt that the official checker takes it from (matched at the
    line's start; group 1). ``unit``: of the number in that line. ``better``: ``neither`` where it
    has to lie within bounds.
    """

    unit: Literal["percent", "fraction", "score", "tokens"]
    better: Literal["higher", "lower", "neither"]
    pattern: str | None


class Bound(Rules):
    """What a metric has to reach, in the metric's unit."""

    at_least: Figure[float] | None = None
    at_most: Figure[float] | None = None

    def met(self, value: float) -> bool | None:
        """Whether ``value`` is within what is in force; ``None`` where that is unknown."""
        limits = [each for each in (self.at_least, self.at_most) if each is not None]
        if any(each.value is None for each in limits):
            return None
        low = self.at_least.value if self.at_least else None
        high = self.at_most.value if self.at_most else None
        return (low is None or value >= low) and (high is None or value <= high)


class Latency(Rules):
    """Bounds of the 99th percentile, in ms: of a query, or of the first and each further token."""

    latency_ms: Figure[float] | None = None
    ttft_ms: Figure[float] | None = None
    tpot_ms: Figure[float] | None = None


class Interactive(Rules):
    """What differs from the rest of the benchmark in the scenario Interactive."""

    loadgen_key: Figure[str] | None = None
    accuracy_samples: Figure[int] | None = None
    accuracy: dict[str, Bound] = Field(default_factory=dict)


class BenchmarkRules(Rules):
    """One benchmark of the round.

    ``accuracy``: official folder name -> metric -> bound. ``loadgen_key``: the model name that
    LoadGen's ``FromConfig`` knows; a wrong one silently matches nothing. ``accuracy_samples``:
    samples that an accuracy run covers, where that is not the whole dataset.
    ``performance_samples``: different samples that must be in memory at least (the QSL's size).
    ``offline_min_samples``: in the Offline query at least. ``min_duration_s``, ``percentile`` and
    ``reported``: where they differ from the round's. ``token_latencies``,
    ``equal_issue``: LoadGen settings that must be on (``use_token_latencies``,
    ``sample_concatenate_permutation``). ``extra_files``: folder beside accuracy.txt -> the names
    (without suffix) that must lie in it. ``endpoints``: whether a result measured by MLPerf
    Endpoints is taken instead of LoadGen's.
    """

    title: str
    loadgen_key: Figure[str]
    dataset_samples: Figure[int]
    performance_samples: Figure[int]
    accuracy_samples: Figure[int] | None = None
    offline_min_samples: Figure[int] | None = None
    scenarios: dict[SystemType, Figure[Scenarios]]
    accuracy: dict[str, dict[str, Bound]] = Field(min_length=1)
    latency: dict[Scenario, Latency] = Field(default_factory=dict)
    compliance: Figure[tuple[Test, ...]]
    token_latencies: Figure[bool] | None = None
    equal_issue: Figure[bool] | None = None
    min_duration_s: Figure[float] | None = None
    percentile: dict[Scenario, Figure[float]] = Field(default_factory=dict)
    reported: dict[Scenario, Reported] = Field(default_factory=dict)
    extra_files: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    endpoints: bool = False
    interactive: Interactive | None = None

    def has(self, scenario: str) -> bool:
        """Whether the round has this scenario for the benchmark, for any type of system."""
        return any(scenario in self.allowed(system_type) for system_type in self.scenarios)

    def required(self, system_type: SystemType) -> Scenarios:
        """The scenarios in force for a closed result, each with its alternatives; may be empty."""
        figure = self.scenarios.get(system_type)
        return (figure.value or ()) if figure else ()

    def allowed(self, system_type: SystemType) -> tuple[Scenario, ...]:
        """All scenarios of :meth:`required`; none where the benchmark is not for such systems."""
        return tuple(each for alternatives in self.required(system_type) for each in alternatives)

    def key(self, scenario: Scenario) -> Figure[str]:
        """LoadGen's name for the benchmark in this scenario."""
        own = self.interactive.loadgen_key if self.interactive else None
        return own if own is not None and scenario == "Interactive" else self.loadgen_key

    def logged_samples(self, scenario: Scenario) -> Figure[int]:
        """How many samples an accuracy run of this scenario has to cover."""
        own = self.interactive.accuracy_samples if self.interactive else None
        if own is not None and scenario == "Interactive":
            return own
        return self.accuracy_samples or self.dataset_samples

    def bounds(self, name: str, scenario: Scenario) -> dict[str, Bound]:
        """Metric -> bound for the official folder name ``name``, in this scenario."""
        own = self.interactive.accuracy if self.interactive and scenario == "Interactive" else {}
        return {**self.accuracy[name], **own}

    def limit_ms(self, scenario: Scenario) -> float | None:
        """The bound in force on a query's latency."""
        latency = self.latency.get(scenario)
        return latency.latency_ms.value if latency and latency.latency_ms else None


class About(Rules):
    """One source: ``what`` it is and ``version`` it was read in."""

    what: str
    version: str


class Round(Rules):
    """One round.

    ``status``: ``complete``, or ``published page only`` where nothing but the page was at hand.
    ``loadgen_versions``: the LoadGen releases that carry the round's seeds. ``aliases``: folder
    names that the official checker takes for another.
    """

    round: str
    status: Literal["complete", "published page only"]
    sources: dict[str, About]
    loadgen_versions: Figure[tuple[str, ...]]
    seeds: Seeds
    min_duration_s: Figure[float]
    scenarios: dict[Scenario, ScenarioRules]
    metrics: dict[str, Metric]
    aliases: dict[str, str] = Field(default_factory=dict)
    benchmarks: dict[str, BenchmarkRules]

    def name(self, name: str) -> str | None:
        """The benchmark that ``name`` stands for: its own name, a folder name or an alias."""
        name = self.aliases.get(name, name)
        if name in self.benchmarks:
            return name
        return next((b for b, rules in self.benchmarks.items() if name in rules.accuracy), None)

    def benchmark(self, name: str) -> BenchmarkRules | None:
        """Rules of a benchmark, by any name of it; ``None`` where the round does not have it."""
        found = self.name(name)
        return None if found is None else self.benchmarks[found]

    def targets(self, name: str, metric: str) -> dict[str, float]:
        """Folder name -> what ``metric`` has to reach at least, as a fraction of 1; easiest first.

        Of a benchmark all its folder names, of a folder name its own. Empty where no such target
        is in force.
        """
        rules, unit = self.benchmark(name), self.metrics.get(metric)
        if rules is None or unit is None:
            return {}
        found = {}
        for folder, bounds in rules.accuracy.items():
            bound = bounds.get(metric)
            value = bound.at_least.value if bound and bound.at_least else None
            if value is not None and (name not in rules.accuracy or name == folder):
                found[folder] = value / 100 if unit.unit == "percent" else value
        return dict(sorted(found.items(), key=lambda each: each[1]))
