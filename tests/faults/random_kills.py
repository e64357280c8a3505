"""Random kills at random moments: ``python tests/faults/random_kills.py MINUTES [SEED]``.

Runs follow each other; in each, whatever can be killed is, and the launcher is started again where
it was. Every run must end well with one container for each step, and leave nothing behind.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / name) for name in ("", "faults", "e2e")]

import psutil  # noqa: E402
from faults_kit import BACKEND, COMPONENTS, POSTGRES, STEPS, Command, EngineEvents, Target, killed  # noqa: E402

# A component that dies eight times within a minute is given up, and a task is tried four times.
PAUSE_SECONDS = (6.0, 18.0)
TASK_KILLS = 2


def one_run(rng: random.Random) -> None:
    folder = Path(tempfile.mkdtemp(prefix="proctor-faults-"))
    folder.chmod(0o711)
    target = Target(folder / "home", EngineEvents(folder / "home", folder / "events.jsonl"))
    command = Command(target.home, {"performance_seconds": 90})
    process, killed_tasks = command.start(), 0
    try:
        while process.poll() is None:
            time.sleep(rng.uniform(*PAUSE_SECONDS))
            what = rng.choice([*COMPONENTS, POSTGRES, BACKEND, "task", "launcher"])
            if not (target.home / "airflow" / "url.json").exists() or process.poll() is not None:
                continue  # nothing runs yet, or any more
            if what == "task":
                killed_tasks += 1
                if killed_tasks > TASK_KILLS or not strike_task(target):
                    continue
            elif what == "launcher":
                killed(process)
                process.wait()
                process = command.start()
            else:
                target.strike(what)
            print(f"  {what}", flush=True)
        check(target, command, process)
    finally:
        target.events.close()
        if process.poll() is None:
            process.terminate()
            process.wait(60)
    shutil.rmtree(folder, ignore_errors=True)


def strike_task(target: Target) -> bool:
    task = target.task()
    if task:
        killed(task)
    return task is not None


def check(target: Target, command: Command, process: psutil.Popen) -> None:
    assert process.returncode == 0, f"{target.home}: {command.output.read_text()}"
    made = target.events.count("create")
    assert made == dict.fromkeys(STEPS, 1), f"{target.home}: {made}"
    assert target.record().verify_chain() == []
    target.nothing_is_left()


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**6)
    print(f"seed {seed}")
    rng, end, runs = random.Random(seed), time.monotonic() + 60 * minutes, 0
    while time.monotonic() < end:
        runs += 1
        print(f"run {runs}", flush=True)
        one_run(rng)
    print(f"{runs} runs ended well, one container for each step, nothing left")


if __name__ == "__main__":
    main()
