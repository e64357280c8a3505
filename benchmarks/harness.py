"""What every benchmark shares: interleaved runs, medians with intervals, the machine, the table."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import bootstrap

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


class NotHere(Exception):
    """The benchmark needs something that this machine does not have; the message says what."""


@dataclass(frozen=True)
class Interval:
    """A median with its 95 % bootstrap interval, over ``runs`` values."""

    median: float
    low: float
    high: float
    runs: int

    def __format__(self, spec: str) -> str:
        spec = spec or ".3g"
        return f"{self.median:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def interval(values: Sequence[float]) -> Interval:
    """Median and its 95 % percentile-bootstrap interval; no interval from fewer than 3 values."""
    data = np.asarray(values, float)
    median = float(np.median(data))
    if len(data) < 3 or np.ptp(data) == 0:
        edge = (float("nan"),) * 2 if len(data) < 3 else (median, median)
        return Interval(median, *edge, len(data))
    found = bootstrap((data,), np.median, method="percentile", rng=np.random.default_rng(0))
    low, high = found.confidence_interval
    return Interval(median, float(low), float(high), len(data))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Median of the paired ratios ours/theirs: a drift of the machine falls out of each pair."""
    return interval([a / b for a, b in zip(ours, theirs, strict=True)])


@dataclass
class Bench:
    """One benchmark being run: what it may use, and what it found."""

    name: str
    runs: int
    out: Path
    seconds: float = 0
    checkouts: dict[str, Path] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    _rows: list[tuple[str, ...]] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Progress, on stderr."""
        print(f"  {text}", file=sys.stderr, flush=True)

    def checkout(self, name: str) -> Path:
        """A checkout of other people's software that the caller named (``--with NAME=DIR``).

        Raises:
            NotHere: it was not named.
        """
        if name not in self.checkouts:
            raise NotHere(f"name a checkout of it: --with {name}=DIR")
        return self.checkouts[name]

    def interleave(self, cases: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
        """Each case once per round, ``runs`` rounds, the order turned around every time."""
        values: dict[str, list[float]] = {name: [] for name in cases}
        self.result.setdefault("values", {}).update(values)
        for number in range(self.runs):
            order = list(cases) if number % 2 == 0 else list(cases)[::-1]
            for name in order:
                values[name].append(cases[name]())
            told = ", ".join(f"{name} {found[-1]:.4g}" for name, found in values.items())
            self.say(f"run {number + 1} of {self.runs}: {told}")
        return values

    def row(
        self, what: str, found: Interval | float | str, wanted: str = "", met: bool | None = None
    ) -> None:
        """One line of the table. ``wanted`` is the threshold in words; ``met`` None: no threshold.

        An interval that holds the threshold is no proof either way: ``met`` goes by the median.
        """
        text = f"{found:.4g}" if isinstance(found, float) else f"{found}"
        verdict = {True: "met", False: "MISSED", None: ""}[met]
        self._rows.append((what, text, wanted, verdict))
        value = asdict(found) if isinstance(found, Interval) else found
        line = {"what": what, "found": value, "wanted": wanted, "met": met}
        self.result.setdefault("rows", []).append(line)

    def note(self, text: str) -> None:
        """What a reader must know to read the table rightly."""
        self._notes.append(text)
        self.result.setdefault("notes", []).append(text)

    def finish(self, title: str) -> None:
        """Print the table and write every value down."""
        facts = environment()
        table = Table(title=title, title_justify="left", caption_justify="left")
        for column in ("what", "median [95 % interval]", "wanted", ""):
            table.add_column(column)
        for line in self._rows:
            table.add_row(*line, style="red" if line[3] == "MISSED" else "")
        console = Console(width=None if sys.stdout.isatty() else 120)
        console.print(table)
        for note in self._notes:
            console.print(f"- {note}", markup=False, highlight=False)
        shown = ("machine", "cpus", "load_before", "commit", "python")
        said = ", ".join(f"{key} {facts[key]}" for key in shown)
        console.print(f"{said}; {self.runs} runs", markup=False, highlight=False)
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / f"{self.name}.json"
        data = {"benchmark": self.name, "title": title, "runs": self.runs, **facts, **self.result}
        path.write_text(json.dumps(data, indent=1) + "\n")
        console.print(f"every value: {path}", markup=False, highlight=False)


_STARTED_AT_LOAD = os.getloadavg()[0]
_PACKAGES = (
    *("apache-airflow", "dag-factory", "mlcommons-loadgen", "openvino", "onnxruntime"),
    *("numpy", "opencv-python-headless", "pycocotools", "docker"),
)


def environment() -> dict[str, Any]:
    """The machine, the versions and the commit that figures belong to."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "load_before": round(_STARTED_AT_LOAD, 2),
        "python": platform.python_version(),
        "commit": _commit(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "?")


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
