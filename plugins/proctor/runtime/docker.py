"""Runs steps in containers of a Docker engine, as locked up as a step can bear.

A container is named after its attempt, so that two starters cannot start it twice, and carries
labels by which any process finds it again. Results travel in files, never in the log. Nothing is
removed before it was collected.
"""

from __future__ import annotations

import math
import signal
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import docker
import docker.errors
from docker.models.containers import Container

from proctor.runtime import container as given
from proctor.runtime import host, images, local_image, network, probe, processes
from proctor.runtime.artifacts import AttemptName, LocalArtifacts
from proctor.runtime.attempt import Attempt, deadline, stamp
from proctor.runtime.base import (
    LABEL_ATTEMPT,
    LABEL_HOME,
    LABEL_PIPELINE,
    LABEL_RUN,
    LABEL_STEP,
    Handle,
    LogChunk,
    Outcome,
    RequestRefused,
    StartRequest,
    State,
)
from proctor.runtime.collect import STOP_FILE, note_stop, settle
from proctor.runtime.docker_log import Position, gather, log_entries, unread
from proctor.runtime.engine import connect, engine_errors
from proctor.runtime.failure import read_progress
from proctor.runtime.logfile import split_lines

# How timeout(1) says that the step's time was over.
_TIMED_OUT = 124
_SLACK = timedelta(seconds=1)
_SIGNALS = frozenset(signal.valid_signals())
_ENGINE_PID = Path("/var/run/docker.pid")
# What the engine says where the command or a device, not the engine, is wrong.
_REFUSALS = (
    "executable file not found",
    "no such file or directory",
    "permission denied",
    "could not select device driver",
    "invalid mount",
    "Minimum memory limit",
)


