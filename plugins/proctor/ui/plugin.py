"""Registers our pages with Airflow: evidence at a gate, report of a run, the one-time login."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from proctor.airflow import instance
from proctor.ui.app import make_app
from proctor.ui.refusal import AnswerCheck


class ProctorPlugin(AirflowPlugin):
    """Found by Airflow through the distribution's entry point."""

    name = "proctor"
    fastapi_apps = [{"app": make_app(), "url_prefix": "/proctor", "name": "proctor"}]  # noqa: RUF012
    fastapi_root_middlewares = [{"middleware": AnswerCheck, "name": "proctor answers"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {
            "name": "Evidence",
            "href": "/proctor/evidence/{DAG_ID}/{RUN_ID}/{TASK_ID}",
            "destination": "task_instance",
            "url_route": "proctor-evidence",
        },
        {
            "name": "To do",
            "href": "/proctor/review/{DAG_ID}/{RUN_ID}",
            "destination": "dag_run",
            "url_route": "proctor-review",
        },
        {
            "name": "Report",
            "href": "/proctor/report/{DAG_ID}/{RUN_ID}",
            "destination": "dag_run",
            "url_route": "proctor-report",
        },
    ]
    if instance.coordinates():
        external_views.append(
            {
                "name": "Sites",
                "href": "/proctor/sites/",
                "destination": "nav",
                "url_route": "proctor-sites",
            }
        )
