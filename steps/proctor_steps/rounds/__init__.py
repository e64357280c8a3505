"""The rules of each MLPerf Inference round, as data: a YAML file a round, read by :func:`load`."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path

import yaml

from proctor_steps.rounds.figure import Figure, Source, spread
from proctor_steps.rounds.model import (
    BenchmarkRules,
    Bound,
    LoadgenScenario,
    Round,
    Scenario,
    ScenarioRules,
    Scenarios,
    SystemType,
)
from proctor_steps.stage import StepError

__all__ = [
    "BenchmarkRules",
    "Bound",
    "Figure",
    "LoadgenScenario",
    "Round",
    "Scenario",
    "ScenarioRules",
    "Scenarios",
    "Source",
    "SystemType",
    "UnknownRound",
    "load",
    "names",
]

_FOLDER = Path(__file__).parent


class UnknownRound(StepError):
    """There is no such round; the message names those there are."""

    def __init__(self, name: str) -> None:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        super().__init__(f"no round {name!r}; known: {', '.join(names())}{hint}")


def names() -> list[str]:
    """The rounds that are known, oldest first."""
    return sorted(path.stem for path in _FOLDER.glob("v*.yaml"))


@cache
def load(name: str) -> Round:
    """The rules of a round.

    Raises:
        UnknownRound: no such round.
    """
    if name not in names():
        raise UnknownRound(name)
    return parse((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


def parse(text: str) -> Round:
    """A round from its YAML.

    Raises:
        ValueError: it is not a round: unknown keys, figures without a source or a reason.
    """
    data = yaml.safe_load(text)
    stands_in = data.pop("stands_in", {})
    return Round.model_validate(spread(data, stands_in))
