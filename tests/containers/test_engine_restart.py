"""What becomes of a step whose engine dies: a second engine, in a network namespace of its own."""

import os
import shutil
import signal
import subprocess
import tarfile

import docker
import docker.errors
import pytest

from engine_kit import NEEDED, Engine
from proctor.runtime import docker as docker_runtime
from proctor.runtime import engine as clients
from proctor.runtime.base import EngineError
from proctor.runtime.docker import DockerRuntime
from proctor.runtime.selfcheck import Bench

pytestmark = pytest.mark.docker
IMAGE = "restart-test:1"


@pytest.fixture
def engine(monkeypatch):
    missing = [name for name in (*NEEDED, "ldd") if not shutil.which(name)]
    if os.geteuid() or missing:
        why = f"needs root and {', '.join(NEEDED)} and ldd; missing: {missing}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)
    made = Engine()
    monkeypatch.setenv("DOCKER_HOST", made.address)
    monkeypatch.setattr(docker_runtime, "_ENGINE_PID", made.pid_file)
    clients._client.cache_clear()
    client = made.start()
    import_image(client, made.folder)
    yield made
    clients._client.cache_clear()
    made.remove()


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
