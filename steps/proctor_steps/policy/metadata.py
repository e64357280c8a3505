"""What a dataset's metadata says of its use: of all of it, and of parts with terms of their own.

Read are Croissant (``license`` and ``usageInfo``, as Croissant 1.1 has them, of the dataset, its
files and its record sets; a licence of each record where the records stand in the metadata), ODRL
policies, and the licences of COCO's annotation files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proctor_steps.policy import odrl
from proctor_steps.policy.jsonld import Node, root
from proctor_steps.policy.terms import Terms
from proctor_steps.stage import DataError

_DEEPEST = 100


@dataclass(frozen=True)
class Part:
    """Records or files with terms of their own, beside those of the whole.

    ``unit``: what is counted, one by one (``record``, ``image``), or ``file`` and ``record set``,
    which have a name. ``files``: their names or patterns. ``entries``: the objects
    of the metadata that describe them. ``unread``: their licences stand in a file of the data.
    ``packed``: the files lie inside another one.
    """

    name: str
    unit: str
    count: int
    where: str
    terms: Terms
    files: tuple[str, ...] = ()
    entries: tuple[Mapping[str, Any], ...] = ()
    unread: bool = False
    packed: bool = False

    @property
    def single(self) -> bool:
        """Whether its records are told apart."""
        return self.unit in ("record", "image")

    @property
    def what(self) -> str:
        """For people: ``2 records of texts``, or a file's name."""
        if not self.single:
            return self.name
        of = f" of {self.name}" if self.name else ""
        return f"{self.count} {self.unit}{'' if self.count == 1 else 's'}{of}"


@dataclass(frozen=True)
class Metadata:
    """One file. ``covered``: its parts are all of the dataset, record by record.

    ``asset``: the dataset's names.
    """

    where: str
    value: Any
    terms: Terms
    parts: tuple[Part, ...] = ()
    covered: bool = False
    asset: frozenset[str] = frozenset()


# The values of a column of a file that metadata name, by its address; ``None``: it is not here.
Table = Callable[[str, str], list[str] | None]


def read(value: Any, where: str, table: Table = lambda name, column: None) -> Metadata | None:
    """A JSON value as metadata; ``None`` where it is none of the kinds that are read.

    ``table``: reads files that lie beside the metadata.

    Raises:
        DataError: it is nested more deeply than any metadata are.
    """
    if not isinstance(value, dict):
        return None
    if _deep(value):
        message = f"{where}: nested over {_DEEPEST} levels; give the dataset's own metadata"
        raise DataError(message)
    top = root(value, f"{where}: $")
    if isinstance(value.get("images"), list) and "annotations" in value:
        return Metadata(where, value, Terms(), tuple(_coco(value, top)), covered=True)
    datasets = [node for node in [top, *top.get("@graph")] if "Dataset" in node.types]
    if datasets:
        return _datasets(datasets, top, where, table)
    policies = [node for node in [top, *top.get("@graph")] if odrl.is_policy(node)]
    if policies or odrl_type(top):
        return Metadata(where, value, Terms(usage=tuple(policies or [top])))
    if top.get("license", "usageInfo"):
        return _datasets([top], top, where, table)
    return None


def _deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            part
            for whole in level
            for part in (whole.values() if isinstance(whole, dict) else whole)
            if isinstance(part, dict | list)
        ]
    return bool(level)


def odrl_type(node: Node) -> bool:
    """Whether a node says of itself that it is a policy."""
    return bool(node.types & {"Policy", "Set", "Offer", "Agreement", "Privacy"})


# --- Croissant -----------------------------------------------------------------------------------


def _datasets(nodes: Sequence[Node], top: Node, where: str, table: Table) -> Metadata:
    """One dataset or several; the terms of all of them count."""
    named_parts = [*top.get("@graph"), *(f for node in nodes for f in node.get("distribution"))]
    elsewhere = {part.word: part for part in named_parts if part.word}
    parts: list[Part] = []
    for node in nodes:
        parts += [p for each in node.get("distribution") if (p := _file(each, elsewhere))]
        parts += [p for each in node.get("recordSet") for p in _records(each, elsewhere, table)]
    terms = [_terms(node, elsewhere) for node in nodes]
    own = Terms(
        tuple(licence for each in terms for licence in each.licences),
        tuple(usage for each in terms for usage in each.usage),
    )
    named = [name for node in nodes for name in node.get("@id", "url", "identifier", "sameAs")]
    asset = frozenset(name.word for name in named if name.word)
    covered = any(part.single and part.files for part in parts)
    return Metadata(where, top.value, own, tuple(parts), covered, asset)


def _terms(node: Node, elsewhere: Mapping[str, Node]) -> Terms:
    def whole(part: Node) -> Node:
        """What a reference inside the file leads to."""
        bare = isinstance(part.value, dict) and set(part.value) == {"@id"}
        return elsewhere.get(part.word, part) if bare else part

    return Terms(
        tuple(whole(part) for part in node.get("license")),
        (
            *([node] if odrl.is_policy(node) else []),
            *(whole(part) for part in node.get("usageInfo", "hasPolicy")),
        ),
    )


