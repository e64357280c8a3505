"""Runs the project's own steps as plain processes, on machines without a container engine.

There is no isolation: a step runs as the user who launched it and can read what that user can.
Memory limits are not enforced and the network is not cut. That is why only the project's own
stages are run this way, never a command of the spec's author.
"""

from __future__ import annotations

import os
import site
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from proctor.runtime import host, processes, readiness
from proctor.runtime.artifacts import LocalArtifacts, remove_tree
from proctor.runtime.attempt import Attempt, deadline
from proctor.runtime.base import (
    EngineError,
    Handle,
    LogChunk,
    Outcome,
    RequestRefused,
    StartRequest,
    State,
)
from proctor.runtime.collect import note_stop, settle
from proctor.runtime.failure import read_progress
from proctor.runtime.logfile import read_log, tail
from proctor.runtime.shim import EXIT_FILE, SHIM_FILE, SPAWN_FILE
from proctor_steps.contract import STEP_DIR_VARIABLE
from proctor_steps.stages import IMAGE_PREFIX

_START_SECONDS = 60


class ProcessRuntime:
    """A :class:`~proctor.runtime.base.Runtime` of host processes, each under a detached shim."""

    name = "process"

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.store = LocalArtifacts(self.home)

    def describe(self) -> str:
        """What a user should know before choosing it."""
        return (
            "steps run as processes of this user, without isolation: no container, network not "
            "cut, memory and log size not limited; only the project's own images are accepted"
        )

    def start(self, request: StartRequest) -> Handle:
        """See :class:`~proctor.runtime.base.Runtime`."""
        digest = self.identity(request.image)
        attempt = Attempt.of(self.home, request)
        with attempt.lock() as lock:
            if not (attempt.folder / SHIM_FILE).exists():
                listen = readiness.free_address() if request.listening else ""
                with attempt.starting():
                    attempt.prepare(request, self.store, container=False, listen=listen)
                    attempt.write("image.json", {"digest": digest, "listen": listen})
                    attempt.write(SPAWN_FILE, _spawn(attempt, request))
                    _launch(attempt, lock)
        return self._handle(attempt)

    def find(self, pipeline: str, run: str, step: str, attempt: int | None = None) -> Handle | None:
        """See :class:`~proctor.runtime.base.Runtime`."""
        found = Attempt.newest(self.home, pipeline, run, step, attempt, _was_started)
        return None if found is None else self._handle(found)

    def ours(self) -> list[Handle]:
        """See :class:`~proctor.runtime.base.Runtime`."""
        return [self._handle(attempt) for attempt in Attempt.all(self.home, _was_started)]

    def poll(self, handle: Handle) -> State:
        """See :class:`~proctor.runtime.base.Runtime`."""
        attempt = Attempt.of(self.home, handle)
        # The shim first: it writes exit.json before it ends, so the other order could miss both.
        alive = processes.living_pid(handle.id) is not None
        ended = attempt.read(EXIT_FILE)
        progress = read_progress(attempt.step_dir)
        if ended is not None:
            return State(
                phase="exited",
                exit_code=ended["exit_code"],
                signal=ended["signal"],
                out_of_memory=ended["out_of_memory"],
                progress=progress,
            )
        return State(phase="running" if alive else "gone", progress=progress)

    def pid(self, handle: Handle) -> int | None:
        """See :class:`~proctor.runtime.base.Runtime`."""
        return processes.living_pid(handle.id)

    def logs(self, handle: Handle, since: str = "") -> LogChunk:
        """See :class:`~proctor.runtime.base.Runtime`."""
        ended = self.poll(handle).phase != "running"
        return read_log(Attempt.of(self.home, handle).log, since, ended=ended)

    def tail(self, handle: Handle, lines: int = 20) -> tuple[str, ...]:
        """See :class:`~proctor.runtime.base.Runtime`."""
        return tail(Attempt.of(self.home, handle).log, lines)

    def ready(self, handle: Handle) -> bool:
        """See :class:`~proctor.runtime.base.Runtime`."""
        listening = Attempt.of(self.home, handle).request().listening
        if listening is None or self.poll(handle).phase != "running":
            return False
        return readiness.answers(handle.url, listening.ready)

    def stop(self, handle: Handle, grace_seconds: float = 10.0) -> None:
        """See :class:`~proctor.runtime.base.Runtime`. Ends the step's children, too."""
        attempt = Attempt.of(self.home, handle)
        if self.poll(handle).phase == "running":
            note_stop(attempt, grace_seconds)
            shim = processes.living_pid(handle.id)
            if shim is not None:
                processes.end_all(lambda: _still(handle.id), grace_seconds + 15.0)
        self._end_stragglers(attempt)

    def collect(self, handle: Handle) -> Outcome:
        """See :class:`~proctor.runtime.base.Runtime`."""
        attempt = Attempt.of(self.home, handle)
        known = attempt.outcome()
        if known is not None:
            return known
        state = self.poll(handle)
        if state.phase == "gone":
            self._end_stragglers(attempt)
        reason = (attempt.read(EXIT_FILE) or {}).get("reason")
        return settle(
            attempt,
            self.store,
            handle,
            state,
            log_tail=tail(attempt.log),
            deadline_passed=reason == "deadline",
        )

    def remove(self, handle: Handle) -> None:
        """See :class:`~proctor.runtime.base.Runtime`."""
        self.stop(handle, grace_seconds=0.0)
        Attempt.of(self.home, handle).remove(self.store)

    def sweep(self) -> list[str]:
        """See :class:`~proctor.runtime.base.Runtime`."""
        return []

    def containers_running(self) -> int | None:
        """See :class:`~proctor.runtime.base.Runtime`."""
        return None

    def fingerprint(self) -> dict[str, Any]:
        """See :class:`~proctor.runtime.base.Runtime`."""
        return {"runtime": self.name, **host.fingerprint()}

    def identity(self, image: str, local: str = "") -> str:
        """See :class:`~proctor.runtime.base.Runtime`."""
        own = host.own_image(image)
        if own is None:
            raise RequestRefused(
                f"image {image!r} is not one of the project's own "
                f"({', '.join(IMAGE_PREFIX + n for n in host.own_images())}); the process "
                "runtime has no isolation and runs nothing else: use a Docker engine"
            )
        return f"process:{host.code_identity(own)}"

    def _handle(self, attempt: Attempt) -> Handle:
        request = attempt.request()
        shim, image = attempt.read(SHIM_FILE) or {}, attempt.read("image.json") or {}
        started = datetime.fromisoformat(shim["started_at"])
        return Handle(
            runtime=self.name,
            id=shim["id"],
            pipeline=request.pipeline,
            run=request.run,
            step=request.step,
            attempt=request.attempt,
            folder=str(attempt.folder),
            image=request.image,
            image_digest=image.get("digest", ""),
            started_at=shim["started_at"],
            deadline_at=deadline(started, request.deadline_seconds),
            outputs=request.outputs,
            url=f"http://{image['listen']}" if request.listening else "",
        )

    def _end_stragglers(self, attempt: Attempt) -> None:
        marker = f"{STEP_DIR_VARIABLE}={attempt.step_dir}"
        if not processes.end_all(lambda: processes.members(marker), 0.0):
            raise EngineError(f"processes of {attempt.step_dir} cannot be ended")
        remove_tree(attempt.folder / "scratch")


