"""Family *power*: what a power measurement leaves must be there, and be of this run.

The measurement itself is judged by the power working group's own script, which the official checker
runs; it is not repeated here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from proctor_steps.loadgen.log import DETAIL, SUMMARY
from proctor_steps.submission.check import files
from proctor_steps.submission.check.compliance import TOLERATED, mismatch
from proctor_steps.submission.check.finding import Finding
from proctor_steps.submission.check.result import Result, System
from proctor_steps.submission.check.scores import as_float
from proctor_steps.submission.check.tree import version

SAMPLES = "spl.txt"
FILES = {
    *("client.json", "client.log", "ptd_logs.txt"),
    *("server.json", "server.log"),
}
_PLATES = (6, 1)  # the round that began with them
# As LoadGen and the power client write it; read without a date, for a meter writes many lines.
_AT = r"(?P<day>\d\d-\d\d)-(?P<year>\d{4}) (?P<clock>\d\d:\d\d:\d\d\.\d{1,6})"
_TIME = re.compile(_AT)
_SAMPLE = re.compile(rf"Time,{_AT},[^,]*,(?P<watts>[^,]*)")


def findings(result: Result) -> Iterator[Finding]:
    """Everything about a power measurement, where there is one."""
    run = result.place.performance
    power, ranging = run.parent / "power", run.parent / "ranging"
    if not files.exists(power):
        for folder in (run, ranging):
            if files.exists(folder / SAMPLES):
                yield result.tell.advice(
                    "power", folder / SAMPLES, "is there, but no folder power/ beside run_1",
                    "add what the power client and server left, or take it away",
                )  # fmt: skip
        return
    logs = {SUMMARY, DETAIL, SAMPLES}
    for folder, wanted, tolerated in (
        (run, logs, TOLERATED),
        (ranging, logs, TOLERATED),
        (power, FILES, TOLERATED[1:]),
    ):
        wrong = mismatch(folder, wanted, tolerated)
        if wrong:
            yield result.tell.rejected(
                "power_files", folder, wrong, "leave there what the power workflow wrote, no more"
            )
    yield from _samples(result, run / SAMPLES)


def of_system(system: System) -> Iterator[Finding]:
    """The system's power plate (``systems/<system>_power.yaml``), where its round has one."""
    if version(system.round.round) < _PLATES:
        return
    path = system.path.with_name(f"{system.folder.system}_power.yaml")
    found = files.text(path)
    if found.absence in ("missing", "empty"):
        return
    problem = found.problem
    if not problem:
        try:
            yaml.safe_load(found.content)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            problem = f"is no YAML: {str(error).splitlines()[0]}"
    if problem:
        advice = "mend it, or state system_power_capacity in the system's description"
        yield system.tell.rejected("power_plate", path, problem, advice, stops=True)


def _samples(result: Result, path: Path) -> Iterator[Finding]:
    """Whether the meter read anything while the run was on."""
    log, tell = result.performance, result.tell
    begin, end = (_time(log.value(key)) for key in ("power_begin", "power_end"))
    if begin is None or end is None:
        text = "does not tell power_begin and power_end"
        yield tell.rejected("power_samples", log.path, text, "give the log of the measured run")
        return
    found = files.text(path)
    if found.absence and found.absence != "empty":
        return  # told with the files
    inside = 0
    for number, line in enumerate(found.lines, 1):
        if not line.startswith("Time"):
            continue
        sample = _SAMPLE.match(line)
        watts = as_float(sample["watts"]) if sample else None
        if sample is None or watts is None:
            text = f"no line of the power meter's: {line.strip()[:80]!r}"
            yield tell.rejected("power_samples", path, text, "give the file as it was", number)
            return
        inside += begin < _order(sample) < end and watts > 0
    if not inside:
        text = f"no sample above 0 W lies between {begin} and {end}, when the run was on"
        yield tell.rejected("power_samples", path, text, "give the samples of this run")


def _time(value: object) -> str | None:
    match = _TIME.fullmatch(str(value))
    return _order(match) if match else None


def _order(match: re.Match[str]) -> str:
    """A time such that earlier ones come first as text."""
    return f"{match['year']}-{match['day']} {match['clock']}"
