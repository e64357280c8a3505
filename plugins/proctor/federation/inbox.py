"""What sites have reported: taken once, never changed, and read for the page."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.dialects.postgresql import insert as insert_once

from proctor.federation.register import Bearer
from proctor.federation.report import SiteReport, read_report
from proctor.federation.tables import MILESTONES, REPORTS, SITES


class TakenOtherwise(Exception):
    """A number under which this token has reported something else."""


class OutOfOrder(Exception):
    """A report came before the one with the number ``expected``."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        super().__init__(str(expected))


@dataclass(frozen=True)
class Received:
    """A report as it was received."""

    site: str
    site_id: int
    token: int
    received_at: datetime
    report: SiteReport


@dataclass(frozen=True)
class Finished:
    """A site's run that succeeded and that Airflow was not told of."""

    site_id: int
    site: str
    token: int
    plan: str
    run: int


def take(database: Connection, bearer: Bearer, body: bytes, report: SiteReport) -> bool:
    """Keep a report; False where the same is here already.

    A token's numbers follow each other from its first on, so none is missing and none can be
    slipped in unnoticed: the site's own would be refused.

    Raises:
        TakenOtherwise: another is here under its number.
        OutOfOrder: one before it is not here.
    """
    of_token = REPORTS.c.token == bearer.token
    last = database.scalar(select(func.max(REPORTS.c.sequence)).where(of_token))
    if last is not None and report.sequence > last + 1:
        raise OutOfOrder(last + 1)
    digest = hashlib.sha256(body).hexdigest()
    values = {
        "site_id": bearer.site_id,
        "token": bearer.token,
        "sequence": report.sequence,
        "digest": digest,
        "plan": report.plan,
        "run": report.run,
        "state": report.state,
        "report": report.body().decode(),
    }
    once = (
        insert_once(REPORTS)
        .values(values)
        .on_conflict_do_nothing(constraint="proctor_site_report_once")
    )
    if database.execute(once).rowcount:
        return True
    same = of_token & (REPORTS.c.sequence == report.sequence)
    if database.scalar(select(REPORTS.c.digest).where(same)) != digest:
        raise TakenOtherwise
    return False


def newest(database: Connection) -> Sequence[Received]:
    """The newest report of each site's newest run of each plan."""
    columns = (REPORTS.c.site_id, REPORTS.c.plan)
    order = (REPORTS.c.token.desc(), REPORTS.c.run.desc(), REPORTS.c.sequence.desc())
    return _read(database, _query().ext(distinct_on(*columns)).order_by(*columns, *order))


def history(database: Connection, site: str, most: int = 500) -> Sequence[Received]:
    """What a site has reported, the newest first."""
    query = _query().where(SITES.c.name == site).order_by(REPORTS.c.id.desc()).limit(most)
    return _read(database, query)


def heard(database: Connection) -> dict[str, datetime]:
    """When each site that ever reported was last heard of."""
    query = (
        select(SITES.c.name, func.max(REPORTS.c.received_at))
        .join(SITES, SITES.c.id == REPORTS.c.site_id)
        .group_by(SITES.c.name)
    )
    return {row[0]: row[1] for row in database.execute(query)}


def untold(database: Connection, site_id: int) -> Sequence[Finished]:
    """Runs of a site that succeeded and that :func:`tell` was not called for."""
    same = and_(
        MILESTONES.c.token == REPORTS.c.token,
        MILESTONES.c.plan == REPORTS.c.plan,
        MILESTONES.c.run == REPORTS.c.run,
    )
    query = (
        select(REPORTS.c.site_id, SITES.c.name, REPORTS.c.token, REPORTS.c.plan, REPORTS.c.run)
        .join(SITES, SITES.c.id == REPORTS.c.site_id)
        .join(MILESTONES, same, isouter=True)
        .where(REPORTS.c.site_id == site_id)
        .where(REPORTS.c.state == "succeeded", MILESTONES.c.id.is_(None))
        .distinct()
    )
    return [Finished(*row) for row in database.execute(query)]


def tell(database: Connection, finished: Finished, pipeline: str) -> bool:
    """Write down that Airflow is told of a run; False where somebody else has just done so."""
    once = insert_once(MILESTONES).values(
        site_id=finished.site_id,
        token=finished.token,
        plan=finished.plan,
        run=finished.run,
        pipeline=pipeline,
    )
    once = once.on_conflict_do_nothing(constraint="proctor_site_milestone_once")
    return bool(database.execute(once).rowcount)


def _query() -> Select[Any]:
    return select(
        SITES.c.name, REPORTS.c.site_id, REPORTS.c.token, REPORTS.c.received_at, REPORTS.c.report
    ).join(SITES, SITES.c.id == REPORTS.c.site_id)


def _read(database: Connection, query: Select[Any]) -> Sequence[Received]:
    return [
        Received(
            row.name, row.site_id, row.token, row.received_at, read_report(row.report.encode())
        )
        for row in database.execute(query)
    ]
