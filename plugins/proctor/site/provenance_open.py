"""What a path holds that provenance can be walked from: a run, a package, an output, a dataset."""

from __future__ import annotations

import json
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, Field, JsonValue, ValidationError

from proctor.airflow.provenance import provenance
from proctor.records.provenance import Node, nodes
from proctor.records.store import RecordError, RunRecord
from proctor.runtime.artifacts import SCHEME
from proctor.site.home import Home
from proctor_steps.contract import file_sha256
from proctor_steps.lineage import CROISSANT, FORMAT, PROVENANCE

DIVISIONS = ("closed", "open", "network")
_TOLD = f"*/*/documentation/{PROVENANCE}"
_DEEPEST = 20  # entities within entities in Croissant metadata


class NoProvenance(Exception):
    """Nothing that provenance could be walked from; the message says what was expected."""


class _Line(BaseModel):
    file: str = Field(pattern=r"^runs(/[A-Za-z0-9_~:+-][A-Za-z0-9_.~:+-]*)+$")
    line: int
    sha256: str


class _File(BaseModel):
    name: str = Field(pattern=r"^[^\x00]+$")
    sha256: str


class _Node(BaseModel):
    """What is relied on in a node of a document, which may come from anywhere."""

    told_in: list[_Line] = []
    files: list[_File] = []
    parameters: dict[str, JsonValue] | None = None
    answer: dict[str, JsonValue] | None = None


@dataclass
class Opened:
    """What was found at a path.

    ``roots``: what may be asked for, by name: figures, or one output or dataset. ``told``: what the
    documents at the path tell; ``fresh``: what the record in the home tells now (empty where there
    is none). ``tree``: the submission tree; ``archive``: the digest of what it was unpacked from.
    ``dataset``: the folder of a dataset that is looked at by itself. ``key``: the public key that
    the documents name. ``problem``: why the record tells nothing.
    """

    path: Path
    home: Home
    roots: dict[str, str] = field(default_factory=dict)
    told: dict[str, Node] = field(default_factory=dict)
    fresh: dict[str, Node] = field(default_factory=dict)
    record: RunRecord | None = None
    problem: str = ""
    tree: Path | None = None
    archive: str = ""
    dataset: Path | None = None
    key: str = ""

    def node(self, id: str) -> Node:
        """All that is known of a node; what the documents tell counts before the record."""
        return {**self.fresh.get(id, {}), **self.told.get(id, {})}

    def links(self, id: str, *keys: str) -> list[str]:
        """The ids that a node points to, as documents and record tell."""
        found: dict[str, None] = {}
        for node in (self.told.get(id, {}), self.fresh.get(id, {})):
            for key in keys:
                found |= dict.fromkeys(_ids(node.get(key)))
        return list(found)

    @property
    def figures(self) -> list[str]:
        """The names of the figures."""
        return [name for name, id in self.roots.items() if id.startswith("figure:")]


_DAMAGED = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError)


def _ids(value: Any) -> Iterator[str]:
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, dict) and isinstance(each.get("@id"), str):
            yield each["@id"]


@contextmanager
def opened(path: Path, home: Home | None) -> Iterator[Opened]:
    """Open what lies at a path; an archive is unpacked for as long.

    ``home``: the one that was named; else the one that holds the path, else the default.

    Raises:
        NoProvenance: there is nothing.
    """
    path = path.absolute()
    if not path.exists():
        raise NoProvenance(f"{path}: there is no such file or folder")
    place = home or next((Home(p) for p in path.parents if _is_home(p)), None) or Home.default()
    if not path.is_file() or not _is_archive(path):
        yield _opened(path, place)
        return
    with TemporaryDirectory(prefix="proctor-provenance-") as scratch:
        try:
            with tarfile.open(path) as packed:
                packed.extractall(scratch, filter="data")
        except _DAMAGED as error:
            raise NoProvenance(f"{path}: no archive that can be read ({error})") from error
        yield _package(Opened(path, place, archive=file_sha256(path)), Path(scratch))


def _is_archive(path: Path) -> bool:
    """By its bytes or, so that a damaged one is called so, by its name."""
    try:
        return tarfile.is_tarfile(path) or ".tar" in path.suffixes or path.suffix == ".tgz"
    except _DAMAGED:
        return True


def _is_home(path: Path) -> bool:
    return (path / "runs").is_dir() and (path / "plans").is_dir()


def _opened(path: Path, home: Home) -> Opened:
    found = Opened(path, home)
    folder = path if path.is_dir() else path.parent
    inside = _inside(folder, home)
    if path.name == CROISSANT or (path.is_dir() and (path / CROISSANT).is_file()):
        return _dataset(found, folder, inside)
    if path.is_dir() and (tree := _tree(path)):
        if len(inside) == 6 and inside[0] == "artifacts":
            found.roots[SCHEME + "/".join(inside[1:])] = SCHEME + "/".join(inside[1:])
        return _package(found, tree)
    if path.name == PROVENANCE and folder.name == "documentation":
        return _package(found, folder.parents[2])
    if inside and inside[0] == "runs" and len(inside) >= 3:
        return _run(found, home.records.run(inside[1], inside[2]))
    if inside and inside[0] == "artifacts" and len(inside) >= 6:
        return _output(found, inside)
    if path.is_file() or (path / PROVENANCE).is_file():
        return _documents(found, [_read(path if path.is_file() else path / PROVENANCE)])
    raise NoProvenance(
        f"{path}: nothing here tells where it came from; give a run's folder, a package (folder or "
        f"archive), an output in a home's artifacts/, or a dataset with its {CROISSANT}"
    )


