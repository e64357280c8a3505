"""Subjects: a run of Airflow's for each, and the same operator in a mapped task group.

SUBJECTS subjects go through 4 steps that do nothing (fake runtime), on one instance whose DAG
folder holds a hand-written mapped DAG besides Proctor's own. Record, signatures and locks are as
ever. Wall: from the request to the end of the whole run, so the finding of the subjects and the
starting of their runs are in it. Scheduler CPU: of the scheduler's process, without its workers.
After the pairs, one run with MANY subjects; what people look at is asked for while it goes on and
afterwards.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks import cpu
from benchmarks.harness import ROOT, Bench, interval, ratio, timed
from benchmarks.site import Instance, folder, launched, moment
from proctor.plan.compile import load_plan
from proctor.runtime.fake import FakeRuntime

SUBJECTS, MANY, STEPS = 300, 1000, 4
MOST_WALL, MOST_CPU, MOST_LIST_SECONDS = 1.05, 0.4, 2.0
OURS, MAPPED = "benchmark-subjects", "benchmark-mapped"
_ASK_EVERY = 20.0  # seconds between two looks at the lists while the run goes on


def measure(bench: Bench) -> None:
    """Interleave both ways on a warm instance; then many subjects."""
    with folder() as scratch:
        home = scratch / "home"
        specs = {name: write_spec(scratch, name) for name in (OURS, MAPPED)}
        write_dags(scratch / "dags", specs[MAPPED], names(SUBJECTS))
        plans = [load_plan(specs[OURS], {})]
        command = [sys.executable, "-m", "benchmarks.mapped_launcher", str(home), str(specs[OURS])]
        with launched(home, command, plans) as instance:
            while not instance.client.has_dag(MAPPED, _tasks(specs[MAPPED])):
                time.sleep(0.3)
            _pairs(bench, instance)
            _many(bench, instance)
    bench.note(__doc__.split("\n\n", 1)[1].replace("\n", " ").strip() if __doc__ else "")


def names(number: int) -> list[str]:
    """Subjects as a federated data preparation names them."""
    return [f"AAAC_{index}/2008.03.{index % 28 + 1:02}" for index in range(number)]


def write_spec(where: Path, name: str) -> Path:
    """The pipeline: the subjects' steps one after the other, and one behind all of them."""
    lines = [
        f"pipeline: {name}",
        'partition_def: {from: ingest.scans, glob: "*/*/"}',
        "steps:",
        "  - {id: ingest, image: proctor/steps, command: dataset fetch,"
        " outputs: {scans: directory}, reuse: never}",
    ]
    for number in range(STEPS):
        after = f"[step-{number - 1}]" if number else "[ingest]"
        lines.append(
            f"  - {{id: step-{number}, image: proctor/steps, command: selfcheck act,"
            f" partition: true, after: {after}, reuse: never}}"
        )
    lines.append(
        f"  - {{id: gather, image: proctor/steps, command: selfcheck act,"
        f" after: [step-{STEPS - 1}], reuse: never}}"
    )
    path = where / f"{name}.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_dags(where: Path, spec: Path, found: list[str]) -> None:
    """Proctor's DAG file, and the hand-written one."""
    where.mkdir()
    (where / "pipelines.py").write_text((ROOT / "dags" / "pipelines.py").read_text())
    (where / "mapped.py").write_text(
        f"import sys\nfrom pathlib import Path\n\nsys.path.insert(0, {str(ROOT)!r})\n\n"
        "from airflow.sdk import DAG\n\nfrom benchmarks.mapped import mapped_dag\n\n"
        f"dag: DAG = mapped_dag(Path({str(spec)!r}), {found!r})\n"
    )


def _tasks(spec: Path) -> set[str]:
    plan = load_plan(spec, {})
    return {"begin", "gather", *(f"one.{step.id}" for step in plan.part(plan.partitions[0]).steps)}


def _pairs(bench: Bench, instance: Instance) -> None:
    used: dict[str, dict[str, list[float]]] = {OURS: {}, MAPPED: {}}

    def run(name: str, subjects: int) -> float:
        script(instance, subjects)
        before = _seconds(instance)
        wall = _run(instance, name)
        for group, value in _seconds(instance).items():
            used[name].setdefault(group, []).append(value - before[group])
        return wall

    found = bench.interleave({name: lambda n=name: run(n, SUBJECTS) for name in used})
    bench.result["cpu_seconds"] = used
    for name in used:
        bench.row(f"{name}: wall, s", interval(found[name]))
        for group, values in sorted(used[name].items()):
            bench.row(f"{name}: {group}, CPU s", interval(values))
    wall = ratio(found[OURS], found[MAPPED])
    bench.row("wall, ours / mapped", wall, f"<= {MOST_WALL}", wall.median <= MOST_WALL)
    scheduler = ratio(used[OURS]["scheduler"], used[MAPPED]["scheduler"])
    most = scheduler.median <= MOST_CPU
    bench.row("scheduler CPU, ours / mapped", scheduler, f"<= {MOST_CPU}", most)
    everything = ratio(used[OURS]["everything"], used[MAPPED]["everything"])
    bench.row("CPU of everything, ours / mapped", everything)


def _many(bench: Bench, instance: Instance) -> None:
    script(instance, MANY)
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
        raise RuntimeError(f"the run with {MANY} subjects ended as {state}")
    told = instance.client.run(OURS, run)
    wall = moment(told["end_date"]) - moment(told["queued_at"])
    bench.row(f"{MANY} subjects: wall, s", wall)
    for name, peak in sorted(_peaks(instance).items()):
        bench.row(f"{MANY} subjects: {name}, peak memory, MiB", peak)
    bench.result["lists"] = {"while it goes": while_it_goes}
    for name, path in _lists(run):
        values = while_it_goes.get(name, [])
        afterwards = [_asked(instance, path) for _ in range(5)]
        bench.result["lists"].setdefault("afterwards", {})[name] = afterwards
        worst = max([*values, *afterwards])
        text = f"{statistics.median(values or afterwards):.3f}, worst {worst:.3f}"
        wanted = f"< {MOST_LIST_SECONDS:g} each time"
        bench.row(f"{MANY} subjects: {name}, s", text, wanted, worst < MOST_LIST_SECONDS)


def script(instance: Instance, subjects: int) -> None:
    """What the steps of the fake runtime leave."""
    found = names(subjects)
    FakeRuntime(instance.home.path).script(
        {
            "ingest": {"outputs": {"scans": {"index.txt": "\n".join(found)}}},
            "list-subjects": {"outputs": {"subjects": {"subjects.json": json.dumps(found)}}},
        }
    )


def _run(instance: Instance, pipeline: str) -> float:
    run = instance.start(pipeline)
    end = time.monotonic() + 3600
    while (state := instance.client.run_state(pipeline, run)) not in ("success", "failed"):
        if time.monotonic() > end:
            break
        time.sleep(2)
    if state != "success":
        raise RuntimeError(f"{pipeline}/{run} ended as {state}")
    told = instance.client.run(pipeline, run)
    return moment(told["end_date"]) - moment(told["queued_at"])


def _seconds(instance: Instance) -> dict[str, float]:
    """Processor seconds so far: of the scheduler's process alone, and of everything."""
    roots = instance.roots()
    times = psutil.Process(roots["scheduler"]).cpu_times()
    everything = cpu.used(cpu.trees(roots))
    return {"scheduler": times.user + times.system, "everything": sum(everything.values())}


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
