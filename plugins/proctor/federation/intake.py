"""Where sites' reports arrive: one address, a token for each site, nothing else of this machine.

What is refused is refused before it costs anything: by how often, by its headers, by its size,
then by its token and its schema. An answer says what is wrong and repeats nothing of what came.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from proctor.federation import inbox
from proctor.federation.limits import Limit
from proctor.federation.plans import KnownPlan
from proctor.federation.register import Bearer, bearer_of
from proctor.federation.report import LONGEST_REPORT, BadReport, read_report
from proctor.federation.sender import TOKEN

log = logging.getLogger(__name__)

READ_SECONDS = 20.0
_BEARER = re.compile(rf"[Bb]earer +({TOKEN.pattern})")
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Refusal(Exception):
    """A request that is not taken: the status, and why in words for the sender."""

    def __init__(self, status: int, why: str, wait: float = 0.0, expected: int = 0) -> None:
        self.status, self.why, self.wait, self.expected = status, why, wait, expected
        super().__init__(why)

    def answer(self) -> JSONResponse:
        """As the sender gets it."""
        headers = dict(_HEADERS)
        if self.wait:
            headers["Retry-After"] = str(int(self.wait) + 1)
        told = {"ok": False, "error": self.why}
        told |= {"expected": self.expected} if self.expected else {}
        return JSONResponse(told, self.status, headers)


@dataclass
class Intake:
    """Takes reports. ``connect``: a connection whose transaction ends well with the block.

    ``plan_of``: the plan of a digest, where it is known. ``arrived``: what else is done with a new
    report, in the same transaction.
    """

    connect: Callable[[], AbstractContextManager[Connection]]
    plan_of: Callable[[str], KnownPlan | None]
    arrived: Callable[[Connection, Bearer], None] = lambda database, bearer: None
    # A site sends every few seconds at most; after an outage, all that waited.
    per_token: Limit = field(default_factory=lambda: Limit(burst=60, per_second=2))
    failures: Limit = field(default_factory=lambda: Limit(burst=10, per_second=1 / 30))
    _good: set[bytes] = field(default_factory=set)

    async def receive(self, request: Request) -> JSONResponse:
        """Answer a request."""
        address = request.client.host if request.client else ""
        try:
            token = self._token(request, address)
            _check_headers(request)
            bearer = await run_in_threadpool(self._bearer, token)
            if bearer is None:
                self.failures.take(address)
                raise Refusal(401, "the token is not known here, or was revoked: ask the committee")
            if wait := self.per_token.take(bearer.token):
                raise Refusal(429, "too many reports in a short time", wait)
            body = await _read(request)
            new = await run_in_threadpool(self._take, bearer, body)
        except Refusal as refusal:
            return refusal.answer()
        except SQLAlchemyError:
            log.exception("a report could not be kept")
            return Refusal(503, "reports cannot be kept just now", 10.0).answer()
        return JSONResponse({"ok": True, "sequence": new}, 200, _HEADERS)

    def _token(self, request: Request, address: str) -> str:
        found = _BEARER.fullmatch(request.headers.get("authorization", ""))
        # Behind a proxy all sites come from one address: one that is known is not locked out
        # because somebody else guesses.
        if found and _digest(found[1]) in self._good:
            return found[1]
        if wait := self.failures.wait(address):
            raise Refusal(429, "too many attempts without a valid token", wait)
        if found is None:
            self.failures.take(address)
            raise Refusal(401, "there is no token, or it is none of a site's")
        return found[1]

    def _bearer(self, token: str) -> Bearer | None:
        with self.connect() as database:
            bearer = bearer_of(database, token)
        if bearer is None:
            self._good.discard(_digest(token))
        else:
            self._good.add(_digest(token))
        return bearer

    def _take(self, bearer: Bearer, body: bytes) -> int:
        try:
            report = read_report(body)
        except BadReport as error:
            raise Refusal(422, f"this is no report: {error}") from None
        plan = self.plan_of(report.plan)
        if plan is not None and plan.strange(report):
            raise Refusal(422, "this is no report: a step is none of the plan's")
        try:
            with self.connect() as database:
                if inbox.take(database, bearer, body, report):
                    self.arrived(database, bearer)
        except inbox.OutOfOrder as error:
            why = f"report {error.expected} of this token comes first"
            raise Refusal(409, why, expected=error.expected) from None
        except inbox.TakenOtherwise:
            raise Refusal(
                409,
                f"number {report.sequence} of this token is another report: it is used by two "
                "homes, or one was made anew; ask the committee for a new token",
            ) from None
        return report.sequence


def _check_headers(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, "a report is application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "a report is not compressed")
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or len(length) > 9 or int(length) > LONGEST_REPORT:
        raise Refusal(413, f"a report has {LONGEST_REPORT:,} bytes at most")


async def _read(request: Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LONGEST_REPORT:
                    raise Refusal(413, f"a report has {LONGEST_REPORT:,} bytes at most")
    except TimeoutError:
        raise Refusal(408, "the report did not come in time") from None
    except ClientDisconnect:
        raise Refusal(400, "the report was cut short") from None
    return body


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
