"""What a run's figures came from, made from its record: a document of PROV-O in JSON-LD.

The words are those of :mod:`proctor_steps.lineage`. Every node that the record tells of names the
lines that do, each by number and digest, so that a line that was edited or removed afterwards is
found. Nothing is read but the record, the plan, and each output's ``croissant.json``, if any.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from proctor.plan.model import Plan, PlanStep
from proctor.records import chain
from proctor.records.model import Line
from proctor.records.store import RecordError, RecordStore, RunRecord
from proctor.records.summary import figures
from proctor_steps.lineage import (
    CONTEXT,
    FORMAT,
    content,
    described,
    figure_name,
    shown,
    size,
    source_of,
)

Node = dict[str, Any]
# The bytes of an artifact's ``croissant.json``; ``None`` where it has none, or is not here.
Metadata = Callable[[str], bytes | None]
_NO_PARTS: Mapping[str, Any] = {}


def document(store: RecordStore, record: RunRecord, metadata: Metadata) -> Node:
    """The provenance of all that a run made so far.

    Raises:
        RecordError: the record or its plan cannot be read.
    """
    header = record.whole.header()
    plan = store.plan(header.plan_digest)
    parts = [_Part(store, each) for each in (record.whole, *record.whole.subjects())]
    made = _Made(plan, parts, metadata)
    try:
        for part in parts:
            made.add_part(part)
    except KeyError as error:
        raise RecordError(
            f"{record.path}: tells of {error}, which the plan does not have"
        ) from error
    made.add_figures(parts[0])
    return {
        "@context": CONTEXT,
        "@type": "prov:Bundle",
        "format": FORMAT,
        "name": record.whole.name,
        "began": header.at,
        "plan": plan.digest,
        "spec": header.data.get("spec"),
        "public_key": header.data.get("public_key"),
        "@graph": list(made.nodes.values()),
    }


def nodes(documents: Iterable[Mapping[str, Any]]) -> dict[str, Node]:
    """The nodes of documents by their ids; where several tell of one, the first counts."""
    found: dict[str, Node] = {}
    for each in documents:
        graph = each.get("@graph")
        for node in graph if isinstance(graph, list) else ():
            if isinstance(node, dict) and isinstance(id := node.get("@id"), str):
                found[id] = {**node, **found.get(id, {})}
    return found


class _Part:
    """The record of a run, or of a subject's part in it, with the digest of each line."""

    def __init__(self, store: RecordStore, record: RunRecord) -> None:
        self.record = record
        self.lines = record.lines()
        raw = chain.raw_lines(record.path)[: len(self.lines)]
        self.digests = [hashlib.sha256(each).hexdigest() for each in raw]
        self.file = record.path.relative_to(store.home).as_posix()
        self.header = self.lines[0]
        self.by_step: dict[str, list[Line]] = {}
        self._place: dict[int, int] = {}
        for number, line in enumerate(self.lines, start=1):
            self.by_step.setdefault(line.step, []).append(line)
            self._place[id(line)] = number

    def told_in(self, *lines: Line | None) -> list[JsonValue]:
        """Where the record tells so."""
        found = [self.place(line) for line in lines if line is not None]
        return [{"file": self.file, "line": n, "sha256": self.digests[n - 1]} for n in found]

    def place(self, line: Line) -> int:
        """Where a line of ``lines`` stands, from 1, whatever number it claims to have."""
        return self._place[id(line)]

    def result(self, step: str) -> Line | None:
        """The newest result of a step."""
        results = [x for x in self.by_step.get(step, ()) if x.kind == "result"]
        return results[-1] if results else None

    def began(self, step: str, attempt: int) -> Line | None:
        """The line that an attempt began with: it holds what its identity is the digest of."""
        return next(
            (x for x in self.by_step.get(step, ()) if _begins(x) and x.attempt == attempt), None
        )


