"""A session of MLPerf's power workflow, in the form that its client leaves; figures are made up."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

BEGIN = datetime(2026, 11, 2, 23, 55, 0, 311000)  # over midnight
AHEAD = timedelta(minutes=20)  # of the run, the ranging
NAME = "2026-11-02_23-20-09"


def stamp(at: datetime) -> str:
    return at.strftime("%m-%d-%Y %H:%M:%S.%f")[:-3]


def run(folder: Path, begin: datetime, watts: float, scenario: str = "Offline") -> None:
    """One LoadGen run of 600 s with the analyzer's samples around it."""
    folder.mkdir(parents=True)
    values = {
        "loadgen_version": "6.0.17 @ abc",
        "effective_scenario": scenario,
        "effective_test_mode": "PerformanceOnly",
        "effective_samples_per_query": 1,
        "power_begin": stamp(begin),
        "power_end": stamp(begin + timedelta(seconds=600)),
        "result_validity": "VALID",
        "result_min_duration_met": True,
        "result_min_queries_met": True,
        "early_stopping_met": True,
        "result_query_count": 6000,
        "num_errors": 0,
    }
    lines = [
        json.dumps({"key": key, "value": value, "time_ms": 1.0, "metadata": {"is_error": False}})
        for key, value in values.items()
    ]
    text = "".join(f":::MLLOG {line}\n" for line in lines)
    (folder / "mlperf_log_detail.txt").write_text(text)
    (folder / "mlperf_log_summary.txt").write_text("Result is : VALID\n")
    mark = f"Mark,{NAME}_{'testing' if folder.name == 'run_1' else 'ranging'}"
    samples = [
        f"Time,{stamp(begin + timedelta(seconds=n))},Watts,{watts if 0 < n < 600 else 9:.6f},"
        f"Volts,230.100000,Amps,0.500000,PF,0.950000,{mark}\n"
        for n in range(-10, 610)
    ]
    (folder / "spl.txt").write_text("".join(samples))


def sha1(path: Path) -> str:
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()


def sign(folder: Path, begin: datetime = BEGIN, **changes: dict[str, Any]) -> None:
    """client.json and server.json over what is in the session now, bent by ``changes``."""

    def phases(at: datetime) -> list[list[float]]:
        start = at.replace(tzinfo=UTC).timestamp()
        return [[start + shift, 1.0] for shift in (-15, -2, 602, 610)]

    common = {
        "version": "1.0",
        "timezone": 3600,
        "modules": {},
        "sources": {},
        "messages": [],
        "uuid": {"client": "c1", "server": "s1"},
        "session_name": NAME,
        "phases": {"ranging": phases(begin - AHEAD), "testing": phases(begin)},
    }
    logs = [f"{r}/mlperf_log_{n}.txt" for r in ("ranging", "run_1") for n in ("detail", "summary")]
    theirs = {
        "client": ["power/client.log", *logs],
        "server": ["power/server.log", "power/ptd_logs.txt", "ranging/spl.txt", "run_1/spl.txt"],
    }
    for side, names in theirs.items():
        results = {name: sha1(folder / name) for name in names}
        text = json.dumps({**common, "results": results, **changes.get(side, {})})
        (folder / "power" / f"{side}.json").write_text(text)


def make_session(
    folder: Path, watts: float = 120.0, scenario: str = "Offline", begin: datetime = BEGIN
) -> Path:
    """A session whose run begins at ``begin``."""
    run(folder / "ranging", begin - AHEAD, 119.0, scenario)
    run(folder / "run_1", begin, watts, scenario)
    (folder / "power").mkdir()
    ptd = (
        "Selected power analyzer\n"
        f"{stamp(begin - AHEAD)}: Uncertainty checking for YokogawaWT310 is activated\n"
        f"{stamp(begin - AHEAD)}: Go with mark '{NAME}_ranging'\n{stamp(begin)}: Completed test\n"
    )
    for name, text in {"client.log": "c\n", "server.log": "s\n", "ptd_logs.txt": ptd}.items():
        (folder / "power" / name).write_text(text)
    # What else a client leaves, and the official checker does not want to see.
    (folder / "run_1/ptd_out.txt").write_text("x\n")
    (folder / "power/ptd_logs_analyzer_1.txt").write_text("x\n")
    sign(folder, begin)
    return folder
