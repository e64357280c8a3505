"""How often a performance run is marked as disturbed, and what looking for it costs.

The demo's SingleStream run as a step by hand, in turn: with nothing beside it, with one core loaded
by another process, and with nothing beside it and nobody looking. What others really took is taken
from the process table as well, over the whole step, as a second opinion: a mark of a run beside
which others were at work is no false one. ``--seconds``: the length of a run, ``--runs``: of each.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from benchmarks import cpu
from benchmarks.endpoint import Place
from benchmarks.harness import ROOT, Bench, interval
from proctor_steps.loadgen import others
from proctor_steps.loadgen.quiet import QUIET

_SECONDS = 10.0
_BUSY = "while True: pass"
# A piece of a reason's words -> what it was found by.
_KINDS = {
    "during the run": "others' share, whole run",
    "just before": "others' share, before",
    "into the run": "others' share, a stretch",
    "one core": "fixed work on one core",
    "all ": "fixed work on all threads",
    "memory": "memory",
    "MHz": "frequency",
    "sensor": "temperature",
}


def measure(bench: Bench) -> None:
    """Runs in turn; marks with their intervals, and the seconds that looking took."""
    with tempfile.TemporaryDirectory(prefix="bench-marks-") as folder:
        runs = Runs(Path(folder), bench.seconds or _SECONDS)
        bench.interleave(
            {
                "quiet": lambda: runs.marked("quiet"),
                "one core loaded": lambda: runs.marked("one core loaded", load=1),
                "not looked at": lambda: runs.marked("not looked at", look=False),
            }
        )
    bench.result["told"] = runs.told
    quiet, loaded, unwatched = runs.told.values()
    calm = [run for run in quiet if run["others_by_processes"] <= QUIET.others]
    bench.row("marked, nothing of ours beside the run", _share(quiet))
    bench.row(
        f"  of those beside which others took <= {QUIET.others:g} (process table)", _share(calm)
    )
    bench.row(
        "marked, one core loaded", _share(loaded), "all", all(run["disturbed"] for run in loaded)
    )
    for name, group in (("quiet", quiet), ("one core loaded", loaded)):
        kinds = Counter(kind for run in group for kind in _kinds(run["disturbed"]))
        for kind, count in sorted(kinds.items()):
            bench.row(f"  {name}: by {kind}", f"{count} of {len(group)}")
        for part in ("one_core", "all_threads"):
            bench.row(f"  {name}: {part}, after / before - 1", interval(_changes(group, part)))
    bench.row("seconds of the step more, looked at / not", interval(_more(quiet, unwatched)))
    bench.row("one reading of the counts, ms", interval([_reading() for _ in range(50)]))
    bench.note(f"runs of {runs.seconds:g} s; intervals: exact binomial for shares, 95 %")


class Runs:
    """Runs of the demo, and what each told."""

    def __init__(self, folder: Path, seconds: float) -> None:
        place = Place(folder)
        data, model = place.digits()
        self.seconds, self._logs = seconds, folder / "logs"
        self.told: dict[str, list[dict[str, Any]]] = {}
        self._command = [sys.executable, "-m", "proctor_steps", "loadgen", "run"]
        self._command += ["--benchmark", "digits", "--backend", "onnxruntime"]
        self._command += ["--scenario", "SingleStream", "--mode", "performance"]
        self._command += ["--performance-seconds", str(seconds)]
        self._command += ["--in", f"dataset={data}", "--in", f"model={model}"]
        self._command += ["--out", f"logs={self._logs}"]

    def marked(self, name: str, load: int = 0, look: bool = True) -> float:
        """One run; 1 where it was marked, else 0."""
        shutil.rmtree(self._logs, ignore_errors=True)
        with ExitStack() as beside:
            for _ in range(load):
                busy = beside.enter_context(subprocess.Popen([sys.executable, "-c", _BUSY]))
                beside.callback(busy.kill)
            told = self._run(look)
        self.told.setdefault(name, []).append(told)
        return float(bool(told["disturbed"]))

    def _run(self, look: bool) -> dict[str, Any]:
        command = [*self._command, "--watch-machine", json.dumps(look)]
        before, began = _used(0), time.monotonic()
        done = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
        # Asked while the step is still in the table, so that its children are known as its own.
        os.waitid(os.P_PID, done.pid, os.WEXITED | os.WNOWAIT)
        took, after = time.monotonic() - began, _used(done.pid)
        if done.wait():
            raise RuntimeError(f"{' '.join(command)} failed")
        run = json.loads((self._logs / "run.json").read_bytes())
        kept = {name: run[name] for name in ("disturbed", "machine", "probe", "metric")}
        return {**kept, "took_s": took, "others_by_processes": round((after - before) / took, 4)}


def _used(step: int) -> float:
    """Seconds that all processes but the step, its children and this one have used so far."""
    ours = {step: "step", os.getpid(): "benchmark"}

    def group(parents: Mapping[int, int]) -> dict[int, str]:
        return {pid: ours.get(pid, "others") for pid in parents}

    return cpu.used(group).get("others", 0.0)


def _share(runs: Sequence[Mapping[str, Any]]) -> str:
    if not runs:
        return "no run"
    marked = sum(bool(run["disturbed"]) for run in runs)
    ends = binomtest(marked, len(runs)).proportion_ci(0.95, method="exact")
    return f"{marked} of {len(runs)} [{ends.low:.2f}, {ends.high:.2f}]"


def _kinds(reasons: Sequence[str]) -> set[str]:
    return {kind for reason in reasons for words, kind in _KINDS.items() if words in reason}


def _changes(runs: Sequence[Mapping[str, Any]], part: str) -> list[float]:
    pairs = [(run["probe"]["before"][part], run["probe"]["after"][part]) for run in runs]
    return [after["seconds"] / before["seconds"] - 1 for before, after in pairs]


def _more(looked: Sequence[Mapping[str, Any]], not_: Sequence[Mapping[str, Any]]) -> list[float]:
    return [a["took_s"] - b["took_s"] for a, b in zip(looked, not_, strict=True)]


def _reading() -> float:
    began = time.perf_counter()
    others.read(os.getpid())
    return 1e3 * (time.perf_counter() - began)
