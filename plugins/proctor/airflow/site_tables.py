"""Has Airflow make and migrate a coordinator's tables: ``[database] external_db_managers``."""

from __future__ import annotations

from typing import Any

from airflow.utils.db_manager import BaseDBManager

from proctor.federation.migrations import FOLDER
from proctor.federation.tables import METADATA, VERSION_TABLE


class SitesTables(BaseDBManager):
    """The tables of :mod:`proctor.federation.tables`, made by their migrations alone."""

    metadata = METADATA
    migration_dir = str(FOLDER)
    alembic_file = str(FOLDER / "alembic.ini")
    version_table_name = VERSION_TABLE
    supports_table_dropping = True

    def create_db_from_orm(self) -> None:
        """As an upgrade does: what the migrations say beside the tables belongs to them."""
        self.upgradedb(use_migration_files=True)  # type: ignore[no-untyped-call]

    def drop_tables(self, connection: Any) -> None:
        """Remove the tables, and the function that keeps reports as they are."""
        super().drop_tables(connection)  # type: ignore[no-untyped-call]
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("DROP FUNCTION IF EXISTS proctor_site_report_kept")
