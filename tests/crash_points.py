"""A process that dies at a chosen point of one step's way, and another that goes on after it."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proctor.airflow.attempts import StepRun
from proctor.plan.model import Plan, PlannedOutput, PlanStep
from proctor.records.store import RunRecord
from proctor.runtime.base import Handle, Outcome, Runtime
from proctor.site.home import Home

DIED = 77
STEP = PlanStep(
    id="fetch",
    step="fetch",
    image="proctor/steps",
    command=("dataset", "fetch"),
    params={"uri": "embedded:digits/annotations.json"},
    outputs=(PlannedOutput(name="dataset", mount_path="/proctor/out/dataset"),),
    publish=("dataset/*",),
    reuse="never",  # each of the runs on one home is to start its own
)
PLAN = Plan(pipeline="points", steps=(STEP,))


def begun(folder: Path, run: str) -> tuple[Home, RunRecord]:
    """A home with a run that has begun."""
    home = Home(folder)
    home.create()
    home.records.save_plan(PLAN)
    record = home.records.run(PLAN.pipeline, run)
    record.append("header", plan_digest=PLAN.digest, data={"params": {}})
    return home, record


def drive(home: Home, record: RunRecord, runtime: Runtime) -> Outcome:
    """What a task does: start the step or take it up, wait, finish."""
    step = StepRun(home, PLAN, STEP, record, runtime, 3)
    taken = step.take_up_or_start()
    if isinstance(taken, Handle):
        while runtime.poll(taken).phase == "running":
            time.sleep(0.02)
        taken = step.finish(taken)
    return taken


def dies_at(point: int, effects: list[tuple[Any, str]], act: Callable[[], object]) -> bool:
    """Whether a child process came to the ``point``-th edge of ``effects`` and died there.

    Every effect has two edges: just before it, and just after.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _arm(point, effects)
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, DIED), f"the child failed: {code}"
    return code == DIED


def _arm(point: int, effects: list[tuple[Any, str]]) -> None:
    passed = 0

    def edge() -> None:
        nonlocal passed
        passed += 1
        if passed == point:
            os._exit(DIED)

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            edge()
            result = real(*args, **kwargs)
            edge()
            return result

        return wrapped

    for owner, name in effects:
        setattr(owner, name, wrap(getattr(owner, name)))
