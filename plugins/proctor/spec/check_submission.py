"""The rules about ``submission`` and the values that follow from it."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import JsonValue

from proctor.spec.context import Context
from proctor.spec.document import DataPath
from proctor.spec.errors import Problem, did_you_mean
from proctor.spec.submission import LISTS, NAMES, derive, parameter, texts


def submission(context: Context) -> Iterator[Problem]:
    """Its parameters shape the plan, and the round has such a submission."""
    given = context.pipeline.submission
    if given is None or context.broken.params or "params" in context.broken.top:
        return
    params, values = context.pipeline.params, dict[str, JsonValue]()
    unsettled: set[str] = set()
    for path, text in texts(given):
        if "${" not in text:
            continue
        name = parameter(text)
        problem = _parameter(context, path, text, name)
        if problem:
            yield problem
        values[name] = params[name].default if name in params else ""
        if problem or params[name].required:  # only who gives the value can say
            unsettled.add(str(path[1]))
            values[name] = ""
    yield from derive(context.pipeline, values, unsettled)[1]


def _parameter(context: Context, path: DataPath, text: str, name: str) -> Problem | None:
    params = context.pipeline.params
    if not name:
        message = f"{text!r} is neither a name nor one parameter"
        return context.at(path, message, "write ${params.NAME} alone")
    if name not in params:
        message = f"there is no parameter {name!r}"
        return context.at(path, message, did_you_mean(name, params))
    if params[name].when != "build":
        message = f"a submission is settled with the plan; {name!r} is known at the run only"
        return context.at(path, message, "give the parameter 'when: build'")
    return None


def reference(context: Context, path: DataPath, name: str, axis: bool = False) -> Iterator[Problem]:
    """``${submission.NAME}``, in a text or as an axis."""
    if context.pipeline.submission is None:
        if "submission" not in context.broken.top:
            message = "this spec has no 'submission:'"
            yield context.at(path, message, "say there what is to be submitted")
        return
    known = LISTS if axis else NAMES
    if name not in known:
        message = f"a submission gives no {'axis ' if axis else ''}{name!r}"
        yield context.at(path, message, did_you_mean(name, known))
