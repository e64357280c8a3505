"""The words in which steps and orchestrator tell where things came from: PROV-O, in JSON-LD.

A prepared dataset has a ``croissant.json``; a submission package has documents of the format
:data:`FORMAT`, in its tree by the step that made it, and beside it by the orchestrator, which knows
the records. Both hold nodes in ``@graph``, each with an ``@id``:

- ``figure:Offline.throughput``: a figure; ``prov:wasDerivedFrom`` names the outputs it stands in
- ``artifact:<run>/<step>/<attempt>/<output>``: what a step left, with sha256 and size
- ``attempt:<run>/<step>/<attempt>``: what made it: identity, image, parameters, what it used, and
  the lines of the record that tell so
- ``urn:sha256:<digest>``: what no step made: a source that was fetched, a folder the site bound
- ``approval:<run>/<gate>/<line>``: an answer at a gate, with its signature
- ``package:<folder>``: a result's folder in a submission tree, with its files
- ``agent:<name>``: a program or a person
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import JsonValue

from proctor_steps.contract import Mount, tree_digest

FORMAT = "proctor.provenance/1"
CROISSANT, PROVENANCE = "croissant.json", "provenance.json"
PROV = "http://www.w3.org/ns/prov#"
CONTEXT: Mapping[str, Any] = {
    "@vocab": "urn:proctor:",
    "proctor": "urn:proctor:",
    "prov": PROV,
    "sc": "https://schema.org/",
    **{name: f"sc:{name}" for name in ("name", "license", "sha256", "contentSize")},
    **{name: {"@id": f"urn:proctor:{name}", "@type": "@json"} for name in ("parameters", "answer")},
}

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:", re.IGNORECASE)


def content(sha256: str) -> dict[str, JsonValue]:
    """A thing that is known by its digest alone."""
    return {"@type": "prov:Entity", "@id": f"urn:sha256:{sha256}", "sha256": sha256}


def size(count: int) -> str:
    """A number of bytes as schema.org's ``contentSize`` has it."""
    return f"{count} B"


def digest_of(mount: Mount) -> str:
    """The digest of an input; "" for a tree that has none, as one with a link in it.

    Where no orchestrator has told it, as by hand, it is computed.
    """
    try:
        return mount.sha256 or tree_digest(Path(mount.path))[0]
    except (OSError, ValueError):
        return ""


def described(croissant: bytes) -> dict[str, JsonValue]:
    """What a dataset's metadata tell of its licences, with their own digest."""
    told: dict[str, JsonValue] = {"croissant": hashlib.sha256(croissant).hexdigest()}
    try:
        licences = json.loads(croissant).get("license")
    except (ValueError, AttributeError, RecursionError):
        return told
    return {**told, "license": licences} if licences else told


def figure_name(scenario: str, metric: Mapping[str, Any]) -> str:
    """``Offline.throughput``, ``SingleStream.latency``: LoadGen's own metric is of either kind."""
    return f"{scenario}.{'latency' if metric.get('unit') == 'ns' else 'throughput'}"


def shown(value: JsonValue) -> JsonValue:
    """A parameter as strangers may read it: of a file of this machine only the name; of any other
    address neither user, password, query nor fragment, where secrets live."""
    if isinstance(value, list):
        return [shown(each) for each in value]
    if isinstance(value, dict):
        return {key: shown(each) for key, each in value.items()}
    if not isinstance(value, str) or not _ADDRESS.match(value):
        return value
    try:
        parts = urlsplit(value)
    except ValueError:
        return "(not a valid URI)"
    if parts.scheme.lower() == "file":
        return f"file:///…/{PurePosixPath(parts.path).name}"
    plain = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{plain}?…" if parts.query else plain


def source_of(fetched: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The source that a fetching step told of (its metrics' ``source``); empty where of none.

    Of a file of some machine only the name is told: its folder is nobody else's business.
    """
    sha256, uri = str(fetched.get("sha256") or ""), str(fetched.get("uri") or "")
    if not _SHA256.fullmatch(sha256):
        return {}
    local = uri.lower().startswith("file:")
    count = fetched.get("bytes")
    known: dict[str, JsonValue] = {
        "prov:label": PurePosixPath(unquote(uri)).name if local else uri,
        "prov:atLocation": "" if local else uri,
        "contentSize": size(count) if isinstance(count, int) else "",
        "proctor:etag": str(fetched.get("etag") or ""),
    }
    return {**content(sha256), **{key: value for key, value in known.items() if value}}
