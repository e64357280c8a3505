"""The pages themselves. Everything but the login needs Airflow's login and the right on the DAG."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Body, Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from proctor.airflow import instance
from proctor.airflow.answers import given
from proctor.airflow.evidence import StepRefused, output_of
from proctor.airflow.subjects import parse_run_id
from proctor.plan.model import Gate
from proctor.records.store import RecordError, RunRecord
from proctor.runtime.artifacts import LocalArtifacts
from proctor.site.settings import roles
from proctor.ui import sites
from proctor.ui.login import PAGE, SCRIPT, take_nonce
from proctor.ui.pages import evidence_page, message_page, no_report_page
from proctor.ui.review import review_page

# Pages made from a step's output run no script and load nothing from anywhere else.
_CONTENT = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "font-src data:; frame-ancestors 'self'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_OWN = _CONTENT | {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "script-src 'self'; connect-src 'self'; frame-src 'self'; frame-ancestors 'self'"
}

may_read = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.TASK_INSTANCE))


def make_app() -> FastAPI:
    """Our FastAPI application, mounted by Airflow at ``/proctor``."""
    app = FastAPI(title="Proctor", docs_url=None, redoc_url=None, openapi_url=None)
    app.get("/launch/", response_class=HTMLResponse)(launch_page)
    app.get("/launch/login.js")(launch_script)
    app.post("/launch/take")(launch_take)
    app.get("/evidence/{dag_id}/{run_id}/{task_id}", dependencies=[may_read])(evidence)
    app.get("/content/{dag_id}/{run_id}/{step}/{output}/{name}", dependencies=[may_read])(content)
    app.get("/report/{dag_id}/{run_id}", dependencies=[may_read])(report)
    app.get("/review/{dag_id}/{run_id}", dependencies=[may_read])(review)
    if instance.coordinates():
        sites.add_to(app, _OWN)
    return app


def launch_page() -> HTMLResponse:
    """The page that the one-time link opens; it holds no secret."""
    return HTMLResponse(PAGE, headers=_OWN)


def launch_script() -> Response:
    """The page's script."""
    return Response(SCRIPT, media_type="text/javascript", headers=_OWN)


def launch_take(nonce: Annotated[str, Body(embed=True, max_length=200)]) -> JSONResponse:
    """Exchange the nonce for Airflow's session cookie, once."""
    home = instance.home()
    user = take_nonce(home.path / "keys", nonce)
    if not user:
        raise HTTPException(403, "this link was used already, or is too old")
    answer = JSONResponse({"ok": True})
    # HttpOnly is what Airflow's own page expects not to be: it only reads the cookie's presence.
    answer.set_cookie(
        COOKIE_NAME_JWT_TOKEN, _token(user), httponly=True, samesite="strict", path="/"
    )
    return answer


def _token(name: str) -> str:
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    user = SimpleAuthManagerUser(username=name, role=roles(instance.home()).get(name))
    return str(get_auth_manager().generate_jwt(user))


def evidence(dag_id: str, run_id: str, task_id: str) -> HTMLResponse:
    """What a gate shows: digest, answers so far, and the evidence itself."""
    record, home = _record(dag_id, run_id), instance.home()
    try:
        plan = home.records.plan(record.header().plan_digest)
        gate = plan.step(task_id).gate
    except (RecordError, KeyError):
        gate = None
    if gate is None:
        return _own(message_page("No evidence here", f"{task_id} is no gate of this run."))
    answers = given(home, record, task_id)
    return _own(evidence_page(record, task_id, gate, answers, _frames(record, gate)))


def content(dag_id: str, run_id: str, step: str, output: str, name: str) -> Response:
    """One file of a step's output, as the step wrote it."""
    record = _record(dag_id, run_id)
    try:
        uri = output_of(record, step, output).uri
        root = LocalArtifacts(instance.home().path).path(uri)
    except (StepRefused, RecordError, ValueError):
        raise HTTPException(404, "there is no such output in this run") from None
    path = (root / name).resolve()
    if not (path.is_relative_to(root.resolve()) and path.is_file()):
        raise HTTPException(404, "there is no such file in this output")
    return FileResponse(path, headers=_CONTENT)


def report(dag_id: str, run_id: str) -> Response:
    """The run's published report."""
    record = _record(dag_id, run_id)
    path = record.folder / "report.html"
    if not path.is_file():
        return _own(no_report_page(record))
    return FileResponse(path, media_type="text/html", headers=_CONTENT)


def review(dag_id: str, run_id: str) -> HTMLResponse:
    """What the run waits for a person to do."""
    record = _record(dag_id.partition(".subjects-")[0], parse_run_id(run_id)[0]).whole
    try:
        plan = instance.home().records.plan(record.header().plan_digest)
    except RecordError:
        return _own(message_page("No such run here", f"{dag_id}/{run_id} has no record."))
    return _own(review_page(record, plan))


def _frames(record: RunRecord, gate: Gate) -> list[tuple[str, str]]:
    """Title and address of every HTML page among a gate's evidence."""
    frames = []
    for source in gate.evidence:
        try:
            uri = output_of(record, source.step, source.output).uri
        except StepRefused:
            continue
        root: Path = LocalArtifacts(instance.home().path).path(uri)
        for page in sorted(root.glob("*.html")):
            address = "/".join(
                (
                    "/proctor/content",
                    record.pipeline,
                    record.run,
                    source.step,
                    source.output,
                    page.name,
                )
            )
            frames.append((f"{source.step}: {page.name}", address))
    return frames


def _record(dag_id: str, run_id: str) -> RunRecord:
    try:
        return instance.home().records.run(dag_id, run_id)
    except ValueError as error:
        raise HTTPException(404, html.escape(str(error))) from None


def _own(page: str) -> HTMLResponse:
    return HTMLResponse(page, headers=_OWN)


__all__: list[Any] = ["make_app"]
