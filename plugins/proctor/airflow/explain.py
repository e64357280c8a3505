"""Whether each step of a new run would run, and why: decided by the very code that decides it then.

A run is begun in a scratch folder, outside the home. What would be taken over is recorded there, so
that the steps behind it have their inputs; what reads from a step that would run, would run, too.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from proctor.airflow import reuse
from proctor.airflow.attempts import StepRun
from proctor.airflow.evidence import StepRefused
from proctor.plan.model import Plan, PlanStep, selected
from proctor.records.store import RunRecord
from proctor.runtime.base import EngineError, Runtime
from proctor.site.home import Home
from proctor_steps.contract import digest

_NAMES = {
    "image": "the image",
    "command": "the command",
    "seed": "the seed",
    "outputs": "the outputs",
    "mounts": "the places of inputs",
    "host": "this host",
    "resources": "the resources",
    "exclusive": "'exclusive'",
    "services": "a service",
    "contract": "the version of the contract",
}
# In the order in which a person would look.
_ORDER = ("command", "image", "params", "inputs", "sources", "seed", "resources", "host")
_LONGEST = 60  # of a value in words


@dataclass(frozen=True)
class Verdict:
    """What would become of a step. ``runs``: whether it would run; ``why``: in words."""

    step: str
    runs: bool
    why: str


def explain(
    home: Home,
    plan: Plan,
    params: Mapping[str, JsonValue],
    runtime: Runtime,
    before: RunRecord,
    prepare: Callable[[RunRecord], None] = lambda record: None,
) -> list[Verdict]:
    """A verdict on each step that a person knows of, compared with the run ``before``.

    ``prepare``: gives the scratch run what ``proctor run`` would give it (files, mounts).

    Raises:
        EngineError: the engine does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="proctor-explain-") as folder:
        record = RunRecord(Path(folder) / "run", plan.pipeline, "explained")
        prepare(record)
        data = {"params": dict(params), "runtime": runtime.name}
        record.append("header", plan_digest=plan.digest, data=data)
        asked = _Asked(home, plan, record, runtime, before)
        return [asked.verdict(step) for step in plan.steps if step.kind != "stop"]


@dataclass
class _Asked:
    home: Home
    plan: Plan
    record: RunRecord
    runtime: Runtime
    before: RunRecord
    run: set[str] = dataclasses.field(default_factory=set)

    def verdict(self, step: PlanStep) -> Verdict:
        runs, why = self._verdict(step)
        if runs:
            self.run.add(step.id)
        return Verdict(step.id, runs, why)

    def _verdict(self, step: PlanStep) -> tuple[bool, str]:
        if not selected(step, self.record.params()):
            return False, "left out by the parameters"
        if step.kind != "container":
            return True, _KINDS.get(step.kind, "always")
        if step.partition:
            return True, "for each subject: what is as it was is taken over then"
        for item in step.inputs:
            behind = [source.step for source in item.sources if source.step in self.run]
            if behind and not item.shared:
                return True, f"its input {item.name} comes from {behind[0]}, which runs"
        if step.services:
            return True, "it uses a service, whose answers are not known before"
        try:
            parts = self._parts(step)
        except StepRefused as refused:
            return True, f"it would be refused as things are: {refused}"
        never = _never(step, parts)
        if not never:
            earlier = reuse.find(self.home, digest(parts), self._run(step).hashes)
            if earlier is not None:
                self._record(step, earlier.line.data)
                return False, f"taken over from {earlier.of}"
        differs = self._difference(step, parts)
        words = "; ".join(text for text in (never, differs) if text)
        return True, words or "all is as it was, and its result is not there any more"

    def _run(self, step: PlanStep) -> StepRun:
        return StepRun(self.home, self.plan, step, self.record, self.runtime)

    def _parts(self, step: PlanStep) -> dict[str, JsonValue]:
        return self._run(step).parts()

    def _record(self, step: PlanStep, data: Mapping[str, Any]) -> None:
        self.record.append("result", step=step.id, attempt=1, data=data)

    def _difference(self, step: PlanStep, now: Mapping[str, JsonValue]) -> str:
        was: Any = None
        for line in self.before.lines() if self.before.exists() else ():
            if line.step == step.id and "identity_parts" in line.data:
                was = line.data["identity_parts"]
        name = f"{self.before.pipeline}/{self.before.run}"
        if not isinstance(was, dict):
            return f"{name} has no such step"
        return first_difference(was, now)


def first_difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first thing that makes a step another, in words; "" where nothing does."""
    keys = [*_ORDER, *sorted(set(was) | set(now) - set(_ORDER))]
    for key in dict.fromkeys(keys):
        before, after = was.get(key), now.get(key)
        if before == after:
            continue
        if key in ("params", "inputs", "sources"):
            return _member(key, before, after)
        if key == "host" and isinstance(before, dict) and isinstance(after, dict):
            part = next(k for k in sorted({*before, *after}) if before.get(k) != after.get(k))
            return f"this host is another: {part} was {_shown(before.get(part))}"
        return f"{_NAMES.get(key, key)} was {_shown(before)}, is {_shown(after)}"
    return ""


def _member(key: str, before: Any, after: Any) -> str:
    was, now = (x if isinstance(x, dict) else {} for x in (before, after))
    name = next((k for k in sorted({*was, *now}) if was.get(k) != now.get(k)), "")
    if key == "params":
        return f"parameter {name} was {_shown(was.get(name))}, is {_shown(now.get(name))}"
    kind = "input" if key == "inputs" else "source"
    return f"the bytes of {kind} {name.rstrip('/')} are others" if name else f"another {kind}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text.startswith("sha256:"):
        text = text[7:19]
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _never(step: PlanStep, parts: Mapping[str, JsonValue]) -> str:
    """Why no result of another run counts for it."""
    if step.reuse == "within_run":
        return "always runs: it measures" if step.exclusive else "always runs: reuse is within_run"
    if step.reuse == "never":
        return "always runs: reuse is never"
    if parts["sources"] is None:
        return "always runs: nothing tells whether its source is as it was"
    return ""


_KINDS = {
    "approval": "always asked",
    "subjects": "every subject goes over it",
    "review": "always: a person finishes its files",
    "decision": "always decided anew",
    "join": "always",
}

__all__ = ["EngineError", "Verdict", "explain", "first_difference"]