@dataclass
class _Made:
    """The graph while it is made. ``outputs``: (step, output) -> its artifacts by digest."""

    plan: Plan
    parts: list[_Part]
    metadata: Metadata
    nodes: dict[str, Node] = field(default_factory=dict)
    outputs: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in self.parts:
            for line in part.lines:
                for name, output in _outputs(line):
                    known = self.outputs.setdefault((line.step, name), {})
                    known[str(output["sha256"])] = str(output["uri"])

    def add_part(self, part: _Part) -> None:
        """Every attempt of a part that left something, also one that was replaced, and every
        answer."""
        for line in part.lines:
            if line.kind == "approval":
                self._answer(part, line)
            elif any(_outputs(line)):
                self._step(part, self.plan.step(line.step), line)

    def add_figures(self, part: _Part) -> None:
        """What was measured and scored, under names that people can type."""
        found = [*_figures(figures(self.plan, part.by_step))]
        count = Counter(name for name, _ in found)
        for name, figure in found:
            step = str(figure["step"])
            line = part.result(step)
            unique = name if count[name] == 1 else f"{step}.{name.rpartition('.')[2]}"
            outputs = [str(output["uri"]) for _, output in _outputs(line)] if line else []
            self._add(
                f"figure:{unique}",
                "prov:Entity",
                {"name": unique, **figure, "told_in": part.told_in(line)},
                {"prov:wasDerivedFrom": outputs, "approved": self._behind(step)},
            )

    def _add(self, id: str, kind: str, told: Node, links: Mapping[str, Iterable[str]]) -> None:
        named = {key: [{"@id": each} for each in ids] for key, ids in links.items()}
        whole = {"@id": id, "@type": kind, **told, **named}
        node = {key: value for key, value in whole.items() if value not in (None, "", [], {})}
        self.nodes.setdefault(id, node)

    def _step(self, part: _Part, step: PlanStep, line: Line) -> None:
        began = part.began(step.id, line.attempt)
        of = line.data.get("reused_from") or f"{part.record.name}/{step.id}/{line.attempt}"
        id = self._attempt(part, step, str(of), began, line)
        metrics = line.data.get("metrics")
        source = metrics.get("source") if isinstance(metrics, dict) else None
        if isinstance(source, dict) and (entity := source_of(source)):
            self.nodes.setdefault(str(entity["@id"]), entity)
            self.nodes[id].setdefault("prov:used", []).append({"@id": entity["@id"]})
        for name, output in _outputs(line):
            count = output.get("bytes")
            told = {
                "name": f"{step.id}.{name}",
                "subject": part.record.partition,
                "sha256": output["sha256"],
                "contentSize": size(count) if isinstance(count, int) else "",
                "archive": _archive(metrics) if isinstance(metrics, dict) else None,
                **self._described(str(output["uri"])),
            }
            links = {"prov:wasGeneratedBy": [id]}
            self._add(str(output["uri"]), "prov:Entity", told, links)

    def _described(self, uri: str) -> Node:
        raw = self.metadata(uri)
        return {} if raw is None else described(raw)

    def _attempt(
        self, part: _Part, step: PlanStep, of: str, began: Line | None, line: Line | None
    ) -> str:
        """The attempt of a step or a service as an activity; its id. ``line``: its result."""
        result = line.data if line else {}
        parts = began.data.get("identity_parts") if began else None
        parts = parts if isinstance(parts, dict) else dict(_NO_PARTS)
        reused = bool(result.get("reused_from"))
        told = {
            "name": step.id,
            "subject": part.record.partition,
            "identity": next((x.identity for x in (began, line) if x), ""),
            "image": result.get("image") or step.image,
            "image_digest": result.get("image_digest") or parts.get("image"),
            "command": parts.get("command"),
            "parameters": shown(parts.get("params")),
            "taken_over_in": part.record.name if reused else "",
            "prov:startedAtTime": result.get("started_at") or (began.at if began else ""),
            "prov:endedAtTime": line.at if line and not reused else "",
            "versions": result.get("versions"),
            "told_in": part.told_in(began, line),
        }
        links = {
            "prov:used": [*self._used(step, parts), *self._services(part, parts)],
            "prov:wasInformedBy": self._answers(parts.get("gates")),
            "prov:wasAssociatedWith": self._agents(),
        }
        self._add(f"attempt:{of}", "prov:Activity", told, links)
        return f"attempt:{of}"

    def _used(self, step: PlanStep, parts: Mapping[str, Any]) -> Iterator[str]:
        """What an attempt read: outputs of steps by their names, all else by its digest."""
        given = parts.get("inputs")
        for name, sha256 in (given if isinstance(given, dict) else {}).items():
            wanted = next((i for i in step.inputs if i.name == name.partition("/")[0]), None)
            sources = wanted.sources if wanted else ()
            known = (self.outputs.get((s.step, s.output), {}).get(str(sha256)) for s in sources)
            if uri := next((uri for uri in known if uri), ""):
                yield uri
            elif len(str(sha256)) == 64:
                label = (wanted.bound if wanted else "") or name.rstrip("/")
                entity = {**content(str(sha256)), "prov:label": label}
                self.nodes.setdefault(str(entity["@id"]), entity)
                yield str(entity["@id"])

    def _services(self, part: _Part, parts: Mapping[str, Any]) -> Iterator[str]:
        """The attempts of services that a step used, each once."""
        used = parts.get("services")
        for name, identity in (used if isinstance(used, dict) else {}).items():
            lines = (x for x in part.by_step.get(name, ()) if _begins(x) and x.identity == identity)
            if (line := next(lines, None)) is not None:
                of = f"{part.record.name}/{name}/{line.attempt}"
                yield self._attempt(part, self.plan.service(name), of, line, None)

    def _agents(self) -> Iterator[str]:
        versions = self.parts[0].header.data.get("versions")
        version = versions.get("proctor", "unknown") if isinstance(versions, dict) else "unknown"
        id = f"agent:proctor {version}"
        self._add(id, "prov:SoftwareAgent", {"name": f"proctor {version}"}, {})
        yield id

    def _answer(self, part: _Part, line: Line) -> None:
        answer = line.data.get("answer")
        by = answer.get("by") if isinstance(answer, dict) else None
        told = {
            "name": line.step,
            "answer": answer,
            "signature": line.data.get("signature"),
            "told_in": part.told_in(line),
        }
        self._add(f"agent:{by}", "prov:Person", {"name": by}, {})
        links = {"prov:wasAttributedTo": [f"agent:{by}"]}
        self._add(_approval(part, line), "prov:Entity", told, links)

    def _answers(self, gates: Any) -> Iterator[str]:
        """The newest answers at gates of the run."""
        whole = self.parts[0]
        for gate in gates if isinstance(gates, list) else ():
            lines = [x for x in whole.by_step.get(str(gate), ()) if x.kind == "approval"]
            yield from (_approval(whole, line) for line in lines[-1:])

    def _behind(self, step: str) -> Iterator[str]:
        """The answers at gates that stood behind a step, and so saw what it left."""
        gates = [s.id for s in self.plan.steps if s.kind == "approval"]
        yield from self._answers([g for g in gates if step in self.plan.ancestors(g)])


