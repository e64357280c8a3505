"""Stands over one step on the host: ``python -m proctor.runtime.shim FOLDER LOCK_FD``.

It detaches itself, so that it outlives whoever started the step. It starts the command in
``spawn.json``, notes its own pid with start time in ``shim.json``, keeps the deadline, ends the
step and all its children when asked (SIGTERM), and writes ``exit.json`` in one rename as its last
act. Its starter goes on when ``shim.json`` is there.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proctor.runtime import processes
from proctor.runtime.attempt import now, stamp
from proctor_steps.contract import STEP_DIR_VARIABLE, write_atomically

SPAWN_FILE = "spawn.json"
SHIM_FILE = "shim.json"
EXIT_FILE = "exit.json"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_WAKERS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
# A step's own children get this long after the step itself has ended.
_STRAGGLER_GRACE = 2.0
_DEFAULT_GRACE = 10.0
_A_DAY = 86400.0  # what has no deadline is looked at this often, and stays


@dataclass
class Watch:
    """One step under watch."""

    folder: Path
    spawn: dict[str, Any]
    child: subprocess.Popen[bytes]
    status: int | None = None
    reason: str = ""
    libc: Any = field(default=None, repr=False)

    @property
    def marker(self) -> str:
        """What the step and its children carry in their environment."""
        return f"{STEP_DIR_VARIABLE}={self.spawn['env'][STEP_DIR_VARIABLE]}"

    def others(self) -> set[int]:
        """All processes of the step that live."""
        return processes.members(self.marker, os.getpid())

    def reap(self) -> None:
        """Take note of the ended; as a subreaper, of grandchildren too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.child.pid:
                self.status = status

    def wait(self) -> None:
        """Until the step has ended, its time is over, or somebody asks for its end."""
        allowed = float(self.spawn["deadline_seconds"])
        end = time.monotonic() + allowed
        while self.status is None:
            left = end - time.monotonic() if allowed else _A_DAY
            if left <= 0:
                self.reason = "deadline"
                return
            woken = signal.sigtimedwait(_WAKERS, left)
            if woken is not None and woken.si_signo != signal.SIGCHLD:
                self.reason = "stopped"
                return
            self.reap()

    def finish(self) -> None:
        """End whatever still runs and write ``exit.json``."""
        grace = self.grace() if self.reason else _STRAGGLER_GRACE
        if self.others():
            processes.end_all(self.others, grace, self.reap)
        self.reap()
        code = None if self.status is None else os.waitstatus_to_exitcode(self.status)
        killed = code is not None and code < 0
        oom = killed and not self.reason and _oom_kills() > self.spawn["oom_kills"]
        data = {
            "exit_code": None if killed else code,
            "signal": -code if killed and code is not None else None,
            "reason": self.reason,
            "out_of_memory": oom,
            "finished_at": stamp(now()),
        }
        write_atomically(self.folder / EXIT_FILE, json.dumps(data).encode())

    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL, as whoever asked wishes."""
        try:
            asked = json.loads((self.folder / "stop.json").read_bytes())
            return float(asked["grace_seconds"])
        except (OSError, ValueError, KeyError):
            return _DEFAULT_GRACE


def main(argv: list[str]) -> int:
    """Detach, start, tell the starter, watch. The starter's child returns at once."""
    folder, lock = Path(argv[0]), int(argv[1])
    heard, told = os.pipe()
    if os.fork():
        os.close(told)
        os.close(lock)
        return 0 if os.read(heard, 1) == b"1" else 1
    os.close(heard)
    os.setsid()
    watch = _start(folder)
    os.write(told, b"1")
    os.close(told)
    os.close(lock)
    _quiet(folder)
    watch.wait()
    watch.finish()
    return 0


def _start(folder: Path) -> Watch:
    spawn = json.loads((folder / SPAWN_FILE).read_bytes())
    spawn["oom_kills"] = _oom_kills()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAKERS)
    parent = os.getpid()

    def before_exec() -> None:
        # The step must not outlive its shim: nobody would keep its deadline.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(127)
        os.umask(0o022)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAKERS)

    with (folder / "log.txt").open("ab") as log:
        child = subprocess.Popen(
            spawn["command"],
            env=spawn["env"],
            cwd=spawn["cwd"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=before_exec,
        )
    identity = {"id": processes.identify(parent), "child": child.pid, "started_at": stamp(now())}
    write_atomically(folder / SHIM_FILE, json.dumps(identity).encode())
    return Watch(folder, spawn, child)


def _quiet(folder: Path) -> None:
    """Let go of the starter's terminal and pipes, which it may wait to see closed."""
    log = os.open(folder / "shim.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _oom_kills() -> int:
    """How many processes this machine's kernel has killed for want of memory."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
