"""The compliance tests of a package: ``TESTxx`` beside ``performance`` and ``accuracy``."""

from __future__ import annotations

import shutil
from pathlib import Path

from proctor_steps import rounds
from proctor_steps.report.evidence import Evidence
from proctor_steps.stage import StepIO


def add(folder: Path, scenario: str, found: Evidence) -> None:
    """Copy what ``compliance verify`` left of every test of a scenario, whatever its verdict."""
    for (of, test), source in found.compliance_folders.items():
        if of == scenario:
            shutil.copytree(source / test, folder / test)


def tell_missing(
    scenarios: list[str], benchmark: str, round_: str, division: str, found: Evidence, io: StepIO
) -> None:
    """The closed and the network division want every test of the round, of every scenario."""
    rules = rounds.load(round_).benchmark(benchmark)
    if rules is None or division == "open":
        return
    for test in rules.compliance.value or ():
        lacking = [name for name in scenarios if (name, test) not in found.compliance]
        if lacking:
            text = f"{test} was not run, which the {division} division of {round_} asks for"
            io.find("compliance_missing", "warning", text, ", ".join(lacking))
