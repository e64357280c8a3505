"""A spec's file becomes a Pipeline, or the list of everything that is wrong with it.

What does not fit the model is reported and set aside, so that the graph rules of check.py can look
at the rest in the same pass: a typo in one step does not hide a cycle among the others.
"""

from __future__ import annotations

import copy
import difflib
import itertools
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from proctor.spec import document
from proctor.spec.check import check, warnings
from proctor.spec.context import Broken
from proctor.spec.document import DataPath, Document
from proctor.spec.errors import MOST_SHOWN, Problem, SpecErrors
from proctor.spec.fit import aliases, problem_of
from proctor.spec.model import Pipeline
from proctor.spec.nodes import Unreadable

_ROUNDS = 6  # of setting aside what does not fit: each round removes at least one value


def load_pipeline(path: Path) -> Pipeline:
    """Read, check and return a pipeline.

    Raises:
        SpecErrors: every problem of the file.
    """
    try:
        read = document.read(path)
    except Unreadable as error:
        raise SpecErrors([error.problem], path.stem) from None
    return _pipeline(read, path.stem)


def parse_pipeline(text: str, file: str) -> Pipeline:
    """The same for text; ``file`` is what the problems name.

    Raises:
        SpecErrors: every problem of the text.
    """
    stem = Path(file).stem
    try:
        read = document.parse(text, file)
    except Unreadable as error:
        raise SpecErrors([error.problem], stem) from None
    return _pipeline(read, stem)


def _pipeline(read: Document, stem: str) -> Pipeline:
    if not isinstance(read.data, dict):
        what = "a list" if isinstance(read.data, list) else "a single value"
        message = f"a spec is a mapping with 'steps:'; this is {what}"
        problem = Problem(read.where(()), message, "see docs/spec.md")
        raise SpecErrors([*read.problems, problem], stem)
    data = _without_templates(read)
    name = data.setdefault("pipeline", stem)
    problems = list(read.problems)
    pipeline, broken = _validate(data, read, problems)
    if pipeline is not None:
        problems += itertools.islice(check(pipeline, broken), MOST_SHOWN)
    if problems or pipeline is None:
        raise SpecErrors(problems, name if isinstance(name, str) and name else stem)
    pipeline._warnings = tuple(warnings(pipeline))
    return pipeline


def _without_templates(read: Document) -> dict[str, Any]:
    """Top-level keys that the language does not know and that hold anchors are templates.

    Not a misspelt 'steps' where there are no others: the spec's steps have anchors as well.
    """
    assert isinstance(read.data, dict)  # noqa: S101
    known = set(aliases(Pipeline))
    templates = read.templates - known
    if "steps" not in read.data:
        templates -= set(difflib.get_close_matches("steps", templates))
    return {k: v for k, v in read.data.items() if k not in templates}


def _validate(
    data: dict[str, Any], read: Document, problems: list[Problem]
) -> tuple[Pipeline | None, Broken]:
    broken = Broken()
    for turn in range(_ROUNDS):
        try:
            pipeline = Pipeline.model_validate(data)
        except ValidationError as error:
            found: list[dict[str, Any]] = [dict(e) for e in error.errors(include_url=False)]
            found = [item for item in found if not _follows(item, data)]
            problems += _described_once(
                [problem_of(item, read) for item in found[:MOST_SHOWN]], read
            )
            data = copy.deepcopy(data) if turn == 0 else data  # the document keeps what is written
            for item in found:
                _set_aside(data, item["loc"], broken)
        else:
            pipeline._document = read
            return pipeline, broken
        if not data.get("steps"):
            break
    return None, broken


def _follows(item: dict[str, Any], data: dict[str, Any]) -> bool:
    """A list whose members do not fit counts as too short, which says nothing new."""
    return item["type"] == "too_short" and bool(data.get(str(item["loc"][0])))


def _described_once(found: list[Problem], read: Document) -> list[Problem]:
    """Without what the reading of the file has complained about already."""
    places = {problem.at for problem in read.problems}
    return [problem for problem in found if problem.at not in places]


# --- setting aside -------------------------------------------------------------------------------


def _set_aside(data: dict[str, Any], loc: DataPath, broken: Broken) -> None:
    """Remove what does not fit, keeping list indices, and note what must not be judged further."""
    if loc[0] == "steps":
        _set_aside_step(data, loc, broken)
    elif loc[0] == "params" and len(loc) > 1 and isinstance(data.get("params"), dict):
        broken.params.add(str(loc[1]))
        data["params"][str(loc[1])] = {"type": "string"}
    elif loc[0] == "schedule" and len(loc) > 1 and isinstance(data.get("schedule"), dict):
        broken.top.add("schedule")
        data["schedule"].pop(str(loc[1]), None)
    else:
        broken.top.add(str(loc[0]))
        data.pop(str(loc[0]), None)
        data.setdefault("pipeline", "unnamed")


def _set_aside_step(data: dict[str, Any], loc: DataPath, broken: Broken) -> None:
    steps = data.get("steps")
    if len(loc) < 2 or not isinstance(steps, list):
        data["steps"] = None
        return
    index = int(loc[1])
    broken.steps.add(index)
    step = steps[index]
    if not isinstance(step, dict) or len(loc) < 3 or loc[2] == "id":
        kept = step.get("id") if isinstance(step, dict) else None
        steps[index] = {"id": kept if isinstance(kept, str) and kept else f"step-{index + 1}"}
    else:
        step.pop(str(loc[2]), None)
