"""What becomes of a step whose engine dies: a second engine, in a network namespace of its own."""

import os
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from tempfile import mkdtemp

import docker
import docker.errors
import pytest

from proctor.runtime import docker as docker_runtime
from proctor.runtime import engine as clients
from proctor.runtime import processes
from proctor.runtime.base import EngineError
from proctor.runtime.docker import DockerRuntime
from proctor.runtime.selfcheck import Bench

pytestmark = pytest.mark.docker
NEEDED = ("dockerd", "unshare", "ldd")
IMAGE = "restart-test:1"


class Engine:
    """A dockerd without networks, whose whole state is in one folder."""

    def __init__(self, folder):
        self.folder, self.pid_file = folder, folder / "pid"
        self.address = f"unix://{folder}/sock"
        self.process = None

    def start(self):
        self.pid_file.unlink(missing_ok=True)
        command = ["unshare", "-n", "dockerd", "--host", self.address, "--bridge", "none"]
        command += ["--iptables=false", "--ip6tables=false", "--ip-forward=false"]
        for option, name in (("data-root", "data"), ("exec-root", "exec"), ("pidfile", "pid")):
            command += [f"--{option}", str(self.folder / name)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            try:
                return docker.DockerClient(self.address)
            except docker.errors.DockerException:
                time.sleep(0.2)
        pytest.fail("the engine did not start:\n" + (self.folder / "log").read_text()[-3000:])

    def end(self, number):
        os.kill(int(self.pid_file.read_text()), number)
        self.process.wait(60)
        # Its containerd dies with it, a moment later; a new one cannot start before.
        inner = self.folder / "exec" / "containerd" / "containerd.pid"
        end = time.monotonic() + 30
        while inner.exists() and processes.entry(int(inner.read_text())):
            assert time.monotonic() < end, "containerd outlives its engine"
            time.sleep(0.1)
        inner.unlink(missing_ok=True)


@pytest.fixture
def engine(monkeypatch):
    missing = [name for name in NEEDED if not shutil.which(name)]
    if os.geteuid() or missing:
        why = f"needs root and {', '.join(NEEDED)}; missing: {missing}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)
    # Short: a socket's path may have 107 characters, and the engine adds its own names.
    made = Engine(Path(mkdtemp(prefix="prt-")))
    monkeypatch.setenv("DOCKER_HOST", made.address)
    monkeypatch.setattr(docker_runtime, "_ENGINE_PID", made.pid_file)
    clients._client.cache_clear()
    client = made.start()
    import_image(client, made.folder)
    yield made
    clients._client.cache_clear()
    if made.process.poll() is None:
        made.end(signal.SIGTERM)
    unmount(made.folder)
    shutil.rmtree(made.folder)


def import_image(client, folder):
    """A shell and sleep with their libraries: all that this test runs."""
    programs = ["/bin/sh", "/bin/sleep"]
    told = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    libraries = {word for word in told.split() if word.startswith("/") and ":" not in word}
    with tarfile.open(folder / "image.tar", "w", dereference=True) as tar:
        for path in [*programs, *sorted(libraries)]:
            tar.add(path)
    with (folder / "image.tar").open("rb") as data:
        client.api.import_image_from_data(data, *IMAGE.split(":"))


def unmount(folder):
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        if line.split()[1].startswith(f"{folder}/"):
            subprocess.run(["umount", line.split()[1]], check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_step_that_ends_with_its_engine_is_the_engines_failure(engine, tmp_path, number):
    bench = Bench(DockerRuntime(tmp_path), tmp_path, image=IMAGE)
    handle = bench.start("victim", command=("sh", "-c", "echo ready; sleep 600"))
    bench.wait_for_line(handle, "ready")
    engine.end(number)
    with pytest.raises(EngineError, match="engine"):
        bench.runtime.poll(handle)
    engine.start()
    assert bench.runtime.find("selfcheck", bench.run, "victim") == handle
    assert bench.runtime.poll(handle).phase == "gone"
    assert bench.runtime.logs(handle).lines == ("ready",)
    assert bench.runtime.collect(handle).failure.kind == "engine"
    bench.clean()


def test_a_kill_is_not_laid_at_the_engines_door(engine, tmp_path):
    bench = Bench(DockerRuntime(tmp_path), tmp_path, image=IMAGE)
    handle = bench.start("victim", command=("sh", "-c", "exec sleep 600"))
    docker.DockerClient(engine.address).containers.get(handle.id).kill("SIGKILL")
    assert bench.finish(handle).failure.kind == "killed"
    bench.clean()
