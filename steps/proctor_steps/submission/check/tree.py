"""Where a submission keeps what: the tree of v5.1, and the one of v6.0 and later.

::

    <division>/<submitter>/
        systems/<system>.json
        results/<system>/<benchmark>/<scenario>/performance/run_1, accuracy

In v5.1 the code is in ``code/``, and ``measurements/`` and ``compliance/`` are beside ``results/``
with folders of the same names; since v6.0 the code is in ``src/``, and what those two held lies in
the scenario's own folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from proctor_steps.submission.check import files
from proctor_steps.submission.check.finding import Scope

DIVISIONS = ("closed", "open", "network")
RESULTS, SYSTEMS = "results", "systems"


@dataclass(frozen=True)
class Layout:
    """The names of the folders that differ between rounds."""

    source: str
    measurements: str
    compliance: str


def version(round_: str) -> tuple[int, ...]:
    """A round's name as numbers: ``v6.1`` -> (6, 1)."""
    return tuple(int(part) for part in round_.removeprefix("v").split("."))


def layout(round_: str) -> Layout:
    """The layout of a round."""
    if version(round_) < (6,):
        return Layout("code", "measurements", "compliance")
    return Layout("src", RESULTS, RESULTS)


@dataclass(frozen=True)
class Place:
    """One scenario's folder, and what belongs to it elsewhere."""

    root: Path
    layout: Layout
    division: str
    submitter: str
    system: str
    benchmark: str
    scenario: str

    @cached_property
    def scope(self) -> Scope:
        """What findings about this result are filed under."""
        return (self.division, self.submitter, self.system, self.benchmark, self.scenario)

    @cached_property
    def submission(self) -> Path:
        """The submitter's folder."""
        return self.root / self.division / self.submitter

    @cached_property
    def folder(self) -> Path:
        """The result's own folder."""
        return self._below(RESULTS)

    @cached_property
    def measurements(self) -> Path:
        """Where ``user.conf``, ``README.md`` and the description of the measurement lie."""
        return self._below(self.layout.measurements)

    @cached_property
    def compliance(self) -> Path:
        """Where ``TEST01`` and the like lie."""
        return self._below(self.layout.compliance)

    @cached_property
    def performance(self) -> Path:
        """The performance run."""
        return self.folder / "performance" / "run_1"

    @cached_property
    def accuracy(self) -> Path:
        """The accuracy run."""
        return self.folder / "accuracy"

    def description(self) -> Path:
        """The JSON file about the measurement; in v5.1 its name begins with the system's."""
        if self.layout.measurements == RESULTS:
            return self.folder / "measurements.json"
        for name in files.names(self.measurements, "files"):
            if name.startswith(self.system) and name.endswith(".json"):
                return self.measurements / name
        return self.measurements / f"{self.system}.json"

    def _below(self, kind: str) -> Path:
        return self.submission / kind / self.system / self.benchmark / self.scenario


@dataclass(frozen=True)
class SystemFolder:
    """One system of one submitter: what is read and judged together."""

    root: Path
    division: str
    submitter: str
    system: str

    @cached_property
    def scope(self) -> Scope:
        """What findings about the system are filed under."""
        return (self.division, self.submitter, self.system)

    @cached_property
    def submission(self) -> Path:
        """The submitter's folder."""
        return self.root / self.division / self.submitter

    @cached_property
    def folder(self) -> Path:
        """The system's folder below ``results/``."""
        return self.submission / RESULTS / self.system

    def benchmarks(self) -> dict[str, list[str]]:
        """Benchmark -> its scenarios, as the folders are named."""
        found = files.names(self.folder, "folders")
        return {name: files.names(self.folder / name, "folders") for name in found}


def submissions(root: Path, submitter: str | None = None) -> list[Path]:
    """The folders of all submitters in a tree, or those of one."""
    return [
        root / division / name
        for division in DIVISIONS
        for name in files.names(root / division, "folders")
        if submitter is None or name == submitter
    ]


def systems(root: Path, submitter: str | None = None) -> list[SystemFolder]:
    """All systems with results in a tree, or those of one submitter."""
    return [
        SystemFolder(root, folder.parent.name, folder.name, system)
        for folder in submissions(root, submitter)
        for system in files.names(folder / RESULTS, "folders")
    ]
