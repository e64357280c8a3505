"""The page Record: what ``proctor runs show`` tells of a run, of a subject, or of one step."""

from __future__ import annotations

from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.responses import FileResponse, HTMLResponse

from proctor.airflow import instance
from proctor.airflow.answers import given
from proctor.airflow.evidence import StepRefused
from proctor.airflow.subjects import listed, parse_run_id, pipeline_of
from proctor.records.results import read
from proctor.records.store import RunRecord
from proctor.records.summary import step_state
from proctor.records.told import about, attempts, parameters
from proctor.site.home import Home
from proctor.ui.links import RECORD_FILE, explained, file_of, links_of, published
from proctor.ui.pages import HEADERS, respond
from proctor.ui.review import waits_in
from proctor.ui.rights import may_read

PAGE_SUBJECTS = 100


def add_record(app: FastAPI) -> None:
    """Add the page and the downloads of a run's files."""
    mine = [Depends(may_read)]
    app.get("/record/{dag_id}/{run_id}", dependencies=mine)(record)
    app.get("/record/{dag_id}/{run_id}/{task_id}", dependencies=mine)(record)
    app.get("/file/{dag_id}/{run_id}/{name}", dependencies=mine)(file)


def record_of(dag_id: str, run_id: str) -> RunRecord:
    """The record behind a run of Airflow's: the run's, or that of the subject that it is for.

    Raises:
        HTTPException: 404, the names can be no run's.
    """
    run, round = parse_run_id(run_id)
    try:
        return instance.home().records.run(pipeline_of(dag_id) if round else dag_id, run)
    except ValueError as error:
        raise HTTPException(404, str(error)) from None


def record(
    dag_id: str,
    run_id: str,
    user: GetUserDep,
    task_id: str = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> HTMLResponse:
    """A run's record, or what it tells of one task."""
    found = record_of(dag_id, run_id)
    if not found.exists():
        text = f"{dag_id}/{run_id} has no record: it has not begun, or is no run of Proctor's."
        return respond("message", 404, title="No such run here", text=text)
    return respond("record", **_values(instance.home(), found, user, task_id, page))


def _values(home: Home, record: RunRecord, user: Any, step: str, page: int) -> dict[str, Any]:
    lines, header = record.lines(), record.header()
    whole = record.whole
    # What a subject waits for stands in the run's own record, with all others.
    waiting = [] if record.partition else list(waits_in(home, whole, user))
    results = read(home.records, whole)
    mine = [line for line in lines if step in ("", line.step)]
    return {
        "record": record,
        "step": step,
        "state": "" if record.partition else results.state,
        "links": [link for link in links_of(home, results) if step or link.text != "Record"],
        "about": list(about(header)),
        "parameters": parameters(header),
        "attempts": attempts(mine),
        "answers": given(home, record, step),
        "waiting": [w for w in waiting if step in ("", w.step)],
        "subjects": None if step or record.partition else _subjects(home, record, page),
        "files": [(name, explained(name)) for name in (RECORD_FILE, *published(record))],
    }


def _subjects(home: Home, record: RunRecord, page: int) -> dict[str, Any] | None:
    """How far the subjects of a page are; ``None`` where the run has none, or none yet."""
    plan = home.records.plan(record.header().plan_digest)
    if not plan.subjects:
        return None
    try:
        names = listed(home, record, plan)
    except StepRefused:
        return None
    pages = max(1, -(-len(names) // PAGE_SUBJECTS))
    page = min(page, pages)
    steps = [step.id for step in plan.steps if step.partition]
    rows = []
    for name in names[(page - 1) * PAGE_SUBJECTS : page * PAGE_SUBJECTS]:
        part = record.subject(name)
        lines = part.lines()
        states = [step_state(line for line in lines if line.step == id)[0] for id in steps]
        rows.append({"name": name, "run": part.run, "states": states})
    return {"steps": steps, "rows": rows, "page": page, "pages": pages}


def file(dag_id: str, run_id: str, name: str) -> FileResponse:
    """A file of a run: record, summary, and what its steps published."""
    path = file_of(record_of(dag_id, run_id), name)
    if path is None:
        raise HTTPException(404, "there is no such file in this run")
    # Always saved, never shown: what a step wrote is no page of ours.
    return FileResponse(path, filename=name, media_type="application/octet-stream", headers=HEADERS)
