"""A spec to a DAG: chains of container steps, beside dag-factory.

Both with the same Python and Airflow, from YAML text to a DAG that Airflow serialises, each chain
in a fresh process, imports not counted. dag-factory's tasks are BashOperators, its cheapest that do
anything. It is installed alone into ``build/benchmarks`` unless ``--with dag-factory=DIR`` names a
folder that holds it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.harness import ROOT, Bench, NotHere, interval, ratio

PACKAGE = "dag-factory==1.1.0"
STEPS = (10, 100, 1000)
WANTED = 0.7
_SHOWN = 400


def measure(bench: Bench) -> None:
    """Each length of chain by both, in turn."""
    folder = bench.checkouts.get("dag-factory") or _installed()
    for steps in STEPS:
        whose = ["ours", "theirs", *(["ours+mounts"] if steps == max(STEPS) else [])]
        found: dict[str, list[dict[str, float]]] = {name: [] for name in whose}

        def once(name: str, steps: int, found: dict[str, list[dict[str, float]]]) -> float:
            found[name].append(_case(name, steps, folder))
            return found[name][-1]["build"]

        bench.interleave({f"{name} {steps}": partial(once, name, steps, found) for name in whose})
        bench.result.setdefault("cases", {})[steps] = found
        _tell(bench, steps, found)
    bench.note("memory: peak of the whole process, Airflow's imports included; then without them")
    bench.note("+mounts: each step reads what the one before wrote; dag-factory has no such thing")


def _tell(bench: Bench, steps: int, found: dict[str, list[dict[str, float]]]) -> None:
    def values(name: str, key: str, factor: float = 1) -> list[float]:
        return [case[key] * factor for case in found[name]]

    for name in found:
        bench.row(f"{steps} steps, {name}: DAG, ms", interval(values(name, "build", 1000)))
        bench.row(f"{steps} steps, {name}: serialised, ms", interval(values(name, "both", 1000)))
        bench.row(f"{steps} steps, {name}: peak, MiB", interval(values(name, "peak")))
        bench.row(f"{steps} steps, {name}: for the chain, MiB", interval(values(name, "grown")))
    for name in [name for name in found if name != "theirs"]:
        for key, what in (("build", "DAG"), ("cpu", "DAG, CPU"), ("both", "serialised")):
            both = ratio(values(name, key), values("theirs", key))
            counts = name == "ours" and key != "cpu" and steps == max(STEPS)
            met = both.median <= WANTED if counts else None
            wanted = f"at most {WANTED}" if counts else ""
            bench.row(f"{steps} steps, {name} / theirs: {what}", both, wanted, met)


def _case(name: str, steps: int, folder: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="proctor-compile-") as home:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.compile_case", name, str(steps), home],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder.resolve()}"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{name}, {steps} steps: {done.stderr[-_SHOWN:]}")
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


def _installed() -> Path:
    """dag-factory alone: what it needs is installed with Airflow, and must be the same for both."""
    folder = ROOT / "build" / "benchmarks" / PACKAGE.replace("==", "-")
    if not (folder / "dagfactory").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        done = subprocess.run(
            [*command, "--target", str(folder), PACKAGE],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NotHere(f"{PACKAGE} cannot be installed: {done.stderr.strip()[-_SHOWN:]}")
    return folder
