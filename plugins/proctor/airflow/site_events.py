"""Tells Airflow that a site has finished: an asset event, in one transaction with the report.

Only where this home knows the plan, as the asset's name holds the pipeline's.
"""

from __future__ import annotations

from typing import Any

from airflow.assets.manager import asset_manager
from airflow.models.asset import AssetModel
from sqlalchemy import Connection, select

from proctor.airflow.sites import GROUP
from proctor.federation import inbox
from proctor.federation.addresses import ready_uri
from proctor.federation.plans import KnownPlans
from proctor.federation.register import Bearer


def tell_finished(database: Connection, session: Any, plans: KnownPlans, bearer: Bearer) -> None:
    """An event for each of a site's runs that succeeded and that Airflow was not told of.

    ``database`` is the connection of ``session``. A run of an unknown plan waits until it is known.
    """
    for finished in inbox.untold(database, bearer.site_id):
        plan = plans.get(finished.plan)
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
