"""Several packages as one submission tree: all systems, benchmarks and scenarios of a submitter.

Each source is a submission tree (``closed/``, ``open/``, ``network/``), the output folder of
``submission package``, or an archive of one. Files that are the same in all are kept once. Where
they differ:

- ``src/<benchmark>``: each package's code goes to ``src/<benchmark>/<system>``;
- Markdown in ``documentation/``: the sections of all, one after the other, each once;
- JSON lists in ``documentation/`` (approvals): their entries together;
- ``model_mapping.json``: all keys, where none has two meanings;
- anything else is a conflict. All of them are told together, and then nothing is written.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proctor_steps import contract
from proctor_steps.stage import DataError
from proctor_steps.submission import archive
from proctor_steps.transport import archive as unpacking

DIVISIONS = ("closed", "open", "network")
_HEADING = re.compile(r"^(?=# )", re.MULTILINE)
_SCENARIO = 6  # parts of division/submitter/results/system/benchmark/scenario


@dataclass(frozen=True)
class Package:
    """One source. ``files``: relative path -> file; ``label``: the source as it was given."""

    label: str
    files: dict[str, Path]

    def submitters(self) -> set[str]:
        """The submitters whose folders it holds."""
        return {name.split("/")[1] for name in self.files if name.count("/") > 1}

    def systems(self, benchmark: str) -> list[str]:
        """The systems that it has results of a benchmark for."""
        parts = [name.split("/") for name in self.files]
        of = {p[3] for p in parts if len(p) > _SCENARIO and p[2] == "results" and p[4] == benchmark}
        return sorted(of)


@dataclass
class Merged:
    """What the merged tree holds: relative path -> the file to copy, or its new content."""

    files: dict[str, Path | bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def results(self) -> list[str]:
        """``system/benchmark/scenario`` of every result."""
        parts = [name.split("/") for name in self.files]
        return sorted({"/".join(p[3:6]) for p in parts if len(p) > _SCENARIO and p[2] == "results"})


def merge(sources: Sequence[Path], out: Path) -> Merged:
    """Merge ``sources`` into the new folder ``out``; it is there whole, or not at all.

    Raises:
        DataError: a source cannot be read, or sources contradict each other; all problems.
    """
    problems = list(_places(sources, out))
    with tempfile.TemporaryDirectory(prefix="proctor-merge-") as scratch:
        packages = []
        for number, source in enumerate(sources):
            try:
                packages.append(_open(source, Path(scratch) / str(number)))
            except DataError as error:
                problems.append(str(error))
        made = plan(packages)
        problems += made.problems
        if problems:
            lines = "\n".join(f"  {problem}" for problem in problems)
            raise DataError(f"nothing was written; first mend:\n{lines}")
        _write(made, out)
    return made


def plan(packages: Sequence[Package]) -> Merged:
    """What the merged tree would hold, and everything that stands against it."""
    made = Merged(problems=list(_of_several(packages)))
    moved = _with_own_source(packages, made.problems)
    places: dict[str, dict[str, Path]] = {}
    for package in moved:
        for name, path in package.files.items():
            places.setdefault(name, {})[package.label] = path
    made.problems += _files_that_are_folders(places)
    differing: dict[str, dict[str, Path]] = {}
    for name, paths in sorted(places.items()):
        if _same(list(paths.values())):
            made.files[name] = next(iter(paths.values()))
        elif (joined := _joined(name, paths)) is not None:
            made.files[name] = joined
        else:
            differing[name] = paths
    made.problems += _conflicts(differing)
    return made


def _places(sources: Sequence[Path], out: Path) -> Iterable[str]:
    """Where to write: a folder that is new or empty, and apart from what is read."""
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        yield f"{out} is there already; give a new folder"
    elif not out.absolute().parent.is_dir():
        yield f"{out.absolute().parent}: there is no such folder; make it, or choose another --out"
    target = out.resolve()
    for source in sources:
        if target.is_relative_to(source.resolve()) or source.resolve().is_relative_to(target):
            yield f"{out} and {source} lie inside each other; choose another --out"


def _open(source: Path, scratch: Path) -> Package:
    if source.is_file():
        scratch.mkdir()
        unpacking.extract(source, scratch, str(source))
        root = scratch
    elif source.is_dir():
        root = source
    else:
        raise DataError(f"{source}: there is no such folder or archive")
    if not _is_tree(root) and _is_tree(root / "tree"):  # the output of `submission package`
        root = root / "tree"
    if not _is_tree(root):
        raise DataError(f"{source}: no submission; it holds none of {', '.join(DIVISIONS)}")
    files, misfits = archive.survey(root)
    wrong = [str(misfit) for misfit in misfits]
    found = {path.relative_to(root).as_posix(): path for path in files}
    strays = sorted({name.split("/")[0] for name in found} - set(DIVISIONS))
    wrong += [f"{name}: stands beside the divisions; move it away" for name in strays]
    if wrong:
        raise DataError("\n  ".join(f"{source}: {text}" for text in wrong))
    return Package(str(source), found)


def _is_tree(root: Path) -> bool:
    return any((root / name).is_dir() for name in DIVISIONS)


def _of_several(packages: Sequence[Package]) -> Iterable[str]:
    who: dict[str, str] = {}
    for package in packages:
        for submitter in package.submitters():
            who.setdefault(submitter, package.label)
    if len(who) > 1:
        named = ", ".join(f"{submitter} ({label})" for submitter, label in sorted(who.items()))
        yield f"these are packages of several submitters: {named}; merge those of one"


def _with_own_source(packages: Sequence[Package], problems: list[str]) -> list[Package]:
    """The packages, each with its own folder below ``src/<benchmark>`` where their code differs."""
    moves: list[dict[str, str]] = [{} for _ in packages]
    for prefix in sorted({p for package in packages for p in _source_folders(package)}):
        holders = [n for n, package in enumerate(packages) if prefix in _source_folders(package)]
        if not _collide(prefix, [packages[n] for n in holders]):
            continue
        owners = {n: "+".join(packages[n].systems(prefix.split("/")[3])) for n in holders}
        groups: dict[str, list[int]] = {}
        for number, owner in owners.items():
            groups.setdefault(owner, []).append(number)
        at_odds = [
            number
            for owner, group in groups.items()
            if not owner or _collide(prefix, [packages[n] for n in group])
            for number in group
        ]
        if at_odds:
            named = " and ".join(packages[n].label for n in at_odds)
            problems.append(
                f"{prefix} differs between {named}, which measured the same systems or none; "
                "give one state of the code"
            )
            continue
        for number, system in owners.items():
            moves[number][prefix] = f"{prefix}/{system}"
    return [_moved(p, to) for p, to in zip(packages, moves, strict=True)]


def _source_folders(package: Package) -> set[str]:
    parts = [name.split("/") for name in package.files]
    return {"/".join(p[:4]) for p in parts if len(p) > 4 and p[2] == "src"}


def _collide(prefix: str, packages: Sequence[Package]) -> bool:
    places: dict[str, list[Path]] = {}
    for package in packages:
        for name, path in package.files.items():
            if name.startswith(prefix + "/"):
                places.setdefault(name, []).append(path)
    return any(not _same(paths) for paths in places.values())


def _moved(package: Package, to: Mapping[str, str]) -> Package:
    def place(name: str) -> str:
        prefix = "/".join(name.split("/")[:4])
        return to[prefix] + name.removeprefix(prefix) if prefix in to else name

    return Package(package.label, {place(name): path for name, path in package.files.items()})


def _files_that_are_folders(places: Mapping[str, Mapping[str, Path]]) -> Iterable[str]:
    folders = {name.rsplit("/", n)[0] for name in places for n in range(1, name.count("/") + 1)}
    for name in sorted(folders & places.keys()):
        yield f"{name} is a file in {next(iter(places[name]))} and a folder in another; rename one"


def _same(paths: Sequence[Path]) -> bool:
    if len(paths) < 2:
        return True
    if len({path.stat().st_size for path in paths}) > 1:
        return False
    return len({contract.file_sha256(path) for path in paths}) == 1


def _joined(name: str, paths: Mapping[str, Path]) -> bytes | None:
    """The content of a file that may differ; ``None``: it must not."""
    parts = name.split("/")
    if len(parts) == 3 and parts[2] == "model_mapping.json":
        return _mapping([_json(path) for path in paths.values()])
    if len(parts) < 4 or parts[2] != "documentation":
        return None
    if name.endswith(".md"):
        texts = [path.read_text("utf-8", errors="replace") for path in paths.values()]
        sections = [part.strip() for text in texts for part in _HEADING.split(text)]
        return ("\n\n".join(part for part in dict.fromkeys(sections) if part) + "\n").encode()
    lists = [_json(path) for path in paths.values()]
    if not all(isinstance(entries, list) for entries in lists):
        return None
    entries = {contract.digest(entry): entry for entries in lists for entry in entries}
    return _text(list(entries.values()))


def _mapping(objects: Sequence[Any]) -> bytes | None:
    merged: dict[str, Any] = {}
    for found in objects:
        if not isinstance(found, dict):
            return None
        if any(merged.setdefault(key, value) != value for key, value in found.items()):
            return None
    return _text(merged)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None


def _text(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _conflicts(differing: Mapping[str, Mapping[str, Path]]) -> Iterable[str]:
    """One line for each result, system description or other file that has two contents."""
    results: dict[str, list[str]] = {}
    labels: dict[str, dict[str, None]] = {}
    for name, paths in differing.items():
        parts = name.split("/")
        if len(parts) > 2 and parts[2] == "results":
            place = "/".join(parts[:_SCENARIO])
            results.setdefault(place, []).append("/".join(parts[_SCENARIO:]))
            labels.setdefault(place, {}).update(dict.fromkeys(paths))
        else:
            fields = _fields(paths) if name.endswith(".json") else ""
            yield f"{name} differs between {' and '.join(paths)}{fields}; make them the same"
    for place, names in results.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield (
            f"{place} differs between {' and '.join(labels[place])} in {', '.join(names[:3])}{more}"
            "; it can hold one result: leave one out, or name its system otherwise"
        )


def _fields(paths: Mapping[str, Path]) -> str:
    """The fields in which JSON objects differ, with their values."""
    objects = [_json(path) for path in paths.values()]
    if not all(isinstance(found, dict) for found in objects):
        return ""
    keys = sorted({key for found in objects for key in found})
    told = []
    for key in keys:
        values = [json.dumps(found.get(key), ensure_ascii=False)[:60] for found in objects]
        if len(set(values)) > 1:
            told.append(f"{key} is {' and '.join(values)}")
    return f" ({'; '.join(told)})" if told else ""


def _write(made: Merged, out: Path) -> None:
    """Write beside ``out``, then rename: whoever looks sees all of it or nothing."""
    parent = out.absolute().parent
    beside = Path(tempfile.mkdtemp(dir=parent, prefix=f".{out.name}."))
    try:
        for name, content in made.files.items():
            target = beside / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                target.write_bytes(content)
            else:
                shutil.copyfile(content, target)
        beside.chmod(0o755)
        beside.replace(out)  # an empty folder gives way
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
