"""Attempts of a whole home: found, ended and removed when no task of Airflow's follows them."""

from __future__ import annotations

from proctor.airflow.attempts import StepRun
from proctor.airflow.recorded import Recorded
from proctor.airflow.services import ServiceRun
from proctor.records.store import RecordError, RunRecord
from proctor.runtime.base import EngineError, RequestRefused, Runtime
from proctor.runtime.choose import make
from proctor.site.home import Home


def stop_running(home: Home, fallback: str) -> list[str]:
    """End every attempt of this home of which something may be left; a line for each.

    For when the services have been stopped: nobody would follow these attempts any more.
    """
    return [line for record in home.records.all() for line in stop_of(home, record, fallback)]


def stop_of(home: Home, record: RunRecord, fallback: str) -> list[str]:
    """The same of one run that has ended, or of a subject's part in it.

    A step that has ended by itself is collected, as it would else run again. ``fallback``: the
    runtime of records that do not name theirs. What cannot be stopped is told.
    """
    said = []
    try:
        runs = step_runs(home, record, fallback)
    except (RecordError, RequestRefused, ValueError, OSError) as error:
        return [f"{record.name}: {error}"]
    for run in runs:
        try:
            if isinstance(run, StepRun) and run.collect_ended():
                said.append(f"collected {run.name}, which had ended")
            elif run.end_attempt():
                said.append(f"stopped {run.name}")
        except (RecordError, EngineError, RequestRefused, ValueError, OSError) as error:
            said.append(f"{run.name}: {error}")
    return said


def remove_orphans(home: Home, runtime: Runtime) -> list[str]:
    """Remove what this home's runtime still knows and no record wants; a line for each."""
    said = []
    for handle in runtime.ours():
        record = home.records.run(handle.pipeline, handle.run)
        try:
            runs = {run.step.id: run for run in step_runs(home, record, runtime.name)}
            if handle.step in runs and runs[handle.step].follows(handle):
                continue
        except (RecordError, ValueError):
            pass  # a record that cannot be read wants nothing
        runtime.stop(handle)
        runtime.remove(handle)
        said.append(f"removed {handle.pipeline}/{handle.run}/{handle.step}, which no run wants")
    return said + runtime.sweep()


def step_runs(home: Home, record: RunRecord, fallback: str) -> list[Recorded]:
    """Every step and service of a run, or of a subject's part, on the runtime it began with.

    Raises:
        RecordError: the record or its plan cannot be read.
    """
    header = record.header()
    plan = home.records.plan(header.plan_digest)
    runtime = make(str(header.data.get("runtime", fallback)), home.path)

    def mine(partition: str) -> bool:
        return bool(partition) == bool(record.partition)

    # Steps first: one that lost its service would fail before it is ended.
    return [
        *(StepRun(home, plan, s, record, runtime) for s in plan.steps if mine(s.partition)),
        *(ServiceRun(home, plan, s, record, runtime) for s in plan.services if mine(s.partition)),
    ]
