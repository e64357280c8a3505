"""The coordinator's own tables, in Airflow's database: sites, tokens, reports, milestones.

They come by the migrations beside this module; a test compares both. Reports are never changed or
removed: the database itself refuses that (see the first migration).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
)

METADATA = MetaData()
VERSION_TABLE = "proctor_sites_version"


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


SITES = Table(
    "proctor_site",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(40), nullable=False, unique=True),
    _now("made_at"),
)

# ``id``: the token's public half. ``digest``: sha256 of the whole token, 256 bits of it random.
TOKENS = Table(
    "proctor_site_token",
    METADATA,
    Column("id", String(8), primary_key=True),
    Column("number", Integer, nullable=False, unique=True),
    Column("site_id", Integer, ForeignKey("proctor_site.id"), nullable=False),
    Column("digest", String(64), nullable=False),
    _now("made_at"),
    Column("revoked_at", DateTime(timezone=True)),
)

# ``digest``: of the bytes that came. ``report``: the same report as this version writes it.
REPORTS = Table(
    "proctor_site_report",
    METADATA,
    Column("id", BigInteger, primary_key=True),
    Column("site_id", Integer, ForeignKey("proctor_site.id"), nullable=False),
    Column("token", Integer, ForeignKey("proctor_site_token.number"), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("plan", String(64), nullable=False),
    Column("run", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("report", Text, nullable=False),
    _now("received_at"),
    UniqueConstraint("token", "sequence", name="proctor_site_report_once"),
    Index("proctor_site_report_newest", "site_id", "plan", "token", "run", "sequence"),
)

# A site's run of a plan has succeeded, and Airflow was told.
MILESTONES = Table(
    "proctor_site_milestone",
    METADATA,
    Column("id", BigInteger, primary_key=True),
    Column("site_id", Integer, ForeignKey("proctor_site.id"), nullable=False),
    Column("token", Integer, ForeignKey("proctor_site_token.number"), nullable=False),
    Column("plan", String(64), nullable=False),
    Column("run", Integer, nullable=False),
    Column("pipeline", String(200), nullable=False),
    _now("told_at"),
    UniqueConstraint("token", "plan", "run", name="proctor_site_milestone_once"),
)
