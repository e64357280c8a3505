"""Which sites there are, and who may report for one: tokens, kept as digests, revocable."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from proctor.federation.addresses import site_name
from proctor.federation.tables import SITES, TOKENS

_NOBODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Bearer:
    """Who reports: a site, by one of its tokens (counted from 1 over all sites)."""

    site_id: int
    site: str
    token: int


@dataclass(frozen=True)
class KnownSite:
    """A site, and how many tokens of it count."""

    id: int
    name: str
    made_at: datetime
    tokens: int


def add_site(database: Connection, name: str) -> str:
    """A new token of a site, which is added where it is new; it is shown here and never again.

    Raises:
        ValueError: the name is none; behind a bar, what to do.
    """
    site_name(name)
    site = database.scalar(select(SITES.c.id).where(SITES.c.name == name))
    if site is None:
        site = database.scalar(insert(SITES).values(name=name).returning(SITES.c.id))
    id = secrets.token_hex(4)
    token = f"{id}.{secrets.token_urlsafe(32)}"
    number = (database.scalar(select(func.max(TOKENS.c.number))) or 0) + 1
    made = insert(TOKENS).values(id=id, number=number, site_id=site, digest=_digest(token))
    database.execute(made)
    return token


def revoke(database: Connection, name: str) -> int:
    """Have no token of a site count any more; how many did.

    Raises:
        LookupError: there is no such site.
    """
    site = database.scalar(select(SITES.c.id).where(SITES.c.name == name))
    if site is None:
        raise LookupError(name)
    counting = (TOKENS.c.site_id == site) & TOKENS.c.revoked_at.is_(None)
    return database.execute(update(TOKENS).where(counting).values(revoked_at=func.now())).rowcount


def bearer_of(database: Connection, token: str) -> Bearer | None:
    """Whose token this is; ``None`` where it is nobody's, or was revoked."""
    id = token.partition(".")[0]
    query = (
        select(TOKENS.c.digest, TOKENS.c.number, TOKENS.c.revoked_at, SITES.c.id, SITES.c.name)
        .join(SITES, SITES.c.id == TOKENS.c.site_id)
        .where(TOKENS.c.id == id)
    )
    row = database.execute(query).one_or_none()
    # Compared in any case: how long it takes says nothing of what is known.
    same = hmac.compare_digest(_digest(token), row.digest if row else _NOBODY)
    if row is None or not same or row.revoked_at is not None:
        return None
    return Bearer(site_id=row.id, site=row.name, token=row.number)


def sites(database: Connection) -> Sequence[KnownSite]:
    """Every site, by name."""
    counting = func.count(TOKENS.c.number).filter(TOKENS.c.revoked_at.is_(None))
    query = (
        select(SITES.c.id, SITES.c.name, SITES.c.made_at, counting)
        .join(TOKENS, TOKENS.c.site_id == SITES.c.id, isouter=True)
        .group_by(SITES.c.id)
        .order_by(SITES.c.name)
    )
    return [KnownSite(*row) for row in database.execute(query)]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
