"""Removes what no record of the home needs. What one names stays, so every run still verifies."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from proctor.records.store import RecordError, RunRecord
from proctor.runtime.artifacts import ArtifactError, parse_uri, remove_tree
from proctor.site.home import Home

_OPEN = ("running", "cancelled")


@dataclass(frozen=True)
class Unneeded:
    """One thing that can go. ``kind``: what it is, for people."""

    kind: str
    path: Path
    size: int


@dataclass(frozen=True)
class _Needed:
    """What the records name: attempts whose outputs stay, those under way, and plans."""

    attempts: frozenset[tuple[str, str, str, int]]
    open: frozenset[tuple[str, str, str, int]]
    plans: frozenset[str]


def unneeded(home: Home, without: Sequence[RunRecord] = ()) -> list[Unneeded]:
    """All that can go, by kind and path.

    Args:
        without: runs whose needs do not count, as they are about to go.

    Raises:
        RecordError: a record cannot be read, so nobody knows what it needs.
    """
    needed = _needed(home, {record.path for record in without})
    found = [
        *_outputs(home, needed),
        *_scratch(home, needed),
        *_plans(home, needed),
        *_results(home),
    ]
    return sorted(found, key=lambda each: (each.kind, str(each.path)))


def remove(found: list[Unneeded]) -> None:
    """Remove it. Cut short at any moment, what is left is either needed or found the next time."""
    for each in found:
        remove_tree(each.path)
        _remove_empty(each.path.parent)


def remove_run(record: RunRecord) -> None:
    """Forget a run: its record, what it published, and its subjects' parts.

    Outputs that another run took over from it are named by that one's record, and stay.
    """
    hidden = record.folder.with_name(f".removed-{record.folder.name}")
    if record.folder.exists():
        record.folder.rename(hidden)
    remove_tree(hidden)


def _needed(home: Home, without: Set[Path]) -> _Needed:
    attempts: set[tuple[str, str, str, int]] = set()
    still_open: set[tuple[str, str, str, int]] = set()
    plans: set[str] = set()
    for record in home.records.all():
        if record.whole.path in without:
            continue
        states: dict[tuple[str, str, str, int], str] = {}
        for line in record.lines():
            plans.add(line.plan_digest)
            mine = (record.pipeline, record.run, line.step, line.attempt)
            if line.kind == "attempt":
                states[mine] = str(line.data.get("status"))
            outputs = line.data.get("outputs")
            for entry in (outputs if isinstance(outputs, dict) else {}).values():
                if isinstance(entry, dict):
                    attempts.add(_attempt_of(record, str(entry.get("uri"))))
        still_open |= {name for name, status in states.items() if status in _OPEN}
    return _Needed(frozenset(attempts), frozenset(still_open), frozenset(plans))


def _attempt_of(record: RunRecord, uri: str) -> tuple[str, str, str, int]:
    try:
        name, _ = parse_uri(uri)
    except ArtifactError as error:
        raise RecordError(f"{record.path}: {error}") from error
    return name.pipeline, name.run, name.step, name.attempt


def _outputs(home: Home, needed: _Needed) -> Iterator[Unneeded]:
    for folder in _attempts(home.path / "artifacts"):
        name = _name(folder)
        hidden = folder.name.startswith(".")
        if name not in needed.open and (hidden or name not in needed.attempts):
            yield Unneeded("outputs that no record names", folder, _size(folder))


def _scratch(home: Home, needed: _Needed) -> Iterator[Unneeded]:
    for folder in _attempts(home.path / "work"):
        if _name(folder) not in needed.open:
            yield Unneeded("scratch of attempts that have ended", folder, _size(folder))


def _plans(home: Home, needed: _Needed) -> Iterator[Unneeded]:
    for path in (home.path / "plans").glob("*.json"):
        if path.stem not in needed.plans:
            yield Unneeded("plans that no run began with", path, _size(path))


def _results(home: Home) -> Iterator[Unneeded]:
    for path in (home.path / "results").glob("*/*.json"):
        try:
            place = json.loads(path.read_bytes())
            there = home.records.run(str(place["pipeline"]), str(place["run"])).exists()
        except (OSError, ValueError, KeyError, TypeError):
            there = False
        if not there:
            yield Unneeded("places of results of removed runs", path, _size(path))


def _attempts(root: Path) -> Iterator[Path]:
    """``<pipeline>/<run>/<step>/<attempt>``, and what is not published yet."""
    for folder in sorted(root.glob("*/*/*/*")):
        if folder.name.removeprefix(".").isdecimal() and folder.is_dir():
            yield folder


def _name(folder: Path) -> tuple[str, str, str, int]:
    pipeline, run, step, number = folder.parts[-4:]
    return pipeline, run, step, int(number.removeprefix("."))


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    walked = ((Path(folder), files) for folder, _, files in os.walk(path))
    return sum((folder / file).lstat().st_size for folder, files in walked for file in files)


def _remove_empty(folder: Path) -> None:
    """A folder that holds only the lock of its step's starters is empty."""
    for each in (folder, *folder.parents[:2]):
        left = {path.name for path in each.iterdir()} if each.is_dir() else {"?"}
        if left - {".lock"} or each.name in ("artifacts", "work", "plans", "results"):
            return
        remove_tree(each)