def _archive(metrics: Mapping[str, Any]) -> str:
    """The digest of the archive that ``submission package`` made."""
    package = metrics.get("package")
    return str(package.get("sha256") or "") if isinstance(package, dict) else ""


def _begins(line: Line) -> bool:
    return line.kind == "attempt" and "identity_parts" in line.data


def _approval(part: _Part, line: Line) -> str:
    return f"approval:{part.record.name}/{line.step}/{part.place(line)}"


def _outputs(line: Line) -> Iterator[tuple[str, dict[str, Any]]]:
    """The outputs of a good result, by name."""
    good = line.kind == "result" and line.data.get("state") == "succeeded"
    outputs = line.data.get("outputs") if good else None
    for name, output in (outputs if isinstance(outputs, dict) else {}).items():
        if isinstance(output, dict) and output.get("uri") and output.get("sha256"):
            yield name, output


def _figures(found: Mapping[str, list[Any]]) -> Iterator[tuple[str, Node]]:
    """Each figure under the name that it has where no other figure has it."""
    for run in found["results"]:
        metric = run["metrics"].get("metric")
        if run.get("mode") == "performance" and isinstance(metric, dict):
            told = {key: run.get(key) for key in ("step", "scenario", "valid", "measured_in")}
            official = run["metrics"].get("official")
            yield (
                figure_name(run["scenario"], metric),
                {**told, **_value(metric), "official": official},
            )
    for score in found["accuracy"]:
        told = {key: score.get(key) for key in ("step", "scenario")}
        where = score.get("scenario") or score["step"]
        yield f"{where}.accuracy", {**told, **_value({**score, "name": score["metric"]})}


def _value(metric: Mapping[str, Any]) -> Node:
    return {"metric": metric.get("name"), "value": metric.get("value"), "unit": metric.get("unit")}
