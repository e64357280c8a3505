"""Whether a step takes an earlier result over instead of running: one of the same identity.

The home's folder ``results/`` names, for each identity, where its newest good result is recorded.
It is only a way to find it: what counts is that record, its chain, and the bytes that it names.
What measures is not found that way: only from the run that a person named for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from proctor.plan.differences import first_difference
from proctor.plan.model import PlanStep
from proctor.records.model import Line
from proctor.records.store import RecordError, RunRecord
from proctor.runtime.artifacts import ArtifactError, LocalArtifacts
from proctor.runtime.base import StartRequest
from proctor.runtime.hashes import FileHashes
from proctor.site.home import Home
from proctor_steps.contract import digest, write_atomically

_FOLDER = "results"
_WISH = "reuse.json"


@dataclass(frozen=True)
class Wish:
    """What the person who started a run asked for.

    ``fresh``: nothing is taken over. ``measurements``: ``pipeline/run`` whose figures may be.
    """

    fresh: bool = False
    measurements: str = ""


@dataclass(frozen=True)
class Earlier:
    """A result of another run. ``of``: ``pipeline/run/step/attempt``, as people read it.

    ``host``: what the host was doing before it, where that was measured.
    """

    of: str
    line: Line
    host: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """What is taken over or, where nothing is, ``why`` the step runs.

    ``asked``: the request and what its identity is made of, where that had to be known.
    """

    why: str = ""
    earlier: Earlier | None = None
    asked: tuple[StartRequest, dict[str, JsonValue]] | None = None


class _NoneFits(Exception):
    """There is no earlier result to take over; the message says why."""


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


def ask(record: RunRecord, wish: Wish) -> None:
    """Tell the steps of a run what its starter asked for, before the run begins."""
    record.own.mkdir(parents=True, exist_ok=True)
    write_atomically(record.own / _WISH, json.dumps(asdict(wish)).encode())


def wish_of(record: RunRecord) -> Wish:
    """What the person who started the run asked for."""
    path = record.whole.own / _WISH
    return Wish(**json.loads(path.read_bytes())) if path.is_file() else Wish()


def always_runs(step: PlanStep, wish: Wish) -> str:
    """Why nothing can stand for a step in a run, whatever there is; "" where something may."""
    if step.reuse == "never":
        return "reuse is never"
    if step.services:
        # What a service answers is not known before it is asked.
        return f"it uses services ({', '.join(step.services)})"
    if step.required_approvals:
        return f"it stands behind an approval ({', '.join(step.required_approvals)})"
    if wish.fresh:
        return "--fresh was given"
    if step.reuse == "within_run" and not wish.measurements:
        return "it measures" if step.exclusive else "reuse is within_run"
    return ""


def choose(
    home: Home,
    step: PlanStep,
    wish: Wish,
    asked: tuple[StartRequest, dict[str, JsonValue]],
    hashes: FileHashes,
) -> Choice:
    """Whether an earlier result stands for a step that does not always run."""
    parts = asked[1]
    try:
        if parts["sources"] is None:
            raise _NoneFits("its source names no digest, so that it may have changed")
        if step.reuse == "within_run":
            return Choice("", _measured(home, step.id, wish.measurements, parts, hashes), asked)
        return Choice("", _newest(home, digest(parts), hashes), asked)
    except _NoneFits as none:
        return Choice(str(none), None, asked)


def _parts_of(record: RunRecord, step: str, attempt: int) -> dict[str, Any]:
    """What a recorded attempt's identity was made of; empty where its record does not tell."""
    parts = _attempt(record, step, attempt).get("identity_parts")
    return parts if isinstance(parts, dict) else {}


def remember(home: Home, record: RunRecord, line: Line) -> None:
    """Note where a good result of an identity is recorded."""
    if not line.identity:
        return
    path = _path(home, line.identity)
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"pipeline": record.pipeline, "run": record.run, "seq": line.seq}
    write_atomically(path, json.dumps(place).encode())


def _newest(home: Home, identity: str, hashes: FileHashes) -> Earlier:
    """The newest good result of an identity, if all that it left is still as it was."""
    try:
        place = json.loads(_path(home, identity).read_bytes())
        record = home.records.run(str(place["pipeline"]), str(place["run"]))
        line = next(x for x in record.lines() if x.seq == place["seq"])
    except (OSError, ValueError, KeyError, TypeError, StopIteration, RecordError):
        raise _NoneFits("no earlier run has a result of its identity") from None
    if line.identity != identity or not _is_good(line):
        raise _NoneFits("no earlier run has a result of its identity")
    return _whole(home, record, line, hashes)


def _measured(
    home: Home, step: str, run: str, parts: Mapping[str, Any], hashes: FileHashes
) -> Earlier:
    """The same step's newest result in the run that was named, if it is of the same identity."""
    try:
        record = home.records.run(*run.split("/"))
        if partition := str(parts.get("partition", "")):
            record = record.subject(partition)
        line = record.last("result", step)
        if line is None or not _is_good(line):
            raise _NoneFits(f"{run} has no good result of it")
        if line.identity != digest(parts):
            told = first_difference(_parts_of(record, step, line.attempt), parts)
            raise _NoneFits(f"compared with {run}, {told or 'its identity differs'}")
    except (OSError, RecordError) as error:
        raise _NoneFits(f"the record of {run} cannot be read: {error}") from error
    return _whole(home, record, line, hashes)


def _whole(home: Home, record: RunRecord, line: Line, hashes: FileHashes) -> Earlier:
    """A result whose record was not changed and whose outputs are still as it left them."""
    if record.verify_chain():
        raise _NoneFits(f"the record of {record.name}, which has its result, was changed")
    if not _is_there(home, line, hashes):
        raise _NoneFits(f"its result in {record.name} is not there any more as it was left")
    host = _attempt(record, line.step, line.attempt).get("host")
    of = f"{record.name}/{line.step}/{line.attempt}"
    return Earlier(of, line, host if isinstance(host, dict) else {})


def _is_good(line: Line) -> bool:
    """Whether a line is the result of a step that succeeded."""
    return line.kind == "result" and line.data.get("state") == "succeeded"


def _attempt(record: RunRecord, step: str, attempt: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in record.lines():
        if (line.kind, line.step, line.attempt) == ("attempt", step, attempt):
            found |= line.data
    return found


def _is_there(home: Home, line: Line, hashes: FileHashes) -> bool:
    store, outputs = LocalArtifacts(home.path), line.data.get("outputs")
    entries: list[Any] = list(outputs.values()) if isinstance(outputs, dict) else []
    try:
        return all(hashes.tree(store.path(e["uri"])) == e["sha256"] for e in entries)
    except (ArtifactError, KeyError, TypeError, ValueError, OSError):
        return False


def _path(home: Home, identity: str) -> Path:
    return home.path / _FOLDER / identity[:2] / f"{identity}.json"
