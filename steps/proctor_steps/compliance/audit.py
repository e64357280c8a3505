"""What a compliance test changes in LoadGen's settings: ``audit.config``, and whether it took.

LoadGen ignores an audit file that is not there without a word, so that a test whose file was not
found is a plain performance run; what took effect is therefore read from the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from proctor_steps.rounds import Round
from proctor_steps.stage import StepError

TestName = Literal["TEST01", "TEST04", "TEST06", "TEST07", "TEST08", "TEST09"]
FILE = "audit.config"
_INTERACTIVE = "-interactive"


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelRules(_Data):
    """What one model has beyond the test's own settings; ``thresholds`` by their reference name."""

    settings: dict[str, int] = Field(default_factory=dict)
    thresholds: dict[str, float] = Field(default_factory=dict)


class TestRules(_Data):
    """One test; ``models`` by LoadGen's name for them."""

    title: str
    settings: dict[str, int]
    models: dict[str, ModelRules] = Field(default_factory=dict)
    own_dataset: bool = False

    def of(self, model: str) -> ModelRules:
        """The settings and thresholds for one model."""
        own = self.models.get(model.removesuffix(_INTERACTIVE), ModelRules())
        return ModelRules(settings={**self.settings, **own.settings}, thresholds=own.thresholds)


@cache
def _tests() -> dict[str, TestRules]:
    raw = yaml.safe_load((Path(__file__).parent / "tests.yaml").read_text(encoding="utf-8"))
    return {name: TestRules.model_validate(rules) for name, rules in raw.items()}


def rules(test: str) -> TestRules:
    """A test's rules.

    Raises:
        StepError: there is no such test.
    """
    if test not in _tests():
        raise StepError(f"no compliance test {test!r}; known: {', '.join(_tests())}")
    return _tests()[test]


def model_of(round_: Round, name: str) -> str:
    """LoadGen's name for a benchmark, by any name of it; its own where LoadGen has none."""
    known = round_.benchmark(name)
    return (known.loadgen_key.value if known else None) or round_.name(name) or name


def text(test: str, model: str) -> str:
    """``audit.config`` of a test for one model (LoadGen's name for it)."""
    asked = rules(test)
    about = asked.of(model)
    lines = [f"# {test}, {asked.title}: what differs from the performance run of {model}"]
    lines += [f"*.*.{key} = {value}" for key, value in about.settings.items()]
    if about.thresholds:
        lines.append("# What the verification holds the log against; LoadGen does not read it")
        lines += [f"*.*.{key} = {value:g}" for key, value in about.thresholds.items()]
    return "".join(line + "\n" for line in lines)


def not_in_effect(test: str, model: str, values: Mapping[str, Any]) -> dict[str, JsonValue]:
    """The test's settings that LoadGen did not have, by key: what it had instead.

    ``values``: the detail log's, by key.
    """
    offline = values.get("effective_scenario") == "Offline"
    wrong: dict[str, JsonValue] = {}
    for key, value in rules(test).of(model).settings.items():
        if key == "min_query_count" and offline:
            continue  # there it is samples, and the one query holds what was asked for or more
        wanted: Any = {2: "PerformanceOnly"}[value] if key == "mode" else value
        name = {"mode": "test_mode", "min_duration": "min_duration_ms"}.get(key, key)
        found = values.get(f"effective_{name}")
        if found != wanted:
            wrong[key] = found
    return wrong


def is_short(test: str, model: str) -> bool:
    """Whether the test lifts the least duration, and so the rules on queries and early stopping."""
    return rules(test).of(model).settings.get("min_duration") == 0


def least_logged(test: str, model: str) -> int:
    """Entries that the log of the answers must have at least; 0: the test logs none."""
    settings = rules(test).of(model).settings
    if "accuracy_log_sampling_target" not in settings:
        return 0
    return settings.get("min_query_count", 1)
