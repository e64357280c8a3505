"""DAGs that start when chosen sites are ready: ``starts`` of a coordinator's profile.

``proctor-site://NAME/PIPELINE`` has an event for each run of a site that succeeded
(site_events.py). Any DAG of the same Airflow may wait for it, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from airflow.sdk import Asset, AssetAll, AssetAny

from proctor.federation.addresses import ready_uri
from proctor.federation.profile import Start

GROUP = "proctor-site"


def site_asset(site: str, pipeline: str) -> Asset:
    """What has an event whenever a site's run of a pipeline has succeeded."""
    uri = ready_uri(site, pipeline)
    return Asset(name=uri, uri=uri, group=GROUP)


def ready(pipeline: str, sites: Sequence[str], at_least: int | None = None) -> Any:
    """A DAG's schedule: when all of these sites have finished a pipeline, or at least some.

    Airflow starts the DAG and counts from nothing again: a site counts anew with its next run.
    """
    assets = [site_asset(site, pipeline) for site in dict.fromkeys(sites)]
    least = len(assets) if at_least is None else at_least
    if least >= len(assets):
        return AssetAll(*assets)
    if least == 1:
        return AssetAny(*assets)
    return AssetAny(*(AssetAll(*some) for some in combinations(assets, least)))


def schedule_of(pipeline: str, starts: Sequence[Start]) -> Any:
    """What starts a pipeline's DAG by itself; ``None`` where nothing does."""
    found = [ready(s.when, s.sites, s.at_least) for s in starts if s.pipeline == pipeline]
    return AssetAny(*found) if len(found) > 1 else next(iter(found), None)
