"""How often the drift detector is wrong, and how small a slow-down it finds.

Of a noise model (benchmarks/drift_cases.py) or, with ``--runs``, of real short LoadGen runs of the
demo: slow-downs put into the system under test, and a core loaded by another process. ``--runs``:
rounds; each has eight runs without a slow-down, one of every size and one beside that process, in
two scenarios. ``--seconds``: the length of a run. The settings are those of proctor_steps.drift.

Real runs are judged twice: those that were not marked as disturbed, and all of them, as on a
machine that nobody watches.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from benchmarks import drift_cases as cases
from benchmarks.endpoint import Place
from benchmarks.harness import ROOT, Bench, interval
from proctor_steps.contract import digest
from proctor_steps.drift.judge import settings_told
from proctor_steps.drift.settings import SETTINGS

_SECONDS = 3.0
_PLAIN = 8  # runs without a slow-down in each round, spread among the others
SLOWER = (0.03, 0.05, 0.10, 0.20)
FINER = (0.03, 0.05, 0.07, 0.10, 0.12, 0.15, 0.20)  # of the model, where runs cost little
EARLIER = (4, 10, 19)  # sessions since the baseline
SIMULATED, POWER, RESAMPLED = 1000, 200, 300
BLOCK = 4
_WANTED_ALARMS, _WANTED_POWER, _WANTED_SIZE = 0.01, 0.95, 0.10
_BUSY = "while True: pass"
Draw = Callable[[float, np.random.Generator], tuple[cases.Values, cases.Values]]


def measure(bench: Bench) -> None:
    """The model, the causes, then what is real."""
    settings = settings_told(SETTINGS)
    bench.result["settings"] = settings
    bench.note(f"settings: sha256 {digest(settings)[:16]} of them as JSON")
    _causes(bench)
    if bench.runs:
        _real(bench)
        return
    for earlier in EARLIER:
        _model(bench, "usual", cases.USUAL, earlier)
    for name, noise in (("quiet", cases.QUIET), ("noisy", cases.NOISY)):
        _model(bench, name, noise, EARLIER[1])
    bench.note("of the noise model; with --runs of real runs")


def _causes(bench: Bench) -> None:
    """A drift with one thing changed: it is named, and first."""
    random = np.random.default_rng(5)
    for kind, name, value in (
        ("packages", "onnxruntime", "1.21.0"),
        ("image", "digest", "sha256:bb"),
        ("inputs", "model", "sha256:m2"),
        ("inputs", "dataset", "sha256:d2"),
    ):
        before, now = cases.simulated(cases.WITHOUT_ODD, 12, 0.5, random)
        verdict, _ = cases.revalidated(before, now, cases.changed(kind, name, value))
        named = [(d.kind, d.name) for f in verdict.findings for d in f.differs[:1]]
        right = bool(named) and set(named) == {(kind, name)}
        bench.row(f"changed {kind} {name}", "named" if right else "not named", "named", right)


def _model(bench: Bench, name: str, noise: cases.Noise, earlier: int) -> None:
    def draw(slower: float, random: np.random.Generator) -> tuple[cases.Values, cases.Values]:
        return cases.simulated(noise, earlier, slower, random)

    what = f"model {name}, day {noise.day:g}, run {noise.run:g}, {earlier} sessions"
    # The pilot that the settings were chosen by used other seeds.
    _curve(bench, what, draw, FINER, SIMULATED, POWER, seed=20261126 + earlier)


def _curve(
    bench: Bench,
    what: str,
    draw: Draw,
    sizes: Sequence[float],
    plain: int,
    power: int,
    seed: int,
) -> None:
    """The share of alarms where nothing changed, and at each size of a slow-down."""
    random = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    smallest = None
    for slower in (0.0, *sizes):
        states, runs = _judged(draw, slower, power if slower else plain, random)
        count = sum(states.values())
        share = binomtest(states["drifted"], count).proportion_ci(0.95, method="exact")
        rate = states["drifted"] / count
        text = f"{rate:.3f} [{share.low:.3f}, {share.high:.3f}]"
        if not slower:
            bench.row(f"{what}: alarms at 0 %", text, "<= 0.01", rate <= _WANTED_ALARMS)
            bench.row("  measured again", f"{np.mean([r > 1 for r in runs]):.3f}")
        else:
            bench.row(f"  found of {100 * slower:g} %", text)
        if slower and smallest is None and rate >= _WANTED_POWER:
            smallest = slower
        found[f"{slower:g}"] = {"states": dict(states), "runs": dict(Counter(runs))}
    size = "none tried" if smallest is None else f"{100 * smallest:g} %"
    met = smallest is not None and smallest <= _WANTED_SIZE
    bench.row("  smallest found in 95 % within 3 runs", size, "10 %", met)
    bench.result.setdefault("curves", {})[what] = found
    bench.say(f"{what}: done")


def _judged(
    draw: Draw, slower: float, count: int, random: np.random.Generator
) -> tuple[Counter[str], list[int]]:
    states: Counter[str] = Counter()
    took = []
    for _ in range(count):
        verdict, runs = cases.revalidated(*draw(slower, random))
        states[verdict.state] += 1
        took.append(runs)
    return states, took


def _real(bench: Bench) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-drift-") as folder:
        runs = Runs(Path(folder), bench.seconds or _SECONDS)
        for number in range(bench.runs):
            for slower in SLOWER:
                for _ in range(_PLAIN // len(SLOWER)):
                    runs.round("0", 0.0)
                runs.round(f"{slower:g}", slower)
            runs.round("one core loaded", 0.0, load=1)
            bench.say(f"round {number + 1} of {bench.runs}")
    bench.result["told"] = runs.told
    for name, told in runs.told.items():
        marked = sum(bool(run["disturbed"]) for run in told)
        loaded = name == "one core loaded"
        bench.row(
            f"real, {name}: runs marked disturbed",
            f"{marked} of {len(told)}",
            "all" if loaded else "",
            marked == len(told) if loaded else None,
        )
    for which, marked in (("undisturbed", False), ("all", True)):
        for scenario in cases.FIGURES:
            _noise(bench, runs, scenario, which, marked)
        _resampled(bench, runs, which, marked)


def _resampled(bench: Bench, runs: Runs, which: str, marked: bool) -> None:
    earlier = EARLIER[1]
    pools = {slower: runs.pool(f"{slower:g}", marked) for slower in (0.0, *SLOWER)}
    fewest = min(len(values) for values in pools[0.0].values())
    if fewest < BLOCK or not all(v for pool in pools.values() for v in pool.values()):
        bench.note(f"{which} runs: too few to resample ({fewest} without a slow-down)")
        return

    def draw(slower: float, random: np.random.Generator) -> tuple[cases.Values, cases.Values]:
        return cases.resampled(pools[0.0], pools[slower], earlier, BLOCK, random)

    what = f"real, {which} runs of {runs.seconds:g} s, blocks of {BLOCK}, {earlier} sessions"
    _curve(bench, what, draw, SLOWER, RESAMPLED, RESAMPLED, seed=7)


def _noise(bench: Bench, runs: Runs, scenario: str, which: str, marked: bool) -> None:
    """How much the real figures scatter, and what a slow-down of the model does to them."""
    plain = np.asarray(runs.pool("0", marked)[scenario])
    if len(plain) < 3:
        return
    scatter = float(np.std(np.log(plain), ddof=1))
    bench.row(f"real, {which} runs, {scenario}: scatter of {len(plain)}", f"{100 * scatter:.1f} %")
    for slower in SLOWER:
        values = np.asarray(runs.pool(f"{slower:g}", marked)[scenario])
        if len(values) >= 3:
            ratios: Sequence[float] = list(values / np.median(plain) - 1)
            name = f"  inference {100 * slower:g} % slower: {cases.FIGURES[scenario][0]}, change"
            bench.row(name, interval(ratios))


class Runs:
    """Real runs of the demo, and what each told."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.seconds, self._logs = seconds, folder / "logs"
        self.told: dict[str, list[dict[str, Any]]] = {}
        data, model = Place(folder).digits()
        self._command = [sys.executable, "-m", "proctor_steps", "loadgen", "run"]
        self._command += ["--benchmark", "digits", "--backend", "onnxruntime"]
        self._command += ["--mode", "performance", "--performance-seconds", str(seconds)]
        self._command += ["--in", f"dataset={data}", "--in", f"model={model}"]
        self._command += ["--out", f"logs={self._logs}", "--watch-machine", "true"]

    def round(self, name: str, slower: float, load: int = 0) -> None:
        """One run of each scenario."""
        for scenario in cases.FIGURES:
            with ExitStack() as beside:
                for _ in range(load):
                    busy = beside.enter_context(subprocess.Popen([sys.executable, "-c", _BUSY]))
                    beside.callback(busy.kill)
                self.told.setdefault(name, []).append(self._run(scenario, slower))

    def pool(self, name: str, marked: bool) -> dict[str, list[float]]:
        """The figures by scenario, in the order of the runs; ``marked``: of disturbed ones, too."""
        found: dict[str, list[float]] = {scenario: [] for scenario in cases.FIGURES}
        for run in self.told.get(name, ()):
            if marked or not run["disturbed"]:
                found[run["scenario"]].append(run["value"])
        return found

    def _run(self, scenario: str, slower: float) -> dict[str, Any]:
        shutil.rmtree(self._logs, ignore_errors=True)
        path = os.pathsep.join(
            [
                str(ROOT / "benchmarks" / "slowed"),
                str(ROOT / "steps"),
                os.environ.get("PYTHONPATH", ""),
            ]
        )
        told = {**os.environ, "PYTHONPATH": path, "BENCHMARK_SLOWER": str(slower)}
        command = [*self._command, "--scenario", scenario]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=told)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        run = json.loads((self._logs / "run.json").read_bytes())
        offline = scenario == "Offline"
        value = run["metric"]["value"] if offline else run["latency_ns"]["p90"]
        return {"scenario": scenario, "value": value, "disturbed": run["disturbed"]}
