"""``croissant.json``: what a prepared dataset holds, under which licences, and what it came from.

The format is Croissant 1.1 of MLCommons, with PROV-O for the derivation, as its specification
recommends. It is written here as plain JSON, so that a step needs no library for it; that
mlcroissant takes it is tested. The digest of each image stands in ``images.csv``, whose own digest
stands in ``croissant.json``: thousands of images as entries of their own would take minutes to
load. No clock is read, and no name of a run or a place of a machine is written: the same input,
parameters and image give the same bytes.
"""

from __future__ import annotations

import csv
import io as text_io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import JsonValue

from proctor_steps import contract
from proctor_steps.contract import Contract, write_atomically
from proctor_steps.dataset.coco import Coco, Entry
from proctor_steps.dataset.derivation import derivation
from proctor_steps.lineage import CROISSANT, PROV, size
from proctor_steps.policy.jsonld import Node

IMAGE_LIST = "images.csv"
CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
_COLUMNS = (
    "index",
    "id",
    "file_name",
    "width",
    "height",
    "license",
    "license_url",
    "sha256",
    "bytes",
)
_DATE = re.compile(r"(\d{4})[/-](\d{1,2})[/-](\d{1,2})")
# Not the machine's own list of types, which differs between machines.
_KINDS = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp",
          ".bmp": "image/bmp", ".tif": "image/tiff", ".tiff": "image/tiff"}  # fmt: skip
_VERSION = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){0,2}")
# Croissant 1.1's terms as mlcroissant expects them, PROV-O's, and two of our own.
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "prov": PROV,
    "odrl": "http://www.w3.org/ns/odrl/2/",
    "duo": "http://purl.obolibrary.org/obo/DUO_",
    "dpv": "https://w3id.org/dpv#",
    "proctor": "urn:proctor:",
    "name": {"@container": "@language"},
    "description": {"@container": "@language"},
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "proctor:parameters": {"@type": "@json"},
    **{
        name: f"cr:{name}"
        for name in (
            "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes",
            "extract", "field", "fileObject", "fileProperty", "fileSet", "format", "includes",
            "isArray", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path",
            "recordSet", "references", "regex", "repeated", "replace", "samplingRate",
            "sdVersion", "separator", "source", "subField", "transform",
        )
    },
}  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """A dataset in COCO's format as a step leaves it.

    ``annotations``, ``images``: the file and the folder, relative to ``root``. ``kept``: the images
    in their order. ``rule``: by which they were chosen, in words. ``usage``: terms of use that the
    inputs came with, and that hold for what was made of them.
    """

    root: Path
    annotations: str
    images: str
    coco: Coco
    kept: Sequence[Entry]
    rule: str
    usage: Sequence[Node] = ()


def write(made: Prepared, by: str, of: Contract) -> list[str]:
    """Write ``images.csv`` and ``croissant.json`` into the dataset's folder.

    Args:
        by: the stage, for example ``dataset filter-coco``.
        of: the contract that it ran by.

    Returns:
        What Croissant asks for and the annotation file's ``info`` does not tell, by Croissant's
        names; it is left out.
    """
    write_atomically(made.root / IMAGE_LIST, _image_list(made))
    about = _about(made, of)
    prefixes = {key: name for node in made.usage for key, name in node.prefixes.items()}
    usage = [_without_context(node.value) for node in made.usage]
    whole = {
        "@context": {**prefixes, **_CONTEXT},
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        **{key: value for key, value in about.items() if value},
        **({"usageInfo": usage} if usage else {}),
        **derivation(by, of),
        "distribution": [*_files(made)],
        "recordSet": [*_record_sets(made)],
    }
    text = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(made.root / CROISSANT, text.encode() + b"\n")
    return [key for key, value in about.items() if not value]


def _without_context(value: Any) -> Any:
    """A policy of its own as a part of the whole, whose context has its prefixes."""
    if not isinstance(value, dict):
        return value
    return {key: part for key, part in value.items() if key != "@context"}


def _image_list(made: Prepared) -> bytes:
    """``images.csv``: a line for each image, in the dataset's order."""
    urls = {licence["id"]: licence["url"] for licence in made.coco.licences}
    text = text_io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_COLUMNS)
    for index, image in enumerate(made.kept):
        path = made.root / made.images / image["file_name"]
        licence = image["license"] if urls else ""
        own = [index, *(image[key] for key in ("id", "file_name", "width", "height"))]
        of_file = [contract.file_sha256(path), path.stat().st_size]
        lines.writerow([*own, licence, urls.get(licence, ""), *of_file])
    return text.getvalue().encode()


def _about(made: Prepared, of: Contract) -> dict[str, JsonValue]:
    """What the dataset is, as far as the annotation file tells; empty where it does not."""
    info = made.coco.whole.get("info")
    entries = info.items() if isinstance(info, dict) else ()
    told = {key: str(value).strip() for key, value in entries if isinstance(value, str | int)}
    title, version = told.get("description") or "COCO dataset", told.get("version", "")
    creator, published = told.get("contributor", ""), _date(told)
    addresses = (told.get("url", ""), *(str(mount.fetched.get("uri", "")) for mount in of.mounts))
    page = next((text for text in addresses if text.startswith(("http://", "https://"))), "")
    cited = (creator, published[:4], title, f"version {version}" if version else "", page)
    count = f"{len(made.kept)} of the {len(made.coco.images)} images of {title}"
    return {
        "name": f"{title}, {made.rule}",
        "description": f"{count}: {made.rule}. Images and boxes are as they were. The licence of "
        "each image stands in its record; the annotation file names none for the boxes.",
        "url": page,
        "version": version if _VERSION.fullmatch(version) else "",
        "creator": {"@type": "sc:Organization", "name": creator} if creator else "",
        "datePublished": published,
        "citeAs": ". ".join(part for part in cited if part) if creator or page else "",
        "license": [str(licence["url"]) for licence in _licences(made)],
    }


