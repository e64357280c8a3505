"""Whole runs of a plan on one home without Airflow: each step driven as its task would drive it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import JsonValue

from proctor.airflow.attempts import StepRun
from proctor.airflow.evidence import evidence_digest
from proctor.airflow.reuse import Wish, ask
from proctor.plan.model import Plan, PlanStep, selected
from proctor.records.approvals import SigningKey, record_answer
from proctor.records.store import RunRecord
from proctor.runtime.base import Handle
from proctor.runtime.fake import FakeRuntime
from proctor.site.home import Home
from proctor.site.verify import verify
from proctor_steps.contract import Approval


class Site:
    """Runs one after the other; the fake runtime tells which steps were started.

    ``acts``: what steps do, see :class:`~proctor.runtime.fake.FakeScript`; ``{run}`` in the text of
    an output is the run's id, for what never comes out the same twice.
    """

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.home.create()
        self.fake = FakeRuntime(self.home.path)
        self.identities: dict[str, str] = {}
        self.fingerprint: dict[str, JsonValue] = {"cpu": "a"}
        self.acts: dict[str, Any] = {}
        self.number = 0

    def drive(
        self,
        plan: Plan,
        params: dict[str, JsonValue],
        wish: Wish | None = None,
        allowed: Path | None = None,
    ) -> tuple[RunRecord, list[str]]:
        """A whole run, with ``--yes``; its record, and the steps that were started for it."""
        record = self.begin(plan, params, wish, allowed)
        for step in plan.steps:
            self.step(plan, step, record)
        return record, self.started(record)

    def begin(
        self,
        plan: Plan,
        params: dict[str, JsonValue],
        wish: Wish | None = None,
        allowed: Path | None = None,
    ) -> RunRecord:
        """A run whose record has its header."""
        self.number += 1
        self.script()
        record = self.home.records.run(plan.pipeline, f"r{self.number}")
        self.home.records.save_plan(plan)
        data = {
            "params": params,
            "runtime": "fake",
            "public_key": SigningKey(self.home.path).public(),
        }
        record.append("header", plan_digest=plan.digest, data=data)
        if wish:
            ask(record, wish)
        if allowed:
            self.home.allow_for_run(record, [allowed])
        return record

    def script(self) -> None:
        """What steps do from now on, and what images and host are."""
        acts = _filled(self.acts, f"r{self.number}")
        self.fake.script(acts, identities=self.identities, fingerprint=self.fingerprint)

    def step(self, plan: Plan, step: PlanStep, record: RunRecord, generation: int = 3) -> None:
        """One step to its end; a gate is answered, one that is not selected is left out."""
        if not selected(step, record.params()):
            record.append("skipped", step=step.id, plan_digest=plan.digest, data={"message": ""})
        elif step.kind == "approval":
            answer = Approval(
                gate=step.id, decision="approved", by="ada", at="2026-01-01T00:00:00+00:00",
                answered_via="cli-yes", evidence_reviewed=False,
                evidence_digest=evidence_digest(record, plan, step),
            )  # fmt: skip
            key = SigningKey(self.home.path)
            record_answer(record, key, answer, attempt=1, plan_digest=plan.digest)
        else:
            of_it = StepRun(self.home, plan, step, record, self.fake, generation)
            taken = of_it.take_up_or_start()
            outcome = of_it.finish(taken) if isinstance(taken, Handle) else taken
            assert outcome.failure is None, outcome.failure

    def started(self, record: RunRecord) -> list[str]:
        """The steps that the runtime started for a run."""
        return [r["step"] for r in self.fake.starts() if r["run"] == record.run]

    def bad(self, record: RunRecord) -> list[str]:
        """What ``proctor runs verify`` finds wrong with a run."""
        checked = verify(self.home, record)
        return [f"{x.what} {x.name}: {x.message}" for x in checked if x.state == "bad"]


def _filled(value: Any, run: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, run) for key, item in value.items()}
    return value.replace("{run}", run) if isinstance(value, str) else value
