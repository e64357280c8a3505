"""SIGKILL of everything, one after another, while LoadGen measures in a container.

The engine's own events say that no container was made twice; the process table and the sockets
say that nothing was left behind.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time

import psutil
import pytest
from faults_kit import STEPS, Command, EngineProxy, Target, killed, until

pytestmark = pytest.mark.docker

# What a component that was started again does in this time is watched before the next one dies.
APART_SECONDS = 8.0


def each_step_once(target: Target) -> None:
    """The engine made and started one container for each step, and none is left."""
    wanted = dict.fromkeys(STEPS, 1)
    until(lambda: target.events.count("destroy") == wanted, 30, "all containers are removed")
    assert target.events.count("create") == wanted
    assert target.events.count("start") == wanted


def succeeded(target: Target, command: Command, process: psutil.Popen) -> None:
    assert process.wait(300) == 0, command.output.read_text()
    assert command.summary["state"] == "succeeded"
    assert target.record().verify_chain() == []
    each_step_once(target)
    target.nothing_is_left()


def test_every_component_and_the_database_die_in_turn(target: Target) -> None:
    command = Command(target.home, {"performance_seconds": 75})
    process = command.start()
    target.measuring()
    for name in ("api-server", "dag-processor", "triggerer", "scheduler"):
        target.kill(name)
        time.sleep(APART_SECONDS)
    target.kill_backend()
    time.sleep(APART_SECONDS)
    target.kill_postgres()
    assert target.container(), "the run ended before the last kill"
    succeeded(target, command, process)


def test_the_task_its_supervisor_and_the_way_to_the_engine_die(target: Target) -> None:
    proxy = EngineProxy(target.home.parent / "engine.sock")
    # A step that is not exclusive stays longer in its worker.
    command = Command(
        target.home,
        {"performance_seconds": 60},
        exclusive=False,
        env={"DOCKER_HOST": proxy.address},
    )
    process = command.start()
    target.started()  # a task waits in a worker for seconds only
    first = killed(until(target.task, 20, "the task waits"))
    second = until(lambda: (t := target.task()) and t.pid != first.pid and t, 60, "another task")
    # LocalExecutor's worker is the supervisor of the task that it runs.
    supervisor = second.parent()
    assert supervisor
    killed(supervisor)
    until(lambda: (t := target.task()) and t.pid != second.pid, 90, "a third task")
    proxy.cut()
    time.sleep(6)
    proxy.mend()
    assert target.container(), "the run ended before the engine was cut off"
    succeeded(target, command, process)
    proxy.close()


def test_the_launcher_dies_twice_and_the_same_command_goes_on(target: Target) -> None:
    command = Command(target.home, {"performance_seconds": 60})
    # Once while the task is in a worker, once when it is in none and LoadGen runs.
    for wait_for, seen in (("running", target.started), ("deferred", target.measuring)):
        process = command.start()
        seen()
        until(lambda: target.state("performance") == wait_for, 90, wait_for)  # noqa: B023
        process.kill()
        process.wait()
    assert target.container(), "the run ended before the second kill"
    succeeded(target, command, command.start())


def test_clear_and_deadline_while_the_triggerer_is_dead(target: Target) -> None:
    command = Command(target.home, {"performance_seconds": 300}, deadline="45s")
    process = command.start()
    first = target.measuring()
    until(lambda: target.state("performance") == "deferred", 60, "deferred")
    triggerer = target.components()["triggerer"]
    frozen = [triggerer, *triggerer.children(recursive=True)]
    for each in frozen:
        each.send_signal(signal.SIGSTOP)

    target.client().clear("crash", target.record().run, ["performance"])
    until(lambda: target.events.dead(first.id), 60, "the cleared attempt's container is gone")
    second = until(target.container, 90, "the attempt after it")
    assert second.id != first.id
    until(lambda: target.state("performance") == "deferred", 60, "deferred again")
    second.pause()  # it hangs so that it cannot end itself either
    time.sleep(45)  # its deadline passes, and nobody looks
    for each in frozen:
        if each.is_running():  # the launcher takes a component that hangs for dead, in the end
            killed(each)
    until(lambda: target.components().get("triggerer", triggerer) != triggerer, 30, "it is back")
    until(lambda: target.events.dead(second.id), 60, "the container past its deadline is gone")

    assert process.wait(120) == 1, command.output.read_text()
    assert "deadline of 45 s" in command.output.read_text()
    target.nothing_is_left()


def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(target: Target) -> None:
    mounted = ["mount", "-t", "tmpfs", "-o", "size=400m,mode=0711", "tmpfs", str(target.home)]
    target.home.mkdir()
    if not shutil.which("mount") or subprocess.run(mounted, check=False).returncode:
        pytest.skip("a small disk of its own needs root")
    try:
        command = Command(target.home, {"performance_seconds": 30})
        process = command.start()
        target.measuring()
        filler = target.home / "filler"
        with filler.open("wb") as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(b"\0" * (1 << 20))
                file.flush()
        assert process.wait(120) == 2, command.output.read_text()
        output = command.output.read_text()
        assert "MiB are free on the disk" in output
        assert "Traceback" not in output
        assert target.record().verify_chain() == []
        filler.unlink()
        again = command.start()
        assert again.wait(300) == 0, command.output.read_text()
        assert "Takes up" in command.output.read_text()
        assert command.summary["state"] == "succeeded"
        target.nothing_is_left()
    finally:
        subprocess.run(["umount", "-l", str(target.home)], check=False)
