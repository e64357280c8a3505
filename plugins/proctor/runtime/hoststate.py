"""How busy the host is at this moment: what a reader wants to know beside a measured figure.

Read before an exclusive step starts and after it has ended. What this host does not show is
``"unknown"``, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from proctor.runtime.base import EngineError, Runtime
from proctor_steps import hoststate
from proctor_steps.hoststate import UNKNOWN

__all__ = ["UNKNOWN", "state", "with_containers"]

# The rule of the finding, as a step names it that saw the machine disturbed itself.
_RULE = "disturbed"


def state(runtime: Runtime) -> dict[str, JsonValue]:
    """What the host shows (:func:`proctor_steps.hoststate.state`), and its containers.

    ``containers_running`` counts everybody's.
    """
    return {
        **hoststate.state(),
        "containers_running": hoststate.known(lambda: _containers(runtime)),
    }


def _containers(runtime: Runtime) -> int | None:
    try:
        return runtime.containers_running()
    except EngineError:
        return None


def with_containers(
    told: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any], own: int
) -> dict[str, Any]:
    """A result's metrics and findings, with other containers told as a disturbance.

    A step sees what others take of the processors, but no containers: these are added to the words
    of ``metrics.loadgen.disturbed``, so that whoever reads those reads all. A run that the step
    did not look at (``disturbed`` is absent) stays so.

    Args:
        told: ``metrics`` and ``findings`` as the step wrote them.
        before, after: :func:`state`, while the step's own container did not run.
        own: services of the step, which are containers, too.
    """
    metrics = told.get("metrics") or {}
    run = metrics.get("loadgen")
    counts = [each.get("containers_running", UNKNOWN) for each in (before, after)]
    most = max((count for count in counts if isinstance(count, int)), default=0) - own
    if most < 1 or not isinstance(run, dict) or not isinstance(run.get("disturbed"), list):
        return dict(told)
    them = "another container" if most == 1 else f"{most} other containers"
    reason = f"{them} ran on this host beside the step (none should)"
    finding = {
        "rule": _RULE,
        "severity": "warning",
        "message": f"the machine was not quiet: {reason}",
        "where": f"{run.get('scenario')} {run.get('mode')}",
    }
    marked = {**run, "disturbed": [*run["disturbed"], reason]}
    return {
        **told,
        "metrics": {**metrics, "loadgen": marked},
        "findings": [*(told.get("findings") or ()), finding],
    }
