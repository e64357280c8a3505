"""The rules about ``schedule``: its times, what it watches, what its runs are given.

It stands in a spec, or in the profile of a site.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import JsonValue

from proctor.spec.context import Broken, Context
from proctor.spec.document import DataPath, Document
from proctor.spec.errors import Problem, did_you_mean
from proctor.spec.forms import DAY, is_host_path, of_a_day
from proctor.spec.model import Pipeline, Schedule, Step
from proctor.spec.values import misfit

MOST_OFTEN = 10.0  # seconds between two looks at a source
_AT: DataPath = ("schedule",)
# Keys that mean something beside another one only.
_WITH = {"timezone": "cron", "catch_up": "cron", "every": "assets"}


def schedule(context: Context) -> Iterator[Problem]:
    """Everything that is wrong with the schedule."""
    given = context.pipeline.schedule
    if given is None:
        return
    whole = "schedule" not in context.broken.top
    if whole and not given.cron and not given.assets:
        message = "the schedule says neither a time nor a source"
        yield context.at(_AT, message, "add 'cron:' or 'assets:', or remove it")
    yield from _when(context, given)
    if "params" not in context.broken.top:
        yield from _values(context, given)


def faults_of_site(
    pipeline: Pipeline, given: Schedule, read: Document, below: DataPath
) -> list[Problem]:
    """What is wrong with when a site has a pipeline start; its values are checked as a form's are.

    ``read``, ``below``: the profile, and where in it the schedule stands.
    """
    return list(_when(_OfSite(pipeline, Broken(), read, below), given))


@dataclass
class _OfSite(Context):
    """A pipeline whose schedule stands in another file."""

    read: Document
    below: DataPath

    def at(self, path: DataPath, message: str, remedy: str = "") -> Problem:
        return Problem(self.read.where((*self.below, *path[1:])), message, remedy)

    def at_key(self, path: DataPath, message: str, remedy: str = "") -> Problem:
        return Problem(self.read.where_key((*self.below, *path[1:])), message, remedy)


def _when(context: Context, given: Schedule) -> Iterator[Problem]:
    whole = "schedule" not in context.broken.top
    for key, other in _WITH.items():
        if whole and key in given.model_fields_set and not getattr(given, other):
            message = f"{key!r} means nothing without {other!r}"
            yield context.at_key((*_AT, key), message, f"add '{other}:', or remove it")
    yield from _clock(context, given)
    if "params" not in context.broken.top:
        yield from _assets(context, given)


def _clock(context: Context, given: Schedule) -> Iterator[Problem]:
    if not given.cron:
        return
    # Loaded for those who need it: it takes longer than all the rest of a check.
    from proctor.spec.cron import cron_problem, zone_problem

    if problem := cron_problem(given.cron):
        yield context.at((*_AT, "cron"), *problem)
    if problem := zone_problem(given.timezone):
        yield context.at((*_AT, "timezone"), *problem)


# --- what is watched -----------------------------------------------------------------------------


def _assets(context: Context, given: Schedule) -> Iterator[Problem]:
    if given.assets and given.every < MOST_OFTEN:
        message = f"'every' must be at least {MOST_OFTEN:g} s, this is {given.every:g} s"
        yield context.at((*_AT, "every"), message)
    for number, name in enumerate(given.assets):
        path: DataPath = (*_AT, "assets", number)
        if name in given.assets[:number]:
            yield context.at(path, f"{name!r} is listed twice", "remove one")
        else:
            yield from _asset(context, path, name, given)


def _asset(context: Context, path: DataPath, name: str, given: Schedule) -> Iterator[Problem]:
    params = context.pipeline.params
    if name in context.broken.params or _is_broken_step(context, name):
        return
    if name in params:
        if params[name].type != "uri":
            message = f"the parameter {name!r} is of type {params[name].type}"
            yield context.at(path, message, "only what a parameter of type uri names is watched")
    elif name in context.index:
        if not isinstance(context.step(name).params.get("uri"), str):
            message = f"the step {name!r} has no parameter 'uri'"
            yield context.at(path, message, did_you_mean("", _watchable(context)))
        elif of_a_day(context.step(name).params["uri"]):
            message = f"what {name!r} fetches is another source each day ({DAY})"
            yield context.at(path, message, "only a source that keeps its name can be watched")
    else:
        message = f"there is no parameter and no step {name!r}"
        yield context.at(path, message, did_you_mean(name, _watchable(context)))
    for step in context.pipeline.steps:
        if _reads(step, name) and _pinned(context, step, given):
            message = f"what {step.id!r} fetches from {name!r} is pinned by 'sha256'"
            yield context.at(path, message, "a changed source would fail it; remove one of the two")


def _watchable(context: Context) -> list[str]:
    names = [name for name, param in context.pipeline.params.items() if param.type == "uri"]
    return names + [s.id for s in context.pipeline.steps if isinstance(s.params.get("uri"), str)]


def _is_broken_step(context: Context, name: str) -> bool:
    return name in context.index and context.index[name] in context.broken.steps


def _reads(step: Step, name: str) -> bool:
    return "uri" in step.params and (step.id == name or step.params["uri"] == _reference(name))


def _pinned(context: Context, step: Step, given: Schedule) -> bool:
    sha256 = step.params.get("sha256")
    for name, param in context.pipeline.params.items():
        if sha256 == _reference(name):
            sha256 = given.params.get(name, param.default)
    return bool(sha256)


def _reference(name: str) -> str:
    return f"${{params.{name}}}"


# --- what a run is given -------------------------------------------------------------------------


def _values(context: Context, given: Schedule) -> Iterator[Problem]:
    params = context.pipeline.params
    for name, value in given.params.items():
        if name not in context.broken.params:
            yield from _value(context, (*_AT, "params", name), name, value)
    for name, param in params.items():
        unset = param.when == "run" and param.required and name not in given.params
        if unset and name not in context.broken.params | context.broken.top:
            message = f"{name!r} is required, and a scheduled run has nobody to give it"
            remedy = "give it under 'params:' of the schedule, or make it a parameter with default"
            yield context.at_key(_AT, message, remedy)


def _value(context: Context, path: DataPath, name: str, value: JsonValue) -> Iterator[Problem]:
    params = context.pipeline.params
    if name not in params:
        known = [each for each, param in params.items() if param.when == "run"]
        yield context.at_key(path, f"there is no parameter {name!r}", did_you_mean(name, known))
    elif params[name].when == "build":
        message = f"{name!r} shapes the plan, and is settled before a run"
        yield context.at_key(path, message, "make it 'when: run', or remove it here")
    elif params[name].type == "uri" and isinstance(value, str) and is_host_path(value):
        message = f"{value!r} names a place on the host"
        remedy = "a spec never does; the site gives it, under 'schedules' in its site.yaml"
        yield context.at(path, message, remedy)
    elif problem := misfit(params[name], value):
        yield context.at(path, f"{name!r} {problem[0]}", problem[1])
