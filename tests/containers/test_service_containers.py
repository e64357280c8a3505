"""Services in containers: what the engine was asked for, what the network lets through, crashes."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proctor.airflow.attempts import StepRun
from proctor.airflow.cleanup import remove_orphans, stop_running
from proctor.airflow.evidence import StepRefused
from proctor.airflow.services import ServiceRun
from proctor.plan.compile import compile
from proctor.runtime import engine as engine_module
from proctor.runtime import images, network
from proctor.runtime.base import Handle, Listening, Outcome, RequestRefused
from proctor.runtime.bench import Bench
from proctor.runtime.docker import DockerRuntime
from proctor.runtime.network import name_of
from proctor.site.home import Home
from proctor.spec.load import parse_pipeline

pytestmark = pytest.mark.docker
LISTENING = Listening(port=8000, ready="/ready")
SERVE = ("selfcheck", "serve")


@pytest.fixture(scope="module")
def engine(docker_engine: Any) -> Any:
    images.build(["steps"], lambda line: None)
    return docker_engine


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="proctor-services-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture
def bench(engine: Any, home: Path) -> Iterator[Bench]:
    images.build(["steps"], lambda line: None)
    made = Bench(DockerRuntime(home), home)
    yield made
    made.clean()
    assert left(engine, home) == ([], [])


def left(engine: Any, home: Path) -> tuple[list[str], list[str]]:
    """What the engine still has of a home: containers (probes, too) and networks."""
    containers = [
        each.name
        for label in ("proctor.home", "proctor.probe")
        for each in engine.containers.list(all=True, filters={"label": f"{label}={home}"})
    ]
    nets = engine.networks.list(filters={"label": f"proctor.home={home}"})
    return containers, [each.name for each in nets]


def serve(
    bench: Bench, step: str = "echo", act: dict[str, Any] | None = None, **more: Any
) -> Handle:
    wanted = {"command": SERVE, "listening": LISTENING, "deadline_seconds": 0, **more}
    handle = bench.start(step, act or {}, **wanted)
    end = time.monotonic() + 60
    while not bench.runtime.ready(handle):
        assert bench.runtime.poll(handle).phase == "running", bench.runtime.tail(handle)
        assert time.monotonic() < end
        time.sleep(0.1)
    return handle


def seen(outcome: Outcome) -> dict[str, Any]:
    assert outcome.failure is None and outcome.result is not None, outcome.failure
    found: Any = outcome.result.metrics["seen"]
    return dict(found)


@pytest.fixture
def host_port() -> Iterator[int]:
    """Something on this host that listens on every interface."""
    with http.server.HTTPServer(("0.0.0.0", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def addresses() -> list[str]:
    """Every IPv4 address of this host, bridges of the engine included."""
    said = subprocess.run(["ip", "-j", "-4", "addr"], capture_output=True, text=True, check=True)
    return [a["local"] for link in json.loads(said.stdout) for a in link["addr_info"]]


# --- the network ---------------------------------------------------------------------------------


def test_nothing_outside_is_reached_from_the_network(
    bench: Bench, engine: Any, host_port: int
) -> None:
    handle = serve(bench)
    net = engine.networks.get(name_of(bench.home, "selfcheck", bench.run))
    gateway = net.attrs["IPAM"]["Config"][0]["Gateway"]
    places = [f"{address}:{host_port}" for address in {*addresses(), gateway} - {"127.0.0.1"}]
    assert any(_open(place) for place in places)  # it is there for others
    places += ["1.1.1.1:443", "8.8.8.8:53", "example.org:80"]
    reach = [*places, "echo:8000"]
    found = seen(bench.finish(bench.start("ask", {"reach": reach}, services={"echo": handle.url})))
    assert found["reached"] == ["echo:8000"]
    assert found["services"] == {"echo": "hello"}
    for step in ("echo", "ask"):
        told = engine.containers.get(bench.runtime.find("selfcheck", bench.run, step).id).attrs  # type: ignore[union-attr]
        assert list(told["NetworkSettings"]["Networks"]) == [net.name]
        # Or the engine would ask the host's name servers for it.
        assert told["HostConfig"]["Dns"] == ["127.0.0.1"]


def _open(place: str) -> bool:
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def test_nobody_outside_reaches_the_service(bench: Bench, engine: Any) -> None:
    handle = serve(bench)
    told = engine.containers.get(handle.id).attrs
    assert not told["HostConfig"]["PortBindings"] and not told["HostConfig"]["PublishAllPorts"]
    address = told["NetworkSettings"]["Networks"][name_of(bench.home, "selfcheck", bench.run)]
    place = f"{address['IPAddress']}:8000"
    assert not _answers_hello(place)
    # Not "cannot connect": on some networks something answers for any address.
    assert "hello" not in _from_the_bridge(engine, place)
    alone = seen(bench.finish(bench.start("alone", {"reach": [place, "echo:8000"]})))
    assert alone["reached"] == []


def _from_the_bridge(engine: Any, place: str) -> str:
    """What a container of somebody else's, on the engine's usual network, is answered."""
    code = (
        "import urllib.request as u\n"
        f"try: print(u.urlopen('http://{place}/', timeout=3).read().decode())\n"
        "except OSError as error: print(type(error).__name__)"
    )
    image, python = engine.images.get("proctor/steps:latest").id, "/opt/venv/bin/python"
    said = engine.containers.run(image, entrypoint=[], command=[python, "-c", code], remove=True)
    return str(said.decode())


def _answers_hello(place: str) -> bool:
    try:
        with socket.create_connection(tuple(place.split(":")), timeout=2) as sock:  # type: ignore[arg-type]
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"hello" in sock.recv(4096)
    except OSError:
        return False


def test_runs_do_not_see_each_others_services(bench: Bench) -> None:
    serve(bench, act={"text": "of one run"})
    other = Bench(bench.runtime, bench.home)
    handle = serve(other, act={"text": "of another"})
    found = seen(other.finish(other.start("ask", services={"echo": handle.url})))
    assert found["services"] == {"echo": "of another"}
    other.clean()


def test_a_step_with_network_and_services_has_both(bench: Bench, host_port: int) -> None:
    handle = serve(bench)
    bridge = next(a for a in addresses() if a.startswith("172.17."))
    act = {"reach": [f"{bridge}:{host_port}", "echo:8000"]}
    found = seen(
        bench.finish(bench.start("both", act, network=True, services={"echo": handle.url}))
    )
    assert found["reached"] == act["reach"]


def test_a_service_is_locked_up_as_a_step_is(bench: Bench, engine: Any) -> None:
    handle = serve(bench, resources={"cpus": 1}, exclusive=True)
    told = engine.containers.get(handle.id).attrs
    host = told["HostConfig"]
    assert host["CapDrop"] == ["ALL"] and host["ReadonlyRootfs"] and not host["Privileged"]
    assert host["SecurityOpt"] == ["no-new-privileges"] and host["PidsLimit"] > 0
    assert host["Memory"] == host["MemorySwap"] == 4 * 1024**3
    assert host["LogConfig"]["Config"]["max-size"]
    assert told["Config"]["User"].split(":")[0] != "0"
    assert host["NanoCpus"] == host["CpuQuota"] == 0  # what measures is not throttled
    assert host["CpusetCpus"] == str(max(os.sched_getaffinity(0)))


def test_another_image_listens_on_its_port(bench: Bench, engine: Any) -> None:
    base = engine.images.get("proctor/steps:latest").id
    code = (
        "import http.server as h;h.HTTPServer(('',8000),h.SimpleHTTPRequestHandler).serve_forever()"
    )
    listening = Listening(port=8000)
    handle = serve(bench, image=base, command=("python3", "-c", code), listening=listening)
    found = seen(bench.finish(bench.start("ask", {"reach": ["echo:8000"]}, services={})))
    assert found["reached"] == []  # a step that does not name it
    act = {"reach": ["echo:8000"]}
    found = seen(bench.finish(bench.start("asks", act, services={"echo": handle.url})))
    assert found["reached"] == ["echo:8000"]


def test_networks_and_probes_that_nobody_is_in_are_swept_away(bench: Bench, engine: Any) -> None:
    handle = serve(bench)
    network._ensure(bench.home, "selfcheck", "an-ended-run")
    (said,) = bench.runtime.sweep()
    assert "which nobody was in" in said
    assert bench.runtime.ready(handle)
    assert left(engine, bench.home)[1] == [name_of(bench.home, "selfcheck", bench.run)]


# --- devices -------------------------------------------------------------------------------------


def test_gpus_become_a_device_request(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    """On what is sent to the engine: a socket in front of the engine's own keeps a copy."""
    with _Tap(bench.home / "tap.sock") as tap:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tap.path}")
        engine_module._client.cache_clear()
        try:
            for more in ({}, {"command": SERVE, "listening": LISTENING, "deadline_seconds": 0}):
                try:
                    bench.start("gpu", resources={"gpus": 2}, **more)
                except RequestRefused as error:
                    assert not engine.info()["Runtimes"].get("nvidia")
                    assert "no device driver that gives it GPUs" in str(error)
                    assert "leave `resources.gpus` out" in str(error)
                bench.clean()
        finally:
            monkeypatch.undo()
            engine_module._client.cache_clear()
    bodies = tap.created()
    assert len(bodies) == 2
    for body in bodies:
        (request,) = body["HostConfig"]["DeviceRequests"]
        assert request["Count"] == 2
        assert request["Capabilities"] == [["gpu"]]


