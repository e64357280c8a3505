"""Asks a service in a container whether it is ready: from inside, as nothing else reaches it.

The project's own images have a Python, so the question is put in the service's own container. For
any other image it is put by a container of the project's that shares the service's network alone.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import docker.errors
from docker.models.containers import Container

from proctor.runtime import container as given
from proctor.runtime import images, readiness
from proctor.runtime.base import Listening, RequestRefused
from proctor.runtime.engine import connect, engine_errors

LABEL_PROBE = "proctor.probe"
_ANSWER_SECONDS = 30
_MEMORY = 256 * 1024**2


def ready(home: Path, found: Container, listening: Listening, *, own: bool) -> bool:
    """Whether the service in a running container answers."""
    url = f"http://127.0.0.1:{listening.port}"
    command = [given.PYTHON, "-c", inspect.getsource(readiness), url, listening.ready]
    with engine_errors():
        try:
            if own:
                return found.exec_run(command).exit_code == 0
            return _beside(home, found, command) == 0
        except (docker.errors.NotFound, docker.errors.APIError) as error:
            if isinstance(error, docker.errors.APIError) and error.status_code in (404, 409):
                return False  # it has ended meanwhile
            raise


def sweep(home: Path) -> None:
    """Remove the probes that whoever started them has left."""
    filters: dict[str, str | list[str] | bool] = {"label": f"{LABEL_PROBE}={home}"}
    with engine_errors():
        for left in connect().containers.list(all=True, filters=filters, ignore_removed=True):
            left.remove(force=True)


def _beside(home: Path, found: Container, command: list[str]) -> int:
    try:
        image = connect().images.get(images.tag_of("steps")).id
    except docker.errors.ImageNotFound:
        raise RequestRefused(
            "the image proctor/steps is not built as its code now stands, and it asks whether a "
            "service is ready; run `make images`"
        ) from None
    uid, gid = given.user()
    made = connect().containers.create(
        **given.HARDENED,
        image=str(image),
        entrypoint=[],
        command=command,
        user=f"{uid}:{gid}",
        network_mode=f"container:{found.id}",
        mem_limit=_MEMORY,
        memswap_limit=_MEMORY,
        labels={LABEL_PROBE: str(home)},
    )
    try:
        made.start()
        return int(made.wait(timeout=_ANSWER_SECONDS)["StatusCode"])
    finally:
        made.remove(force=True)
