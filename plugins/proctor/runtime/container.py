"""What a container is given: the hardened settings of one attempt, as the engine wants them.

A container gets no network, a read-only root, no capabilities, an unprivileged user, and limits
on memory, processes and log, unless the request asks for more.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docker.types import DeviceRequest, LogConfig, Mount

from proctor.runtime import host, mount_points, network
from proctor.runtime.artifacts import LocalArtifacts
from proctor.runtime.attempt import (
    CACHE_MOUNT,
    HISTORY_MOUNT,
    SECRETS_MOUNT,
    STEP_MOUNT,
    Attempt,
    place_of,
    shared_places,
)
from proctor.runtime.base import (
    LABEL_ATTEMPT,
    LABEL_HOME,
    LABEL_PIPELINE,
    LABEL_RUN,
    LABEL_STEP,
    RequestRefused,
    StartRequest,
)
from proctor_steps.contract import STEP_DIR_VARIABLE, digest

# Whoever runs Proctor as root still gets steps without a privileged user.
UNPRIVILEGED = 10001
PIDS_LIMIT = 1024
# Without a writable /tmp, data loaders with workers hang for ever; they share memory in /dev/shm.
TMPFS = {"/tmp": "rw,noexec,nosuid,nodev,size=512m"}  # noqa: S108
SHM_SIZE = "256m"
LOG_LIMIT = {"max-size": "16m", "max-file": "2"}
# The waiter stops a step at its deadline; this one acts where no waiter is left.
_LATE_SECONDS = 30
_CERTIFICATES_MOUNT = "/proctor/certificates.pem"
PYTHON = "/opt/venv/bin/python"
# What holds for every container of ours.
HARDENED: dict[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "pids_limit": PIDS_LIMIT,
    "log_config": LogConfig(type=LogConfig.types.JSON, config=LOG_LIMIT),
    "healthcheck": {"test": ["NONE"]},
}


def user() -> tuple[int, int]:
    """uid and gid of the steps: the invoking user's, but never root's."""
    if os.geteuid() == 0:
        return UNPRIVILEGED, UNPRIVILEGED
    return os.geteuid(), os.getegid()


def container_name(attempt: Attempt) -> str:
    """The same for every starter of an attempt, so that the engine lets only one succeed."""
    readable = re.sub(r"[^A-Za-z0-9_.-]", "-", attempt.name.step)[:40]
    whole = digest([str(attempt.home), *map(str, attempt.name)])[:16]
    return f"proctor-{readable}-{attempt.name.attempt}-{whole}"


def labels(attempt: Attempt) -> dict[str, str]:
    """By these the attempt is found again."""
    name = attempt.name
    return {
        LABEL_HOME: str(attempt.home),
        LABEL_PIPELINE: name.pipeline,
        LABEL_RUN: name.run,
        LABEL_STEP: name.step,
        LABEL_ATTEMPT: str(name.attempt),
    }


def settings(
    attempt: Attempt, request: StartRequest, store: LocalArtifacts, image_id: str, *, own: bool
) -> dict[str, Any]:
    """Arguments of the SDK's ``containers.create``."""
    uid, gid = user()
    mounts = _once_each(_mounts(attempt, request, store))
    mount_points.make(mounts, (uid, gid))
    return {
        "image": image_id,
        "name": container_name(attempt),
        "labels": labels(attempt),
        "environment": _environment(request),
        "user": f"{uid}:{gid}",
        "mounts": mounts,
        "mem_limit": request.resources.memory,
        "memswap_limit": request.resources.memory,
        "tmpfs": TMPFS,
        "shm_size": SHM_SIZE,
        "stop_signal": "SIGTERM",
        **HARDENED,
        **network.settings(attempt, request),
        **_command(request, own=own),
        **_cpus(request),
        **_gpus(request),
    }


def give_away(attempt: Attempt, request: StartRequest, store: LocalArtifacts) -> None:
    """Let the container's user write where the step must, when that is not this user."""
    uid, gid = user()
    if uid == os.geteuid():
        return
    for shared in shared_places(request, store).values():
        os.chown(shared, uid, gid)  # what is in it belongs to whoever put it there
    places = [attempt.step_dir, attempt.secrets]
    own = [output for output in request.outputs if not output.shared]
    for output in own:
        if output.type == "file":
            os.chown(store.staged(attempt.name, output.name), uid, gid, follow_symlinks=False)
    places += [store.staged(attempt.name, output.name) for output in own]
    if request.cache:
        places.append(attempt.home / "cache")
    for root in filter(Path.is_dir, places):
        # By descriptors, not paths: another container may be moving things in the cache, and a
        # link put in the way must not lead out of it.
        for _, _, files, folder in os.fwalk(root):
            os.fchown(folder, uid, gid)
            for file in files:
                with contextlib.suppress(FileNotFoundError):
                    os.chown(file, uid, gid, dir_fd=folder, follow_symlinks=False)