class DockerRuntime:
    """A :class:`~proctor.runtime.base.Runtime` of hardened containers."""

    name = "docker"

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.store = LocalArtifacts(self.home)

    def describe(self) -> str:
        """What a user should know before choosing it."""
        return (
            "steps run in containers: no network unless the spec asks, read-only root, no "
            "capabilities, an unprivileged user, limits on memory, processes and log"
        )

    def start(self, request: StartRequest) -> Handle:
        """See :class:`~proctor.runtime.base.Runtime`."""
        attempt = Attempt.of(self.home, request)
        image_id = self.identity(request.image, request.local_image)
        with attempt.lock(), network.ready_for(attempt, request):
            found = self._container(attempt)
            if found is None or not (attempt.folder / "request.json").exists():
                if found is not None:
                    _remove(found)
                with attempt.starting():
                    found = self._create(attempt, request, image_id)
            if found.status == "created":
                with attempt.starting():
                    network.join_outside(found, request)
                    _start(found)
            with engine_errors():
                found.reload()
        return self._handle(attempt, found)

    def find(self, pipeline: str, run: str, step: str, attempt: int | None = None) -> Handle | None:
        """See :class:`~proctor.runtime.base.Runtime`."""
        labels = {LABEL_PIPELINE: pipeline, LABEL_RUN: run, LABEL_STEP: step}
        if attempt is not None:
            labels[LABEL_ATTEMPT] = str(attempt)
        found = self._handles(labels)
        return max(found, key=lambda handle: handle.attempt, default=None)

    def poll(self, handle: Handle) -> State:
        """See :class:`~proctor.runtime.base.Runtime`."""
        attempt = Attempt.of(self.home, handle)
        found = _by_id(handle.id)
        progress = read_progress(attempt.step_dir)
        if found is None:
            return State(phase="gone", progress=progress)
        return _state(found, attempt).model_copy(update={"progress": progress})

    def pid(self, handle: Handle) -> int | None:
        """See :class:`~proctor.runtime.base.Runtime`."""
        found = _by_id(handle.id)
        pid = 0 if found is None else int(found.attrs["State"]["Pid"] or 0)
        # An engine in a virtual machine, or on another host, has numbers of its own.
        return pid if pid and str(handle.id) in processes.cgroup(pid) else None

    def logs(self, handle: Handle, since: str = "") -> LogChunk:
        """See :class:`~proctor.runtime.base.Runtime`."""
        found, position = _by_id(handle.id), Position.parse(since)
        if found is None:
            return LogChunk(lines=(), next=str(position))
        ended = found.status not in ("running", "paused", "restarting")
        with engine_errors(), closing(log_entries(connect(), str(found.id), position)) as entries:
            return gather(unread(entries, position), position, ended=ended)

    def tail(self, handle: Handle, lines: int = 20) -> tuple[str, ...]:
        """See :class:`~proctor.runtime.base.Runtime`."""
        found = _by_id(handle.id)
        return () if found is None else _tail(found, lines)

    def ready(self, handle: Handle) -> bool:
        """See :class:`~proctor.runtime.base.Runtime`."""
        request, found = Attempt.of(self.home, handle).request(), _by_id(handle.id)
        if request.listening is None or found is None or found.status != "running":
            return False
        own = host.own_image(request.image) is not None
        return probe.ready(self.home, found, request.listening, own=own)

    def stop(self, handle: Handle, grace_seconds: float = 10.0) -> None:
        """See :class:`~proctor.runtime.base.Runtime`."""
        found = _by_id(handle.id)
        if found is None or found.status not in ("running", "paused", "restarting"):
            return
        note_stop(Attempt.of(self.home, handle), grace_seconds)
        with engine_errors():
            try:
                found.stop(timeout=math.ceil(grace_seconds))
            except docker.errors.NotFound:
                return

    def collect(self, handle: Handle) -> Outcome:
        """See :class:`~proctor.runtime.base.Runtime`."""
        attempt = Attempt.of(self.home, handle)
        known = attempt.outcome()
        if known is not None:
            return known
        found = _by_id(handle.id)
        return settle(
            attempt,
            self.store,
            handle,
            self.poll(handle),
            log_tail=() if found is None else _tail(found),
            foreign=host.own_image(handle.image) is None,
            deadline_passed=found is not None and _timed_out(found, handle),
        )

    def remove(self, handle: Handle) -> None:
        """See :class:`~proctor.runtime.base.Runtime`."""
        found = _by_id(handle.id)
        if found is not None:
            _remove(found)
        attempt = Attempt.of(self.home, handle)
        if (attempt.folder / "request.json").exists():
            network.leave(self.home, attempt.request())
        attempt.remove(self.store)

    def sweep(self) -> list[str]:
        """See :class:`~proctor.runtime.base.Runtime`."""
        probe.sweep(self.home)
        return network.sweep(self.home)

    def containers_running(self) -> int | None:
        """See :class:`~proctor.runtime.base.Runtime`."""
        with engine_errors():
            return int(connect().info()["ContainersRunning"])

    def fingerprint(self) -> dict[str, Any]:
        """See :class:`~proctor.runtime.base.Runtime`."""
        with engine_errors():
            info = connect().info()
        names = ("ServerVersion", "Driver", "CgroupDriver", "CgroupVersion", "DefaultRuntime")
        engine = {name: info.get(name, "") for name in names}
        return {"runtime": self.name, "engine": engine, **host.fingerprint()}

    def identity(self, image: str, local: str = "") -> str:
        """See :class:`~proctor.runtime.base.Runtime`."""
        return local_image.id_of(image, local) if local else self._image_id(image)

    def ours(self) -> list[Handle]:
        """See :class:`~proctor.runtime.base.Runtime`."""
        return self._handles({}, created=True)

    def _handles(self, labels: dict[str, str], created: bool = False) -> list[Handle]:
        wanted = {LABEL_HOME: str(self.home), **labels}
        filters: dict[str, str | list[str] | bool] = {
            "label": [f"{name}={value}" for name, value in wanted.items()]
        }
        with engine_errors():
            listed = connect().containers.list(all=True, filters=filters, ignore_removed=True)
        found = []
        for each in listed:
            names = [each.labels[name] for name in (LABEL_PIPELINE, LABEL_RUN, LABEL_STEP)]
            name = AttemptName(names[0], names[1], names[2], int(each.labels[LABEL_ATTEMPT]))
            attempt = Attempt(self.home, name)
            # One that was created and never started is started by the next start().
            begun = created or each.status != "created"
            if begun and (attempt.folder / "request.json").exists():
                found.append(self._handle(attempt, each))
        return found

    def _image_id(self, image: str) -> str:
        """The local image's digest; one pinned by digest is pulled when it is not here."""
        own = host.own_image(image)
        name = image if own is None else images.tag_of(own)
        with engine_errors():
            try:
                return str(connect().images.get(name).id)
            except docker.errors.ImageNotFound:
                pass
            if own is not None:
                raise RequestRefused(
                    f"image {image!r} is not built as its code now stands; run `make images` or "
                    f"`python -m proctor.runtime.images {own}`"
                )
            if "@sha256:" not in image:
                raise RequestRefused(
                    f"image {image!r} is not here; pull or build it, or pin it as "
                    "name@sha256:... so that it can be pulled safely"
                )
            try:
                return str(connect(timeout=900).images.pull(image).id)
            except docker.errors.NotFound as error:
                raise RequestRefused(f"image {image!r} is neither here nor in its registry") from (
                    error
                )

    def _container(self, attempt: Attempt) -> Container | None:
        return _by_id(given.container_name(attempt))

    def _create(self, attempt: Attempt, request: StartRequest, image_id: str) -> Container:
        listen = f"0.0.0.0:{request.listening.port}" if request.listening else ""
        attempt.prepare(request, self.store, container=True, listen=listen, image_digest=image_id)
        given.give_away(attempt, request, self.store)
        own = host.own_image(request.image) is not None
        wanted = given.settings(attempt, request, self.store, image_id, own=own)
        with engine_errors():
            try:
                created = connect().containers.create(**wanted)
            except docker.errors.APIError as error:
                if error.status_code == 409:
                    found = self._container(attempt)
                    if found is not None:
                        return found
                raise _as_refusal(error) from error
            created.reload()
            return created

    def _handle(self, attempt: Attempt, found: Container) -> Handle:
        request = attempt.request()
        started = _moment(found.attrs["State"]["StartedAt"])
        return Handle(
            runtime=self.name,
            id=str(found.id),
            pipeline=request.pipeline,
            run=request.run,
            step=request.step,
            attempt=request.attempt,
            folder=str(attempt.folder),
            image=request.image,
            local_image=request.local_image,
            image_digest=str(found.attrs["Image"]),
            started_at=stamp(started),
            deadline_at=deadline(started, request.deadline_seconds),
            outputs=request.outputs,
            url=f"http://{request.step}:{request.listening.port}" if request.listening else "",
        )


