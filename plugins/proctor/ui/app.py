"""The pages themselves. Everything but the login needs Airflow's login and the right on the DAG."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import Body, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as AnyHTTPException

from proctor.airflow import instance
from proctor.airflow.answers import given
from proctor.airflow.evidence import StepRefused, output_of
from proctor.plan.model import Gate
from proctor.records.store import RecordError, RunRecord
from proctor.runtime.artifacts import ArtifactError, LocalArtifacts
from proctor.site.settings import roles
from proctor.ui.login import PAGE, SCRIPT, take_nonce, token_of
from proctor.ui.pages import (
    HEADERS,
    address,
    evidence_page,
    message_page,
    no_report_page,
    respond,
)
from proctor.ui.record import add_record, record_of
from proctor.ui.results import add_results
from proctor.ui.review import add_review, review_page
from proctor.ui.rights import may_read
from proctor.ui.sites import add_sites
from proctor.ui.trend import add_trend

# Pages made from a step's output run no script and load nothing from anywhere else.
_CONTENT = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "font-src data:; frame-ancestors 'self'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_TITLES = {
    401: "Please log in to Airflow",
    403: "You may not see this",
    404: "There is no such page",
}
_mine = [Depends(may_read)]


def make_app() -> FastAPI:
    """Our FastAPI application, mounted by Airflow at ``/proctor``."""
    app = FastAPI(title="Proctor", docs_url=None, redoc_url=None, openapi_url=None)
    app.get("/launch/", response_class=HTMLResponse)(launch_page)
    app.get("/launch/login.js")(launch_script)
    app.post("/launch/take")(launch_take)
    app.get("/evidence/{dag_id}/{run_id}/{task_id}", dependencies=_mine)(evidence)
    app.get("/content/{dag_id}/{run_id}/{step}/{output}/{name}", dependencies=_mine)(content)
    app.get("/report/{dag_id}/{run_id}", dependencies=_mine)(report)
    app.get("/review/{dag_id}/{run_id}", dependencies=_mine)(review)
    add_results(app)
    add_trend(app)
    add_review(app)
    add_record(app)
    if instance.coordinates():
        add_sites(app)
    app.mount("/static", static())
    app.exception_handler(AnyHTTPException)(told)
    app.exception_handler(RequestValidationError)(unreadable)
    app.exception_handler(RecordError)(damaged)
    app.exception_handler(OSError)(damaged)
    app.exception_handler(Exception)(fault)
    return app


def static() -> StaticFiles:
    """Stylesheet, scripts and icons, which need no login."""
    return StaticFiles(directory=Path(__file__).parent / "static")


def told(request: Request, error: AnyHTTPException) -> Response:
    """What is wrong with a request, as a page where a browser asks for one."""
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
    title = _TITLES.get(error.status_code, "This cannot be shown")
    return respond("message", error.status_code, title=title, text=str(error.detail))


def unreadable(request: Request, error: RequestValidationError) -> Response:
    """An address that none of our pages writes."""
    problems = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
    return told(request, AnyHTTPException(422, problems))


def damaged(request: Request, error: RecordError | OSError) -> Response:
    """A record, plan or disk that is not as Proctor left it: it says where."""
    return respond("message", title="This record cannot be read", text=str(error))


def fault(request: Request, error: Exception) -> Response:
    """Something that nobody foresaw; the log of the API server has it in full."""
    text = f"{type(error).__name__}. Please report it, with the log of Airflow's API server."
    return respond("message", 500, title="A fault of Proctor's own", text=text)


def launch_page() -> HTMLResponse:
    """The page that the one-time link opens; it holds no secret."""
    return HTMLResponse(PAGE, headers=HEADERS)


def launch_script() -> Response:
    """The page's script."""
    return Response(SCRIPT, media_type="text/javascript", headers=HEADERS)


def launch_take(nonce: Annotated[str, Body(embed=True, max_length=200)]) -> JSONResponse:
    """Exchange the nonce for Airflow's session cookie, once."""
    home = instance.home()
    name = take_nonce(home.path / "keys", nonce)
    role = roles(home).get(name)
    if not role:
        raise HTTPException(403, "this link was used already, or is too old")
    answer = JSONResponse({"ok": True})
    # HttpOnly is what Airflow's own page expects not to be: it only reads the cookie's presence.
    answer.set_cookie(
        COOKIE_NAME_JWT_TOKEN,
        token_of(get_auth_manager(), name, role),
        httponly=True,
        samesite="strict",
        secure=bool(home.profile().address),
        path="/",
    )
    return answer


def evidence(dag_id: str, run_id: str, task_id: str) -> HTMLResponse:
    """What a gate shows: digest, answers so far, and the evidence itself."""
    record, home = record_of(dag_id, run_id), instance.home()
    try:
        plan = home.records.plan(record.header().plan_digest) if record.exists() else None
        gate = plan.step(task_id).gate if plan else None
    except KeyError:
        gate = None
    if gate is None:
        return _own(message_page("No evidence here", f"{task_id} is no gate of this run."))
    answers = given(home, record, task_id)
    return _own(evidence_page(record, task_id, gate, answers, _frames(record, gate)))


def content(dag_id: str, run_id: str, step: str, output: str, name: str) -> Response:
    """One file of a step's output, as the step wrote it."""
    record = record_of(dag_id, run_id)
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
    record = record_of(dag_id, run_id).whole
    path = record.folder / "report.html"
    if not path.is_file():
        return _own(no_report_page(record))
    return FileResponse(path, media_type="text/html", headers=_CONTENT)


def review(dag_id: str, run_id: str, user: GetUserDep) -> HTMLResponse:
    """What the run waits for a person to do."""
    return review_page(instance.home(), record_of(dag_id, run_id), user)


def _frames(record: RunRecord, gate: Gate) -> list[tuple[str, str]]:
    """Title and address of every HTML page among a gate's evidence."""
    frames = []
    for source in gate.evidence:
        try:
            uri = output_of(record, source.step, source.output).uri
            root: Path = LocalArtifacts(instance.home().path).path(uri)
        except (StepRefused, ArtifactError):
            continue
        for page in sorted(root.glob("*.html")):
            there = (record.pipeline, record.run, source.step, source.output, page.name)
            frames.append((f"{source.step}: {page.name}", address("content", *there)))
    return frames


def _own(page: str) -> HTMLResponse:
    return HTMLResponse(page, headers=HEADERS)


__all__: list[Any] = ["make_app"]
