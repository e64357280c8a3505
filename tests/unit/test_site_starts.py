"""DAGs that start when chosen sites are ready: what Airflow is asked to look at."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from airflow.sdk import AssetAll, AssetAny

from proctor.airflow.sites import ready, schedule_of, site_asset
from proctor.federation.profile import Start


def holds(condition: Any, done: set[str]) -> bool:
    """As Airflow's scheduler evaluates it."""
    if isinstance(condition, AssetAll):
        return all(holds(each, done) for each in condition.objects)
    if isinstance(condition, AssetAny):
        return any(holds(each, done) for each in condition.objects)
    return condition.uri in done


@pytest.mark.parametrize("least", [None, 1, 2, 3, 4])
def test_all_or_at_least_some(least: int | None) -> None:
    sites = ["a", "b", "c", "d"]
    condition = ready("prep", sites, least)
    for chosen in product([False, True], repeat=4):
        done = {site_asset(s, "prep").uri for s, yes in zip(sites, chosen, strict=True) if yes}
        assert holds(condition, done) == (len(done) >= (least or 4)), done


def test_a_site_that_is_named_twice_counts_once() -> None:
    assert not holds(ready("p", ["a", "a", "b"], 2), {site_asset("a", "p").uri})


def test_the_schedule_of_a_pipeline() -> None:
    starts = [
        Start(pipeline="merge", when="prep", sites=("a", "b")),
        Start(pipeline="merge", when="other", sites=("c",)),
        Start(pipeline="else", when="prep", sites=("a",)),
    ]
    assert schedule_of("nothing", starts) is None
    condition = schedule_of("merge", starts)
    assert holds(condition, {"proctor-site://c/other"})
    assert not holds(condition, {"proctor-site://a/prep"})
    assert holds(condition, {"proctor-site://a/prep", "proctor-site://b/prep"})
