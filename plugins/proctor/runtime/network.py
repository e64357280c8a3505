"""The network of one run: its services, and the steps that use them, reach each other and no more.

It is internal: the engine routes nothing out of it. The bridge has no address on this host
either, as a container could reach whatever listens on this host through it. Nothing is published,
so nobody outside reaches what is in it; whether a service is ready is asked from inside
(:mod:`proctor.runtime.probe`). It is there when the first container needs it, and goes with the
last.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker.errors
from docker.models.containers import Container
from docker.models.networks import Network

from proctor.runtime.attempt import Attempt
from proctor.runtime.base import LABEL_HOME, LABEL_PIPELINE, LABEL_RUN, StartRequest
from proctor.runtime.engine import connect, engine_errors
from proctor_steps.contract import digest

_OPTIONS = {"com.docker.network.bridge.inhibit_ipv4": "true"}
# The engine would ask this host's name servers for a container, and so carry words out. A name
# server in the container itself asks nobody; names of the network are known without any.
_NO_NAME_SERVER = ["127.0.0.1"]
_OUTSIDE = "bridge"


def needed(request: StartRequest) -> bool:
    """Whether a container is to join its run's network."""
    return request.listening is not None or bool(request.services)


def name_of(home: Path, pipeline: str, run: str) -> str:
    """The same for every starter of a run's containers."""
    return f"proctor-{digest([str(home), pipeline, run])[:16]}"


def settings(attempt: Attempt, request: StartRequest) -> dict[str, Any]:
    """Arguments of the SDK's ``containers.create`` that say what a container can reach."""
    if not needed(request):
        return {"network_mode": _OUTSIDE if request.network else "none"}
    name = name_of(attempt.home, request.pipeline, request.run)
    aliases = [request.step] if request.listening else []
    with engine_errors():
        endpoint = connect().api.create_endpoint_config(aliases=aliases)
    joined = {"network": name, "networking_config": {name: endpoint}}
    return joined if request.network else joined | {"dns": _NO_NAME_SERVER}


@contextmanager
def ready_for(attempt: Attempt, request: StartRequest) -> Iterator[None]:
    """The network that a container is to join, kept until it has."""
    if not needed(request):
        yield
        return
    with _held(attempt.home, request.pipeline, request.run):
        _ensure(attempt.home, request.pipeline, request.run)
        try:
            yield
        except BaseException:
            _leave(attempt.home, request)
            raise


def join_outside(found: Container, request: StartRequest) -> None:
    """A step that uses services and may also go online: before it starts, and again if need be."""
    if not (needed(request) and request.network):
        return
    with engine_errors():
        found.reload()
        if _OUTSIDE not in found.attrs["NetworkSettings"]["Networks"]:
            connect().networks.get(_OUTSIDE).connect(found)


def leave(home: Path, request: StartRequest) -> None:
    """Remove the network unless others are in it."""
    if not needed(request):
        return
    with _held(home, request.pipeline, request.run):
        _leave(home, request)


def _leave(home: Path, request: StartRequest) -> None:
    found = _find(name_of(home, request.pipeline, request.run))
    if found is not None:
        _remove(found)


def sweep(home: Path) -> list[str]:
    """Remove the networks of a home that nobody is in."""
    said = []
    filters = {"label": f"{LABEL_HOME}={home}"}
    with engine_errors():
        listed = connect().networks.list(filters=filters)
    for found in listed:
        labels = found.attrs["Labels"]
        with _held(home, labels[LABEL_PIPELINE], labels[LABEL_RUN]):
            if _remove(found):
                said.append(f"removed the network {found.name}, which nobody was in")
    return said


def _ensure(home: Path, pipeline: str, run: str) -> None:
    name = name_of(home, pipeline, run)
    if _find(name) is not None:
        return
    labels = {LABEL_HOME: str(home), LABEL_PIPELINE: pipeline, LABEL_RUN: run}
    with engine_errors():
        connect().networks.create(
            name, driver="bridge", internal=True, options=_OPTIONS, labels=labels
        )


def _find(name: str) -> Network | None:
    # By its name as a filter: a name may be cut short and still fit, so it is compared, too.
    with engine_errors():
        found = [n for n in connect().networks.list(names=[name]) if n.name == name]
    return found[0] if found else None


def _remove(found: Network) -> bool:
    with engine_errors():
        try:
            found.remove()
        except docker.errors.NotFound:
            return False
        except docker.errors.APIError as error:
            if error.status_code in (403, 409):  # somebody is in it
                return False
            raise
        return True


@contextmanager
def _held(home: Path, pipeline: str, run: str) -> Iterator[None]:
    """Nobody removes a run's network while another has a container join it."""
    folder = home / "work" / pipeline / run
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".network-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