def _by_id(id: str) -> Container | None:
    with engine_errors():
        try:
            return connect().containers.get(id)
        except docker.errors.NotFound:
            return None


def _start(found: Container) -> None:
    with engine_errors():
        try:
            found.start()
        except docker.errors.APIError as error:
            found.remove(force=True, v=True)
            raise _as_refusal(error) from error


def _remove(found: Container) -> None:
    with engine_errors():
        try:
            found.remove(force=True, v=True)
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if error.status_code != 409:  # somebody else is removing it
                raise


def _as_refusal(error: docker.errors.APIError) -> Exception:
    """What cannot be run here whatever one retries, told from an engine in trouble."""
    text = str(error.explanation or error)
    refused = error.status_code == 400 or any(words in text for words in _REFUSALS)
    if "could not select device driver" in text:
        text = (
            f"the engine knows no device driver that gives it GPUs ({text}); install the NVIDIA "
            "container toolkit on this machine, or leave `resources.gpus` out"
        )
    return RequestRefused(f"the container cannot be started: {text}") if refused else error


def _state(found: Container, attempt: Attempt) -> State:
    if found.status in ("running", "paused", "restarting"):
        return State(phase="running")
    if found.status == "created":
        return State(phase="gone")
    told = found.attrs["State"]
    code, oom = int(told["ExitCode"]), bool(told["OOMKilled"])
    if code and not oom and attempt.read(STOP_FILE) is None and _engine_died(told):
        return State(phase="gone")
    # A shell, and the engine's init, add 128 to a signal; 255 is somebody's own exit code.
    if code - 128 in _SIGNALS:
        return State(phase="exited", signal=code - 128, out_of_memory=oom)
    return State(phase="exited", exit_code=code, out_of_memory=oom)


def _engine_died(told: dict[str, Any]) -> bool:
    """Whether the container ended because the engine did: its restart ends all containers.

    Known only of an engine of this machine, whose pid file is readable.
    """
    if int(told["ExitCode"]) not in (137, 143, 255):
        return False
    try:
        engine = processes.started_at(int(_ENGINE_PID.read_text()))
    except (OSError, ValueError):
        return False
    begun, ended = _moment(told["StartedAt"]), _moment(told["FinishedAt"])
    if engine is None or engine <= begun:
        return False
    return (ended - engine).total_seconds() < 60.0


def _timed_out(found: Container, handle: Handle) -> bool:
    told = found.attrs["State"]
    # The engine notes the start a little after the step has begun to count.
    late = _moment(told["FinishedAt"]) + _SLACK >= datetime.fromisoformat(handle.deadline_at)
    return late and int(told["ExitCode"]) in (_TIMED_OUT, 137)


def _tail(found: Container, lines: int = 20) -> tuple[str, ...]:
    with engine_errors():
        return split_lines(found.logs(tail=lines))


def _moment(text: str) -> datetime:
    """The engine's spelling of a time; it has nine digits behind the second, or fewer."""
    whole, _, part = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{(part + '000000')[:6]}+00:00")
