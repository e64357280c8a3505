"""Takes sites' reports into Airflow's database, and tells Airflow that a site has finished.

Report and asset event are one transaction. There is an event only where this home knows the plan,
as the asset's name holds the pipeline's.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from airflow.assets.manager import asset_manager
from airflow.models.asset import AssetModel
from sqlalchemy import Connection, Engine, select
from sqlalchemy.orm import Session

from airflow import settings
from proctor.airflow import instance
from proctor.airflow.sites import GROUP
from proctor.federation import inbox
from proctor.federation.addresses import ready_uri
from proctor.federation.intake import Intake
from proctor.federation.register import Bearer
from proctor.site.known_plans import KnownPlans


def make_intake() -> Intake:
    """An intake on Airflow's database and on this home's plans."""

    def arrived(database: Connection, bearer: Bearer) -> None:
        # Airflow's own functions want a session; what they do is part of this transaction.
        with Session(database, join_transaction_mode="rollback_only") as session:
            tell_finished(database, session, plans(), bearer)
            session.commit()

    # Asked for anew each time: a plugin is loaded before Airflow has its database.
    return Intake(lambda: engine().begin(), lambda name: plans().get(name), arrived)


def engine() -> Engine:
    """Airflow's database, with its own pool of connections."""
    return settings.get_engine()  # type: ignore[no-untyped-call,no-any-return]


@lru_cache(maxsize=1)
def plans() -> KnownPlans:
    """The plans that this home knows."""
    return KnownPlans(instance.home())


def tell_finished(database: Connection, session: Any, known: KnownPlans, bearer: Bearer) -> None:
    """An event for each of a site's runs that succeeded and that Airflow was not told of.

    ``database`` is the connection of ``session``. A run of an unknown plan waits until it is known.
    """
    for finished in inbox.untold(database, bearer.site_id):
        plan = known.get(finished.plan)
        if plan is None or not inbox.tell(database, finished, plan.pipeline):
            continue
        about = {"site": finished.site, "plan": finished.plan, "run": finished.run}
        _event(session, ready_uri(finished.site, plan.pipeline), about)


def _event(session: Any, uri: str, about: dict[str, Any]) -> None:
    known = session.scalar(select(AssetModel).where(AssetModel.uri == uri))
    if known is None:  # no DAG waits for it yet; Airflow's page of assets shows it all the same
        known = AssetModel(name=uri, uri=uri, group=GROUP)
        session.add(known)
        session.flush()
    asset_manager.register_asset_change(asset=known, extra=about, session=session)
