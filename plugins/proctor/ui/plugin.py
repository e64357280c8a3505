"""Registers our pages with Airflow: in its navigation, on runs, on tasks; and the login link."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from proctor.airflow import instance
from proctor.ui.app import make_app
from proctor.ui.refusal import AnswerCheck

_RUN = "{DAG_ID}/{RUN_ID}"


def _page(name: str) -> dict[str, str | bool]:
    """A page of its own in the navigation."""
    word = name.lower()
    return {
        **_view(name, f"/proctor/{word}", "nav"),
        "nav_top_level": True,
        "icon": f"/proctor/static/{word}.svg",
    }


def _view(name: str, href: str, destination: str) -> dict[str, str]:
    route = f"proctor-{name.lower().replace(' ', '-')}"
    return {"name": name, "href": href, "destination": destination, "url_route": route}


class ProctorPlugin(AirflowPlugin):
    """Found by Airflow through the distribution's entry point."""

    name = "proctor"
    fastapi_apps = [{"app": make_app(), "url_prefix": "/proctor", "name": "proctor"}]  # noqa: RUF012
    fastapi_root_middlewares = [{"middleware": AnswerCheck, "name": "proctor answers"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        _page("Results"),
        _page("Review"),
        _view("Report", f"/proctor/report/{_RUN}", "dag_run"),
        _view("To do", f"/proctor/review/{_RUN}", "dag_run"),
        _view("Record", f"/proctor/record/{_RUN}", "dag_run"),
        _view("Evidence", f"/proctor/evidence/{_RUN}/{{TASK_ID}}", "task_instance"),
        _view("Record of the step", f"/proctor/record/{_RUN}/{{TASK_ID}}", "task_instance"),
    ]
    if instance.coordinates():
        external_views.append(_page("Sites"))
