"""Our pages: one layout and stylesheet, light or dark as Airflow is, nothing from elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from proctor.airflow.answers import Given
from proctor.plan.model import Gate
from proctor.records.figures import amount
from proctor.records.store import RunRecord
from proctor.records.told import SHORT

ROOT = "/proctor"
# Of our own pages; what a step wrote is sent with less (app.py).
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src data:; connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def respond(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page as it is sent."""
    return HTMLResponse(render(template, **values), status, HEADERS)


def render(template: str, **values: Any) -> str:
    """A page from a template; every value is escaped."""
    return _templates.get_template(f"{template}.html.j2").render(**values)


def message_page(title: str, text: str) -> str:
    """A page that says one thing."""
    return render("message", title=title, text=text)


def no_report_page(record: RunRecord) -> str:
    """Said before the report is published; a gate's evidence is there earlier."""
    lines = record.lines() if record.exists() else ()
    gates = dict.fromkeys(line.step for line in lines if line.kind == "asked")
    return render("no_report", record=record, gates=gates)


def evidence_page(
    record: RunRecord,
    task: str,
    gate: Gate,
    answers: list[Given],
    frames: list[tuple[str, str]],
) -> str:
    """The evidence of a gate, with the answers given so far."""
    asked = record.last("asked", task)
    return render("evidence", record=record, gate=gate, asked=asked, answers=answers, frames=frames)


def address(*parts: str) -> str:
    """The address of one of our pages, each part escaped."""
    return "/".join((ROOT, *(quote(part, safe="") for part in parts)))


def airflow_address(dag_id: str, run_id: str, *rest: str) -> str:
    """The address of a run's page in Airflow, or of a part of it."""
    parts = ("dags", dag_id, "runs", run_id, *rest)
    return "/" + "/".join(quote(part, safe="") for part in parts)


def readable_time(at: str) -> str:
    """A record's time as people read it."""
    return f"{at[:10]} {at[11:19]} UTC" if at else ""


def since(at: str) -> str:
    """How long ago that was, in words."""
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()
    except (ValueError, TypeError):
        return ""
    minutes = int(max(0, seconds)) // 60
    if minutes < 1:
        return "less than a minute"
    if minutes < 60:
        return f"{minutes} min"
    hours, days = minutes // 60, minutes // 1440
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{days} days"


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:SHORT]


_templates = Environment(
    loader=PackageLoader("proctor.ui"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"at": readable_time, "since": since, "short": _short, "amount": amount}
_templates.globals |= {"address": address, "airflow_address": airflow_address}
