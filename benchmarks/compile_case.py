"""One chain of steps, from YAML to a DAG, in a process of its own: ``WHOSE STEPS FOLDER``.

``WHOSE`` is ``ours``, ``ours+mounts`` or ``theirs``. Prints seconds and peak memory as JSON.
Imports are done before, with a chain of three steps.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Build = Callable[[Path], Any]
WARM_UP = 3


def main(whose: str, steps: int, folder: Path) -> None:
    """Build and serialise the chain once."""
    # An empty home; no telemetry. Airflow asks the database for nothing here.
    os.environ |= {"AIRFLOW_HOME": str(folder), "DO_NOT_TRACK": "1", "PROCTOR_HOME": str(folder)}
    os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(folder / "dags")
    from airflow.serialization.serialized_objects import DagSerialization

    build = _theirs() if whose == "theirs" else _ours()
    write = {"ours": ours_yaml, "ours+mounts": mounts_yaml, "theirs": theirs_yaml}[whose]
    small, large = folder / "warm.yaml", folder / "chain.yaml"
    small.write_text(write(WARM_UP))
    large.write_text(write(steps))
    DagSerialization.to_dict(build(small))
    # What the imports left behind must not be swept up while one of the two is timed.
    gc.collect()
    gc.freeze()
    before = _memory()
    start, cpu = time.perf_counter(), time.process_time()
    dag = build(large)
    built, cpu = time.perf_counter(), time.process_time() - cpu
    DagSerialization.to_dict(dag)
    done = time.perf_counter()
    found = len(dag.tasks) - (whose != "theirs")  # ours begins with a task that keeps the record
    if found != steps or max(len(task.upstream_task_ids) for task in dag.tasks) != 1:
        raise SystemExit(f"{whose}: this is no chain of {steps} steps: {dag.tasks[:3]}")
    peak = _memory()
    said = {"build": built - start, "cpu": cpu, "both": done - start}
    print(json.dumps(said | {"peak": peak, "grown": peak - before}))


def _memory() -> float:
    """Peak resident MiB of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(x for x in lines if x.startswith("VmHWM")).split()[1]) / 1024


def _ours() -> Build:
    from proctor.airflow.dag import build
    from proctor.site.home import Registered

    return lambda path: build(Registered(path.stem, path, {}))


def _theirs() -> Build:
    from dagfactory import load_yaml_dags

    def build(path: Path) -> Any:
        found: dict[str, Any] = {}
        load_yaml_dags(found, config_filepath=str(path))
        return found["chain"]

    return build


def ours_yaml(steps: int) -> str:
    """A chain of container steps."""
    lines = ["pipeline: chain", "steps:"]
    for number in range(steps):
        lines.append(f"  - id: step-{number}")
        lines.append("    image: example/work:1")
        lines.append(f"    command: python -m work {number}")
        if number:
            lines.append(f"    after: step-{number - 1}")
    return "\n".join(lines) + "\n"


def mounts_yaml(steps: int) -> str:
    """The same, each reading what the one before has written: what a real pipeline is made of."""
    lines = ["pipeline: chain", "steps:"]
    for number in range(steps):
        lines.append(f"  - id: step-{number}")
        lines.append("    image: example/work:1")
        lines.append(f"    command: python -m work {number}")
        lines.append("    outputs: {made: directory}")
        if number:
            lines.append(f"    inputs: {{given: step-{number - 1}.made}}")
    return "\n".join(lines) + "\n"


def theirs_yaml(steps: int) -> str:
    """The same of BashOperators: a DockerOperator is larger."""
    lines = ["chain:", "  schedule: null", "  default_args:", "    owner: airflow"]
    lines += ["    start_date: 2026-01-01", "  tasks:"]
    for number in range(steps):
        lines.append(f"    - task_id: step-{number}")
        lines.append("      operator: airflow.providers.standard.operators.bash.BashOperator")
        lines.append(f"      bash_command: python -m work {number}")
        if number:
            lines.append(f"      dependencies: [step-{number - 1}]")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
