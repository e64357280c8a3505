"""Whether the files of a dataset are those that its ``croissant.json`` names."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from proctor.site.verify import changed
from proctor_steps.contract import file_sha256
from proctor_steps.lineage import CROISSANT

_LIST_KIND = "text/csv"


@dataclass(frozen=True)
class File:
    """One file; ``state`` as in :class:`proctor.site.provenance.Looked`."""

    name: str
    state: Literal["good", "away", "gone", "bad"] = "good"
    message: str = ""


def check_files(folder: Path) -> list[File]:
    """Compare every file with its digest: those that the metadata name, and those that a list of
    files among them names (columns ``file_name`` and ``sha256``). No metadata: nothing to compare.
    """
    path = folder / CROISSANT
    if not path.is_file():
        return []
    try:
        whole = json.loads(path.read_bytes())
        entries = [each for each in whole["distribution"] if isinstance(each, dict)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return [File(CROISSANT, "bad", f"no Croissant metadata ({error})")]
    found = [_compare(folder, str(e.get("contentUrl")), e) for e in entries if "contentUrl" in e]
    sets = [each for each in entries if "includes" in each]
    for each in entries:
        if each.get("encodingFormat") == _LIST_KIND and sets:
            name, places = str(each.get("contentUrl")), [str(s.get("@id")) for s in sets]
            found += _listed(folder, name, places[0])
    return found


def _compare(folder: Path, name: str, entry: Mapping[str, Any]) -> File:
    if "://" in name:
        return File(name, "away", f"not read again: it is at {name}")
    if not entry.get("sha256"):
        return File(name, "away", "the metadata tell no sha256 of it")
    return compare(folder, name, str(entry["sha256"]), "dataset", "is not there")


def compare(folder: Path, name: str, sha256: str, of: str, gone: str) -> File:
    """One file with its digest. ``of``: what the folder is; ``gone``: what is said of no file."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        return File(name, "bad", f"leads out of the {of}")
    if not path.is_file():
        return File(name, "gone", gone)
    now = file_sha256(path)
    return File(name) if now == sha256 else File(name, "bad", changed(sha256, now))


def _listed(folder: Path, name: str, place: str) -> Iterator[File]:
    """The files of a list, and those in their folder that the list does not name."""
    try:
        with (folder / name).open(newline="", encoding="utf-8") as lines:
            table = csv.DictReader(lines)
            if not {"file_name", "sha256"} <= {*(table.fieldnames or ())}:
                return  # a table of something else
            rows = [row for row in table if row.get("file_name")]
    except (OSError, ValueError, csv.Error) as error:
        yield File(name, "bad", f"no list that can be read ({error})")
        return
    for row in rows:
        yield _compare(folder, f"{place}/{row['file_name']}", row)
    known = {row["file_name"] for row in rows}
    for path in sorted((folder / place).glob("*")):
        if path.name not in known:
            yield File(f"{place}/{path.name}", "bad", f"{name} does not name it")
