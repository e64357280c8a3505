"""The metadata of a dataset's folder, and the folder without what may not be used."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from proctor_steps.dataset.coco import load_json
from proctor_steps.policy.answer import Answer
from proctor_steps.policy.metadata import Metadata, Part, read
from proctor_steps.stage import DataError

# What metadata are called beside their data; by convention at the top of the folder.
NAMES = ("croissant.json", "metadata.json", "policy.json")
ENDING = ".jsonld"
_LARGEST = 256 * 1024 * 1024
_KINDS = "Croissant metadata, an ODRL policy, or a COCO annotation file"


def load(path: Path, where: str) -> Metadata:
    """One file of metadata.

    Raises:
        DataError: it is no JSON, or none of the kinds that are read.
    """
    if found := _read(path, where):
        return found
    raise DataError(f"{where}: it says nothing of licences or use; give {_KINDS}")


def _read(path: Path, where: str) -> Metadata | None:
    if path.stat().st_size > _LARGEST:
        raise DataError(f"{where}: over {_LARGEST:,} bytes are no metadata; give {_KINDS}")
    return read(load_json(path, where), where, partial(_values, path.parent))


def _values(folder: Path, name: str, column: str) -> list[str] | None:
    """A column of a CSV file beside the metadata; ``None`` where there is none such."""
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()) or path.suffix != ".csv":
            return None
        with path.open(newline="", encoding="utf-8") as lines:
            return [row[column] or "" for row in csv.DictReader(lines)]
    except (OSError, ValueError, KeyError, csv.Error):
        return None


def beside(folder: Path) -> list[Metadata]:
    """The metadata at the top of a dataset's folder, by their names; none, maybe.

    Raises:
        DataError: a file of such a name is damaged.
    """
    named = [p for p in sorted(folder.iterdir()) if p.name in NAMES or p.suffix == ENDING]
    read_ = [_read(path, path.name) for path in named if path.is_file()]
    return [each for each in read_ if each]


def given(folder: Path) -> list[Metadata]:
    """All JSON files of a folder that holds metadata alone.

    Raises:
        DataError: there is none.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix in (".json", ENDING) and p.is_file())
    if not found:
        raise DataError(f"input 'metadata': there is no JSON file in it; give {_KINDS}")
    return [load(path, path.relative_to(folder).as_posix()) for path in found]


def files_of(folder: Path) -> list[str]:
    """Names of all files below a folder, in order; hidden ones are none of a dataset.

    Raises:
        DataError: some are links: where they lead is no part of the dataset.
    """
    found, links = [], []
    for root, folders, names in os.walk(folder):
        shown = [Path(root) / n for n in sorted([*folders, *names]) if not n.startswith(".")]
        links += [path for path in shown if path.is_symlink()]
        found += [path for path in shown if path.is_file() and not path.is_symlink()]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
    if links:
        listed = ", ".join(path.relative_to(folder).as_posix() for path in links[:5])
        more = f" and {len(links) - 5} more" if len(links) > 5 else ""
        raise DataError(f"{listed}{more}: links; put the files themselves into the dataset")
    return [path.relative_to(folder).as_posix() for path in found]


@dataclass(frozen=True)
class _Patterns:
    """Files by path below the folder, by bare name, or by a pattern of the path."""

    exact: frozenset[str]
    globs: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> _Patterns:
        names = frozenset(names)
        return cls(names, tuple(n for n in names if any(c in n for c in "*?[")))

    def match(self, name: str) -> bool:
        known = name in self.exact or name.rpartition("/")[2] in self.exact
        return known or any(fnmatchcase(name, pattern) for pattern in self.globs)


def permitted_files(names: Sequence[str], answer: Answer, kept: Iterable[str]) -> list[str]:
    """The files that may be used.

    ``kept``: names and patterns of what may be used even where the rest may not.

    Raises:
        DataError: something that may not be used cannot be told from the rest.
    """
    out = [each.part for each in answer.left_out if each.part]
    problems = [text for part in out if (text := _inseparable(part, names))]
    if problems:
        raise DataError(
            "what may not be used cannot be left out:\n" + "\n".join(problems) + "\n"
            "Give the data as single files that the metadata names, or other data."
        )
    bad, good = _spelt([n for part in out for n in part.files]), _Patterns.of(kept)
    return [n for n in names if not bad.match(n) and (answer.rest or good.match(n))]


def _spelt(named: Sequence[str]) -> _Patterns:
    """What is not to be used, however the metadata spell it: by an address, with ``./`` or %xx."""
    local = (unquote(n.rpartition("/")[2] if "://" in n else n).removeprefix("./") for n in named)
    return _Patterns.of([*named, *local])


def _inseparable(part: Part, names: Sequence[str]) -> str:
    why = ""
    known = {*names, *(name.rpartition("/")[2] for name in names)}
    if not part.files:
        why = "the metadata does not say which files they are"
    elif part.packed:
        why = "they lie inside another file"
    elif part.single:
        missing = next((name for name in part.files if name not in known), "")
        why = f"{missing} is no file of the dataset" if missing else ""
    elif part.unit == "file" and not any(map(_spelt(part.files).match, names)):
        why = f"{', '.join(part.files)} is no file of the dataset"
    return f"  {part.what}: {why} [{part.where}]" if why else ""


def without(value: Any, dropped: Iterable[Mapping[str, Any]]) -> Any:
    """Metadata without the entries (these very objects) of what was left out."""
    gone = {id(entry) for entry in dropped}

    def kept(part: Any) -> Any:
        if isinstance(part, list):
            return [kept(item) for item in part if id(item) not in gone]
        if isinstance(part, dict):
            return {key: kept(item) for key, item in part.items() if id(item) not in gone}
        return part

    return kept(value)


def write(path: Path, value: Any) -> None:
    """Write JSON as the stage's outputs have it."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    path.write_text(text, encoding="utf-8")
