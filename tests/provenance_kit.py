"""A whole run of the demo without Airflow: every step a process, the gate answered and signed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proctor.airflow.attempts import StepRun
from proctor.airflow.evidence import evidence_digest
from proctor.plan.compile import load_plan
from proctor.plan.model import Plan, PlanStep, selected
from proctor.plan.params import check_params
from proctor.records.approvals import SigningKey, record_answer
from proctor.records.origin import versions
from proctor.records.store import RunRecord
from proctor.runtime.base import Handle, Outcome
from proctor.runtime.process import ProcessRuntime
from proctor.site.home import Home
from proctor_steps.contract import Approval

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "pipeline_specs" / "demo.yaml"
DIGITS = ROOT / "steps" / "proctor_steps" / "embedded" / "digits"
RUN = "manual__1"


class DemoRun:
    """The shipped demo, with short measurements, in a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.source = folder / "private" / "scenes.zip"

    def make(self, scenarios: tuple[str, ...] = ("Offline", "SingleStream")) -> DemoRun:
        """Run it to its end."""
        self.home.create()
        plan = load_plan(DEMO)
        self.source.parent.mkdir()
        shutil.copyfile(DIGITS / "scenes.zip", self.source)
        given = {
            "scenarios": list(scenarios),
            "performance_seconds": 1,
            "images_uri": f"file://{self.source}",
        }
        data = {
            "params": check_params(plan, given),
            "given": given,
            "public_key": SigningKey(self.home.path).public(),
            "versions": versions(),
            "runtime": "process",
        }
        self.home.records.save_plan(plan)
        self.home.allow_for_run(self.record, [self.source])
        self.record.append("header", plan_digest=plan.digest, data=data)
        for step in plan.steps:
            if selected(step, self.record.params()):
                self._step(plan, step)
        return self

    @property
    def record(self) -> RunRecord:
        return self.home.records.run("demo", RUN)

    @property
    def tree(self) -> Path:
        return self.artifact("package", "package") / "tree"

    def artifact(self, step: str, output: str) -> Path:
        return self.home.path / "artifacts" / "demo" / RUN / step / "1" / output

    def copy(self, folder: Path) -> DemoRun:
        """The same home elsewhere, to be spoilt."""
        other = DemoRun(folder)
        shutil.copytree(self.home.path, other.home.path, symlinks=True)
        other.source.parent.mkdir()
        shutil.copyfile(self.source, other.source)
        for path in [other.home.path, *other.home.path.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        (other.home.path / "keys" / "approvals.key").chmod(0o600)
        return other

    def lines(self) -> list[dict[str, Any]]:
        """The record as data."""
        return [json.loads(line) for line in self.record.path.read_bytes().splitlines()]

    def number(self, kind: str, step: str) -> int:
        """The place of the first line of a kind for a step, from 1."""
        found = enumerate(self.lines(), start=1)
        return next(n for n, x in found if (x["kind"], x["step"]) == (kind, step))

    def _step(self, plan: Plan, step: PlanStep) -> None:
        if step.kind == "approval":
            self._answer(plan, step)
        elif step.kind == "container":
            runtime = ProcessRuntime(self.home.path)
            run = StepRun(self.home, plan, step, self.record, runtime)
            handle = run.take_up_or_start()
            assert isinstance(handle, Handle), handle
            while runtime.poll(handle).phase == "running":
                time.sleep(0.05)
            done: Outcome = run.finish(handle)
            assert done.failure is None, done.failure

    def _answer(self, plan: Plan, step: PlanStep) -> None:
        approval = Approval(
            gate=step.id, decision="approved", by="ada", at="2026-11-26T10:00:00+00:00",
            answered_via="ui", evidence_reviewed=True,
            evidence_digest=evidence_digest(self.record, plan, step),
        )  # fmt: skip
        key = SigningKey(self.home.path)
        record_answer(self.record, key, approval, attempt=1, plan_digest=plan.digest)


def rewrite(record: RunRecord, lines: list[Mapping[str, Any]]) -> None:
    """Write a record anew, chained as if nobody had touched it."""
    import hashlib

    from proctor.records.model import Line

    raw: list[bytes] = []
    for number, each in enumerate(lines, start=1):
        before = hashlib.sha256(raw[-1]).hexdigest() if raw else "0" * 64
        line = Line.model_validate({**each, "seq": number, "prev_digest": before})
        raw.append(line.model_dump_json().encode())
    record.path.write_bytes(b"".join(each + b"\n" for each in raw))
