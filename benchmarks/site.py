"""An instance under measurement: a launcher as a process of its own, asked over its REST API."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.harness import NotHere
from proctor.airflow.dag import task_ids
from proctor.plan.model import Plan
from proctor.runtime.base import EngineError
from proctor.runtime.docker import DockerRuntime
from proctor.runtime.engine import check
from proctor.site.client import AirflowClient
from proctor.site.home import Home
from proctor.site.runs import new_run_id
from proctor.site.settings import Credentials, user_name

_PATIENCE_SECONDS = 900.0


def need_engine() -> None:
    """Containers are measured, so an engine must answer.

    Raises:
        NotHere: none does.
    """
    try:
        check()
    except EngineError as error:
        raise NotHere(f"needs a Docker engine: {error}") from error


@contextmanager
def folder() -> Iterator[Path]:
    """A scratch folder that the user of PostgreSQL may pass through; removed at the end."""
    made = Path(tempfile.mkdtemp(prefix="proctor-benchmark-"))
    made.chmod(0o711)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@dataclass
class Instance:
    """A running instance and its launcher."""

    home: Home
    launcher: subprocess.Popen[bytes]
    client: AirflowClient
    _http: httpx.Client | None = None

    def start(self, pipeline: str, params: Mapping[str, Any] | None = None) -> str:
        """Trigger a run; its id."""
        run = new_run_id()
        self.client.trigger(pipeline, run, params or {})
        return run

    def wait(self, pipeline: str, run: str, ask_seconds: float = 1.0) -> dict[str, dict[str, Any]]:
        """Until a run has succeeded; its tasks."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while (state := self.client.run_state(pipeline, run)) not in ("success", "failed"):
            if time.monotonic() > end:
                break
            time.sleep(ask_seconds)
        tasks = self.client.task_states(pipeline, run)
        if state != "success":
            states = {id: task["state"] for id, task in tasks.items()}
            raise RuntimeError(f"{pipeline}/{run} ended as {state}: {states}")
        return tasks

    def roots(self) -> dict[str, int]:
        """The launcher and every process that it started, PostgreSQL's first by its own file."""
        home = self.home.path
        written = json.loads((home / "airflow" / "processes.json").read_text())
        postmaster = int((home / "postgres" / "postmaster.pid").read_text().split()[0])
        roots = {
            "launcher": self.launcher.pid,
            "postgresql": postmaster,
            **{name: int(pid) for name, (pid, _) in written.items()},
        }
        for name, pid in roots.items():
            if not psutil.pid_exists(pid):
                raise RuntimeError(f"{name} is not there (process {pid})")
        return roots

    def get(self, path: str) -> httpx.Response:
        """What the API server answers the owner; raises where that is an error."""
        if self._http is None:
            base = json.loads((self.home.path / "airflow" / "url.json").read_text())["url"]
            self._http = httpx.Client(base_url=base, timeout=60, trust_env=False)
            body = {"username": user_name(), "password": Credentials.of(self.home).password}
            token = self._http.post("/auth/token", json=body).json()["access_token"]
            self._http.headers["Authorization"] = f"Bearer {token}"
            self._http.cookies.set("_token", token)
        return self._http.get(path).raise_for_status()

    def wait_for_task(
        self, pipeline: str, run: str, task: str, state: str, settle_seconds: float = 0
    ) -> None:
        """Until a task has come to a state, and a little longer."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < end:
            if self.client.task_states(pipeline, run).get(task, {}).get("state") == state:
                time.sleep(settle_seconds)
                return
            time.sleep(1.0)
        raise RuntimeError(f"{pipeline}/{run}/{task} did not come to {state!r}")


def proctor(*words: str) -> list[str]:
    """The command line ``proctor``, run by this interpreter."""
    return [sys.executable, "-c", "from proctor.cli import main; main()", *words]


@contextmanager
def launched(
    home: Path, command: Sequence[str], plans: Sequence[Plan], *, terminal: bool = False
) -> Iterator[Instance]:
    """Run a launcher on a home until these plans are its DAGs; stop it after.

    Nothing of it differs from what a user starts: default configuration, no variable set.
    ``terminal``: it draws its progress as on a person's screen.
    """
    home.mkdir(parents=True, exist_ok=True)
    log = home.parent / f"{home.name}.log"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "PROCTOR"))}
    with log.open("ab") as out:
        sink = _screen(log) if terminal else os.dup(out.fileno())
        launcher = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=out, env=inherited
        )
        os.close(sink)
    try:
        client = _client(home, launcher, log)
        _wait_for_dags(client, plans, launcher, log)
        yield Instance(Home(home), launcher, client)
    finally:
        launcher.send_signal(signal.SIGINT)
        try:
            launcher.wait(90)
        except subprocess.TimeoutExpired:
            launcher.kill()
        _remove_containers(home)


def _remove_containers(home: Path) -> None:
    """What was cancelled stays for the next launcher of a home; this home has none."""
    runtime = DockerRuntime(home)
    for handle in runtime.ours():
        runtime.stop(handle, 0)
        runtime.remove(handle)


def _screen(log: Path) -> int:
    """A terminal to write to; somebody must read what is drawn, so it goes to a file."""
    screen, writer = pty.openpty()

    def read() -> None:
        # Reading fails once nobody has the other side any more.
        with contextlib.suppress(OSError), log.with_suffix(".screen").open("ab") as out:
            while data := os.read(screen, 65536):
                out.write(data)
        os.close(screen)

    threading.Thread(target=read, daemon=True).start()
    return writer


def _client(home: Path, launcher: subprocess.Popen[bytes], log: Path) -> AirflowClient:
    path = home / "airflow" / "url.json"
    while not path.is_file():
        _check_alive(launcher, log)
        time.sleep(0.3)
    url = json.loads(path.read_text())["url"]
    client = AirflowClient(url, user_name(), Credentials.of(Home(home)).password)
    client.wait_until_ready(60, lambda: _check_alive(launcher, log))
    return client


def _wait_for_dags(
    client: AirflowClient, plans: Sequence[Plan], launcher: subprocess.Popen[bytes], log: Path
) -> None:
    wanted = {dag: tasks for plan in plans for dag, tasks in task_ids(plan).items()}
    for dag, tasks in wanted.items():
        while not client.has_dag(dag, tasks):
            _check_alive(launcher, log)
            time.sleep(0.3)


def _check_alive(launcher: subprocess.Popen[bytes], log: Path) -> None:
    if launcher.poll() is not None:
        raise RuntimeError(f"the launcher ended: {log.read_text(errors='replace')[-2000:]}")


def moment(text: str) -> float:
    """Seconds since the epoch, of one of Airflow's times."""
    return datetime.fromisoformat(text).timestamp()
