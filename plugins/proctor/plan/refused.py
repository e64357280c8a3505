"""What the language can say and this version cannot do: refused, with the place, never ignored."""

from __future__ import annotations

from collections.abc import Iterator

from proctor.plan import shared
from proctor.spec.document import DataPath
from proctor.spec.errors import Problem
from proctor.spec.model import Pipeline, Step


def refused(pipeline: Pipeline) -> Iterator[Problem]:
    """One problem for each use of something that does not work yet."""
    for number, step in enumerate(pipeline.steps):
        yield from _step(pipeline, ("steps", number), step)
    yield from shared.problems(pipeline)


def _step(pipeline: Pipeline, path: DataPath, step: Step) -> Iterator[Problem]:
    if step.runs_on != "local":
        at = pipeline.where(*path, "runs_on")
        message = f"there is no host or queue {step.runs_on!r}: steps run on this machine only"
        yield Problem(at, message, "write 'local' or leave it out")
