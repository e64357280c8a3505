"""One of Airflow's components as a process, its loop waiting for changes instead of asking.

``python -m proctor.site.component triggerer --skip-serve-logs`` is ``airflow triggerer ...`` with a
few methods replaced. The scheduler waits in the turn of an executor of our own
(airflow/executor.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proctor.airflow.changes import PARSING, TASKS, Changes, Due
from proctor.site import door
from proctor.site.home import PROFILE_FILE, Home
from proctor.site.schedules import clock_file

# A DAG processor that nobody asks and whose specs stay as they are turns around this often, for
# its heartbeat, which Airflow misses after 30 s.
LONGEST_SECONDS = 10.0
# Spec files do not tell when they are edited; a look at their times costs some microseconds.
FILES_SECONDS = 0.5


def watch_triggers(supervisor: type[Any]) -> None:
    """Have the triggerer read the table of triggers when that or a task changed, not each second.

    Its loop goes on serving the process in which the triggers run.
    """
    load, clean = supervisor.load_triggers, supervisor.clean_unused
    changes, due = Changes.of_airflow(TASKS), Due()
    this_turn = True

    def load_triggers(self: Any) -> None:
        nonlocal this_turn
        this_turn = due.now(changes.wait(0))
        if this_turn:
            load(self)

    def clean_unused(self: Any) -> None:
        if this_turn:
            clean(self)

    supervisor.load_triggers, supervisor.clean_unused = load_triggers, clean_unused


def watch_scheduling(runner: type[Any]) -> None:
    """Have the scheduler make its decisions when something changed, not at each turn.

    Its turns go on, every few seconds, for its heartbeat and its other clocks.
    """
    do_scheduling = runner._do_scheduling
    due = Due()

    def do_scheduling_when_due(self: Any, session: Any) -> int:
        woken = any(getattr(executor, "woken", True) for executor in self.executors)
        return int(do_scheduling(self, session)) if due.now(woken) else 0

    runner._do_scheduling = do_scheduling_when_due


def watch_specs(manager: type[Any], home: Home) -> None:
    """Have the DAG processor wait until it is asked, or until a spec file changed."""
    serve, claim = manager._service_processor_sockets, manager.claim_priority_files
    changes = Changes.of_airflow(PARSING)
    specs = SpecFiles(home)

    def serve_or_wait(self: Any, timeout: float | None = 1.0) -> None:
        if self._processors or self._file_queue:
            serve(self, timeout=timeout)
            return
        give_up = time.monotonic() + LONGEST_SECONDS
        while time.monotonic() < give_up and not specs.changed():
            if changes.wait(FILES_SECONDS):
                return

    def claim_priority_files(self: Any) -> list[Any]:
        known = list(self._file_stats) if specs.take() else []
        return [*claim(self), *known]

    manager._service_processor_sockets = serve_or_wait
    manager.claim_priority_files = claim_priority_files


class SpecFiles:
    """Whether a spec, the list of them, or what the site says of them is another than before."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._seen = self._stamps()

    def changed(self) -> bool:
        """Whether there is something to take."""
        return self._stamps() != self._seen

    def take(self) -> bool:
        """Whether there was; the next look compares with now."""
        before, self._seen = self._seen, self._stamps()
        return self._seen != before

    def _stamps(self) -> dict[str, tuple[int, int, int] | None]:
        listed = [self._home.path / name for name in ("pipelines.json", PROFILE_FILE)]
        try:
            known = self._home.pipelines()
        except (ValueError, KeyError, TypeError):
            known = {}  # the DAG file says what is wrong with it
        specs = [entry.spec for entry in known.values()]
        clocks = [clock_file(self._home, name) for name in known]
        return {str(path): _stamp(path) for path in (*listed, *specs, *clocks)}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _triggerer() -> None:
    from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor

    watch_triggers(TriggerRunnerSupervisor)


def _scheduler() -> None:
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner

    watch_scheduling(SchedulerJobRunner)


def _dag_processor() -> None:
    from airflow.dag_processing.manager import DagFileProcessorManager

    watch_specs(DagFileProcessorManager, Home.default())


PREPARE: dict[str, Callable[[], None]] = {
    "scheduler": _scheduler,
    "triggerer": _triggerer,
    "dag-processor": _dag_processor,
}


def main() -> None:
    """Run a component of Airflow as its command line would, or the door beside them."""
    if sys.argv[1] == door.NAME:
        door.main()
        return
    from airflow.__main__ import main as airflow

    PREPARE.get(sys.argv[1], lambda: None)()
    airflow()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
