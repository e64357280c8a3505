"""Sites, their tokens, what they reported, and what Airflow was told of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_REFUSE = """
CREATE FUNCTION proctor_site_report_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'reports of sites are never changed or removed';
END $$
"""
_TRIGGER = """
CREATE TRIGGER proctor_site_report_kept BEFORE UPDATE OR DELETE ON proctor_site_report
FOR EACH ROW EXECUTE FUNCTION proctor_site_report_kept()
"""


def _now(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())


def _site() -> sa.Column[object]:
    known = sa.ForeignKey("proctor_site.id")
    return sa.Column("site_id", sa.Integer, known, nullable=False)


def _token() -> sa.Column[object]:
    known = sa.ForeignKey("proctor_site_token.number")
    return sa.Column("token", sa.Integer, known, nullable=False)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "proctor_site",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(40), nullable=False, unique=True),
        _now("made_at"),
    )
    op.create_table(
        "proctor_site_token",
        sa.Column("id", sa.String(8), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False, unique=True),
        _site(),
        sa.Column("digest", sa.String(64), nullable=False),
        _now("made_at"),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "proctor_site_report",
        sa.Column("id", sa.BigInteger, primary_key=True),
        _site(),
        _token(),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("plan", sa.String(64), nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("report", sa.Text, nullable=False),
        _now("received_at"),
        sa.UniqueConstraint("token", "sequence", name="proctor_site_report_once"),
    )
    op.create_index(
        "proctor_site_report_newest",
        "proctor_site_report",
        ["site_id", "plan", "token", "run", "sequence"],
    )
    op.create_table(
        "proctor_site_milestone",
        sa.Column("id", sa.BigInteger, primary_key=True),
        _site(),
        _token(),
        sa.Column("plan", sa.String(64), nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("pipeline", sa.String(200), nullable=False),
        _now("told_at"),
        sa.UniqueConstraint("token", "plan", "run", name="proctor_site_milestone_once"),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_REFUSE)
        op.execute(_TRIGGER)


def downgrade() -> None:
    """Remove them, with all that sites have reported."""
    for table in ("milestone", "report", "token"):
        op.drop_table(f"proctor_site_{table}")
    op.drop_table("proctor_site")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION proctor_site_report_kept")
