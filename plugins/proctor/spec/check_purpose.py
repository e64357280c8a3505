"""The rules about ``purpose``: a purpose that is stated is one that some step checks."""

from __future__ import annotations

from collections.abc import Iterator

from proctor.spec.context import Context
from proctor.spec.document import DataPath
from proctor.spec.errors import Problem, did_you_mean

# ``${run.NAME}``: settled with the plan, and when the run starts.
NAMES = ("purpose", "date")


def reference(context: Context, path: DataPath, name: str) -> Iterator[Problem]:
    """``${run.NAME}`` in a text."""
    if name not in NAMES:
        yield context.at(path, f"a run gives no {name!r}", did_you_mean(name, NAMES))
    elif "params" not in path:
        message = f"the run's {name} is for the 'params' of steps and services"
        yield context.at(path, message, "leave it out here")
    elif name == "purpose" and not _stated(context):
        message = "this spec has no 'purpose:'"
        yield context.at(path, message, "say there what the data are used for")


def _stated(context: Context) -> bool:
    return context.pipeline.purpose is not None or "purpose" in context.broken.top


def checked(context: Context, references: Iterator[str]) -> Iterator[Problem]:
    """A stated purpose reaches a step; ``references``: all that stands in ``${...}``."""
    if context.pipeline.purpose is None or context.broken.steps:
        return
    if "run.purpose" not in references:
        remedy = "give 'dataset policy' or 'dataset filter-coco' the param purpose: ${run.purpose}"
        yield context.at_key(("purpose",), "no step checks the purpose", remedy)
