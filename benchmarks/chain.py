"""A chain of 10 no-op container steps, and the same containers started by the Docker SDK in a loop.

Both are timed from the request to the end of the last one and divided by 10. The chain's time is
Airflow's own: from the moment its run was asked for to the end of its last task, so it holds
`begin`, the scheduling of each step, record, signatures of outputs and the container itself. The
loop creates, starts, awaits and removes containers of just the same settings, and does no more.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import docker

from benchmarks.harness import Bench, interval, timed
from benchmarks.site import Instance, folder, launched, moment, need_engine, proctor
from proctor.plan.compile import load_plan
from proctor.runtime.base import Handle, StartRequest
from proctor.runtime.docker import DockerRuntime

STEPS = 10
MOST_SECONDS = 0.8
PIPELINE = "benchmark-chain"


def measure(bench: Bench) -> None:
    """Interleave chains on a warm instance with loops of the SDK."""
    need_engine()
    with folder() as scratch:
        spec = write_spec(scratch)
        plans = [load_plan(spec, {})]
        home = scratch / "home"
        with launched(home, proctor("up", str(spec), "--home", str(home)), plans) as instance:
            compare(bench, instance, scratch)


def compare(bench: Bench, instance: Instance, scratch: Path) -> None:
    """The rows of this benchmark, on an instance that runs."""
    chains: list[dict[str, dict[str, Any]]] = []

    def chain() -> float:
        return seconds_per_step(instance, chains)

    with Loop(scratch) as loop:
        chain()  # the first run of an instance loads what the others find loaded
        loop.seconds()
        chains.clear()
        found = bench.interleave({"chain": chain, "sdk": lambda: loop.seconds() / STEPS})
    extra = interval([a - b for a, b in zip(found["chain"], found["sdk"], strict=True)])
    bench.row("chain, s per step", interval(found["chain"]))
    bench.row("  from the end of a task to the end of the next, s", interval(_gaps(chains)))
    bench.row("SDK in a loop, s per container", interval(found["sdk"]))
    bench.row(
        "what Proctor adds, s per step", extra, f"<= {MOST_SECONDS}", extra.median <= MOST_SECONDS
    )
    bench.note(__doc__.split("\n\n", 1)[1].replace("\n", " ").strip() if __doc__ else "")


def seconds_per_step(
    instance: Instance, chains: list[dict[str, dict[str, Any]]] | None = None
) -> float:
    """Run one chain; from its request to its end, divided by its steps."""
    run = instance.start(PIPELINE)
    tasks = instance.wait(PIPELINE, run)
    if chains is not None:
        chains.append(tasks)
    asked = instance.client.run(PIPELINE, run)["queued_at"]
    return (max(moment(task["end_date"]) for task in tasks.values()) - moment(asked)) / STEPS


def write_spec(where: Path) -> Path:
    """The chain as a spec."""
    lines = [f"pipeline: {PIPELINE}", "steps:"]
    for number in range(STEPS):
        lines += [
            f"  - id: step-{number}",
            "    image: proctor/steps",
            "    command: selfcheck act",
            "    reuse: never",
        ]
        if number:
            lines.append(f"    after: [step-{number - 1}]")
    path = where / f"{PIPELINE}.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _gaps(chains: list[dict[str, dict[str, Any]]]) -> list[float]:
    """For each chain, the median time from one step's end to the next one's."""
    found = []
    for tasks in chains:
        ends = sorted(moment(task["end_date"]) for task in tasks.values())
        found.append(median(b - a for a, b in pairwise(ends)))
    return found


class Loop:
    """Containers exactly as Proctor would start them, started by the SDK alone."""

    def __init__(self, scratch: Path) -> None:
        self._runtime = DockerRuntime(scratch / "loop")
        self._client = docker.from_env()
        self._handle: Handle | None = None
        self._settings: dict[str, Any] = {}

    def __enter__(self) -> Loop:
        request = StartRequest(
            pipeline="loop",
            run="loop",
            step="noop",
            attempt=1,
            image="proctor/steps",
            command=("selfcheck", "act"),
        )
        # One attempt of Proctor's own makes the folders; its container says what the others get.
        self._handle = self._runtime.start(request)
        made = self._client.containers.get(self._handle.id)
        made.wait()
        networks = made.attrs["NetworkSettings"]["Networks"]
        self._settings = {
            **made.attrs["Config"],
            "HostConfig": made.attrs["HostConfig"],
            "NetworkingConfig": {"EndpointsConfig": {name: {} for name in networks}},
        }
        return self

    def __exit__(self, *exc: object) -> None:
        if self._handle:
            self._runtime.remove(self._handle)
        self._client.close()

    def seconds(self) -> float:
        """For so many containers, one after the other."""
        return timed(self._all)

    def _all(self) -> None:
        for _ in range(STEPS):
            self._one()

    def _one(self) -> None:
        api: Any = self._client.api
        id = api.create_container_from_config(self._settings)["Id"]
        container = self._client.containers.get(id)
        container.start()
        code = container.wait()["StatusCode"]
        container.remove()
        if code:
            raise RuntimeError(f"the container ended with {code}")
