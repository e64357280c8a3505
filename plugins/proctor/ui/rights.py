"""Who may see what: Airflow's login and its rights, asked for the pipeline's own DAG.

Whoever may not see a DAG's tasks there sees none of its results, records and questions here. A
stretch of subjects is a DAG of its own; its record is the pipeline's, so both are asked for.
"""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models.dag import DagModel
from fastapi import HTTPException

from proctor.airflow.subjects import pipeline_of


def may_read(dag_id: str, user: GetUserDep) -> None:
    """For pages of one run.

    Raises:
        HTTPException: 401 or 403.
    """
    if not all(may_see(user, each) for each in {dag_id, pipeline_of(dag_id)}):
        raise HTTPException(403, f"You may not see {pipeline_of(dag_id)}; an administrator can say")


def may_see(user: Any, dag_id: str) -> bool:
    """Whether a user may see a DAG's tasks."""
    return _authorized(user, dag_id, "GET", DagAccessEntity.TASK_INSTANCE)


def may_answer(user: Any, dag_id: str) -> bool:
    """Whether a user may answer a DAG's questions, where the spec names nobody else."""
    return _authorized(user, dag_id, "PUT", DagAccessEntity.HITL_DETAIL)


def _authorized(user: Any, dag_id: str, method: Any, entity: DagAccessEntity) -> bool:
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    manager = get_auth_manager()
    return bool(
        manager.is_authorized_dag(method=method, access_entity=entity, details=details, user=user)
    )