def _file(node: Node, elsewhere: Mapping[str, Node]) -> Part | None:
    terms = _terms(node, elsewhere)
    if not (terms.licences or terms.usage):
        return None
    named = [n.word for n in node.get("contentUrl", "includes") if n.word]
    if node.get("excludes"):
        named = []  # which files are left of the patterns, nobody should have to guess
    name = next((n.word for n in node.get("name", "@id") if n.word), "") or ", ".join(named)
    return Part(
        name or "a file",
        "file",
        1,
        node.where,
        terms,
        tuple(named),
        (node.value,),
        packed=bool(node.get("containedIn")),
    )


def _column(field: Node, files: Mapping[str, Node], table: Table) -> list[str] | None:
    """The values of a field that is a column of a file; ``None`` where it is not, or not here."""
    source = field.one("source")
    file = source.one("fileObject") if source else None
    extract = source.one("extract") if source else None
    column = extract.one("column") if extract else None
    address = files[file.word].one("contentUrl") if file and file.word in files else None
    return table(address.word, column.word) if address and column else None


def _records(node: Node, elsewhere: Mapping[str, Node], table: Table) -> Iterator[Part]:
    """A record set as one part or, where each record has a licence, one part for each licence."""
    own = _terms(node, elsewhere)
    name = next((n.word for n in node.get("name", "@id") if n.word), "") or "a record set"
    rows = [row for row in node.get("data") if isinstance(row.value, dict)]
    keys = {_role(field): field for field in node.get("field")}
    if "license" in keys:
        if rows:
            yield from _by_licence(name, rows, keys, own)
        elif values := _column(keys["license"], elsewhere, table):
            for licence, count in Counter(values).items():
                said = (Node(licence, node.where, node.prefixes),) if licence else own.licences
                # Which files they are is not told: all of them may be used, or none.
                yield Part(name, "record", count, node.where, Terms(said, own.usage))
        else:
            yield Part(name, "record set", 1, node.where, own, unread=True)
    elif own.licences or own.usage:
        yield Part(name, "record set", 1, node.where, own)


def _role(field: Node) -> str:
    """What a field is of schema.org's: ``license``, ``contentUrl``."""
    said = [n.name for n in field.get("equivalentProperty", "dataType")]
    return next((name for name in said if name in ("license", "contentUrl")), "")


def _by_licence(
    name: str, rows: Sequence[Node], keys: Mapping[str, Node], own: Terms
) -> Iterator[Part]:
    found: dict[str, list[Node]] = {}
    for row in rows:
        licence = _cell(row, keys["license"])
        found.setdefault(licence.word if licence else "", []).append(row)
    for licence_, same in found.items():
        first = _cell(same[0], keys["license"]) if licence_ else None
        files = [_cell(row, keys["contentUrl"]) for row in same] if "contentUrl" in keys else []
        yield Part(
            name,
            "record",
            len(same),
            (first or same[0]).where,
            Terms((first,) if first else own.licences, own.usage),
            tuple(cell.word for cell in files if cell and cell.word),
            tuple(row.value for row in same),
        )


def _cell(row: Node, field: Node) -> Node | None:
    """A record's value of a field, whose key is the field's id or name, or the end of its id."""
    named = [n.word for n in field.get("@id", "name") if n.word]
    names = [*named, *(name.rpartition("/")[2] for name in named)]
    return next((cell for name in names if (cell := row.one(name))), None)


# --- COCO ----------------------------------------------------------------------------------------


def _coco(value: Mapping[str, Any], top: Node) -> Iterator[Part]:
    """One part for each licence; images that name none, or none of the list, are one, too."""
    known: dict[int | str, Node] = {}
    for licence in top.get("licenses"):
        id_ = licence.value.get("id") if isinstance(licence.value, dict) else None
        if isinstance(id_, int | str):
            known.setdefault(id_, licence)
    found: dict[int | str | None, list[Any]] = {}
    for image in value["images"]:
        named = image.get("license") if isinstance(image, dict) else None
        id_ = named if isinstance(named, int | str) and named in known else None
        found.setdefault(id_, []).append(image)
    boxes = _boxes(value["annotations"])
    for id_ in (each for each in [*known, None] if each in found):
        listed = known[id_] if id_ is not None else top
        url = listed.one("url") if id_ is not None else None
        images = [image for image in found[id_] if isinstance(image, dict)]
        names = [str(image["file_name"]) for image in images if image.get("file_name")]
        ids = [image["id"] for image in images if isinstance(image.get("id"), int)]
        yield Part(
            "",
            "image",
            len(found[id_]),
            (url or listed).where,
            Terms((url,) if url else ()),
            tuple(names),
            (*images, *(box for each in ids for box in boxes.get(each, ()))),
        )


def _boxes(annotations: Any) -> dict[int, list[Any]]:
    """Annotations by the image that they are of."""
    found: dict[int, list[Any]] = {}
    for box in annotations if isinstance(annotations, list) else ():
        if isinstance(box, dict) and isinstance(box.get("image_id"), int):
            found.setdefault(box["image_id"], []).append(box)
    return found
