"""What a round asks of one benchmark folder of one type of system, by the rules and by the checker.

The rules are :mod:`proctor_steps.rounds`. Where its sources disagree, what is *rejected* goes by
what the official checker states, what is *against the rules* by what is in force.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proctor_steps.rounds import BenchmarkRules, Figure, Round, Scenario, SystemType

# Names of one's own that the checker takes for a benchmark when no mapping is given (open).
_GUESSES = (
    ("mobilenet", "resnet"),
    ("efficientnet", "resnet"),
    ("resnet50", "resnet"),
    ("bert-99.9", "bert-99.9"),
    ("bert-99", "bert-99"),
    ("llama3_1-405b", "llama3.1-405b"),
)
SCENARIOS: dict[str, Scenario] = {
    "singlestream": "SingleStream",
    "multistream": "MultiStream",
    "server": "Server",
    "interactive": "Interactive",
    "offline": "Offline",
}
SYSTEM_TYPES: dict[str, SystemType] = {
    "datacenter": "datacenter",
    "edge": "edge",
    "datacenter,edge": "datacenter,edge",
    "edge,datacenter": "datacenter,edge",
}


def official_name(round_: Round, folder: str, mapping: Mapping[str, Any]) -> str:
    """The name that a benchmark folder stands for; the folder's own where it stands for none."""
    if _known(round_, folder):
        return folder
    named = round_.aliases.get(folder) or mapping.get(folder)
    if isinstance(named, str) and named:
        return named
    guessed = next((name for part, name in _GUESSES if part in folder), folder)
    return round_.aliases.get(guessed, guessed)


def _known(round_: Round, name: str) -> bool:
    return any(name in benchmark.accuracy for benchmark in round_.benchmarks.values())


@dataclass(frozen=True)
class Target:
    """A metric of accuracy, and what the official checker wants of it."""

    metric: str
    pattern: str
    at_least: float | None
    at_most: float | None

    def met(self, value: float) -> bool:
        """Whether a value is within the bounds."""
        low, high = self.at_least, self.at_most
        return (low is None or value >= low) and not (high is not None and value > high)

    @property
    def words(self) -> str:
        """Its bounds in words."""
        return bounds_in_words(self.at_least, self.at_most)


@dataclass(frozen=True)
class Asked:
    """One benchmark of the round, under the folder name that it is submitted by."""

    round: Round
    name: str
    rules: BenchmarkRules

    def needed(self, system_type: SystemType) -> tuple[tuple[Scenario, ...], ...] | None:
        """Scenarios that the checker wants, each with its alternatives.

        ``None`` where it does not have the benchmark for such systems.
        """
        figure = self.rules.scenarios.get(system_type)
        wanted = figure.by("checker") if figure else None
        return tuple(wanted) if wanted else None

    def samples(self, scenario: Scenario | None) -> int | None:
        """Samples of an accuracy run, as the checker has it."""
        samples: int | None = checker(self.rules.logged_samples(scenario or "Offline"))
        return samples

    def targets(self, scenario: Scenario | None) -> list[Target]:
        """What the checker looks for in accuracy.txt, in its order."""
        found = []
        for metric, bound in self.rules.bounds(self.name, scenario or "Offline").items():
            pattern = self.round.metrics[metric].pattern
            if pattern is not None:
                low, high = checker(bound.at_least), checker(bound.at_most)
                found.append(Target(metric, pattern, low, high))
        return found

    def latency_ns(self, scenario: Scenario | None, what: str) -> float | None:
        """The checker's bound in ns: ``latency_ms``, ``ttft_ms`` or ``tpot_ms``."""
        limits = self.rules.latency.get(scenario) if scenario else None
        value = checker(getattr(limits, what)) if limits else None
        return None if value is None else value * 1e6

    @property
    def tokens(self) -> bool:
        """Whether the checker wants the latencies of tokens."""
        return bool(checker(self.rules.token_latencies))

    @property
    def tests(self) -> tuple[str, ...]:
        """The compliance tests that the checker wants."""
        return tuple(checker(self.rules.compliance) or ())

    def reported_key(self, scenario: Scenario) -> str | None:
        """The key of the detail log that the result is taken from."""
        reported = self.rules.reported.get(scenario) or self.round.scenarios[scenario].reported
        return reported.key if reported else None


def asked(round_: Round, folder: str, mapping: Mapping[str, Any]) -> Asked | None:
    """What the round asks of a benchmark folder; ``None`` where it has no such benchmark."""
    name = official_name(round_, folder, mapping)
    rules = round_.benchmark(name) if _known(round_, name) else None
    return Asked(round_, name, rules) if rules else None


def bounds_in_words(low: float | None, high: float | None) -> str:
    """``at least 52.866 and at most ...``."""
    limits = (("at least", low), ("at most", high))
    return " and ".join(f"{word} {limit:g}" for word, limit in limits if limit is not None)


def checker(figure: Figure[Any] | None) -> Any:
    """What the official checker states; ``None`` where it is silent."""
    return None if figure is None else figure.by("checker")


def scenario_of(folder: str) -> Scenario | None:
    """The scenario that a folder is named after, in whatever case."""
    return SCENARIOS.get(folder.lower())


def system_type_of(value: Any) -> SystemType | None:
    """The type of a system as it is described, if it is one."""
    return SYSTEM_TYPES.get(value) if isinstance(value, str) else None
