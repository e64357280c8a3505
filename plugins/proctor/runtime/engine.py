"""The Docker engine: how it is reached, and its errors in our words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache

import docker
import docker.errors
import requests.exceptions
import urllib3.exceptions

from proctor.runtime.base import EngineError

# Long enough for a loaded engine, short enough for a waiter to notice that it is gone.
_ANSWER_SECONDS = 60


@contextmanager
def engine_errors() -> Iterator[None]:
    """Turn what the SDK raises for an engine in trouble into :class:`EngineError`."""
    try:
        yield
    except docker.errors.DockerException as error:
        raise EngineError(f"the Docker engine refused: {_words(error)}") from error
    except (
        requests.exceptions.RequestException,
        urllib3.exceptions.HTTPError,
        ConnectionError,
        TimeoutError,
    ) as error:
        raise EngineError(f"the Docker engine does not answer: {error}") from error


def connect(timeout: int = _ANSWER_SECONDS) -> docker.DockerClient:
    """A client of the engine that the environment names (``DOCKER_HOST``), else the local one.

    Raises:
        EngineError: none answers.
    """
    try:
        return _client(os.getpid(), timeout)
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise EngineError(
            f"no Docker engine answers at {os.environ.get('DOCKER_HOST') or 'its local socket'} "
            f"({_words(error)}): install it, start it, or open it to this user"
        ) from error


def check() -> None:
    """Return when an engine answers that can run the project's images.

    Raises:
        EngineError: none does; the message says what is wrong.
    """
    with engine_errors():
        system = connect().version().get("Os", "")
    if system != "linux":
        raise EngineError(f"the Docker engine runs {system} containers; the steps need linux")


def clock() -> float:
    """What time the engine has, in seconds since 1970.

    Raises:
        EngineError: it does not answer, or does not tell.
    """
    with engine_errors():
        told = str(connect().info().get("SystemTime", ""))
    try:
        return datetime.fromisoformat(told).timestamp()
    except ValueError as error:
        raise EngineError(f"the Docker engine tells no time, but {told!r}") from error


@lru_cache(maxsize=4)
def _client(pid: int, timeout: int) -> docker.DockerClient:
    # One per process, as Airflow forks: two processes on one connection would mix their answers.
    # Version negotiation asks the engine once; a failure is not cached.
    return docker.from_env(timeout=timeout, max_pool_size=32)


def _words(error: Exception) -> str:
    if isinstance(error, docker.errors.APIError) and error.explanation:
        return str(error.explanation)
    if cause := _system_words(error):
        return cause
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _system_words(error: BaseException | None) -> str:
    """What the system said at the bottom of it ("Permission denied"), where the SDK wrapped it."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        error = error.__cause__ or error.__context__
    return ""
