"""The command ``proctor`` as a user runs it, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from proctor.records.store import RecordStore


@dataclass
class Finished:
    """A command that has ended."""

    code: int
    output: str
    summary: dict[str, Any]
    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "runs" / self.summary["pipeline"] / self.summary["run"]

    def accuracy(self) -> dict[str, dict[str, Any]]:
        return {row["scenario"]: row for row in self.summary["accuracy"]}

    def results(self, mode: str) -> dict[str, dict[str, Any]]:
        return {r["scenario"]: r for r in self.summary["results"] if r["mode"] == mode}


def proctor_run(
    home: Path,
    pipeline: str,
    settings: Mapping[str, Any],
    *flags: str,
    python: str = sys.executable,
    seconds: float = 900,
) -> Finished:
    """``proctor run`` to its end."""
    target = home.parent / f"{home.name}-summary.json"
    target.unlink(missing_ok=True)
    command = [*_command(python, home, pipeline, settings, *flags), "--json", str(target)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=seconds,
        env=_environment(),
        cwd=home.parent,
    )
    summary = json.loads(target.read_text()) if target.exists() else {}
    return Finished(done.returncode, done.stdout + done.stderr, summary, home)


def start_proctor(home: Path, pipeline: str, settings: Mapping[str, Any], *flags: str) -> Any:
    """``proctor run`` in the background, its output in a pipe."""
    return subprocess.Popen(
        _command(sys.executable, home, pipeline, settings, *flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(),
        start_new_session=True,
    )


def wait_for_line(process: Any, text: str, seconds: float = 180) -> None:
    """Read a command's output until a line holds ``text``."""
    give_up, seen = time.monotonic() + seconds, []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return
        assert time.monotonic() < give_up, "".join(seen)
    raise AssertionError(f"{text!r} never came:\n{''.join(seen)}")


def wait_until_started(home: Path, step: str, seconds: float = 60) -> None:
    """Until the record of the home's one run says that a step's process runs."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        for record in RecordStore(home).runs():
            line = record.last("attempt", step)
            if line is not None and line.data.get("handle"):
                return
        time.sleep(0.2)
    raise AssertionError(f"{step} did not start")


def processes_of(home: Path) -> list[str]:
    """Every process that has to do with a home: by its command line, environment or folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values(), process.cwd()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(home) in word for word in words):
            found.append(f"{process.pid} {' '.join(process.cmdline())[:120]}")
    return found


def interrupt(process: Any, number: signal.Signals, seconds: float = 60) -> tuple[int, str]:
    """Signal a command as a terminal would, and wait for its end."""
    process.send_signal(number)
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def _command(
    python: str, home: Path, pipeline: str, settings: Mapping[str, Any], *flags: str
) -> Sequence[str]:
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    run = [python, "-c", "from proctor.cli import main; main()", "run", pipeline]
    return [*run, "--home", str(home), *sets, *flags]


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "PROCTOR"))}
