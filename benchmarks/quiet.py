"""Processor time of everything around a LoadGen performance run, and a chain on the same instance.

One instance, started by `proctor up` with its default configuration, first runs chains of no-op
steps, then is watched during a performance run of the demo, then runs chains again: the same
processes are fast and quiet. After that `proctor run demo` is watched the same way, as its launcher
also follows the run and draws its progress on a terminal. The figures are processor time (user and
system), not elapsed time, in percent of one core. A process counts with the component below which
it runs. The engine is shown apart: the time of dockerd, containerd and their shims goes mostly to
the step itself and to others that use the engine; the last row is what they use without Proctor.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import chain, cpu
from benchmarks.harness import Bench, interval
from benchmarks.site import Instance, folder, launched, need_engine, proctor
from proctor.plan.compile import load_plan
from proctor.plan.model import Plan
from proctor.shipped import shipped

MOST_PERCENT = 3.0
LEAST_SECONDS = 120.0
_TASK = "performance.SingleStream"
# From the deferral to the window: the worker has gone, the launcher has drawn the change.
_SETTLE_SECONDS = 10
# The run must outlast the wait for the deferral, the settling and the window.
_MORE_SECONDS = 60
_ENGINE = ("dockerd", "containerd", "containerd-shim-runc-v2")


def measure(bench: Bench) -> None:
    """Watch an instance in both ways of starting one."""
    need_engine()
    seconds = max(bench.seconds, LEAST_SECONDS)
    demo = load_plan(shipped("pipeline_specs") / "demo.yaml", {})
    with folder() as scratch:
        _up(bench, scratch, demo, seconds)
        _run(bench, scratch, demo, seconds)
    engine = cpu.measure(cpu.named(*_ENGINE), 30)
    bench.row("engine, without Proctor, %", engine.total)
    bench.note(__doc__.split("\n\n", 1)[1].replace("\n", " ").strip() if __doc__ else "")


def _up(bench: Bench, scratch: Path, demo: Plan, seconds: float) -> None:
    """Chains, the quiet, chains: one lifetime of the same processes."""
    spec, home = chain.write_spec(scratch), scratch / "up"
    plans = [load_plan(spec, {}), demo]
    with launched(home, proctor("up", str(spec), "--home", str(home)), plans) as instance:
        before = [chain.seconds_per_step(instance) for _ in range(4)][1:]
        run = instance.start(demo.pipeline, _params(seconds))
        _watch(bench, "proctor up", instance, demo.pipeline, run, seconds)
        instance.client.give_up(demo.pipeline, run)
        after = [chain.seconds_per_step(instance) for _ in range(4)][1:]
    bench.row("same processes: chain before, s per step", interval(before))
    bench.row("same processes: chain after, s per step", interval(after))


def _run(bench: Bench, scratch: Path, demo: Plan, seconds: float) -> None:
    home = scratch / "run"
    settings = [
        word
        for name, value in _params(seconds).items()
        for word in ("--set", f"{name}={value[0] if isinstance(value, list) else value}")
    ]
    command = proctor("run", "demo", "--home", str(home), *settings)
    with launched(home, command, [demo], terminal=True) as instance:
        runs = instance.client.unfinished()
        while not runs:
            runs = instance.client.unfinished()
        _watch(bench, "proctor run", instance, demo.pipeline, runs[0][1], seconds)
        instance.client.give_up(*runs[0])


def _params(seconds: float) -> dict[str, list[str] | float]:
    return {"scenarios": ["SingleStream"], "performance_seconds": seconds + _MORE_SECONDS}


def _watch(
    bench: Bench, how: str, instance: Instance, pipeline: str, run: str, seconds: float
) -> None:
    """The rows of one performance run."""
    instance.wait_for_task(pipeline, run, _TASK, "deferred", _SETTLE_SECONDS)
    roots = instance.roots()

    def group(parents: dict[int, int]) -> dict[int, str]:
        return ours(parents) | {pid: f"engine: {name}" for pid, name in engine(parents).items()}

    ours, engine = cpu.trees(roots), cpu.named(*_ENGINE)
    used = cpu.measure(group, seconds)
    state = instance.client.task_states(pipeline, run)[_TASK]["state"]
    if state != "deferred":
        raise RuntimeError(f"{_TASK} is {state}: the performance run ended within the window")
    mine = {name: value for name, value in used.percent.items() if name in roots}
    total = sum(mine.values())
    bench.say(f"{how}: {total:.2f} % of a core: {mine}")
    for name, value in sorted(mine.items(), key=lambda item: -item[1]):
        bench.row(f"{how}: {name}, % of a core", value)
    bench.row(
        f"{how}: all together over {used.seconds:.0f} s",
        total,
        f"<= {MOST_PERCENT:g} %",
        total <= MOST_PERCENT,
    )
    bench.row(f"{how}: apart, the engine, %", used.total - total)
