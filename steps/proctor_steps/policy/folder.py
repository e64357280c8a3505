"""The metadata of a dataset's folder, and the folder without what may not be used."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from proctor_steps.dataset.coco import load_json
from proctor_steps.policy.answer import Answer, LeftOut
from proctor_steps.policy.metadata import Metadata, read
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
    return read(load_json(path, where), where)


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


def files_of(folder: Path) -> Iterator[str]:
    """Names of all files below a folder, in order. Hidden ones, and links, are none of a dataset."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(root) / name
            if not (name.startswith(".") or path.is_symlink()):
                yield path.relative_to(folder).as_posix()


def permitted_files(names: Sequence[str], answer: Answer, kept: Sequence[str]) -> list[str]:
    """The files that may be used.

    ``kept``: patterns of the parts that may be used.

    Raises:
        DataError: something that may not be used cannot be told from the rest.
    """
    out = [each for each in answer.left_out if each.part]
    problems = [text for each in out if (text := _inseparable(each, names))]
    if problems:
        raise DataError(
            "what may not be used cannot be left out:\n" + "\n".join(problems) + "\n"
            "Give the data as single files that the metadata names, or other data."
        )
    bad = {pattern for each in out if each.part for pattern in each.part.files}
    return [
        name
        for name in names
        if not _matches(name, bad) and (answer.rest or _matches(name, set(kept)))
    ]


def _inseparable(each: LeftOut, names: Sequence[str]) -> str:
    part = each.part
    assert part is not None  # noqa: S101 - of left-out parts alone
    why = ""
    if not part.files:
        why = "the metadata does not say which files they are"
    elif part.packed:
        why = "they lie inside another file"
    elif part.single:
        missing = [name for name in part.files if not any(_matches(n, {name}) for n in names)]
        why = f"{missing[0]} is no file of the dataset" if missing else ""
    return f"  {each.what}: {why} [{part.where}]" if why else ""


def _matches(name: str, patterns: set[str]) -> bool:
    """By path below the folder, by a pattern of it, or by the bare name."""
    base = name.rpartition("/")[2]
    if name in patterns or base in patterns:
        return True
    return any(fnmatchcase(name, p) for p in patterns if any(c in p for c in "*?["))


def without(value: Any, dropped: Sequence[Any]) -> Any:
    """Metadata without the entries (these very objects) of what was left out."""
    gone = {id(entry) for entry in dropped}
    if isinstance(value, list):
        return [without(item, dropped) for item in value if id(item) not in gone]
    if isinstance(value, dict):
        return {key: without(item, dropped) for key, item in value.items() if id(item) not in gone}
    return value


def write(path: Path, value: Any) -> None:
    """Write JSON as the stage's outputs have it."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    path.write_text(text, encoding="utf-8")
