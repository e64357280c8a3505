"""Migrations of the coordinator's tables, run by alembic."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
# Names of all of them, in order: where one more is there, the database is behind.
MIGRATIONS = sorted(path.stem for path in (FOLDER / "versions").glob("[0-9]*.py"))