def _command(request: StartRequest, *, own: bool) -> dict[str, Any]:
    if not own:
        return {"command": list(request.command), "init": True}
    # As the container's first process, Python would not hear SIGTERM; timeout passes it on.
    seconds = request.deadline_seconds
    late = math.ceil(seconds) + _LATE_SECONDS if seconds else 0  # 0: no limit
    command = ["timeout", "--kill-after=10", str(late), PYTHON, "-m", "proctor_steps"]
    return {"entrypoint": [], "command": [*command, *request.command], "working_dir": "/tmp"}  # noqa: S108


def _environment(request: StartRequest) -> dict[str, str]:
    given = {
        STEP_DIR_VARIABLE: STEP_MOUNT,
        "HOME": "/tmp",  # noqa: S108
        "TMPDIR": "/tmp",  # noqa: S108
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
    }
    if request.network:
        given |= host.proxy_variables()
        if _certificates():
            given |= dict.fromkeys(host.CERTIFICATE_VARIABLES, _CERTIFICATES_MOUNT)
    return given


def _certificates() -> str | None:
    """The file of certificates that this host trusts, where it is told to use one of its own."""
    files = (path for path in host.certificate_variables().values() if Path(path).is_file())
    return next(files, None)


def _mounts(attempt: Attempt, request: StartRequest, store: LocalArtifacts) -> Iterator[Mount]:
    yield _bind(STEP_MOUNT, str(attempt.step_dir))
    for source in request.inputs:
        place = str(place_of(source, store, request))
        yield _bind(source.mount_path, place, read_only=not source.shared)
    shared = shared_places(request, store)
    for output in request.outputs:
        staged = shared[output.name] if output.shared else store.staged(attempt.name, output.name)
        yield _bind(output.mount_path, str(staged))
    for given in request.sources:
        yield _bind(given.mount_path, given.host_path, read_only=True)
    certificates = _certificates()
    if request.network and certificates:
        yield _bind(_CERTIFICATES_MOUNT, certificates, read_only=True)
    if request.cache:
        yield _bind(CACHE_MOUNT, str(attempt.home / "cache"))
    if request.secrets:
        yield _bind(SECRETS_MOUNT, str(attempt.secrets), read_only=True)
    if request.history:
        yield _bind(HISTORY_MOUNT, request.history, read_only=True)


def _once_each(mounts: Iterator[Mount]) -> list[Mount]:
    """What a step reads and writes in one place, a shared directory, is one mount there."""
    found: dict[str, Mount] = {}
    for mount in mounts:
        if found.setdefault(mount["Target"], mount) != mount:
            raise RequestRefused(f"two things cannot be mounted at {mount['Target']}")
    return list(found.values())


def _bind(target: str, source: str, *, read_only: bool = False) -> Mount:
    # Mounts, not "source:target" texts: run ids hold colons.
    if target.startswith("/"):
        target = "/" + "/".join(part for part in target.split("/") if part not in ("", "."))
    return Mount(target=target, source=source, type="bind", read_only=read_only)


def _cpus(request: StartRequest) -> dict[str, Any]:
    """A quota, but none for what measures: it throttles the tails. That gets whole processors."""
    wanted = min(request.resources.cpus, os.cpu_count() or 1)
    if not wanted:
        return {}
    if not request.exclusive:
        return {"nano_cpus": int(wanted * 1e9)}
    allowed, count = sorted(os.sched_getaffinity(0)), math.ceil(wanted)
    # A service gets the last ones, so that it stands in its users' way as late as can be.
    allowed = allowed[-count:] if request.listening else allowed[:count]
    return {"cpuset_cpus": ",".join(map(str, allowed))}


def _gpus(request: StartRequest) -> dict[str, Any]:
    count = request.resources.gpus
    if not count:
        return {}
    return {"device_requests": [DeviceRequest(count=count, capabilities=[["gpu"]])]}
