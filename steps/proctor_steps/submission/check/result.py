"""One system with its results, read on demand: what the checks look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from proctor_steps.accuracy import log as accuracy_log
from proctor_steps.loadgen.log import DETAIL, SUMMARY
from proctor_steps.loadgen.scan import Scan, scan
from proctor_steps.rounds import Round, Scenario, SystemType
from proctor_steps.submission.check import files
from proctor_steps.submission.check.asked import Asked, asked, scenario_of, system_type_of
from proctor_steps.submission.check.files import Fields, Text
from proctor_steps.submission.check.finding import Teller
from proctor_steps.submission.check.scores import Reading, logged, read
from proctor_steps.submission.check.tree import Layout, Place, SystemFolder, layout


class Log:
    """The logs of one LoadGen run, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / DETAIL

    @cached_property
    def scan(self) -> Scan | None:
        """The detail log; ``None`` where there is none."""
        return scan(self.path) if files.exists(self.path) else None

    @cached_property
    def summary(self) -> Text:
        """``mlperf_log_summary.txt``."""
        return files.text(self.folder / SUMMARY)

    def value(self, key: str) -> Any:
        """What the official checker takes for the value of a key: the first that is written."""
        if self.scan is None:
            return None
        return self.scan.first.get(key, self.scan.values.get(key))

    def number(self, key: str) -> float | None:
        """The value of a key, if it is a number."""
        value = self.value(key)
        return value if isinstance(value, int | float) else None

    def line(self, key: str) -> int | None:
        """Where the key stands last."""
        return self.scan.lines.get(key) if self.scan else None


class System:
    """A system: its description, and the results measured on it."""

    def __init__(self, folder: SystemFolder, round_: Round) -> None:
        self.folder = folder
        self.round = round_
        self.layout: Layout = layout(round_.round)
        self.tell = Teller(folder.root, folder.scope)
        self.path = folder.submission / "systems" / f"{folder.system}.json"

    @cached_property
    def described(self) -> Fields:
        """``systems/<system>.json``."""
        return files.fields(self.path)

    @cached_property
    def mapping(self) -> Fields:
        """``model_mapping.json`` of a submission to the open division."""
        return files.fields(self.folder.submission / "model_mapping.json")

    @property
    def names(self) -> dict[str, Any]:
        """Benchmark names of the submitter's own, where they count."""
        return (self.mapping.fields or {}) if self.folder.division == "open" else {}

    @property
    def type(self) -> SystemType | None:
        """Edge, datacenter or both; ``None`` where that is not told."""
        return system_type_of((self.described.fields or {}).get("system_type"))

    @property
    def is_edge(self) -> bool:
        """Whether results may be inferred from another scenario's, as the checker reads it."""
        value = (self.described.fields or {}).get("system_type")
        return isinstance(value, str) and "edge" in value.lower()

    @cached_property
    def results(self) -> list[Result]:
        """All its results."""
        return [
            Result(self, benchmark, scenario)
            for benchmark, scenarios in self.folder.benchmarks().items()
            for scenario in scenarios
        ]


@dataclass(frozen=True)
class Run:
    """A performance run of a result: the result's own, or one of a compliance test."""

    result: Result
    log: Log
    test: str = ""


class Result:
    """One folder ``results/<system>/<benchmark>/<scenario>``."""

    def __init__(self, system: System, benchmark: str, scenario: str) -> None:
        folder = system.folder
        self.system = system
        self.place = Place(
            folder.root, system.layout, folder.division, folder.submitter, folder.system,
            benchmark, scenario,
        )  # fmt: skip
        self.tell = Teller(folder.root, self.place.scope)
        self.asked: Asked | None = asked(system.round, benchmark, system.names)

    @property
    def open(self) -> bool:
        """Whether it is in the open division, where most limits are lifted."""
        return self.place.division == "open"

    @property
    def scenario(self) -> Scenario | None:
        """The scenario that its folder is named after."""
        return scenario_of(self.place.scenario)

    @cached_property
    def performance(self) -> Log:
        """The logs of the performance run."""
        return Log(self.place.performance)

    @cached_property
    def mark(self) -> str:
        """A short text that two equal performance logs share; empty where there is none."""
        return files.fingerprint(self.performance.path) if self.performance.scan else ""

    @cached_property
    def accuracy(self) -> Log:
        """The logs of the accuracy run."""
        return Log(self.place.accuracy)

    @cached_property
    def score(self) -> Text:
        """``accuracy.txt``."""
        return files.text(self.place.accuracy / "accuracy.txt")

    @cached_property
    def reading(self) -> Reading:
        """The accuracy that it tells, and the hash."""
        return read(self.score.lines, self.asked.targets(self.scenario) if self.asked else [])

    @property
    def entries(self) -> Path:
        """The accuracy log, which LoadGen writes whole and a submission holds cut."""
        return self.place.accuracy / accuracy_log.NAME

    @cached_property
    def logged(self) -> int | None:
        """Samples in the accuracy log; ``None`` where it does not tell."""
        return logged(self.entries)

    @property
    def whole(self) -> bool:
        """Whether the accuracy log is there with every sample, so that its hash can be known."""
        return self.logged is not None and self.logged == self.samples

    @property
    def samples(self) -> int | None:
        """Samples of the dataset, as the accuracy run tells it."""
        value = self.accuracy.value("qsl_reported_total_count")
        return value if isinstance(value, int) else None

    @cached_property
    def measurement(self) -> Fields:
        """The description of the measurement."""
        return files.fields(self.place.description())

    @cached_property
    def tests(self) -> dict[str, Log]:
        """The performance runs of the compliance tests that are wanted and have one."""
        wanted = self.asked.tests if self.asked and not self.open else ()
        return {
            test: Log(self.place.compliance / test / "performance" / "run_1")
            for test in wanted
            if test in ("TEST01", "TEST04")
        }

    @property
    def ran(self) -> str | None:
        """The scenario that the performance log tells."""
        value = self.performance.value("effective_scenario")
        return value if isinstance(value, str) else None

    @property
    def inferred(self) -> bool:
        """Whether the result is inferred from a run in another scenario."""
        if self.ran is None or self.ran.lower() == self.place.scenario.lower():
            return False
        return (self.ran.lower(), self.place.scenario.lower()) != ("server", "interactive")

    @property
    def endpoints(self) -> bool:
        """Whether it was measured by MLPerf Endpoints, as the checker sees it: no LoadGen logs."""
        return self.performance.scan is None and self.accuracy.scan is None
