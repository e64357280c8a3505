"""The process that starts a container dies at every point of that: the engine makes one, once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from faults_kit import Target

from crash_points import PLAN, STEP, begun, dies_at, drive
from proctor.airflow.attempts import StepRun
from proctor.airflow.cleanup import remove_orphans
from proctor.records.store import RunRecord
from proctor.runtime import docker as docker_runtime
from proctor.runtime.base import Handle
from proctor.runtime.docker import DockerRuntime

pytestmark = pytest.mark.docker

EFFECTS = [
    (RunRecord, "append"),
    (DockerRuntime, "_create"),
    (docker_runtime, "_start"),
    (docker_runtime, "_remove"),
]


def test_wherever_the_process_dies_the_engine_makes_one_container(target: Target) -> None:
    point, died = 0, True
    while died:
        point += 1
        run = f"point-{point}"
        home, record = begun(target.home, run)
        runtime = DockerRuntime(home.path)
        died = dies_at(point, EFFECTS, partial(drive, home, record, runtime))
        assert drive(home, record, runtime).failure is None, point
        assert [target.events.of_run(run, a) for a in ("create", "start")] == [1, 1], point
        assert [x.attempt for x in record.lines() if x.kind == "result"] == [1], point
    assert point > 12
    target.nothing_is_left()


@pytest.mark.parametrize("edge", [1, 2])
def test_a_container_that_was_never_started_goes_with_its_run(target: Target, edge: int) -> None:
    home, record = begun(target.home, "given-up")
    runtime = DockerRuntime(home.path)
    start: Callable[[], Handle | object] = StepRun(
        home, PLAN, STEP, record, runtime, 3
    ).take_up_or_start
    assert dies_at(edge, [(docker_runtime, "_start")], start)
    record.append("attempt", step=STEP.id, attempt=1, data={"status": "cancelled"})
    assert len(remove_orphans(home, runtime)) == 1
    target.nothing_is_left()
