"""Whether each step of a new run would run, and why: decided by the very code that decides it then.

A run is begun in a scratch folder, outside the home. What would be taken over is recorded there, so
that the steps behind it have their inputs; what reads from a step that would run, would run, too.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from proctor.airflow.attempts import StepRun
from proctor.airflow.evidence import StepRefused
from proctor.plan.differences import first_difference
from proctor.plan.model import Plan, PlanStep, selected
from proctor.records.store import RunRecord
from proctor.runtime.base import Runtime
from proctor.site.home import Home


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
        run = self._run(step)
        try:
            choice = run.choice()
            parts = choice.asked[1] if choice.asked else run.parts()
        except StepRefused as refused:
            return True, f"it would be refused as things are: {refused}"
        if choice.earlier:
            self.record.append("result", step=step.id, attempt=1, data=choice.earlier.line.data)
            return False, f"taken over from {choice.earlier.of}"
        never = choice.asked is None or parts["sources"] is None
        always = f"always runs: {choice.why}" if never else ""
        words = "; ".join(text for text in (always, self._difference(step, parts)) if text)
        return True, words or choice.why

    def _run(self, step: PlanStep) -> StepRun:
        return StepRun(self.home, self.plan, step, self.record, self.runtime)

    def _difference(self, step: PlanStep, now: Mapping[str, JsonValue]) -> str:
        was: Any = None
        for line in self.before.lines() if self.before.exists() else ():
            if line.step == step.id and "identity_parts" in line.data:
                was = line.data["identity_parts"]
        name = f"{self.before.pipeline}/{self.before.run}"
        if not isinstance(was, dict):
            return f"{name} has no such step"
        return first_difference(was, now)


_KINDS = {
    "approval": "always asked",
    "subjects": "every subject goes over it",
    "review": "always: a person finishes its files",
    "decision": "always decided anew",
    "join": "always",
}
