"""Airflow's components as our own processes: started in groups, watched, restarted, ended.

What runs is written down with pid and start time, so that the next launcher ends what a killed one
left behind, and nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from proctor_steps.contract import write_atomically

# Airflow's log servers would listen on every interface. On one host nobody needs them: the
# API server reads the log files themselves.
COMPONENTS: dict[str, tuple[str, ...]] = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
STOP_SECONDS = 10.0
# A component that dies more often than this within a minute will not be mended by a restart.
RESTARTS_A_MINUTE = 8


class ComponentFailed(Exception):
    """A component keeps dying; the message names its log."""


@dataclass
class Components:
    """The running components of one home.

    ``more``: what runs beside Airflow's own. ``proxied``: a proxy on this host says who asks.
    """

    folder: Path
    environment: Mapping[str, str]
    more: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    proxied: bool = False
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _restarts: dict[str, list[float]] = field(default_factory=dict)

    @property
    def pid_file(self) -> Path:
        """Where the running processes are written down."""
        return self.folder / "processes.json"

    def start(self) -> None:
        """Start all of them."""
        for name in (*COMPONENTS, *self.more):
            self._start(name)

    def restart_dead(self) -> list[str]:
        """Start again what has died; the names.

        Raises:
            ComponentFailed: one dies again and again.
        """
        dead = [name for name, process in self._running.items() if process.poll() is not None]
        for name in dead:
            recent = [t for t in self._restarts.get(name, []) if time.monotonic() - t < 60]
            if len(recent) >= RESTARTS_A_MINUTE:
                raise ComponentFailed(
                    f"{name} died {len(recent)} times within a minute; its log is {self.log(name)}"
                )
            self._restarts[name] = [*recent, time.monotonic()]
            self.restart(name)
        return dead

    def restart(self, name: str) -> None:
        """Kill a component with all its children, and start it anew."""
        process = self._running[name]
        _end_group(process.pid, self.folder)
        process.wait()
        self._start(name)

    def stop(self) -> None:
        """End all of them and their children, the scheduler first so that nothing new starts."""
        groups = [p.pid for p in self._running.values()]
        for process in self._running.values():
            _signal_group(process.pid, signal.SIGTERM)
        give_up = time.monotonic() + STOP_SECONDS
        for process in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, give_up - time.monotonic()))
        for group in groups:
            _end_group(group, self.folder)
        for process in self._running.values():
            process.wait()
        self._running.clear()
        self.pid_file.unlink(missing_ok=True)

    def log(self, name: str) -> Path:
        """A component's own log."""
        return self.folder / f"{name}.log"

    def _start(self, name: str) -> None:
        words = (COMPONENTS | dict(self.more))[name]
        command = [sys.executable, "-m", "proctor.site.component", *words]
        if name == "api-server" and self.proxied:
            command.append("--proxy-headers")
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                env=dict(self.environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        written = {n: [p.pid, _start_time(p.pid)] for n, p in self._running.items()}
        write_atomically(self.pid_file, json.dumps(written).encode())


_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """In a child process: have the kernel end it when the launcher dies, however that comes."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def end_leftovers(folder: Path) -> list[str]:
    """End components that an earlier launcher left running; their names."""
    path = folder / "processes.json"
    if not path.is_file():
        return []
    ended = []
    for name, (pid, started) in json.loads(path.read_text()).items():
        if _start_time(pid) == started:
            _signal_group(pid, signal.SIGTERM)
            ended.append(name)
    if ended:
        time.sleep(2)
    for pid, _ in json.loads(path.read_text()).values():
        _end_group(pid, folder)
    path.unlink()
    return ended


def _start_time(pid: int) -> float | None:
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _end_group(session: int, folder: Path) -> None:
    """Kill whatever is left of a session: Airflow's workers make process groups of their own.

    After a reboot the number may be another session's: ours work in ``folder``.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == session and process.cwd() == str(folder.resolve()):
                process.kill()
