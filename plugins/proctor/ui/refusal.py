"""An answer that needs a comment and has none is refused at the door: its question stays open.

The gate would not count it either (airflow/approval.py) and ask anew. But a page that is open
takes no notice of that, and shows the answer as given until it is loaded again.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from airflow.api_fastapi.core_api.security import resolve_user_from_token
from fastapi import HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proctor.airflow import instance
from proctor.airflow.answers import REJECT, WITH_REASON, answer_of, options, why_uncounted
from proctor.airflow.recorded import refresh_summary
from proctor.records.store import RecordError
from proctor.ui.rights import may_answer

_ANSWER = re.compile(
    r"/api/v2/dags/(?P<dag>[^/]+)/dagRuns/(?P<run>[^/]+)/taskInstances/(?P<gate>[^/]+)/-?\d+"
    r"/hitlDetails"
)
_MESSAGE = "{} needs a comment that says why: write one and answer again."


class AnswerCheck:
    """Looks at answers to gates on their way in; everything else passes untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        answer = scope["type"] == "http" and scope["method"] == "PATCH"
        place = _ANSWER.fullmatch(scope["path"]) if answer else None
        if place is None:
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        body = await request.body()
        chosen, form = _bare_answer(body)
        user = await _user(request) if chosen else None
        if user and await run_in_threadpool(_refused, user, chosen, form, **place.groupdict()):
            what = "A rejection" if chosen == REJECT else f"“{chosen}”"
            await JSONResponse({"detail": _MESSAGE.format(what)}, 422)(scope, receive, send)
        else:
            await self.app(scope, _again(body, receive), send)


def _bare_answer(body: bytes) -> tuple[str, dict[str, Any]]:
    """What was chosen, and the form, of an answer that lacks its comment; "" for any other body."""
    try:
        sent = json.loads(body)
    except ValueError:
        return "", {}
    chosen = sent.get("chosen_options") if isinstance(sent, dict) else None
    if not isinstance(chosen, list) or len(chosen) != 1 or chosen[0] not in WITH_REASON:
        return "", {}
    form = sent.get("params_input") or {}
    bare = isinstance(form, dict) and not str(form.get("comment") or "").strip()
    return (chosen[0], form) if bare else ("", {})


async def _user(request: Request) -> Any:
    """Who sends this; ``None`` where Airflow is to say that nobody is logged in."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    known = token if scheme.lower() == "bearer" else request.cookies.get(COOKIE_NAME_JWT_TOKEN)
    try:
        return await resolve_user_from_token(known)
    except HTTPException:
        return None


def _refused(user: Any, chosen: str, form: dict[str, Any], dag: str, run: str, gate: str) -> bool:
    """Record an answer that does not count, where its sender may answer and is being asked.

    Otherwise Airflow says what is wrong with it.
    """
    home, name = instance.home(), str(user.get_name())
    try:
        record = home.records.run(dag, run)
        planned = home.records.plan(record.header().plan_digest).step(gate).gate
        lines = [line for line in record.lines() if line.step == gate]
    except (RecordError, ValueError, KeyError):
        return False
    if planned is None or (planned.approvers and name not in planned.approvers):
        return False
    if chosen not in options(planned):
        return False
    if not lines or lines[-1].kind not in ("asked", "uncounted") or not may_answer(user, dag):
        return False
    event = {
        "chosen_options": [chosen],
        "params_input": form,
        "responded_by_user": {"name": name},
        "responded_at": datetime.now(UTC),
    }
    asked = next(line for line in reversed(lines) if line.kind == "asked")
    shown = str(asked.data.get("evidence_digest"))
    answer = answer_of(event, gate, planned) | {"evidence_digest": shown}
    record.append(
        "uncounted",
        step=gate,
        attempt=asked.attempt,
        plan_digest=asked.plan_digest,
        data={"answer": answer, "message": why_uncounted(planned, answer, shown)},
    )
    refresh_summary(home, record)
    return True


def _again(body: bytes, receive: Receive) -> Receive:
    """The request's body once more, for whoever reads it next."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return left.pop() if left else await receive()

    return read
