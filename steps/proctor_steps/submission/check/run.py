"""The validator: every family of checks on every result of a tree, in parallel.

What belongs to one system is read and judged together, by one of several processes. Nothing that a
tree holds ends the validator: what a check cannot cope with is a finding of its own.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from proctor_steps import rounds
from proctor_steps.stage import DataError
from proctor_steps.submission.check import (
    accuracy,
    compliance,
    consistency,
    measurements,
    performance,
    power,
    structure,
    system,
    table,
)
from proctor_steps.submission.check.finding import Finding, Severity, Teller
from proctor_steps.submission.check.report import NOT_JUDGED, Report, ResultRow
from proctor_steps.submission.check.result import Result, System
from proctor_steps.submission.check.tree import SystemFolder, layout, submissions, systems

_FAMILIES: tuple[Callable[[Result], Iterator[Finding]], ...] = (
    structure.of_result,
    measurements.findings,
    performance.findings,
    accuracy.findings,
    compliance.findings,
    power.findings,
    consistency.findings,
)
_Judged = tuple[list[Finding], list[ResultRow]]


def check(root: Path, round_: str, submitter: str | None = None, jobs: int = 0) -> Report:
    """Judge a tree by a round's rules; ``jobs`` 0: as many processes as there are processors.

    Raises:
        UnknownRound: no such round.
        DataError: there is no such folder.
    """
    known = rounds.load(round_)
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder")
    findings, rows = list(structure.of_tree(root)), list[ResultRow]()
    for found, made in _work(_tasks(root, round_, submitter), jobs or processors()):
        findings += found
        rows += made
    rows.sort(key=lambda row: row.scope)
    tell = Teller(root)
    findings += _safely(lambda: consistency.across_systems(root, rows), tell, root)
    order = {severity: number for number, severity in enumerate(Severity)}
    findings.sort(key=lambda f: (f.scope, order[f.severity], f.path, f.line or 0, f.rule))
    return Report(known.round, tuple(findings), tuple(rows))


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class _Task:
    """A part of the tree that one process judges. ``weight``: how much there is to read."""

    folder: Path
    tell: Teller
    judge: Callable[[], _Judged]
    weight: int


def _tasks(root: Path, round_: str, submitter: str | None) -> list[_Task]:
    """Each submitter's folder as such, and each system; the largest first."""
    tasks = []
    for folder in submissions(root, submitter):
        tell = Teller(root, (folder.parent.name, folder.name))
        judge: Callable[[], _Judged] = partial(_judge_submission, round_, folder, tell)
        tasks.append(_Task(folder, tell, judge, 10))
    for system_ in systems(root, submitter):
        tell = Teller(root, system_.scope)
        judge = partial(_judge_system, round_, system_)
        tasks.append(_Task(system_.folder, tell, judge, _weight(system_)))
    # So that no process is left alone with a large one at the end.
    return sorted(tasks, key=lambda task: task.weight, reverse=True)


def _work(tasks: Sequence[_Task], jobs: int) -> Iterator[_Judged]:
    if jobs < 2 or len(tasks) < 3:
        yield from (task.judge() for task in tasks)
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context) as pool:
        pending = [(task, pool.submit(task.judge)) for task in tasks]
        for task, future in pending:
            try:
                yield future.result()
            except BrokenProcessPool:
                text = "was not judged: the process that read it was killed (too little memory?)"
                advice = "check this submitter alone, with --submitter and --jobs 1"
                yield [task.tell.against(NOT_JUDGED, task.folder, text, advice)], []


def _weight(folder: SystemFolder) -> int:
    return sum(len(scenarios) for scenarios in folder.benchmarks().values())


def _judge_submission(round_: str, folder: Path, tell: Teller) -> _Judged:
    """A submitter's folder as such."""
    checks = partial(structure.of_submission, tell.root, folder, layout(round_))
    return _safely(checks, tell, folder), []


def _judge_system(round_: str, folder: SystemFolder) -> _Judged:
    """One system: its description, its results, and what they have in common."""
    described = System(folder, rounds.load(round_))
    tell, path = described.tell, described.path
    findings = _safely(lambda: system.findings(described), tell, path)
    findings += _safely(lambda: structure.of_system(described), tell, folder.folder)
    findings += _safely(lambda: power.of_system(described), tell, path)
    rows = []
    for result in described.results:
        for family in _FAMILIES:
            findings += _safely(partial(family, result), result.tell, result.place.folder)
        rows.append(_row(result))
    findings += _safely(lambda: consistency.copies(described.results), tell, folder.folder)
    return findings, rows


def _safely(checks: Callable[[], Iterable[Finding]], tell: Teller, path: Path) -> list[Finding]:
    """The findings of a check; one that meets what nobody thought of says so, and ends no other."""
    found: list[Finding] = []
    try:
        for finding in checks():
            found.append(finding)  # kept, whatever comes next
    except Exception as error:
        text = f"a check could not cope with what it met there ({type(error).__name__}: {error})"
        advice = "look at the file; a bug of Proctor's: tell its authors"
        found.append(tell.against(NOT_JUDGED, path, text, advice))
    return found


def _row(result: Result) -> ResultRow:
    try:
        return table.row(result)
    except Exception:  # told by the checks; the row then knows where it is, and no more
        columns: dict[str, Any] = dict.fromkeys(table.COLUMNS, "")
        return ResultRow(result.place.scope, columns | {"Organization": result.place.submitter})
