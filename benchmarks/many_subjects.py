"""Many subjects: whether they all finish, the memory that it takes, and the lists meanwhile.

SUBJECTS subjects go through 4 steps that do nothing (fake runtime). What people look at is asked
for while the run goes on and afterwards.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import fake_launcher
from benchmarks.harness import Bench, timed
from benchmarks.site import Instance, folder, launched, moment
from benchmarks.subjects import OURS, script, write_spec
from proctor.plan.compile import load_plan

SUBJECTS = 1000
MOST_LIST_SECONDS = 2.0
_ASK_EVERY = 20.0  # seconds between two looks at the lists while the run goes on


def measure(bench: Bench) -> None:
    """One run of all of them on a new instance."""
    with folder() as scratch:
        home, spec = scratch / "home", write_spec(scratch, OURS)
        with launched(home, fake_launcher.command(home, spec), [load_plan(spec, {})]) as instance:
            _run(bench, instance)


def _run(bench: Bench, instance: Instance) -> None:
    script(instance, SUBJECTS)
    run = instance.start(OURS)
    while_it_goes: dict[str, list[float]] = {}
    end = time.monotonic() + 3 * 3600
    while (state := instance.client.run_state(OURS, run)) not in ("success", "failed"):
        if time.monotonic() > end:
            break
        for name, path in _lists(run):
            while_it_goes.setdefault(name, []).append(_asked(instance, path))
        time.sleep(_ASK_EVERY)
    if state != "success":
        raise RuntimeError(f"the run with {SUBJECTS} subjects ended as {state}")
    told = instance.client.run(OURS, run)
    wall = moment(told["end_date"]) - moment(told["queued_at"])
    bench.row(f"{SUBJECTS} subjects: wall, s", wall)
    for name, peak in sorted(_peaks(instance).items()):
        bench.row(f"{SUBJECTS} subjects: {name}, peak memory, MiB", peak)
    bench.result["lists"] = {"while it goes": while_it_goes}
    for name, path in _lists(run):
        values = while_it_goes.get(name, [])
        afterwards = [_asked(instance, path) for _ in range(5)]
        bench.result["lists"].setdefault("afterwards", {})[name] = afterwards
        worst = max([*values, *afterwards])
        text = f"{statistics.median(values or afterwards):.3f}, worst {worst:.3f}"
        wanted = f"< {MOST_LIST_SECONDS:g} each time"
        bench.row(f"{SUBJECTS} subjects: {name}, s", text, wanted, worst < MOST_LIST_SECONDS)


def _peaks(instance: Instance) -> dict[str, float]:
    """The most memory that each process had at once, in MiB."""
    found = {}
    for name, pid in instance.roots().items():
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
        found[name] = int(peak) / 1024
    return found


def _lists(run: str) -> Iterator[tuple[str, str]]:
    """What the API and the pages of Airflow's UI ask for."""
    subjects = f"{OURS}.subjects-1"
    yield "API, runs of subjects", f"/api/v2/dags/{subjects}/dagRuns?limit=100"
    yield "API, tasks of subjects", f"/api/v2/dags/{subjects}/dagRuns/~/taskInstances?limit=100"
    yield "API, all runs", "/api/v2/dags/~/dagRuns?limit=100&order_by=-run_after"
    yield "UI, DAGs", "/ui/dags?dag_runs_limit=14"
    yield "UI, grid of subjects", f"/ui/grid/runs/{subjects}?limit=25&order_by=-run_after"
    yield "UI, grid of the pipeline", f"/ui/grid/runs/{OURS}?limit=25&order_by=-run_after"
    yield "UI, structure of subjects", f"/ui/grid/structure/{subjects}?limit=25"
    yield "page, what is to do", f"/proctor/review/{OURS}/{run}"


def _asked(instance: Instance, path: str) -> float:
    return timed(lambda: instance.get(path))