class _Tap:
    """Passes every connection on to the engine's socket and keeps what clients send."""

    def __init__(self, path: Path) -> None:
        self.path, self.sent = path, []  # type: Path, list[bytearray]
        self._server = socket.socket(socket.AF_UNIX)
        given = os.environ.get("DOCKER_HOST", "")
        self._engine = given.removeprefix("unix://") or "/var/run/docker.sock"

    def __enter__(self) -> _Tap:
        self._server.bind(str(self.path))
        self._server.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(self._engine)
            self.sent.append(bytearray())
            for source, target, kept in ((client, engine, self.sent[-1]), (engine, client, None)):
                threading.Thread(
                    target=self._pass, args=(source, target, kept), daemon=True
                ).start()

    def _pass(self, source: socket.socket, target: socket.socket, kept: bytearray | None) -> None:
        try:
            while data := source.recv(65536):
                if kept is not None:
                    kept += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def created(self) -> list[dict[str, Any]]:
        """The bodies of all requests to create a container."""
        found = []
        for sent in self.sent:
            for part in bytes(sent).split(b"POST ")[1:]:
                head, _, rest = part.partition(b"\r\n\r\n")
                if b"/containers/create" in head.splitlines()[0]:
                    found.append(json.JSONDecoder().raw_decode(rest.decode(errors="replace"))[0])
        return found


