"""Family *structure*: which folders and files there are, and which should be."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from proctor_steps.submission.archive import LARGEST_FILE
from proctor_steps.submission.check import files
from proctor_steps.submission.check.asked import SCENARIOS
from proctor_steps.submission.check.finding import Finding, Teller, plain_name
from proctor_steps.submission.check.result import Result, System
from proctor_steps.submission.check.tree import DIVISIONS, RESULTS, SYSTEMS, Layout

_SHOWN = 10  # findings of one kind about the files of one submitter
_PLAIN = re.compile(r"[\x21-\x7e]+")
_IN_SCENARIO = {"performance", "accuracy"}
_IN_PERFORMANCE = {"run_1", "power", "ranging"}
_CALIBRATION = ("calibration.md", "documentation/calibration.md", "calibration_process.adoc")


def of_tree(root: Path) -> Iterator[Finding]:
    """What lies beside the divisions."""
    tell = Teller(root)
    known = [name for name in files.names(root, "folders") if name in DIVISIONS]
    if not known:
        yield tell.rejected(
            "divisions", root, f"has none of the folders {', '.join(DIVISIONS)}",
            "give the folder that holds closed/<submitter>/results/...",
        )  # fmt: skip
    for name in files.names(root, "folders"):
        if name not in DIVISIONS and not name.startswith("."):
            yield tell.advice(
                "stray", root / name, "is no division, and is not looked into",
                f"put results below {', '.join(DIVISIONS)}; take away what is none",
            )  # fmt: skip


def of_submission(root: Path, folder: Path, layout: Layout) -> Iterator[Finding]:
    """The folders of one submitter in one division, and all its files as such."""
    division, submitter = folder.parent.name, folder.name
    tell = Teller(root, (division, submitter))
    if not (folder / RESULTS).is_dir():
        yield tell.rejected(
            "results", folder / RESULTS, "is missing", "add the results, or take the folder away",
            stops=True,
        )  # fmt: skip
    if not files.exists(folder / layout.source):
        yield tell.rejected(
            "source", folder / layout.source, "is missing", "add the code that made the results"
        )
    elif not next(_walk(folder / layout.source), None):
        yield tell.against("source", folder / layout.source, "is empty", "add the code")
    if division != "open" and not any(files.exists(folder / name) for name in _CALIBRATION):
        yield tell.against(
            "calibration", folder, "has no calibration.md, here or in documentation/",
            "say there how the weights were quantised and calibrated, or that they were not",
        )  # fmt: skip
    yield from _unused_systems(folder, tell)
    yield from _files(root, folder, tell)


def _unused_systems(folder: Path, tell: Teller) -> Iterator[Finding]:
    measured = set(files.names(folder / RESULTS, "folders"))
    for name in files.names(folder / SYSTEMS, "files"):
        if name.endswith(".json") and name.removesuffix(".json") not in measured:
            text = "describes a system that has no results"
            yield tell.advice("system_unused", folder / SYSTEMS / name, text, "take it away")


def _files(root: Path, folder: Path, tell: Teller) -> Iterator[Finding]:
    """What the submission repository takes no file for, whichever file it is."""
    counts: dict[str, int] = {}
    for path, kind, text, advice in _unwelcome(folder):
        counts[kind] = counts.get(kind, 0) + 1
        if counts[kind] <= _SHOWN:
            make = tell.advice if kind == "file_name" else tell.against
            yield make(kind, path, text, advice)
    for kind, count in counts.items():
        if count > _SHOWN:
            make = tell.advice if kind == "file_name" else tell.against
            yield make(kind, folder, f"has {count - _SHOWN} more such files", "as for the others")


def _unwelcome(folder: Path) -> Iterator[tuple[Path, str, str, str]]:
    for entry in _walk(folder):
        name = entry.name
        large = entry.is_file(follow_symlinks=False) and entry.stat().st_size > LARGEST_FILE
        if not large and not entry.is_symlink() and name[0] != "." and _PLAIN.fullmatch(name):
            continue
        path = Path(entry.path)
        if entry.is_symlink():
            yield path, "symlink", "is a symbolic link", "put a copy of the file there"
        elif large:
            size = f"{entry.stat().st_size / 2**20:.1f} MiB"
            text = f"has {size}; the submission repository takes at most 50"
            yield path, "file_size", text, "cut or leave out the file"
        if name.startswith("."):
            yield path, "dot_file", "begins with a dot", "rename it or take it away"
        if " " in name:
            yield path, "blank_in_name", "has a blank in its name", "rename it"
        if not name.isascii():
            text = "has a name with letters beyond plain ASCII, which not every system keeps"
            yield path, "file_name", text, "rename it"


def _walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    """All files and folders below, without following links."""
    pending = [str(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in sorted(entries, key=lambda each: each.name):
                    yield entry
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except OSError:
            continue


def of_system(system: System) -> Iterator[Finding]:
    """The benchmarks of a system and the scenarios of each, as a whole."""
    for benchmark, scenarios in system.folder.benchmarks().items():
        scope = (*system.folder.scope, benchmark)
        tell = Teller(system.folder.root, scope)
        path = system.folder.folder / benchmark
        if not scenarios:
            yield tell.against("results", path, "holds no scenario", "add results, or remove it")
            continue
        example = next(r for r in system.results if r.place.benchmark == benchmark)
        yield from _benchmark(system, example, scenarios, path, tell)
    if system.folder.division == "open" and system.mapping.absence not in ("", "missing"):
        yield system.tell.rejected(
            "model_mapping", system.mapping.path, system.mapping.problem,
            "give a JSON object {your name: official name}", system.mapping.line, stops=True,
        )  # fmt: skip


def _benchmark(
    system: System, example: Result, scenarios: list[str], path: Path, tell: Teller
) -> Iterator[Finding]:
    asked, closed = example.asked, system.folder.division != "open"
    name = system.round.round
    if asked is None:
        advice = f"name the folder as {name} does"
        if not closed:
            advice += ", or map the name in model_mapping.json"
        yield tell.rejected(
            "benchmark_in_round", path, f"is no benchmark of {name}", advice, stops=closed
        )
        return
    if not closed or system.type is None:
        return
    needed = asked.needed(system.type)
    if needed is None:
        yield tell.rejected(
            "benchmark_in_round", path,
            f"{name} does not have {asked.name} for a system of type {system.type}",
            "submit it for another type of system, or to the open division", stops=True,
        )  # fmt: skip
        return
    found = {scenario.lower() for scenario in scenarios}
    for alternatives in needed:
        if not found & {each.lower() for each in alternatives}:
            yield tell.rejected(
                "scenario_missing", path, f"has no {' or '.join(alternatives)}",
                "add the scenario: without it none of the benchmark's results is taken",
            )  # fmt: skip
    known = {each.lower() for alternatives in needed for each in alternatives}
    for scenario in scenarios:
        if scenario.lower() not in known:
            yield tell.rejected(
                "scenario_in_round", path / scenario,
                f"is no scenario of {asked.name} for a system of type {system.type}",
                "take it away: with it none of the benchmark's results is taken",
            )  # fmt: skip


def of_result(result: Result) -> Iterator[Finding]:
    """The folder of one result: its name, and what is in it."""
    folder, name, tell = result.place.folder, result.place.scenario, result.tell
    official = SCENARIOS.get(name.lower())
    if official is None or name not in (official, official.lower()):
        wanted = official or ", ".join(SCENARIOS.values())
        text = "is no scenario" if official is None else f"is {official}, but spelt otherwise"
        yield tell.rejected(
            "scenario_name", folder, text, f"name it {wanted}", stops=bool(official) or result.open
        )
    elif name != official:
        yield tell.advice(
            "scenario_name", folder, "is spelt in lower case; the official table then marks the "
            "result as inferred", f"name it {official}",
        )  # fmt: skip
    if any(plain_name(part) != part for part in result.place.scope):
        text = "has a name that is no UTF-8, which the official table cannot hold"
        yield tell.rejected("name_not_text", folder, text, "rename the folders", stops=True)
    known = _IN_SCENARIO | set(result.asked.tests if result.asked else ())
    for found in files.names(folder, "folders"):
        if found not in known and not found.startswith("TEST"):
            text = "is no folder of a result, and is not looked into"
            yield tell.advice("stray", folder / found, text, "take it away")
    for found in files.names(folder / "performance", "folders"):
        if found not in _IN_PERFORMANCE:
            text = "is not looked into: only run_1 is"
            yield tell.advice("stray", folder / "performance" / found, text, "take it away")
