"""Airflow's runs, of single subjects above all: started from a task, and how they stand.

States are asked of the database in one query, as Airflow's API gives a page of 100 runs at a time
and a pipeline may have a thousand. Tasks and triggers may not use Airflow's models; a query needs
none.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk.exceptions import AirflowException, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse, TriggerDagRun

from proctor.airflow.changes import connected
from proctor.airflow.subjects import parse_run_id
from proctor.records.store import RunRecord
from proctor.site.home import DATABASE_VARIABLE

_SUFFIX = "~[0-9a-f]{16}-r[0-9]+([.].*)?$"


def start(dag_id: str, run_id: str, part: RunRecord) -> None:
    """Have Airflow run a subject's round, from inside a task; harmless where it has been.

    Raises:
        AirflowException: Airflow refuses; to be tried again.
    """
    from airflow.sdk.execution_time import task_runner

    wanted = TriggerDagRun(
        dag_id=dag_id,
        run_id=run_id,
        conf={"subject": part.partition, "run": part.whole.run},
        partition_key=part.partition,
        note=part.partition,
    )
    answer = task_runner.SUPERVISOR_COMMS.send(wanted)
    exists = ErrorType.DAGRUN_ALREADY_EXISTS
    if isinstance(answer, ErrorResponse) and answer.error != exists:
        raise AirflowException(f"{part.partition}: Airflow does not start {run_id}: {answer}")


def states(dag_id: str, record: RunRecord) -> dict[str, tuple[int, str]]:
    """How the subjects of a run stand in a stretch: recorded run -> newest round and its state."""
    query = "SELECT run_id, state FROM dag_run WHERE dag_id = %s AND starts_with(run_id, %s)"
    found: dict[str, tuple[int, str]] = {}
    for run_id, state in _rows(query, dag_id, f"{record.whole.run}~"):
        run, round = parse_run_id(run_id)
        if round > found.get(run, (0, ""))[0]:
            found[run] = (round, str(state))
    return found


def under_way() -> list[tuple[str, str]]:
    """DAG and run id of every run of Airflow's that has not ended."""
    if DATABASE_VARIABLE not in os.environ:
        return []  # outside an instance nothing goes on
    query = "SELECT dag_id, run_id FROM dag_run WHERE state IN ('running', 'queued')"
    return [(str(dag), str(run)) for dag, run in _rows(query)]


def measuring(pool: str, slots: int) -> bool:
    """Whether a step is under way that has all slots of the host's pool to itself."""
    query = """
        SELECT 1 FROM task_instance
        WHERE pool = %s AND pool_slots >= %s::int AND state IN ('queued', 'running', 'deferred')
        LIMIT 1
    """
    return bool(_rows(query, pool, str(slots)))


def left_alone() -> list[tuple[str, str]]:
    """DAG and run id of what goes on for a subject although the run it belongs to was given up."""
    if DATABASE_VARIABLE not in os.environ:
        return []  # outside an instance nothing goes on
    query = """
        SELECT c.dag_id, c.run_id FROM dag_run c
        WHERE c.state IN ('running', 'queued') AND c.run_id ~ %s AND NOT EXISTS (
            SELECT 1 FROM dag_run p
            WHERE p.dag_id = regexp_replace(c.dag_id, '[.]subjects-[0-9]+$', '')
            AND p.run_id = regexp_replace(c.run_id, %s, '') AND p.state <> 'failed'
        )
    """
    return [(str(dag), str(run)) for dag, run in _rows(query, _SUFFIX, _SUFFIX)]


def _rows(query: str, *values: str) -> list[tuple[Any, ...]]:
    with connected(os.environ[DATABASE_VARIABLE]) as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())