# --- crashes -------------------------------------------------------------------------------------

SPEC = """
pipeline: p
services:
  echo: {image: proctor/steps, command: selfcheck serve, port: 8000, ready: /ready, params: %s}
steps:
  - id: ask
    image: proctor/steps
    command: selfcheck act
    services: echo
    params: {seconds: %s, end: %s}
"""


class Run:
    """A run with a service, without Airflow around it."""

    def __init__(self, home: Path, act: str = "{}", seconds: float = 0, end: str = "ok") -> None:
        self.home, self.runtime = Home(home), DockerRuntime(home)
        self.home.create()
        self.plan = compile(parse_pipeline(SPEC % (act, seconds, end), "p.yaml"))
        self.record = self.home.records.run("p", "r")
        self.home.records.save_plan(self.plan)
        if not self.record.exists():
            header = {"params": {}, "runtime": "docker"}
            self.record.append("header", plan_digest=self.plan.digest, data=header)

    @property
    def step(self) -> StepRun:
        return StepRun(self.home, self.plan, self.plan.step("ask"), self.record, self.runtime)

    @property
    def service(self) -> ServiceRun:
        echo = self.plan.service("echo")
        return ServiceRun(self.home, self.plan, echo, self.record, self.runtime)

    def finished(self, handle: Handle) -> Outcome:
        end = time.monotonic() + 60
        while self.runtime.poll(handle).phase == "running":
            assert time.monotonic() < end
            time.sleep(0.1)
        return self.step.finish(handle)


