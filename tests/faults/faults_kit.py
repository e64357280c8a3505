"""`proctor run` under fire: a run with a real LoadGen in a real container, and who can be killed.

What is asserted comes from outside of Proctor: the engine's events, the process table, sockets.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import docker.errors
import httpx
import psutil
from proctor_command import processes_of

from proctor.records.store import RunRecord
from proctor.site.client import AirflowClient, AirflowUnavailable
from proctor.site.home import Home
from proctor.site.settings import Credentials, user_name

HERE = Path(__file__).parent
SPEC = HERE / "crash.yaml"
STEPS = ("fetch-images", "fetch-annotations", "fetch-model", "filter", "performance", "behind")
POSTGRES, BACKEND = "postgresql", "a backend of postgresql"
COMPONENTS = ("dag-processor", "triggerer", "api-server", "scheduler")


def until(condition: Callable[[], Any], seconds: float, what: str = "") -> Any:
    """The first true value of a condition."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if value := condition():
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds:g} s: {what or condition}")


class EngineEvents:
    """The engine's events of one home's containers, from before the first of them."""

    def __init__(self, home: Path, file: Path, engine: str = "") -> None:
        self._file = file
        command = [sys.executable, str(HERE / "engine_events.py"), str(home), str(file)]
        env = os.environ | ({"DOCKER_HOST": engine} if engine else {})
        self._reader = subprocess.Popen(command, env=env)
        until(lambda: file.exists() and file.stat().st_size, 30, "the engine's events")

    @property
    def pid(self) -> int:
        return self._reader.pid

    def close(self) -> None:
        self._reader.kill()
        self._reader.wait()

    def all(self) -> list[dict[str, Any]]:
        lines = self._file.read_text().splitlines(keepends=True)
        events = [event for line in lines if line.endswith("\n") and (event := json.loads(line))]
        # A reader that lost its engine asks again from a little before.
        return list({(e["timeNano"], e["Actor"]["ID"], e["Action"]): e for e in events}.values())

    def of_run(self, run: str, action: str) -> int:
        """How often any container of a run saw an action, once the reader has it."""

        def seen() -> list[str]:
            mine = [e for e in self.all() if e["Actor"]["Attributes"]["proctor.run"] == run]
            return [e["Action"] for e in mine]

        until(lambda: "destroy" in seen(), 15, f"the container of {run} is removed")
        return seen().count(action)

    def dead(self, container: str) -> bool:
        """Whether a container has ended."""
        return any(e["Action"] == "die" and e["Actor"]["ID"] == container for e in self.all())

    def count(self, action: str) -> Counter[str]:
        """How often each step's containers saw an action (``create``, ``start``, ``die``)."""
        return Counter(step_of(e) for e in self.all() if e["Action"] == action)


def step_of(event: dict[str, Any]) -> str:
    return str(event["Actor"]["Attributes"]["proctor.step"])


@dataclass
class Command:
    """One `proctor run`, its output in a file."""

    home: Path
    settings: dict[str, Any] = field(default_factory=dict)
    deadline: str = "30m"
    exclusive: bool = True
    env: dict[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ("--runtime", "docker", "--yes")
    spec: Path = SPEC
    # For faults that need it: Python that the launcher runs first, and words before its command.
    prelude: str = ""
    prefix: list[str] = field(default_factory=list)

    def start(self) -> psutil.Popen:
        sets = [w for key, value in self.settings.items() for w in ("--set", f"{key}={value}")]
        words = [
            *self.prefix,
            sys.executable,
            "-c",
            f"{self.prelude}from proctor.cli import main; main()",
            "run",
        ]
        words += [str(self._spec()), "--home", str(self.home), *sets, *self.flags]
        words += ["--json", str(self.home.parent / "summary.json")]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "PROCTOR"))}
        kept |= self.env
        with self.output.open("ab") as out:
            return psutil.Popen(
                words,
                stdout=out,
                stderr=out,
                env=kept,
                cwd=self.home.parent,
                start_new_session=True,
            )

    def _spec(self) -> Path:
        """The same file at each start: a changed spec would be another run's."""
        spec = self.home.parent / self.spec.name
        text = self.spec.read_text().replace("deadline: 30m", f"deadline: {self.deadline}")
        if not self.exclusive:
            text = text.replace("    exclusive: true\n", "")
        spec.write_text(text)
        return spec

    @property
    def output(self) -> Path:
        return self.home.parent / "output.txt"

    @property
    def summary(self) -> dict[str, Any]:
        found = json.loads((self.home.parent / "summary.json").read_text())
        assert isinstance(found, dict)
        return found


