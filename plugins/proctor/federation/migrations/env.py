"""Runs the migrations of the coordinator's tables; called by alembic, not imported."""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import create_engine

from proctor.federation.tables import METADATA, VERSION_TABLE

url = context.config.get_main_option("sqlalchemy.url") or ""
settings: dict[str, Any] = {"target_metadata": METADATA, "version_table": VERSION_TABLE}

if context.is_offline_mode():
    context.configure(url=url, literal_binds=True, **settings)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(url)
    with engine.connect() as connection:
        context.configure(connection=connection, **settings)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()