@pytest.fixture
def run(engine: Any, home: Path) -> Iterator[Run]:
    images.build(["steps"], lambda line: None)
    made = Run(home)
    yield made
    stop_running(made.home, "docker")
    made.runtime.sweep()
    assert left(engine, home) == ([], [])


def creates(engine: Any, home: Path, step: str, since: float) -> int:
    """How often the engine made a container for it: its own word."""
    told = engine.events(
        since=int(since), until=int(time.time()) + 1, decode=True,
        filters={"label": f"proctor.home={home}", "event": "create", "type": "container"},
    )  # fmt: skip
    return len([e for e in told if e["Actor"]["Attributes"].get("proctor.step") == step])


def test_whoever_starts_it_and_dies_its_container_is_created_once(run: Run, engine: Any) -> None:
    since = time.time() - 1
    for point in ("before", "started", "ready"):
        script = _DIES.replace("POINT", repr(point))
        command = [sys.executable, "-c", script, str(run.home.path)]
        died = subprocess.run(command, capture_output=True, text=True, check=False)
        assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
    taken = run.step.take_up_or_start()
    assert isinstance(taken, Handle)
    assert run.finished(taken).failure is None
    assert run.service.end()[0] == "stopped"
    assert creates(engine, run.home.path, "echo", since) == 1
    assert creates(engine, run.home.path, "ask", since) == 1
    assert left(engine, run.home.path) == ([], [])


# Killed by the kernel's hand at a chosen point of ensuring the service.
_DIES = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, "TESTS")
from test_service_containers import Run
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
run = Run(Path(sys.argv[1]))
service = run.service
if POINT == "before":
    type(run.runtime).start = die
elif POINT == "started":
    start = type(run.runtime).start
    type(run.runtime).start = lambda self, request: die(start(self, request))
else:
    type(run.runtime).ready = die
service.ensure()
""".replace("TESTS", str(Path(__file__).parent))


def test_killed_in_the_middle_the_step_fails_and_says_why(run: Run, engine: Any) -> None:
    lasting = Run(run.home.path / "lasting", seconds=3, end="step_error")
    taken = lasting.step.take_up_or_start()
    assert isinstance(taken, Handle)
    engine.containers.get(lasting.service.ensure().id).kill()
    failure = lasting.finished(taken).failure
    assert failure is not None and failure.kind == "step"
    assert "its service 'echo' had ended: it was killed by SIGKILL" in failure.message
    assert "serving" in failure.message
    assert "SIGKILL" in lasting.service.end()[0]
    assert left(engine, lasting.home.path) == ([], [])


def test_one_that_was_killed_is_replaced_for_the_next_step(run: Run, engine: Any) -> None:
    first = run.service.ensure()
    engine.containers.get(first.id).kill()
    taken = run.step.take_up_or_start()
    assert isinstance(taken, Handle)
    assert run.finished(taken).failure is None
    assert [s.attempt for s in run.runtime.ours() if s.step == "echo"] == [2]


def test_one_that_ends_by_itself_before_it_is_ready(run: Run, engine: Any) -> None:
    short = Run(run.home.path / "short", act="{ready_after: 60, end_after: 1}")
    with pytest.raises(StepRefused, match=r"exit code 3.*the service ends, as asked"):
        short.step.take_up_or_start()
    assert left(engine, short.home.path) == ([], [])


def test_a_launcher_that_ends_takes_its_services_with_it(run: Run, engine: Any) -> None:
    run.service.ensure()
    assert stop_running(run.home, "docker") == ["stopped p/r/echo"]
    assert left(engine, run.home.path) == ([], [])


def test_what_a_killed_launcher_left_of_an_unknown_run_is_removed(run: Run, engine: Any) -> None:
    run.service.ensure()
    run.record.path.unlink()
    said = remove_orphans(run.home, run.runtime)
    assert said[0] == "removed p/r/echo, which no run wants"
    assert left(engine, run.home.path) == ([], [])
