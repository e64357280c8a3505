"""When two steps are the same: the digest under which a result is found again.

Whatever measures carries the host's fingerprint in its identity, so that a figure measured
elsewhere is never taken for one of this machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic import JsonValue

from proctor.plan.model import PlanStep
from proctor_steps.contract import CONTRACT_FORMAT


def identity_parts(
    step: PlanStep,
    *,
    command: Sequence[str],
    image_identity: str,
    params: Mapping[str, JsonValue],
    input_digests: Mapping[str, str],
    host_fingerprint: Mapping[str, Any] | None = None,
    approvals: Sequence[str] = (),
    source_versions: Mapping[str, str] | None = MappingProxyType({}),
    services: Mapping[str, str] | None = None,
    partition: str = "",
    measured_in: Mapping[str, str] | None = None,
    history: str = "",
) -> dict[str, JsonValue]:
    """What makes a step of a run the same as another; its identity is :func:`digest` of this.

    ``command`` and ``params`` are resolved. ``image_identity`` is the runtime's word for the code.
    ``input_digests``: ``name`` or ``name/cell`` -> digest. ``approvals``: digests of the answers
    that the step is told. ``source_versions``: what its sources are (sha256, by parameter);
    ``None`` where nothing tells, so that no other step is known to be the same. ``services``:
    name -> identity of the services that it uses. ``partition``: the subject. ``measured_in``: the
    inputs that are figures of another run, and of which: a step that tells of them is told so. A
    measurement is what it is wherever its inputs come from. ``history``: sha256 of the
    ``history.json`` that the step is told.

    Raises:
        ValueError: a measuring step without the host's fingerprint.
    """
    parts: dict[str, Any] = {
        "contract": CONTRACT_FORMAT,
        "image": image_identity,
        "command": list(command),
        "params": dict(params),
        "inputs": dict(input_digests),
        "outputs": [[item.name, item.type, item.mount_path] for item in step.outputs],
        "mounts": [[item.name, item.mount_path, item.fan_in] for item in step.inputs],
        "seed": step.seed,
        "gates": list(step.required_approvals),
        "approvals": sorted(approvals),
        "sources": None if source_versions is None else dict(source_versions),
    }
    if history:
        parts["history"] = history
    if partition:
        parts["partition"] = partition
    if services:
        parts["services"] = dict(services)
    if measured_in and step.reuse != "within_run":
        parts["measured_in"] = dict(measured_in)
    if step.exclusive or step.reuse == "within_run":
        if not host_fingerprint:
            raise ValueError(f"step {step.id}: a measurement needs the host's fingerprint")
        parts["host"] = dict(host_fingerprint)
        parts["resources"] = step.resources.model_dump(mode="json")
        parts["exclusive"] = step.exclusive
    return parts
