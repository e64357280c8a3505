"""Whether what a figure came from is still as it was: every digest, every line, every signature.

What is gone is told apart from what is wrong: a run that was removed, an archive read on another
machine. What lies elsewhere (a source on the network) is not looked at, and said to be so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import proctor_steps
from proctor.records import chain
from proctor.records.approvals import ApprovalInvalid, SigningKey, check_signed
from proctor.records.model import Line
from proctor.records.provenance import Node
from proctor.records.store import RecordError
from proctor.runtime.artifacts import SCHEME, ArtifactError, LocalArtifacts
from proctor.runtime.hashes import content_digest
from proctor.site.dataset_files import check_files, compare
from proctor.site.home import file_path
from proctor.site.provenance_open import Opened
from proctor.site.verify import changed, stale
from proctor_steps.contract import Approval, digest, tree_digest

_EMBEDDED = "embedded:"
_ITS_OWN_KEY = "signed with the key that the document itself names; ask the site for its key"
State = Literal["good", "away", "gone", "bad"]
_LINKS = (
    "prov:wasDerivedFrom", "prov:wasGeneratedBy", "prov:used", "prov:wasInformedBy", "approved",
)  # fmt: skip
# What a step's document and the record both tell of a node, and have to tell alike.
_ALIKE = ("sha256", "value", "metric", "unit", "identity", "image_digest", "command", "parameters",
          "answer", "signature", "told_in", "croissant", "license", "image", "measured_in",
          "taken_over_in")  # fmt: skip
# The same, and what only one of them tells is no less wrong.
_VERDICTS = ("valid", "official")
# What a node tells of a figure, as it stands in what was measured or scored.
_HELD: dict[str, Callable[[Any], dict[str, Any]]] = {
    "run.json": lambda run: {
        "value": run["metric"]["value"], **{key: run.get(key) for key in _VERDICTS},
    },
    "accuracy.json": lambda score: {"value": score["value"]},
}  # fmt: skip


@dataclass(frozen=True)
class Looked:
    """One thing that was looked at. ``state``: ``good``, ``away`` (elsewhere, or nothing here can
    tell), ``gone`` (not here any more) or ``bad``; ``message`` says what is so."""

    what: str
    name: str
    state: State = "good"
    message: str = ""


def check(found: Opened, roots: Iterable[str]) -> list[Looked]:
    """Check all that these nodes came from; each thing once, every problem."""
    return [*dict.fromkeys(_Check(found).all(reached(found, roots)))]


def reached(found: Opened, roots: Iterable[str]) -> list[str]:
    """The ids of all that nodes came from, themselves included, each once."""
    seen: dict[str, None] = {}
    todo = list(roots)
    while todo:
        if (id := todo.pop(0)) not in seen:
            seen[id] = None
            todo += found.links(id, *_LINKS)
    return list(seen)


class _Check:
    def __init__(self, found: Opened) -> None:
        self.found = found
        self.store = LocalArtifacts(found.home.path)
        key = SigningKey(found.home.path)
        self.own = key.public() if key.exists() else ""
        # Of a run that is here the site's key has signed; without it, the one its record names.
        here = found.record is not None and found.record.path.is_file()
        self.trusted = (self.own or str(_header(found).get("public_key") or "")) if here else ""
        self.sources = _sources(found)
        self._records: dict[Path, tuple[list[str], list[bytes]]] = {}

    def all(self, ids: list[str]) -> Iterator[Looked]:
        yield from self._problem(ids)
        if self.found.dataset is not None:
            yield from map(_of_file, check_files(self.found.dataset))
        for id in ids:
            kind = id.partition(":")[0]
            node = self.found.node(id)
            yield from self._told_in(node)
            yield from self._alike(id)
            if kind == "figure":
                yield from self._figure(id, node)
            elif kind == "package":
                yield from self._files(node)
            elif id.startswith(SCHEME):
                yield self._artifact(id, node)
            elif kind == "approval":
                # Of what the document and the record tell, both have to be signed.
                for known in (self.found.told, self.found.fresh):
                    if id in known:
                        yield self._approval(id, known[id])
            elif kind == "urn":
                yield self._source(node)
        yield from self._answers_of_tree()
        if self.found.archive and self.found.fresh:
            made = {node.get("archive") for node in self.found.fresh.values()}
            name, same = str(self.found.path), self.found.archive in made
            text = f"sha256 {self.found.archive[:12]} is no archive that the run made"
            yield Looked("archive", name) if same else Looked("archive", name, "bad", text)

    def _problem(self, ids: list[str]) -> Iterator[Looked]:
        """Why the record tells nothing, where no line that it should hold says so already."""
        record = self.found.record
        here = record is not None and record.path.is_file()
        if self.found.problem and (
            here or not any(self.found.node(id).get("told_in") for id in ids)
        ):
            state: State = "bad" if here else "gone"
            yield Looked("record", self._record_name(), state, self.found.problem)

    def _record_name(self) -> str:
        record = self.found.record
        return str(record.path) if record else str(self.found.path)

    def _told_in(self, node: Node) -> Iterator[Looked]:
        """The record still holds the lines that tell of a node, in a chain that nobody broke."""
        for each in node.get("told_in") or ():
            path = self.found.home.path / str(each.get("file"))
            if not path.is_file():
                yield Looked("record", str(path), "gone", "the record is not here")
                continue
            problems, lines = self._record(path)
            yield from (Looked("record", str(path), "bad", text) for text in problems)
            number = int(each.get("line", 0))
            same = 0 < number <= len(lines) and _sha256(lines[number - 1]) == each.get("sha256")
            place = f"{path}:{number}"
            if same:
                yield from self._identity(place, lines[number - 1])
            else:
                text = f"does not tell of {node.get('name')} any more: edited, or removed"
                yield Looked("record", place, "bad", text)

    def _record(self, path: Path) -> tuple[list[str], list[bytes]]:
        """What is wrong with a record's chain, and its lines; read once."""
        if path not in self._records:
            found = chain.problems(path, Line.model_validate_json), chain.raw_lines(path)
            self._records[path] = found
        return self._records[path]

    def _identity(self, place: str, raw: bytes) -> Iterator[Looked]:
        """An attempt's identity is the digest of what the line says that it is."""
        line = json.loads(raw)
        parts = line["data"].get("identity_parts")
        wrong = parts is not None and digest(parts) != line["identity"]
        text = "the identity is not that of the parts beside it" if wrong else ""
        yield Looked("record", place, "bad" if wrong else "good", text)

    def _alike(self, id: str) -> Iterator[Looked]:
        """What a document tells is what the record tells now."""
        told, fresh = self.found.told.get(id), self.found.fresh.get(id)
        if told is None or not self.found.fresh:
            return
        if id.startswith("figure:"):
            fresh = self._same_figure(told)
        if fresh is None:
            if id.startswith((SCHEME, "attempt:", "approval:", "figure:")):
                text = f"no line of {self._record_name()} tells of it"
                yield Looked("document", id, "bad", text)
            return
        for key in _ALIKE:
            if key in told and key in fresh and told[key] != fresh[key]:
                text = f"{key} is {told[key]!r}, and {fresh[key]!r} by the record"
                yield Looked("document", id, "bad", text)
        for key in _VERDICTS:
            if (says := told.get(key)) != (was := fresh.get(key)):
                text = f"{key} is {says!r}, and {was!r} by the record"
                yield Looked("document", id, "bad", text)

    def _same_figure(self, told: Node) -> Node | None:
        """The record's figure that stands in the same output: names differ where several do."""
        first = (told.get("prov:wasDerivedFrom") or [None])[0]
        known = (n for id, n in self.found.fresh.items() if id.startswith("figure:"))
        return next((n for n in known if first in n.get("prov:wasDerivedFrom", ())), None)

    def _figure(self, id: str, node: Node) -> Iterator[Looked]:
        """The value is what the output holds, and the files of the package are what they were."""
        yield from self._files(node)
        for artifact in self.found.links(id, "prov:wasDerivedFrom")[:1]:
            try:
                folder = self.store.path(artifact)
            except ArtifactError:
                return
            for name, held in _HELD.items():
                if not (folder / name).is_file():
                    continue
                stands = _read(folder / name, held)
                told = {key: node.get(key) for key in stands}
                wrong = [
                    f"{'' if key == 'value' else f'{key} '}is {told[key]}, and {so} in "
                    f"{folder / name}"
                    for key, so in stands.items()
                    if told[key] != so
                ]
                state: State = "bad" if wrong else "good"
                yield Looked("figure", id.partition(":")[2], state, "; ".join(wrong))

    def _files(self, node: Node) -> Iterator[Looked]:
        """The files of a submission tree that a node names."""
        if (tree := self.found.tree) is None:
            return
        for each in node.get("files") or ():
            name, sha256 = str(each.get("name")), str(each.get("sha256"))
            yield _of_file(compare(tree, name, sha256, "package", "is not in the package"))

    def _artifact(self, id: str, node: Node) -> Looked:
        try:
            path = self.store.path(id)
        except ArtifactError:
            return Looked("output", id, "gone", f"is not in {self.store.root}")
        try:
            now = tree_digest(path)[0]
        except (OSError, ValueError) as error:
            return Looked("output", str(path), "bad", str(error))
        if now == node.get("sha256"):
            return Looked("output", id)
        files = [
            f"{each.name}: {each.message}" for each in check_files(path) if each.state != "good"
        ]
        text = "; ".join([changed(str(node.get("sha256")), now), *files[:5]])
        return Looked("output", str(path), "bad", text)

    def _source(self, node: Node) -> Looked:
        """Bytes from outside are read again where this machine has them."""
        name = str(node.get("prov:label") or node.get("name"))
        where = str(node.get("prov:atLocation") or "")
        path = self.sources.get(name)
        if where.startswith(_EMBEDDED):
            path = Path(proctor_steps.__file__).parent / "embedded" / where.removeprefix(_EMBEDDED)
        if path is None:
            text = f"not read again: it is at {where}" if where else "where it lies was not told"
            return Looked("source", name, "away", text)
        try:
            now = content_digest(path)
        except (OSError, ValueError) as error:
            return Looked("source", name, "gone", f"{path} cannot be read: {error}")
        if now == node.get("sha256"):
            return Looked("source", str(path))
        return Looked("source", name, "gone", f"{path} is another one now")

    def _approval(self, id: str, node: Node) -> Looked:
        pipeline, run, gate, number = [*id.removeprefix("approval:").split("/"), "", "", ""][:4]
        place = f"{gate} of {pipeline}/{run}, line {number}"
        try:
            answer, trusted = self._signed(id, node)
        except ApprovalInvalid as error:
            return Looked("approval", place, "bad", str(error))
        record = self.found.record
        if not trusted:
            return Looked("approval", place, "away", _ITS_OWN_KEY)
        looks = self.found.fresh and answer.decision == "approved"
        if record is None or record.run != run or not looks:
            return Looked("approval", place)
        plan = self.found.home.records.plan(record.header().plan_digest)
        newest = record.last("approval", gate)
        is_newest = newest is not None and newest.data.get("signature") == node.get("signature")
        old = stale(record, plan, answer) if is_newest else ""
        return Looked("approval", place, "bad" if old else "good", old)

    def _signed(self, id: str, node: Node) -> tuple[Approval, bool]:
        """The answer, and whether a key that this site trusts has signed it.

        Raises:
            ApprovalInvalid: none has.
        """
        pipeline, run, gate = [*id.removeprefix("approval:").split("/"), "", ""][:3]
        if self.trusted:
            return check_signed(pipeline, run, gate, node, self.trusted), True
        with suppress(ApprovalInvalid):
            if self.own:
                return check_signed(pipeline, run, gate, node, self.own), True
        return check_signed(pipeline, run, gate, node, self.found.key), False

    def _answers_of_tree(self) -> Iterator[Looked]:
        """The answers that a package prints are among the signed ones."""
        known = {**self.found.fresh, **self.found.told}
        answers_known = {id: node for id, node in known.items() if id.startswith("approval:")}
        signed = []
        for id, node in answers_known.items():
            with suppress(ApprovalInvalid):
                self._signed(id, node)
                signed.append(node.get("answer"))
        tree = self.found.tree
        for path in sorted(tree.glob("*/*/documentation/approvals.json")) if tree else ():
            name = path.relative_to(tree).as_posix()  # type: ignore[arg-type]
            try:
                answers = json.loads(path.read_bytes())
            except (OSError, ValueError, RecursionError) as error:
                yield Looked("approval", name, "bad", f"cannot be read ({error})")
                continue
            for answer in answers if isinstance(answers, list) else [answers]:
                by = answer.get("by") if isinstance(answer, dict) else "nobody"
                if answer in signed:
                    yield Looked("approval", f"{name}: {by}")
                elif answers_known:
                    yield Looked("approval", f"{name}: {by}", "bad", "nobody signed this answer")
                else:
                    yield Looked("approval", f"{name}: {by}", "gone", "its signature is not here")


def _of_file(each: Any) -> Looked:
    return Looked("file", each.name, each.state, each.message)


def _header(found: Opened) -> Mapping[str, Any]:
    try:
        return found.record.header().data if found.record else {}
    except RecordError:
        return {}


def _sources(found: Opened) -> dict[str, Path]:
    """Files and folders of this machine that the run's parameters and mounts name, by name."""
    header = _header(found)
    params, mounts = (header.get(key) or {} for key in ("params", "mounts"))
    given = (value for value in params.values() if isinstance(value, str))
    named = {
        path.name: path for uri in given if uri.startswith("file:") if (path := file_path(uri))
    }
    return {**named, **{name: Path(str(path)) for name, path in mounts.items()}}


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _read(path: Path, held: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    try:
        return held(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return {"value": f"unreadable ({error})"}
