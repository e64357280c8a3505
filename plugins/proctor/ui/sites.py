"""The page Sites, for a committee: every site's steps as they are now, and its history.

Beside it, the address where sites report: outside Airflow's login, with a token of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.responses import HTMLResponse, JSONResponse, Response

from proctor.airflow.site_intake import engine, make_intake, plans
from proctor.federation import inbox
from proctor.federation.addresses import SITE
from proctor.federation.register import sites
from proctor.ui.pages import page

# Three reports that say no more than that the site is there.
STALE_SECONDS = 45 * 60
_SCRIPT = Path(__file__).with_name("sites.js")
_ENDED = ("succeeded", "failed", "interrupted")
_STYLE = """
<style>
.scroll{overflow-x:auto;max-width:100%}
table.sites td,table.sites th{padding:.4rem .9rem .4rem 0;vertical-align:top;white-space:nowrap}
table.sites caption{text-align:left;font-weight:600;padding:.5rem 0}
table.sites thead th{vertical-align:bottom}table.sites tbody th{opacity:1}
table.sites .counts{white-space:normal;max-width:9rem}.counts span{white-space:nowrap}
.bar{display:block;width:7.5rem;height:.45rem;border-radius:4px;background:var(--soft);
overflow:hidden;margin:.2rem 0}
.bar i{display:block;height:100%;background:var(--good)}
.small{font-size:.85em}.soft{opacity:.75}.warn{color:var(--warn);font-weight:600}
:root{--warn:#8a5a00}@media(prefers-color-scheme:dark){:root{--warn:#ffc24d}}
#told:empty{margin:0}#told:not(:empty){border:1px solid var(--line);
border-left:4px solid var(--warn);padding:.4rem .8rem;border-radius:4px}
</style>
"""
_BODY = """
<h1 id="title">Sites</h1>
<p id="about">Loading&hellip;</p>
<p id="told" role="status"></p>
<div id="content"></div>
<noscript><p>This page needs JavaScript.</p></noscript>
<script src="/proctor/sites/page.js"></script>
"""


def add_to(app: FastAPI, headers: dict[str, str]) -> None:
    """Add page, data and the address for reports. ``headers``: of our own pages."""

    def show() -> HTMLResponse:
        return HTMLResponse(page("Sites", _STYLE + _BODY), headers=headers)

    def script() -> Response:
        return Response(_SCRIPT.read_text(), media_type="text/javascript", headers=headers)

    logged_in = [Depends(get_user)]
    app.get("/sites/", dependencies=logged_in, response_class=HTMLResponse)(show)
    app.get("/sites/page.js")(script)
    app.get("/sites/data", dependencies=logged_in)(data)
    app.get("/sites/history", dependencies=logged_in)(history)
    app.add_route("/sites/reports", make_intake().receive, methods=["POST"])


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
