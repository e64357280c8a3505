"""The rules of each MLPerf Inference round, as data: a YAML file a round, read by :func:`load`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
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
    "UnknownName",
    "find",
    "load",
    "names",
    "nearest",
    "parse",
]

_FOLDER = Path(__file__).parent


class UnknownName(StepError):
    """There is no such round, or the round has no such benchmark: ``what``, and a ``remedy``."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        self.what = f"{what} {name!r}"
        self.remedy = nearest(name, known)
        super().__init__(f"{self.what}; {self.remedy}")


def nearest(name: str, known: Iterable[str]) -> str:
    """What to write instead: the nearest of the names that are known, and all of them."""
    lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), lower, n=2)
    hint = f"did you mean {' or '.join(repr(lower[each]) for each in near)}? " if near else ""
    return f"{hint}known: {', '.join(lower.values())}"


def names() -> list[str]:
    """The rounds that are known, oldest first."""
    return sorted(path.stem for path in _FOLDER.glob("v*.yaml"))


@cache
def load(name: str) -> Round:
    """The rules of a round.

    Raises:
        UnknownName: no such round.
    """
    if name not in names():
        raise UnknownName("there is no round", name, names())
    return parse((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


def find(round_: Round, name: str) -> BenchmarkRules:
    """The rules of a benchmark, by its name, an official folder name or an alias.

    Raises:
        UnknownName: the round does not have it.
    """
    found = round_.benchmark(name)
    if found is None:
        folders = (folder for rules in round_.benchmarks.values() for folder in rules.accuracy)
        known = dict.fromkeys([*round_.benchmarks, *folders])
        raise UnknownName(f"{round_.round} has no benchmark", name, known)
    return found


def parse(text: str) -> Round:
    """A round from its YAML.

    Raises:
        ValueError: it is not a round: unknown keys, figures without a source or a reason.
    """
    data = yaml.load(text, Loader=yaml.CSafeLoader)
    stands_in = data.pop("stands_in", {})
    return Round.model_validate(spread(data, stands_in))
