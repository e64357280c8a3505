"""What a spec's ``submission`` comes to: the runs that its round asks for, as values to fill in.

The rules are data of the steps' side (``proctor_steps.rounds``); nothing else of it is read here.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping

from pydantic import JsonValue

from proctor.spec.document import DataPath
from proctor.spec.errors import Position, Problem
from proctor.spec.model import Pipeline, Submission
from proctor_steps.rounds.required import NotPossible, Runs, Wish, required

# ``${submission.NAME}``: what the spec says, and what follows from it.
LISTS = ("scenarios", "compliance")
NAMES = ("benchmark", "round", "system_type", "division", "model", "target", "inferred", *LISTS)

_PARAM = re.compile(r"\$\{params\.([A-Za-z_][A-Za-z0-9_]*)\}")


def texts(submission: Submission) -> Iterator[tuple[DataPath, str]]:
    """Every text of it, with its path in the file."""
    for key in ("benchmark", "round", "system_type", "division"):
        yield ("submission", key), getattr(submission, key)
    for index, scenario in enumerate(submission.scenarios):
        yield ("submission", "scenarios", index), scenario
    for scenario, source in submission.infer.items():
        yield ("submission", "infer", scenario), source


def parameter(text: str) -> str:
    """The parameter that a text is, or nothing."""
    match = _PARAM.fullmatch(text)
    return match[1] if match else ""


def derive(
    pipeline: Pipeline, values: Mapping[str, JsonValue], unsettled: Container[str] = ()
) -> tuple[dict[str, JsonValue], list[Problem]]:
    """The values to fill in, and the problems where there is no such submission.

    ``values``: of the build parameters. ``unsettled``: keys that are not to be judged. Both results
    are empty where the spec has no submission.
    """
    if pipeline.submission is None:
        return {}, []
    wish = _wish(pipeline.submission, values)
    try:
        runs = required(wish)
    except NotPossible as error:
        found = [
            Problem(_place(pipeline, misfit.key), misfit.message, misfit.remedy)
            for misfit in error.misfits
            if misfit.key not in unsettled
        ]
        return {}, found
    return _values(wish, runs), []


def _wish(submission: Submission, values: Mapping[str, JsonValue]) -> Wish:
    def said(text: str) -> str:
        return str(values[parameter(text)]) if "${" in text else text

    scenarios: list[str] = []
    for text in submission.scenarios:
        value = values[parameter(text)] if "${" in text else text
        scenarios += [str(each) for each in value] if isinstance(value, list) else [str(value)]
    return Wish(
        benchmark=said(submission.benchmark),
        round=said(submission.round),
        system_type=said(submission.system_type),
        division=said(submission.division),
        scenarios=scenarios,
        infer={scenario: said(source) for scenario, source in submission.infer.items()},
    )


def _place(pipeline: Pipeline, key: str) -> Position:
    """The key's value; the block itself where the spec does not have the key."""
    assert pipeline.submission is not None  # noqa: S101
    written = key in pipeline.submission.model_fields_set
    return pipeline.where("submission", key) if written else pipeline.where_key("submission")


def _values(wish: Wish, runs: Runs) -> dict[str, JsonValue]:
    return {
        "benchmark": wish.benchmark,
        "round": wish.round,
        "system_type": wish.system_type,
        "division": wish.division,
        "model": runs.model,
        "scenarios": list(runs.scenarios),
        "inferred": dict(runs.inferred),
        "compliance": list(runs.compliance),
        "target": runs.target,
    }
