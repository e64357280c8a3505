"""From a run to its report, record, evidence and files: the same links on every page."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from proctor.airflow.recorded import REPORT_FILE
from proctor.plan.model import Plan
from proctor.records.results import RunResults
from proctor.records.store import RecordError, RecordStore, RunRecord
from proctor.records.summary import SUMMARY_FILE
from proctor.site.home import Home
from proctor.ui.pages import address, airflow_address

# Ours, whatever the pipeline publishes.
RECORD_FILE = "record.jsonl"
_REPORT = "report.html"


@dataclass(frozen=True)
class Link:
    """``airflow``: it leads to a page of Airflow's. ``download``: to a file."""

    text: str
    href: str
    airflow: bool = False
    download: bool = False


def links_of(home: Home, run: RunResults) -> Iterator[Link]:
    """Where to go from a run."""
    record = home.records.run(run.pipeline, run.run)
    yield Link("Record", address("record", run.pipeline, run.run))
    if (record.folder / _REPORT).is_file():
        yield Link("Report", address("report", run.pipeline, run.run))
    for gate in _gates(home.path, run):
        yield Link(f"Evidence: {gate}", address("evidence", run.pipeline, run.run, gate))
    yield Link("In Airflow", airflow_address(run.pipeline, run.run), airflow=True)
    for name in published(record):
        if name.endswith((".tar.gz", ".zip")):
            yield download(record, name)


def download(record: RunRecord, name: str) -> Link:
    """To a file of a run."""
    return Link(name, address("file", record.pipeline, record.run, name), download=True)


def published(record: RunRecord) -> list[str]:
    """The files that lie beside a run's record: what its steps published, summary and report."""
    try:
        entries = sorted(record.folder.iterdir())
    except OSError:
        return []
    return [e.name for e in entries if e.name[0] != "." and e.is_file() and not e.is_symlink()]


def file_of(record: RunRecord, name: str) -> Path | None:
    """The path of a file that may be downloaded; ``None`` for any other name."""
    if name == RECORD_FILE:
        return record.path if record.path.is_file() else None
    return record.folder / name if name in published(record) else None


def explained(name: str) -> str:
    """What a file of a run is, in words; "" for a step's own."""
    return {
        RECORD_FILE: "the record, line by line",
        SUMMARY_FILE: "figures and states as JSON",
        _REPORT: "the report",
        REPORT_FILE: "progress in MedPerf's form",
    }.get(name, "")


def _gates(home: Path, run: RunResults) -> tuple[str, ...]:
    """The gates of a run at which it has asked."""
    try:
        steps = _plan(home, run.plan_digest).steps if run.plan_digest else ()
    except RecordError:
        return ()
    return tuple(step.id for step in steps if step.gate and step.id in run.begun)


@functools.lru_cache(maxsize=64)
def _plan(home: Path, digest: str) -> Plan:
    """A plan never changes under its digest."""
    return RecordStore(home).plan(digest)
