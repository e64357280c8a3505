"""Images that mean harm: what each reaches for is refused or limited, is said, and harms nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from foreign_kit import NAME, failure_of, shell
from proctor.runtime.base import Handle, OutputTarget
from proctor.runtime.docker import DockerRuntime
from proctor.runtime.logfile import CHUNK
from proctor.runtime.selfcheck import Bench
from proctor.site import room
from proctor.site.home import Home
from proctor.site.room import Room

pytestmark = pytest.mark.docker
OUT = (OutputTarget(name="made", mount_path="/made"),)
MB = 10**6


def said(bench: Bench, step: str, script: str, **more: Any) -> str:
    """What a script of a step's prints, whatever becomes of it."""
    handle = shell(bench, step, f"{script} 2>&1; true", **more)
    assert bench.finish(handle).failure is None
    return "\n".join(bench.runtime.logs(handle).lines)


def ended_at_its_deadline(bench: Bench, handle: Handle) -> tuple[str, str]:
    """As whoever waits for it ends it."""
    bench.runtime.stop(handle, grace_seconds=2)
    return failure_of(bench.runtime.collect(handle))


def others_can_work(bench: Bench) -> None:
    """A step beside it, and programs of the host."""
    assert bench.finish(shell(bench, "beside", "echo fine")).failure is None
    assert subprocess.run(["true"], check=False).returncode == 0


# --- what it looks for ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        ("ls /var/run/docker.sock", "No such file"),
        ("touch /etc/x", "Read-only file system"),
        ("ls /root", "Permission denied"),
        ("mknod /tmp/sda b 8 0", "Operation not permitted"),
        ("chroot / true", "Operation not permitted"),
        ("python3 -c 'import os; os.setuid(0)'", "Operation not permitted"),
        ("python3 -c 'import socket; socket.create_connection((\"172.17.0.1\", 22), 2)'",
         "Network is unreachable"),
        ("cp /bin/true /tmp/x; chmod +x /tmp/x; /tmp/x", "Permission denied"),
        ("grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"),
        ("grep CapEff /proc/self/status", "CapEff:\t0000000000000000"),
    ],
)  # fmt: skip
def test_what_it_reaches_for(bench: Bench, script: str, answer: str) -> None:
    assert answer in said(bench, "reaches", script)


# --- what it uses up -----------------------------------------------------------------------------

BOMB = """\
import os, time
while True:
    try:
        os.fork()
    except OSError as error:
        print("refused:", error, flush=True)
        time.sleep(600)
"""


def test_a_fork_bomb_stays_in_its_box_and_ends_with_it(bench: Bench) -> None:
    few = {"cpus": 0.5}
    handle = bench.start(
        "bomb", command=("python3", "-c", BOMB), resources=few, deadline_seconds=600
    )
    bench.wait_for_line(handle, "refused: [Errno 11] Resource temporarily unavailable")
    pid = bench.runtime.pid(handle)
    assert pid is not None
    inside = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    assert 512 < len(inside) <= 1024
    others_can_work(bench)
    kind, _ = ended_at_its_deadline(bench, handle)
    assert kind == "cancelled"
    assert [each for each in inside if psutil.pid_exists(each) and _lives(each)] == []


def _lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("script", ["yes", "tr '\\0' x </dev/zero"], ids=["lines", "one line"])
def test_a_log_without_end_takes_no_more_than_its_room(
    bench: Bench, docker_engine: Any, script: str
) -> None:
    handle = shell(bench, "endless", script, resources={"cpus": 0.5}, deadline_seconds=600)
    size, since, give_up = 0, "", time.monotonic() + 8
    while time.monotonic() < give_up:
        chunk = bench.runtime.logs(handle, since)
        assert sum(len(line) + 1 for line in chunk.lines) <= 2 * CHUNK
        size, since = size + len(chunk.lines), chunk.next
    others_can_work(bench)
    kept = Path(docker_engine.containers.get(handle.id).attrs["LogPath"])
    begun = time.monotonic()
    _, message = ended_at_its_deadline(bench, handle)
    assert time.monotonic() - begun < 60
    assert len(message) < 2000
    if kept.parent.is_dir():  # the engine may be on another machine
        assert sum(path.stat().st_size for path in kept.parent.glob("*-json.log*")) < 34 * MB
    assert bench.runtime.tail(handle, 3)


@pytest.fixture
def small_disk(foreign: str) -> Iterator[Path]:
    """A disk of 256 MB, as the home's."""
    folder = Path(tempfile.mkdtemp(prefix="proctor-disk-"))
    words = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(words, check=False).returncode:
        end = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        end("no right to mount a small file system")
    folder.chmod(0o711)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


def test_a_huge_output_ends_the_step_alone(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "RESERVE_BYTES", 100 * MB)
    bench = Bench(DockerRuntime(small_disk / "home"), small_disk / "home", image=NAME)
    watch = Room(Home(bench.home), "docker")
    try:
        more = "while :; do head -c 4000000 /dev/zero >> /made/part; sleep 0.05; done"
        handle = shell(bench, "huge", more, outputs=OUT, deadline_seconds=600)
        give_up, told = time.monotonic() + 120, list[str]()
        while not (told := watch.look()):
            assert time.monotonic() < give_up
            time.sleep(0.2)
        assert "/huge: it has written 1" in told[0]
        kind, message = failure_of(bench.runtime.collect(handle))
        assert kind == "step" and "give the home a larger disk" in message
        bench.runtime.remove(handle)
        assert shutil.disk_usage(small_disk).free > 200 * MB
        others_can_work(bench)
    finally:
        bench.clean()


def test_an_output_that_meets_the_end_of_the_disk_says_so(small_disk: Path) -> None:
    bench = Bench(DockerRuntime(small_disk / "home"), small_disk / "home", image=NAME)
    try:
        handle = shell(bench, "huge", "cat /dev/zero > /made/all", outputs=OUT)
        kind, message = failure_of(bench.finish(handle))
        assert kind == "step" and "No space left on device" in message
        bench.runtime.remove(handle)
        others_can_work(bench)
    finally:
        bench.clean()
