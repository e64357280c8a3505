"""How long it takes until all is well again: ``python tests/faults/recovery.py [ROUNDS]``.

One run with a long LoadGen measurement; each round kills every component, and the time is taken
until Airflow has heard of all of them after the kill. Prints the table of docs/operating.md.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / name) for name in ("", "faults", "e2e")]

import httpx  # noqa: E402
from faults_kit import COMPONENTS, Command, EngineEvents, Target, until  # noqa: E402


def heard_of_all(target: Target, since: datetime) -> bool:
    """Whether the API server answers, and every heartbeat in the database is of after the kill."""

    try:
        url = json.loads((target.home / "airflow" / "url.json").read_text())["url"]
        told = httpx.get(f"{url}/api/v2/monitor/health", timeout=5, trust_env=False).json()
        beats = [
            told[name][f"latest_{name}_heartbeat"]
            for name in ("scheduler", "triggerer", "dag_processor")
        ]
        return all(datetime.fromisoformat(beat) > since for beat in beats)
    except (OSError, ValueError, KeyError, TypeError, httpx.HTTPError):
        return False


def measure(target: Target, kill: Callable[[], object]) -> float:
    kill()
    since = datetime.now(UTC)
    until(lambda: heard_of_all(target, since), 300, "all components are heard of")
    return (datetime.now(UTC) - since).total_seconds()


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    folder = Path(tempfile.mkdtemp(prefix="proctor-recovery-"))
    folder.chmod(0o711)
    target = Target(folder / "home", EngineEvents(folder / "home", folder / "events.jsonl"))
    kills: dict[str, Callable[[], object]] = {
        **{name: (lambda name=name: target.kill(name)) for name in COMPONENTS},  # type: ignore[misc]
        "a backend of PostgreSQL": target.kill_backend,
        "PostgreSQL": target.kill_postgres,
    }
    took: dict[str, list[float]] = {name: [] for name in kills}
    command = Command(target.home, {"performance_seconds": 60 + 150 * rounds})
    process = command.start()
    try:
        target.measuring()
        until(lambda: target.state("performance") == "deferred", 60, "deferred")
        for _ in range(rounds):
            for name, kill in kills.items():
                took[name].append(measure(target, kill))
                time.sleep(3)
        alive = target.container() is not None
        created = target.events.count("create")["performance"]
        print(f"performance container: created {created} time(s), still runs: {alive}")
    finally:
        process.terminate()
        process.wait(60)
        target.events.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"| Killed | median | longest | runs |   ({os.cpu_count()} processors, load from LoadGen)"
    )
    for name, seconds in took.items():
        middle, longest = statistics.median(seconds), max(seconds)
        print(f"| {name} | {middle:.0f} s | {longest:.0f} s | {len(seconds)} |")


if __name__ == "__main__":
    main()