def _inside(folder: Path, home: Home) -> tuple[str, ...]:
    try:
        return folder.resolve().relative_to(home.path.resolve()).parts
    except ValueError:
        return ()


def _tree(path: Path) -> Path | None:
    return next(
        (p for p in (path, path / "tree") if any((p / d).is_dir() for d in DIVISIONS)), None
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise NoProvenance(f"{path}: cannot be read as JSON ({error})") from error


def _run(found: Opened, record: RunRecord) -> Opened:
    stored = record.whole.folder / PROVENANCE
    _documents(found, [_read(stored)] if stored.is_file() else [])
    return _with_record(found, record.whole)


def _output(found: Opened, inside: tuple[str, ...]) -> Opened:
    id = SCHEME + "/".join(inside[1:6])
    found.roots[id] = id
    return _with_record(found, found.home.records.run(inside[1], inside[2]).whole)


def _dataset(found: Opened, folder: Path, inside: tuple[str, ...]) -> Opened:
    if len(inside) == 6 and inside[0] == "artifacts":
        return _output(found, inside)
    whole = _read(folder / CROISSANT)
    if not isinstance(whole, dict):
        raise NoProvenance(f"{folder / CROISSANT}: no Croissant metadata")
    found.dataset = folder
    name = whole["name"] if isinstance(whole.get("name"), str) else folder.name
    found.roots[name] = f"dataset:{name}"
    found.told = {node["@id"]: node for node in _flat(whole, f"dataset:{name}")}
    return found


def _flat(node: Mapping[str, Any], id: str, depth: int = 0) -> Iterator[Node]:
    """The entities, activities and agents of Croissant metadata, each by itself."""
    made: Node = {"@id": id}
    if depth > _DEEPEST:
        return
    for key, value in node.items():
        if key in ("@id", "told_in", "files"):  # ours, in a run's or a package's document
            continue
        if not key.startswith("prov:"):
            made[key] = value
            continue
        entries, links = value if isinstance(value, list) else [value], []
        for number, each in enumerate(entries):
            if not isinstance(each, dict):
                continue
            of = str(each.get("@id") or f"{id}#{key.removeprefix('prov:')}{number or ''}")
            links.append({"@id": of})
            if set(each) != {"@id"}:
                yield from _flat(each, of, depth + 1)
        made[key] = links or value
    if "prov:label" in node:
        made.setdefault("name", node["prov:label"])
    yield made


def _package(found: Opened, tree: Path) -> Opened:
    found.tree = tree
    documents = [each for path in sorted(tree.glob(_TOLD)) for each in _listed(_read(path), path)]
    if not documents:
        raise NoProvenance(f"{found.path}: a submission without documentation/{PROVENANCE}")
    several = len(documents) > 1
    _documents(found, [_qualified(each) if several else each for each in documents])
    runs = {str(each.get("name")) for each in documents}
    if len(runs) > 1:
        found.problem = f"packages of several runs ({', '.join(sorted(runs))}): name one's folder"
        return found
    pipeline, _, run = next(iter(runs)).partition("/")
    try:
        return _with_record(found, found.home.records.run(pipeline, run).whole)
    except ValueError as error:
        found.problem = str(error)
        return found


def _listed(value: Any, path: Path) -> list[Node]:
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(each, dict) and each.get("format") == FORMAT for each in entries):
        raise NoProvenance(f"{path}: no document of the format {FORMAT}")
    return entries


def _qualified(document: Node) -> Node:
    """The document of one package among several: its figures carry the name of its folder."""
    graph = [node for node in document.get("@graph") or () if isinstance(node, dict)]
    places = [
        str(node.get("name")) for node in graph if str(node.get("@id")).startswith("package:")
    ]
    of = "/".join(places[0].split("/")[-2:]) if places else "?"
    renamed = [
        {**node, "@id": f"figure:{of}/{node.get('name')}", "name": f"{of}/{node.get('name')}"}
        if str(node.get("@id")).startswith("figure:")
        else node
        for node in graph
    ]
    return {**document, "@graph": renamed}


def _documents(found: Opened, documents: list[Any]) -> Opened:
    for each in documents:
        if not isinstance(each, dict) or each.get("format") != FORMAT:
            raise NoProvenance(f"{found.path}: no document of the format {FORMAT}")
        found.key = found.key or str(each.get("public_key") or "")
    found.told = nodes(documents)
    for id, node in found.told.items():
        try:
            _Node.model_validate(node)
        except ValidationError as error:
            problem = error.errors()[0]
            at = ".".join(str(part) for part in problem["loc"])
            raise NoProvenance(f"{found.path}: {id}: {at}: {problem['msg']}") from error
    found.roots |= {id.removeprefix("figure:"): id for id in found.told if id.startswith("figure:")}
    found.roots |= {id: id for id in found.told if id.startswith("package:")}
    return found


def _with_record(found: Opened, record: RunRecord) -> Opened:
    found.record = record
    try:
        whole = provenance(found.home, record)
    except RecordError as error:
        found.problem = str(error)
        return found
    found.fresh = nodes([whole])
    if not found.roots:
        figures = {id.removeprefix("figure:"): id for id in found.fresh if id.startswith("figure:")}
        found.roots = figures or {id: id for id in _ends(found.fresh)}
    return found


def _ends(known: Mapping[str, Node]) -> list[str]:
    """The outputs that no step went on with."""
    used = {id for node in known.values() for id in _ids(node.get("prov:used"))}
    return [id for id in known if id.startswith(SCHEME) and id not in used]