def _was_started(attempt: Attempt) -> bool:
    return (attempt.folder / SHIM_FILE).exists() and (attempt.folder / "request.json").exists()


def _still(identity: str) -> set[int]:
    pid = processes.living_pid(identity)
    return set() if pid is None else {pid}


def _launch(attempt: Attempt, lock: int) -> None:
    """Start the shim and wait until it has said who it is.

    The shim keeps the starter's lock until then: a second starter finds the first one's step.
    """
    command = [sys.executable, "-m", "proctor.runtime.shim", str(attempt.folder), str(lock)]
    with (attempt.folder / "shim.log").open("ab") as log:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,
                cwd=attempt.folder,
                timeout=_START_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EngineError(f"the step's shim could not be started: {error}") from error
    if done.returncode != 0:
        said = tail(attempt.folder / "shim.log", 1)
        raise EngineError(f"the step's shim could not be started: {' '.join(said)}")


def _spawn(attempt: Attempt, request: StartRequest) -> dict[str, Any]:
    scratch = attempt.folder / "scratch"
    for name in ("home", "tmp"):
        (scratch / name).mkdir(parents=True)
    return {
        "command": [sys.executable, "-m", "proctor_steps", *request.command],
        "env": _environment(attempt, scratch, network=request.network),
        "cwd": str(scratch),
        "deadline_seconds": request.deadline_seconds,
    }


def _environment(attempt: Attempt, scratch: Path, *, network: bool) -> dict[str, str]:
    """What the step inherits: nothing of its launcher's credentials."""
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    given = {
        "PATH": path,
        "HOME": str(scratch / "home"),
        "TMPDIR": str(scratch / "tmp"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        STEP_DIR_VARIABLE: str(attempt.step_dir),
    }
    if site.ENABLE_USER_SITE:
        # Packages installed for the user are found through the home that the step does not see.
        given["PYTHONUSERBASE"] = site.getuserbase()
    if os.environ.get("PYTHONPATH"):
        given["PYTHONPATH"] = os.environ["PYTHONPATH"]
    if network:
        given |= host.certificate_variables() | host.proxy_variables()
    return given
