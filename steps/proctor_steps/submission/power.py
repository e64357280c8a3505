"""A power measurement of MLPerf's power workflow, as its client leaves it: checked, then carried.

::

    power/    client.json  client.log  server.json  server.log  ptd_logs.txt
    ranging/  mlperf_log_summary.txt  mlperf_log_detail.txt  spl.txt
    run_1/    mlperf_log_summary.txt  mlperf_log_detail.txt  spl.txt

Nothing is measured here, and nothing is made up for what is missing: a session with a problem is
left out of the package, and the problem is told. What is checked are the file lists of the official
checker and the consistency of the session with itself and with the packaged run (as the power
working group's ``power_checker.py`` does). That script also knows the digests of the client's own
sources and the commands to each power analyzer; these are not checked here.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from proctor_steps.loadgen import log
from proctor_steps.stage import DataError, StepIO

POWER = ("client.json", "client.log", "ptd_logs.txt", "server.json", "server.log")
RUN = ("mlperf_log_summary.txt", "mlperf_log_detail.txt", "spl.txt")
FILES = tuple(
    f"{folder}/{name}"
    for folder, names in (("power", POWER), ("ranging", RUN), ("run_1", RUN))
    for name in names
)
# The client and the server write down the digests of all files but these two, their own.
_OWN = ("power/client.json", "power/server.json")
_FIELDS = ("uuid", "session_name", "results", "phases", "messages", "timezone")
_TIME = "%m-%d-%Y %H:%M:%S.%f"
_LEAST = 0.95  # of the ranging run's average power; below it the analyzer's range was wrong
_DST = 3600  # seconds by which the official script lets clocks be apart


@dataclass(frozen=True)
class Samples:
    """What the analyzer wrote while LoadGen ran: samples above 0 W, and their mean in watts."""

    count: int
    watts: float


@dataclass(frozen=True)
class Session:
    """A session of the power workflow. ``problems``: why it cannot go into a package."""

    folder: Path
    problems: tuple[str, ...]
    samples: Samples | None = None


def sessions(inputs: Mapping[str, Path], scenarios: Iterable[str]) -> dict[str, Path]:
    """Scenario -> its session: one input for each, or one folder with a folder for each."""
    found = {scenario: path for scenario, path in inputs.items() if scenario}
    for path in (path for scenario, path in inputs.items() if not scenario):
        found |= {scenario: path / scenario for scenario in scenarios if (path / scenario).is_dir()}
    return found


def add(folder: Path, scenario: str, measured: Mapping[str, Path], logs: Path, io: StepIO) -> str:
    """Carry the scenario's power measurement into its result's ``folder``, if there is a sound one.

    Its figures in words; "" where nothing was carried. What is wrong with it becomes findings.
    """
    if scenario not in measured:
        return ""
    session = examine(measured[scenario], logs)
    for problem in session.problems:
        text = f"the power measurement of {scenario} is left out: {problem}"
        io.find("power", "error", text, scenario)
    if session.problems or session.samples is None:
        return ""
    carry(session, folder / "performance")
    value, unit = metric(folder / "performance" / "run_1", scenario)
    each = " a query" if unit == "millijoules" else ""
    return f"{value:.2f} {unit}{each}, from {session.samples.count:,} samples of the analyzer"


def examine(folder: Path, logs: Path) -> Session:
    """Check a session against itself and against ``logs``, the performance run to be packaged."""
    missing = [
        f"{name} is missing or empty"
        for name in FILES
        if (folder / name).is_symlink()
        or not (folder / name).is_file()
        or not (folder / name).stat().st_size
    ]
    if missing:
        return Session(folder, tuple(missing))
    try:
        client, server = (_session(folder / name) for name in _OWN)
        problems = list(_agreement(client, server))
        problems += _digests(folder, client, server)
        problems += _same_run(folder, logs)
        ranging, testing = (samples(folder / name) for name in ("ranging", "run_1"))
        if testing.watts < _LEAST * ranging.watts:
            problems.append(
                f"the run took {testing.watts:.2f} W on average, more than 5 % less than the "
                f"ranging run's {ranging.watts:.2f} W; range the analyzer anew"
            )
        problems += _phases(folder, client)
        problems += _analyzer(folder / "power/ptd_logs.txt", str(client["session_name"]))
    except DataError as error:
        return Session(folder, (str(error),))
    return Session(folder, tuple(problems), testing)


def carry(session: Session, performance: Path) -> None:
    """Put the session beside the packaged run: ``performance/{power,ranging}``, ``run_1/spl.txt``.

    No other file of the session: the official checker refuses what it does not expect there.
    """
    for name in FILES:
        target = performance / name
        if name.startswith("run_1/mlperf_log"):
            continue  # there already, the same bytes
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(session.folder / name, target)


def samples(run: Path) -> Samples:
    """The analyzer's samples between begin and end of the LoadGen run in the same folder.

    Raises:
        DataError: the logs cannot be read, or no sample above 0 W lies in between.
    """
    detail = log.read(run)
    if detail.mode != "performance":
        raise DataError(
            f"{run.name}: the log is of a run in mode {detail.mode}, which has no power"
        )
    begin, end = (datetime.strptime(detail.values[k], _TIME) for k in ("power_begin", "power_end"))
    watts = []
    with (run / "spl.txt").open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.startswith("Time"):
                at, value = _sample(line, f"{run.name}/spl.txt:{number}")
                if begin < at < end and value > 0:
                    watts.append(value)
    if not watts:
        raise DataError(
            f"{run.name}/spl.txt: no sample above 0 W lies between {detail.values['power_begin']} "
            f"and {detail.values['power_end']}, when LoadGen ran"
        )
    return Samples(len(watts), sum(watts) / len(watts))


def metric(run: Path, scenario: str) -> tuple[float, str]:
    """The power figure of a result: ``Watts``, or ``millijoules`` per query (SingleStream,
    MultiStream), as the official checker computes it from the same files.

    Raises:
        DataError: as :func:`samples`.
    """
    watts = samples(run).watts
    if scenario not in ("SingleStream", "MultiStream"):
        return watts, "Watts"
    detail = log.read(run)
    if detail.queries < 1:
        raise DataError(f"{run.name}: LoadGen completed no query")
    streams = 8 if (detail.scenario, scenario) == ("SingleStream", "MultiStream") else 1
    return watts * detail.duration_s * streams * 1000 / detail.queries, "millijoules"


def _sample(line: str, where: str) -> tuple[datetime, float]:
    """``Time,07-12-2025 23:27:00.812,Watts,26.650000,Volts,…``"""
    try:
        parts = line.split(",")
        value = float(parts[3])
        if not value < float("inf"):
            raise ValueError
        return datetime.strptime(parts[1], _TIME), value
    except (ValueError, IndexError) as error:
        raise DataError(f"{where}: no sample of an analyzer: {line.strip()[:80]!a}") from error


def _session(path: Path) -> dict[str, Any]:
    where = f"power/{path.name}"
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise DataError(f"{where}: holds a {type(found).__name__}, not a session")
    if missing := [name for name in _FIELDS if name not in found]:
        raise DataError(f"{where}: has no {', '.join(missing)}; give it as the client left it")
    for name in ("uuid", "results", "phases"):
        if not isinstance(found[name], dict):
            raise DataError(f"{where}: {name} is no object; give it as the client left it")
    return found


def _agreement(client: dict[str, Any], server: dict[str, Any]) -> Iterable[str]:
    """Both sides tell of one session, in which nothing was switched to debugging."""
    for name in ("client", "server"):
        if not client["uuid"].get(name) or client["uuid"].get(name) != server["uuid"].get(name):
            yield f"client.json and server.json have different uuids ({name})"
    if client["session_name"] != server["session_name"]:
        yield (
            f"client.json is of session {client['session_name']!r}, server.json of "
            f"{server['session_name']!r}"
        )
    if server.get("debug", False) is not False:
        yield "server.json: the server ran in debug mode, whose measurements do not count"


def _digests(folder: Path, client: dict[str, Any], server: dict[str, Any]) -> Iterable[str]:
    """The files are those whose sha1 both sides wrote down."""
    recorded = [side["results"] for side in (client, server)]
    for name in (name for name in FILES if name not in _OWN):
        wanted = {side[name] for side in recorded if isinstance(side.get(name), str)}
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False))
        if not wanted:
            yield f"{name}: neither client.json nor server.json has its sha1"
        elif wanted != {found.hexdigest()}:
            yield f"{name}: its sha1 is not the one that the session wrote down; it was changed"


def _same_run(folder: Path, logs: Path) -> Iterable[str]:
    """The run whose power was measured is the one that is packaged."""
    for name in ("mlperf_log_summary.txt", "mlperf_log_detail.txt"):
        ours = logs / name
        if not ours.is_file() or ours.read_bytes() != (folder / "run_1" / name).read_bytes():
            yield f"run_1/{name} is not that of the performance run; its power was not measured"


def _phases(folder: Path, client: dict[str, Any]) -> Iterable[str]:
    """LoadGen ran while the client says that it did."""
    for name, run in (("ranging", "ranging"), ("testing", "run_1")):
        try:
            first, last = (float(client["phases"][name][n][0]) for n in (1, 2))
        except (KeyError, IndexError, TypeError, ValueError):
            yield f"client.json: phases.{name} does not tell when the run began and ended"
            continue
        values = log.read(folder / run).values
        for key in ("power_begin", "power_end"):
            at = datetime.strptime(values[key], _TIME).replace(tzinfo=UTC).timestamp()
            if not any(first < at - shift < last for shift in (0, _DST)):
                yield f"{run}: {key} ({values[key]}) lies outside the client's phase {name!r}"


def _analyzer(path: Path, session: str) -> Iterable[str]:
    """The analyzer's daemon was ranged in this session, and looked at its own uncertainty."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if f": Go with mark '{session}_ranging'" not in text:
        yield f"power/ptd_logs.txt has no ranging of session {session!r}"
    if not re.search(r"Uncertainty checking for Yokogawa\S+ is activated", text):
        yield "power/ptd_logs.txt does not say that uncertainty checking was activated"
