"""The page Sites, for a committee: every site's steps as they are now, and its history.

Beside it, the address where sites report: outside Airflow's login, with a token of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.responses import HTMLResponse, JSONResponse

from proctor.airflow.site_intake import engine, make_intake, plans
from proctor.federation import inbox
from proctor.federation.addresses import SITE
from proctor.federation.register import sites
from proctor.ui.pages import respond

# Three reports that say no more than that the site is there.
STALE_SECONDS = 45 * 60
_ENDED = ("succeeded", "failed", "interrupted")


def add_sites(app: FastAPI) -> None:
    """Add page, data and the address for reports."""
    logged_in = [Depends(get_user)]
    app.get("/sites", dependencies=logged_in)(show)
    app.get("/sites/data", dependencies=logged_in)(data)
    app.get("/sites/history", dependencies=logged_in)(history)
    app.add_route("/sites/reports", make_intake().receive, methods=["POST"])


def show() -> HTMLResponse:
    """The page; its script asks for the data."""
    return respond("sites", title="Sites")


def data() -> JSONResponse:
    """Every site and every plan that one has reported on, as the page shows them."""
    with engine().connect() as database:
        known, heard = sites(database), inbox.heard(database)
        newest = inbox.newest(database)
    now = datetime.now(UTC)
    told = [
        {
            "name": site.name,
            "may_report": site.tokens > 0,
            "heard": _seconds(heard.get(site.name), now),
        }
        for site in known
    ]
    told_plans = [
        _of_plan(digest, [each for each in newest if each.report.plan == digest], now)
        for digest in dict.fromkeys(each.report.plan for each in newest)
    ]
    return JSONResponse({"sites": told, "plans": sorted(told_plans, key=_order)}, headers=_NO_STORE)


_NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def _order(plan: dict[str, Any]) -> tuple[bool, str]:
    return not plan["known"], str(plan["title"])


def _of_plan(digest: str, newest: list[inbox.Received], now: datetime) -> dict[str, Any]:
    plan = plans().get(digest)
    seen = dict.fromkeys(step.id for each in newest for step in each.report.steps)
    titles = dict(plan.steps) if plan else {}
    return {
        "plan": digest,
        "known": plan is not None,
        "title": plan.title if plan else f"Unknown plan {digest[:12]}",
        "steps": [
            {"id": id, "title": titles.get(id, id)} for id in dict.fromkeys([*titles, *seen])
        ],
        "sites": [_of_site(each, now) for each in newest],
    }


def _of_site(received: inbox.Received, now: datetime) -> dict[str, Any]:
    report, heard = received.report, _seconds(received.received_at, now)
    return {
        "site": received.site,
        "run": report.run,
        "state": report.state,
        "version": report.version,
        "started": report.started,
        "heard": heard,
        "stale": report.state not in _ENDED and (heard or 0) > STALE_SECONDS,
        "person": sum(step.person for step in report.steps),
        "steps": {step.id: step.model_dump(mode="json") for step in report.steps},
    }


def history(site: Annotated[str, Query(max_length=40)]) -> JSONResponse:
    """What a site has reported, the newest first: a line for each report."""
    if not SITE.fullmatch(site):
        raise HTTPException(404, "there is no such site")
    with engine().connect() as database:
        if site not in {each.name for each in sites(database)}:
            raise HTTPException(404, "there is no such site")
        found = inbox.history(database, site)
    return JSONResponse({"site": site, "reports": [_line(each) for each in found]}, 200, _NO_STORE)


def _line(received: inbox.Received) -> dict[str, Any]:
    report, plan = received.report, plans().get(received.report.plan)
    total = sum(step.total for step in report.steps)
    through = sum(step.counts.succeeded + step.counts.skipped for step in report.steps)
    return {
        "at": received.received_at.astimezone(UTC).isoformat(timespec="seconds"),
        "sequence": report.sequence,
        "plan": plan.title if plan else f"Unknown plan {report.plan[:12]}",
        "run": report.run,
        "state": report.state,
        "version": report.version,
        "percent": round(100 * through / max(1, total), 1),
        "failed": sum(step.counts.failed for step in report.steps),
        "person": sum(step.person for step in report.steps),
    }


def _seconds(at: datetime | None, now: datetime) -> int | None:
    """Since then, in whole minutes: the page is drawn anew when its data are others."""
    return None if at is None else max(0, int((now - at).total_seconds()) // 60 * 60)
