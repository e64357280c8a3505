"""How a stage's output came about, for its metadata: PROV-O, as Croissant 1.1 recommends it."""

from __future__ import annotations

from pydantic import JsonValue

from proctor_steps import __version__
from proctor_steps.contract import Contract
from proctor_steps.lineage import content, digest_of, shown, source_of


def derivation(by: str, of: Contract) -> dict[str, JsonValue]:
    """A stage's output as an entity of PROV-O: from what, by which activity, and who stands for it.

    Args:
        by: the stage, for example ``dataset filter-coco``.
        of: the contract that it ran by.
    """
    used = _inputs(of)
    agent: dict[str, JsonValue] = {
        "@type": "prov:SoftwareAgent",
        "@id": f"urn:proctor:steps:{__version__}",
        "prov:label": f"proctor_steps {__version__}",
    }
    people: list[JsonValue] = [
        {
            "@type": "prov:Person",
            "prov:label": answer.by,
            "proctor:gate": answer.gate,
            "proctor:decision": answer.decision,
            "proctor:at": answer.at,
        }
        for answer in of.approvals
    ]
    activity: dict[str, JsonValue] = {
        "@type": "prov:Activity",
        "prov:label": by,
        **({"proctor:image": of.image} if of.image else {}),
        "proctor:parameters": shown(of.params),
        "prov:used": [{"@id": entity["@id"]} for entity in used],
        "prov:wasAssociatedWith": [agent, *people],
    }
    return {
        "prov:wasDerivedFrom": [*used],
        "prov:wasGeneratedBy": activity,
        "prov:wasAttributedTo": {"@id": agent["@id"]},
    }


def _inputs(of: Contract) -> list[dict[str, JsonValue]]:
    """Each input by its digest, with the source that it was fetched from, where that is known."""
    found: dict[str, dict[str, JsonValue]] = {}
    for mount in of.mounts:
        if mount.kind != "input" or not (sha256 := digest_of(mount)):
            continue
        entity = found.setdefault(sha256, {**content(sha256), "prov:label": mount.name})
        source = source_of(mount.fetched)
        if source and source["@id"] == entity["@id"]:
            entity.update(source)  # a folder that was fetched as it is
        elif source:
            entity["prov:wasDerivedFrom"] = source
    return list(found.values())
