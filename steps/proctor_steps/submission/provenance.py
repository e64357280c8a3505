"""``documentation/provenance.json`` of a package: each figure, its files, and where they came from.

A list with one document for each package, so that merged trees hold the documents of all. What
the orchestrator told the step of the run (:data:`proctor_steps.contract.LINEAGE_FILE`: attempts,
images, sources, signed answers) is in it; without an orchestrator, what the mounts tell.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from proctor_steps import contract
from proctor_steps.contract import Mount
from proctor_steps.lineage import (
    CONTEXT,
    CROISSANT,
    FORMAT,
    PROVENANCE,
    content,
    described,
    digest_of,
    figure_name,
    size,
    source_of,
)
from proctor_steps.report.evidence import Evidence
from proctor_steps.stage import StepIO

Node = dict[str, Any]


def write(tree: Path, results: Path, scenarios: Sequence[str], found: Evidence, io: StepIO) -> None:
    """Write the document of one package.

    Args:
        tree: the submission tree; ``results``: the benchmark's folder in it, filled.
        scenarios: those that were measured.
    """
    whole = _given(io)
    nodes: dict[str, Node] = {node["@id"]: node for node in whole["@graph"]}
    known = [nodes.pop(id) for id in [*nodes] if id.startswith("figure:")]
    inputs = [mount for mount in io.contract.mounts if mount.kind == "input"]
    ids = {Path(mount.path): _entity(mount, nodes) for mount in inputs}
    taken: set[Path] = set()
    for scenario in scenarios:
        for figure in _figures(scenario, results / scenario, found, ids):
            files = sorted(path for path in figure.pop("places").rglob("*") if path.is_file())
            taken |= {*files}
            named = {"files": [_file(path, tree) for path in files], **_told(figure, known)}
            nodes[f"figure:{figure['name']}"] = {
                "@id": f"figure:{figure['name']}", "@type": "prov:Entity", **figure, **named,
            }  # fmt: skip
    rest = sorted(path for path in results.rglob("*") if path.is_file() and path not in taken)
    rest += sorted((results.parents[2] / "systems").glob(f"{results.parent.name}.json"))
    place = results.relative_to(tree).as_posix()
    nodes[f"package:{place}"] = {
        "@id": f"package:{place}",
        "@type": "prov:Entity",
        "name": place,
        "files": [_file(path, tree) for path in rest],
        "prov:wasDerivedFrom": [{"@id": id} for id in dict.fromkeys(ids.values())],
    }
    text = json.dumps([{**whole, "@graph": [*nodes.values()]}], indent=1, ensure_ascii=False)
    target = results.parents[2] / "documentation" / PROVENANCE
    target.write_text(text + "\n", encoding="utf-8")


def _given(io: StepIO) -> Node:
    """What the orchestrator told, or the beginning of a document."""
    path = io.folder / contract.LINEAGE_FILE
    if path.is_file():
        told: Node = json.loads(path.read_bytes())
        return told
    name = f"{io.contract.pipeline}/{io.contract.run}"
    return {
        "@context": CONTEXT, "@type": "prov:Bundle", "format": FORMAT, "name": name, "@graph": [],
    }  # fmt: skip


def _figures(
    scenario: str, folder: Path, found: Evidence, ids: Mapping[Path, str]
) -> Iterator[dict[str, Any]]:
    """Throughput or latency, and accuracy, of one scenario."""
    run, score = found.performance[scenario], found.scores[scenario]
    if run.metric is not None:
        told = run.metric.model_dump()
        yield {
            "name": figure_name(scenario, told),
            "scenario": scenario,
            "metric": told["name"],
            "value": told["value"],
            "unit": told["unit"],
            "valid": run.valid,
            "official": run.official,
            **_from(ids, found.logs[scenario]),
            "places": folder / "performance",
        }
    yield {
        "name": f"{scenario}.accuracy",
        "scenario": scenario,
        "metric": score.metric,
        "value": score.value,
        "unit": score.unit,
        **_from(ids, found.score_folders[scenario], found.accuracy_logs[scenario]),
        "places": folder / "accuracy",
    }


def _from(ids: Mapping[Path, str], *folders: Path) -> Node:
    return {"prov:wasDerivedFrom": [{"@id": ids[folder]} for folder in folders]}


def _told(figure: Node, known: Sequence[Node]) -> Node:
    """What the record tells of the same figure: its lines, and the answers that stand behind it."""
    first = figure["prov:wasDerivedFrom"][0]
    same = [k for k in known if first in k.get("prov:wasDerivedFrom", ())]
    keys = ("step", "approved", "told_in", "measured_in")
    return {key: each[key] for each in same[:1] for key in keys if key in each}


def _entity(mount: Mount, nodes: dict[str, Node]) -> str:
    """The id of what is mounted; it becomes a node where the orchestrator told of none."""
    sha256 = digest_of(mount) or "unknown"
    id = mount.artifact or f"urn:sha256:{sha256}"
    name = f"{mount.name}/{mount.cell}".rstrip("/")
    path = Path(mount.path) / CROISSANT
    told = described(path.read_bytes()) if path.is_file() else {}
    node: Node = {**content(sha256), "@id": id, "name": name, **told}
    if source := source_of(mount.fetched):
        if source["@id"] != id:
            node["prov:wasDerivedFrom"] = [{"@id": source["@id"]}]
        nodes.setdefault(str(source["@id"]), source)
    nodes.setdefault(id, node)
    return id


def _file(path: Path, tree: Path) -> dict[str, JsonValue]:
    return {
        "name": path.relative_to(tree).as_posix(),
        "sha256": contract.file_sha256(path),
        "contentSize": size(path.stat().st_size),
    }
