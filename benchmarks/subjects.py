"""Subjects: a run of Airflow's for each, and the same operator in a mapped task group.

SUBJECTS subjects go through 4 steps that do nothing (fake runtime), on one instance whose DAG
folder holds a hand-written mapped DAG besides Proctor's own. Record, signatures and locks are as
ever. Wall: from the request to the end of the whole run, so the finding of the subjects and the
starting of their runs are in it. Scheduler CPU: of the scheduler's process, without its workers.
"""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import psutil

from benchmarks import cpu, fake_launcher
from benchmarks.harness import ROOT, Bench, interval, ratio
from benchmarks.site import Instance, folder, launched, moment
from proctor.plan.compile import load_plan
from proctor.runtime.fake import FakeRuntime

SUBJECTS, STEPS = 300, 4
MOST_WALL, MOST_CPU = 1.05, 0.4
OURS, MAPPED = "benchmark-subjects", "benchmark-mapped"


def measure(bench: Bench) -> None:
    """Interleave both ways on a warm instance."""
    with folder() as scratch:
        home = scratch / "home"
        specs = {name: write_spec(scratch, name) for name in (OURS, MAPPED)}
        write_dags(scratch / "dags", specs[MAPPED], names(SUBJECTS))
        plans = [load_plan(specs[OURS], {})]
        with launched(home, fake_launcher.command(home, specs[OURS]), plans) as instance:
            while not instance.client.has_dag(MAPPED, _tasks(specs[MAPPED])):
                time.sleep(0.3)
            _pairs(bench, instance)
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
        before, began = _seconds(instance), _scheduler(instance)
        wall = _run(instance, name)
        if _scheduler(instance) != began:
            bench.say(
                f"{name}: {wall:.1f} s, and the scheduler was started anew: it does not count"
            )
            return run(name, subjects)
        spent = {group: value - before[group] for group, value in _seconds(instance).items()}
        for group, value in spent.items():
            used[name].setdefault(group, []).append(value)
        told = ", ".join(f"{group} {value:.1f} CPU s" for group, value in sorted(spent.items()))
        bench.say(f"{name}: {wall:.1f} s, {told}")
        return wall

    found = bench.interleave({name: partial(run, name, SUBJECTS) for name in used})
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


def _scheduler(instance: Instance) -> tuple[int, float]:
    """Which process it is. Of one that was replaced, nobody knows the processor seconds."""
    process = psutil.Process(instance.roots()["scheduler"])
    return process.pid, process.create_time()


def _seconds(instance: Instance) -> dict[str, float]:
    """Processor seconds so far: of the scheduler's process alone, and of everything."""
    roots = instance.roots()
    times = psutil.Process(roots["scheduler"]).cpu_times()
    everything = cpu.used(cpu.trees(roots))
    return {"scheduler": times.user + times.system, "everything": sum(everything.values())}