def _date(told: Mapping[str, str]) -> str:
    """``info.date_created``, else ``info.year``, in ISO 8601; "" where neither tells."""
    if found := _DATE.fullmatch(told.get("date_created", "")):
        try:
            return date(*map(int, found.groups())).isoformat()
        except ValueError:
            pass
    year = told.get("year", "")
    return year if re.fullmatch(r"[1-9]\d{3}", year) else ""


def _licences(made: Prepared) -> list[Entry]:
    """Those that an image of the dataset has, in the file's order."""
    used = {image.get("license") for image in made.kept}
    return [licence for licence in made.coco.licences if licence["id"] in used]


def _files(made: Prepared) -> Iterator[dict[str, JsonValue]]:
    for name, kind in ((made.annotations, "application/json"), (IMAGE_LIST, "text/csv")):
        path = made.root / name
        yield {
            "@type": "cr:FileObject",
            "@id": name,
            "name": path.name,
            "contentUrl": name,
            "contentSize": size(path.stat().st_size),
            "encodingFormat": kind,
            "sha256": contract.file_sha256(path),
        }
    suffixes = {PurePosixPath(image["file_name"]).suffix.lower() for image in made.kept}
    formats = sorted({_KINDS.get(suffix, "application/octet-stream") for suffix in suffixes})
    yield {
        "@type": "cr:FileSet",
        "@id": made.images,
        "name": made.images,
        "description": f"The images; size and sha256 of each are in {IMAGE_LIST}.",
        "encodingFormat": [*formats],
        "includes": f"{made.images}/*",
    }


def _record_sets(made: Prepared) -> Iterator[dict[str, JsonValue]]:
    if licences := _licences(made):
        yield _embedded("licences", ("id", "name", "url"), licences)
    yield _images(made)
    yield _embedded("categories", ("id", "name"), made.coco.whole["categories"])
    ids = {image["id"] for image in made.kept}
    if any(box["image_id"] in ids for box in made.coco.annotations):
        yield _boxes(made)


def _embedded(name: str, keys: Sequence[str], entries: Sequence[Entry]) -> dict[str, JsonValue]:
    """A short list, held in the metadata itself."""
    kinds = {"id": "sc:Integer", "url": "sc:URL"}
    return {
        **_record_set(name, [_field(name, key, kinds.get(key, "sc:Text")) for key in keys]),
        "dataType": "sc:Enumeration",
        "data": [
            {f"{name}/{key}": _or_nothing(entry.get(key)) for key in keys} for entry in entries
        ],
    }


def _or_nothing(value: JsonValue) -> JsonValue:
    """An id may be 0."""
    return "" if value is None else value


def _images(made: Prepared) -> dict[str, JsonValue]:
    """One record an image, in the dataset's order, with its licence and its bytes."""
    kinds = {"file_name": "sc:Text", "license_url": "sc:URL", "sha256": "sc:Text"}
    licensed = bool(made.coco.licences)
    fields = []
    for key in _COLUMNS:
        if key.startswith("license") and not licensed:
            continue
        field = _field("images", key, kinds.get(key, "sc:Integer"), _from_list(key))
        if key == "file_name":
            field["references"] = _from_files(made, "filename")
        elif key == "license_url":
            field["equivalentProperty"] = "sc:license"
        fields.append(field)
    fields.append(_field("images", "content", "sc:ImageObject", _from_files(made, "content")))
    return _record_set("images", fields)


def _boxes(made: Prepared) -> dict[str, JsonValue]:
    """One record a box, with the licence of the image that it is in."""
    kinds = {"id": "sc:Integer", "image_id": "sc:Integer", "category_id": "sc:Integer",
             "bbox": "cr:BoundingBox", "area": "sc:Float", "iscrowd": "sc:Integer"}  # fmt: skip
    fields = []
    for key, kind in kinds.items():
        source: dict[str, JsonValue] = {
            "fileObject": {"@id": made.annotations},
            "extract": {"jsonPath": f"$.annotations[*].{key}"},
            **({"format": "XYWH"} if key == "bbox" else {}),
        }
        field = _field("annotations", key, kind, source)
        if key == "image_id":
            field["references"] = _from_list("id")
        fields.append(field)
    if made.coco.licences:
        source = _from_list("license_url")
        fields.append(_field("annotations", "image_license_url", "sc:URL", source))
    return _record_set("annotations", fields)


def _from_list(column: str) -> dict[str, JsonValue]:
    """A column of the list of images, as a source."""
    return {"fileObject": {"@id": IMAGE_LIST}, "extract": {"column": column}}


def _from_files(made: Prepared, of: str) -> dict[str, JsonValue]:
    """A property of the image files, as a source."""
    return {"fileSet": {"@id": made.images}, "extract": {"fileProperty": of}}


def _record_set(name: str, fields: Sequence[JsonValue]) -> dict[str, JsonValue]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "key": {"@id": f"{name}/id"},
        "field": [*fields],
    }


def _field(
    of: str, key: str, kind: str, source: Mapping[str, JsonValue] | None = None
) -> dict[str, JsonValue]:
    made: dict[str, JsonValue] = {
        "@type": "cr:Field",
        "@id": f"{of}/{key}",
        "name": key,
        "dataType": kind,
    }
    return {**made, "source": dict(source)} if source else made
