"""The loops of Airflow's components, waiting instead of asking; what of Airflow that relies on."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing import collection
from airflow.dag_processing.manager import DagFileProcessorManager
from airflow.executors.local_executor import LocalExecutor
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor

from proctor.airflow import changes as changes_module
from proctor.airflow import executor as executor_module
from proctor.airflow.changes import Changes, Due
from proctor.airflow.executor import WakingExecutor
from proctor.site import component
from proctor.site.component import SpecFiles, watch_scheduling, watch_specs, watch_triggers
from proctor.site.home import Home
from proctor.site.settings import environment


class Told:
    """Changes as a test says them."""

    def __init__(self, *told: bool) -> None:
        self.tells, self.waits = list(told), []  # type: ignore[var-annotated]
        self.told = False

    def wait(self, seconds: float, *others: int) -> bool:
        self.waits.append((seconds, others))
        self.told = self.tells.pop(0) if self.tells else False
        return self.told


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Told]:
    def tell(*told: bool) -> Told:
        made = Told(*told)
        for module in (component, executor_module):
            monkeypatch.setattr(
                module, "Changes", SimpleNamespace(of_airflow=lambda *_, **__: made)
            )
        return made

    return tell


class Supervisor:
    def __init__(self) -> None:
        self.did: list[str] = []

    def load_triggers(self) -> None:
        self.did.append("load")

    def clean_unused(self) -> None:
        self.did.append("clean")

    def turn(self) -> list[str]:
        self.did = []
        self.load_triggers()
        self.clean_unused()
        return self.did


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(changes_module.time, "monotonic", lambda: clock.now)
    return clock


def test_the_triggerer_reads_its_table_when_told_and_now_and_then(
    tell: Callable[..., Told], clock: SimpleNamespace
) -> None:
    made = type("Made", (Supervisor,), dict(vars(Supervisor)))
    tell(False, False, True, False, False)
    watch_triggers(made)
    turns = made()
    assert turns.turn() == ["load", "clean"]  # the first one
    clock.now += 1
    assert turns.turn() == []
    assert turns.turn() == ["load", "clean"]  # told
    assert turns.turn() == []
    clock.now += changes_module.SOON_SECONDS
    assert turns.turn() == ["load", "clean"]  # what no change tells of


def test_what_nothing_tells_of_is_looked_for_soon_after_a_change_and_seldom_later(
    clock: SimpleNamespace,
) -> None:
    due, looks = Due(), []
    for second in range(120):
        if due.now(told=second == 60):
            looks.append(second)
        clock.now += 1
    often = list(range(0, int(changes_module.STILL_SECONDS), 5))
    assert looks == [*often, 45, *(60 + s for s in often), 105]


class Runner:
    def __init__(self, *woken: bool) -> None:
        self.executors = [SimpleNamespace(woken=each) for each in woken]
        self.decided = 0

    def _do_scheduling(self, session: Any) -> int:
        self.decided += 1
        return 3


def test_the_scheduler_decides_when_something_happened_and_now_and_then(
    clock: SimpleNamespace,
) -> None:
    made = type("Made", (Runner,), dict(vars(Runner)))
    watch_scheduling(made)
    runner = made(False)
    assert runner._do_scheduling(None) == 3  # the first turn
    assert runner._do_scheduling(None) == 0
    runner.executors[0].woken = True
    assert runner._do_scheduling(None) == 3
    runner.executors[0].woken = False
    clock.now += changes_module.SOON_SECONDS
    assert runner._do_scheduling(None) == 3
    assert runner.decided == 3


class Manager:
    def __init__(self) -> None:
        self._processors: dict[str, Any] = {}
        self._file_queue: dict[str, Any] = {}
        self._file_stats = {"pipelines.py": 1}
        self.served = 0

    def _service_processor_sockets(self, timeout: float | None = 1.0) -> None:
        self.served += 1

    def claim_priority_files(self) -> list[str]:
        return ["asked for"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.create()
    return made


@pytest.fixture
def manager(home: Home, tell: Callable[..., Told]) -> Any:
    tell()
    spec = home.path.parent / "a.yaml"
    spec.write_text("pipeline: a\n")
    home.register("a", spec, {})
    made = type("Made", (Manager,), dict(vars(Manager)))
    watch_specs(made, home)
    return made()


def test_the_dag_processor_serves_what_runs(manager: Any) -> None:
    manager._processors["pipelines.py"] = object()
    manager._service_processor_sockets(timeout=1.0)
    assert manager.served == 1


def test_the_dag_processor_parses_a_changed_spec_once(manager: Any, home: Home) -> None:
    assert manager.claim_priority_files() == ["asked for"]
    (home.path.parent / "a.yaml").write_text("pipeline: a\ntitle: A\n")
    manager._service_processor_sockets(timeout=1.0)  # would else wait its longest
    assert manager.served == 0
    assert manager.claim_priority_files() == ["asked for", "pipelines.py"]
    assert manager.claim_priority_files() == ["asked for"]


@pytest.mark.parametrize("change", ["write", "replace", "delete", "build", "register"])
def test_every_way_to_change_a_spec_is_seen(home: Home, tmp_path: Path, change: str) -> None:
    spec = tmp_path / "a.yaml"
    spec.write_text("pipeline: a\n")
    home.register("a", spec, {})
    files = SpecFiles(home)
    assert not files.changed()
    match change:
        case "write":
            spec.write_text("pipeline: b\n")
            os.utime(spec, ns=(1, 1))  # whatever the clock of the file system is
        case "replace":
            (tmp_path / "new").write_text("pipeline: a\n")
            (tmp_path / "new").replace(spec)
        case "delete":
            spec.unlink()
        case "build":
            home.register("a", spec, {"n": 1})
        case "register":
            home.register("b", tmp_path / "b.yaml", {})
    assert files.changed()
    assert files.take()
    assert not files.changed()


def test_a_list_of_specs_that_cannot_be_read_is_no_reason_to_stop(home: Home) -> None:
    files = SpecFiles(home)
    (home.path / "pipelines.json").write_text("{")
    assert files.take()
    assert not files.changed()


def executor_with(
    tell: Callable[..., Told], results: int, *, told: tuple[bool, ...] = (), running: int = 1
) -> tuple[WakingExecutor, Told]:
    made = WakingExecutor(parallelism=4)
    made.running = set(range(running))  # type: ignore[arg-type]
    changes = tell(*told)
    made._changes = changes  # type: ignore[assignment]
    made.event_buffer, made.workers = {}, {}
    reader, _ = os.pipe()
    made.result_queue = SimpleNamespace(_reader=SimpleNamespace(fileno=lambda: reader))  # type: ignore[assignment]

    def sync(self: Any) -> None:
        for number in range(results):
            self.event_buffer[number] = ("success", None)

    LocalExecutor.sync, original = sync, LocalExecutor.sync  # type: ignore[method-assign]
    try:
        made.sync()
    finally:
        LocalExecutor.sync = original  # type: ignore[method-assign]
    return made, changes


def test_the_scheduler_sleeps_in_the_executors_turn_until_a_change_or_a_result(
    tell: Callable[..., Told],
) -> None:
    made, told = executor_with(tell, results=0)
    [(seconds, others)] = told.waits
    assert seconds == executor_module.LONGEST_SECONDS
    assert others == (made.result_queue._reader.fileno(),)  # type: ignore[attr-defined]
    assert not made.woken


def test_it_does_not_sleep_while_the_scheduler_has_results_to_take(
    tell: Callable[..., Told],
) -> None:
    made, told = executor_with(tell, results=1)
    assert [seconds for seconds, _ in told.waits] == [0]
    assert not made.woken  # of the task's end the database tells


@pytest.mark.parametrize(("told", "running"), [((True,), 1), ((), 4)])
def test_a_change_and_a_slot_that_became_free_have_the_scheduler_decide(
    tell: Callable[..., Told], told: tuple[bool, ...], running: int
) -> None:
    assert executor_with(tell, results=1, told=told, running=running)[0].woken


def test_without_its_database_a_listener_is_back_at_asking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    monkeypatch.setattr(changes_module, "_readable", lambda fds, seconds: asked.append(seconds))
    changes = Changes("postgresql+psycopg2://nobody@/none?host=/nowhere", "channel")
    assert changes.wait(5.0)
    assert changes.wait(5.0)
    assert asked == [changes_module.ASK_SECONDS] * 2


# What we rely on inside Airflow. A version that changes it fails here, not on somebody's machine.


def source(of: Any) -> str:
    return inspect.getsource(of)


def test_airflows_triggerer_loads_and_cleans_once_a_turn() -> None:
    turn = source(TriggerRunnerSupervisor.run_once)
    assert turn.count("self.load_triggers()") == turn.count("self.clean_unused()") == 1
    assert turn.index("self.load_triggers()") < turn.index("self.clean_unused()")
    for method in (TriggerRunnerSupervisor.load_triggers, TriggerRunnerSupervisor.clean_unused):
        assert list(inspect.signature(method).parameters) == ["self"]


def test_airflows_dag_processor_sleeps_in_serving_its_sockets() -> None:
    loop = source(DagFileProcessorManager._run_parsing_loop)
    assert loop.count("self._service_processor_sockets(timeout=poll_time)") == 1
    assert "sleep" not in loop
    requested = source(DagFileProcessorManager._queue_requested_files_for_parsing)
    assert "files = self.claim_priority_files()" in requested
    assert "self._queue_requested_files_for_parsing()" in loop
    fields = {field.name for field in DagFileProcessorManager.__attrs_attrs__}  # type: ignore[attr-defined]
    assert {"_processors", "_file_queue", "_file_stats"} <= fields


def test_airflows_scheduler_turns_round_the_executor_and_sleeps_as_long_as_it_is_told() -> None:
    loop = source(SchedulerJobRunner._run_scheduler_loop)
    assert loop.count("sleep(") == 1
    assert "time.sleep(min(self._scheduler_idle_sleep_time, next_event or 0))" in loop
    assert loop.count("executor.heartbeat()") == 1
    # The wait must not hold a transaction open: the session before it has ended.
    assert loop.index("session.expunge_all()") < loop.index("executor.heartbeat()")
    assert source(LocalExecutor.heartbeat).count("self.sync()") == 1
    # What decides is called once a turn, gives how many tasks it queued, and keeps no clock itself.
    assert loop.count("self._do_scheduling(session)") == 1
    assert loop.index("self._do_scheduling(session)") < loop.index("executor.heartbeat()")
    assert "perform_heartbeat(" in loop
    assert "heartbeat" not in source(SchedulerJobRunner._do_scheduling)
    assert "SimpleQueue()" in source(LocalExecutor.start)


def test_what_the_tasks_need_is_imported_before_the_workers_are_forked() -> None:
    start = source(WakingExecutor.start)
    assert start.index("proctor.airflow.dag") < start.index("super().start()")


def test_a_parsed_spec_is_written_down_however_soon_after_the_last(home: Home) -> None:
    """Airflow would drop what is parsed within this time; here nothing parses it once more."""
    made = environment(home, "fake", 1, ("a", "b"))
    assert made["AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL"] == "0"
    assert "min_serialized_dag_update_interval" in source(collection)