@dataclass
class Target:
    """A home with a run on it, seen from outside."""

    home: Path
    events: EngineEvents
    ports: set[int] = field(default_factory=set)
    engine: Callable[[], docker.DockerClient] = docker.from_env

    def components(self) -> dict[str, psutil.Process]:
        """The processes that the launcher has written down and that live."""
        path = self.home / "airflow" / "processes.json"
        try:
            written = json.loads(path.read_text())
        except (OSError, ValueError):
            return {}
        found = {}
        for name, (pid, started) in written.items():
            try:
                process = psutil.Process(pid)
                if process.create_time() == started:
                    found[name] = process
            except psutil.NoSuchProcess:
                continue
        return found

    def kill(self, name: str) -> psutil.Process:
        """SIGKILL a component; ends when it is dead."""
        process = until(lambda: self.components().get(name), 60, f"{name} runs")
        self._note_port()
        return killed(process)

    def postmaster(self) -> psutil.Process:
        def find() -> psutil.Process | None:
            try:
                pid = int((self.home / "postgres" / "postmaster.pid").read_text().split()[0])
                process = psutil.Process(pid)
                return process if process.name() == "postgres" else None
            except (OSError, ValueError, IndexError, psutil.Error):
                return None

        found = until(find, 90, "PostgreSQL runs")
        assert isinstance(found, psutil.Process)
        return found

    def kill_postgres(self) -> None:
        """The postmaster with all its children, as when memory runs out."""
        postmaster = self.postmaster()
        for child in postmaster.children(recursive=True):
            killed(child)
        killed(postmaster)

    def kill_backend(self) -> None:
        """One connection's process; PostgreSQL then restarts all of them by itself."""

        def busy() -> psutil.Process | None:
            found = [c for c in self.postmaster().children() if "postgres postgres" in _line(c)]
            return found[-1] if found else None

        killed(until(busy, 60, "a backend"))

    def strike(self, name: str) -> None:
        """SIGKILL a component, PostgreSQL or one of its backends; harmless where it died first."""
        kills = {POSTGRES: self.kill_postgres, BACKEND: self.kill_backend}
        with contextlib.suppress(psutil.NoSuchProcess):
            kills[name]() if name in kills else self.kill(name)

    def worker(self) -> psutil.Process | None:
        """LocalExecutor's process that supervises a task: Airflow runs both in one."""
        task = self.task()
        return task.parent() if task else None

    def task(self) -> psutil.Process | None:
        """The task runner: the only kind of grandchild that the scheduler has."""
        scheduler = self.components().get("scheduler")
        try:
            workers = scheduler.children() if scheduler else []
            tasks = [child for worker in workers for child in worker.children()]
            return next((t for t in tasks if t.status() != psutil.STATUS_ZOMBIE), None)
        except psutil.NoSuchProcess:
            return None

    def container(self, step: str = "performance") -> Any:
        """The running container of a step, or ``None``."""
        labels = [f"proctor.home={self.home}", f"proctor.step={step}"]
        found = self.engine().containers.list(filters={"label": labels})
        return found[0] if found else None

    def started(self) -> Any:
        """The performance step's container, as soon as it runs."""
        return until(self.container, 180, "the performance run's container runs")

    def measuring(self) -> Any:
        """The performance step's container, once LoadGen writes its log."""
        container = self.started()
        until(self._loadgen_runs, 60, "LoadGen runs")
        return container

    def _loadgen_runs(self) -> bool:
        return any(log.stat().st_size for log in self.home.rglob("mlperf_log_detail.txt"))

    def state(self, task: str) -> str:
        """A task's state as Airflow has it; "" while it does not answer."""
        try:
            states = self.client().task_states("crash", self.record().run)
            return str(states.get(task, {}).get("state"))
        except (OSError, ValueError, AirflowUnavailable, httpx.HTTPError):
            return ""

    def client(self) -> AirflowClient:
        """Airflow's API as the launcher knows it."""
        url = json.loads((self.home / "airflow" / "url.json").read_text())["url"]
        password = Credentials.of(Home(self.home)).password
        return AirflowClient(url, user_name(), password)

    def record(self) -> RunRecord:
        (found,) = Home(self.home).records.runs()
        return found

    def processes(self) -> list[str]:
        """Whatever has to do with this home, but for the reader of the engine's events."""
        reader = f"{self.events.pid} "
        return [line for line in processes_of(self.home) if not line.startswith(reader)]

    def nothing_is_left(self) -> None:
        """No process, no socket, no container."""
        until(lambda: not self.processes(), 15, f"left: {self.processes()}")
        listening = {c.laddr.port for c in psutil.net_connections("tcp") if c.status == "LISTEN"}
        assert not listening & self.ports
        assert not self.containers()

    def containers(self) -> list[Any]:
        """All of this home, whatever their state."""
        label = f"proctor.home={self.home}"
        return list(self.engine().containers.list(all=True, filters={"label": label}))

    def clear_away(self) -> None:
        """End what a test that failed has left."""
        for line in self.processes():
            with contextlib.suppress(psutil.Error):
                psutil.Process(int(line.split()[0])).kill()
        for container in self.containers():
            with contextlib.suppress(docker.errors.APIError):
                container.remove(force=True)

    def _note_port(self) -> None:
        try:
            url = json.loads((self.home / "airflow" / "url.json").read_text())["url"]
            self.ports.add(int(url.rsplit(":", 1)[1]))
        except (OSError, ValueError):
            return


class EngineProxy:
    """A way to the engine that can be cut: a Unix socket between its clients and its own."""

    def __init__(self, path: Path) -> None:
        self.address = f"unix://{path}"
        engine = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        self._target = engine.removeprefix("unix://")
        self._path, self._open = path, True
        self._pairs: set[socket.socket] = set()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        """Every connection breaks, and no new one is answered."""
        self._open = False
        for end in list(self._pairs):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._open = True

    def close(self) -> None:
        self.cut()
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if not self._open:
                client.close()
                continue
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(self._target)
            self._pairs |= {client, engine}
            for one, other in ((client, engine), (engine, client)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)
        self._pairs.discard(one)


def killed(process: psutil.Process) -> psutil.Process:
    """SIGKILL, and wait for the end."""
    with_zombie = time.monotonic() + 10
    try:
        process.send_signal(signal.SIGKILL)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < with_zombie, f"{process} survives SIGKILL"
            time.sleep(0.01)
    except psutil.NoSuchProcess:
        pass
    return process


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
