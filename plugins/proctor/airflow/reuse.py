"""Which earlier result a step may take over instead of running: one of the same identity.

The home's folder ``results/`` names, for each identity, where its newest good result is recorded.
It is only a way to find it: what counts is that record, its chain, and the bytes that it names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proctor.plan.model import PlanStep
from proctor.records.model import Line
from proctor.records.store import RecordError, RunRecord
from proctor.runtime.artifacts import ArtifactError, LocalArtifacts
from proctor.runtime.base import StartRequest
from proctor.runtime.hashes import FileHashes
from proctor.site.home import Home
from proctor_steps.contract import write_atomically

_FOLDER = "results"


@dataclass(frozen=True)
class Earlier:
    """A result of another run. ``of``: ``pipeline/run/step/attempt``, as people read it."""

    of: str
    line: Line


def source_versions(request: StartRequest, hashes: FileHashes) -> dict[str, str] | None:
    """What the step's sources are found to be, by parameter; ``None`` where nothing tells.

    A file or folder of this host: the digest of its bytes. A fetch from elsewhere: the sha256 that
    it is checked against; without one, what is there may have changed and is looked at again. What
    comes with the steps (``embedded:``) belongs to the image's identity.

    Raises:
        ValueError: a source holds a link or something that is no plain file.
        OSError: a source cannot be read.
    """
    found = {each.param: hashes.tree(Path(each.host_path)) for each in request.sources}
    if not request.network:
        return found
    uri, sha256 = request.params.get("uri"), request.params.get("sha256")
    if "uri" in found or str(uri).startswith("embedded:"):
        return found
    return {**found, "uri": str(sha256)} if uri and sha256 else None


def may_be_reused(step: PlanStep, record: RunRecord) -> bool:
    """Whether results of other runs count for this step in this run."""
    # What a service answers is not known before it is asked.
    return step.reuse == "across_runs" and not step.services and not is_fresh(record)


def ask_for_fresh(record: RunRecord) -> None:
    """Have a run take nothing over (``--fresh``)."""
    record.own.mkdir(parents=True, exist_ok=True)
    write_atomically(record.own / "fresh", b"")


def is_fresh(record: RunRecord) -> bool:
    """Whether the person who started the run asked for that."""
    return (record.whole.own / "fresh").exists()


def remember(home: Home, record: RunRecord, line: Line) -> None:
    """Note where a good result of an identity is recorded."""
    if not line.identity:
        return
    path = _path(home, line.identity)
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"pipeline": record.pipeline, "run": record.run, "seq": line.seq}
    write_atomically(path, json.dumps(place).encode())


def find(home: Home, identity: str, hashes: FileHashes) -> Earlier | None:
    """The newest good result of an identity, if all that it left is still as it was."""
    try:
        place = json.loads(_path(home, identity).read_bytes())
        record = home.records.run(str(place["pipeline"]), str(place["run"]))
        line = next(x for x in record.lines() if x.seq == place["seq"])
        whole = not record.verify_chain()
    except (OSError, ValueError, KeyError, TypeError, StopIteration, RecordError):
        return None
    good = line.kind == "result" and line.data.get("state") == "succeeded"
    if not (whole and good and line.identity == identity and _is_there(home, line, hashes)):
        return None
    return Earlier(f"{record.pipeline}/{record.run}/{line.step}/{line.attempt}", line)


def _is_there(home: Home, line: Line, hashes: FileHashes) -> bool:
    store, outputs = LocalArtifacts(home.path), line.data.get("outputs")
    entries: list[Any] = list(outputs.values()) if isinstance(outputs, dict) else []
    try:
        return all(hashes.tree(store.path(e["uri"])) == e["sha256"] for e in entries)
    except (ArtifactError, KeyError, TypeError, ValueError, OSError):
        return False


def _path(home: Home, identity: str) -> Path:
    return home.path / _FOLDER / identity[:2] / f"{identity}.json"
