"""The image that the project's images are built on: a registry's Python, or a Debian made here."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import docker.errors

from proctor.runtime.base import EngineError
from proctor.runtime.engine import connect, engine_errors

REGISTRY_BASE = "python:3.11-slim"
LOCAL_BASE = "proctor/base:bookworm-1"
_SUITE = "bookworm"
_PACKAGES = "python3,python3-venv,ca-certificates,libstdc++6"
_UNUSED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
_REGISTRY_SECONDS = 10
_MAKE_SECONDS = 1200


def find_or_make(client: docker.DockerClient, cache: Path, say: Callable[[str], None]) -> str:
    """The base's name, once it is here.

    Raises:
        EngineError: no registry answers, and no Debian can be made here; the message says why.
    """
    for name in (REGISTRY_BASE, LOCAL_BASE):
        if _here(client, name):
            return name
    if _registry_has(REGISTRY_BASE):
        say(f"image {REGISTRY_BASE}: pulling")
        with engine_errors():
            client.images.pull(REGISTRY_BASE)
        return REGISTRY_BASE
    say(f"image {LOCAL_BASE}: no registry answers, making a Debian {_SUITE} (a minute or two)")
    with tempfile.TemporaryDirectory(dir=cache, prefix=".base-") as folder:
        archive = _make_archive(Path(folder))
        with engine_errors(), archive.open("rb") as data:
            client.api.import_image_from_data(data, *LOCAL_BASE.split(":"))
    if not _here(client, LOCAL_BASE):
        raise EngineError(f"the engine took the new base, but knows no {LOCAL_BASE}")
    return LOCAL_BASE


def _here(client: docker.DockerClient, name: str) -> bool:
    with engine_errors():
        try:
            client.images.get(name)
        except docker.errors.ImageNotFound:
            return False
    return True


def _registry_has(name: str) -> bool:
    """Whether the engine reaches a registry with this image. Asked briefly: many have none."""
    try:
        with engine_errors():
            api: Any = connect(timeout=_REGISTRY_SECONDS).api
            api.inspect_distribution(name)
    except EngineError:
        return False
    return True


def _make_archive(folder: Path) -> Path:
    """A Debian with Python as one tar file."""
    archive = folder / "base.tar"
    if shutil.which("mmdebstrap"):
        command = ["mmdebstrap", "--quiet", "--variant=essential", f"--include={_PACKAGES}"]
        command += [f"--dpkgopt=path-exclude={path}" for path in _UNUSED]
        # Without a mirror named, both tools take their own.
        _run([*command, _SUITE, str(archive)])
        return archive
    if not shutil.which("debootstrap"):
        raise EngineError(
            f"no registry answers for {REGISTRY_BASE}, and neither mmdebstrap nor debootstrap is "
            "here to make a base instead; install one of them, or name a base image by --base"
        )
    if os.geteuid() != 0:
        raise EngineError(
            f"no registry answers for {REGISTRY_BASE}, and debootstrap needs root to make a base "
            "instead; install mmdebstrap, or run `make images` once as root"
        )
    root = folder / "root"
    _run(["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(root)])
    _run(["tar", "-C", str(root), "-cf", str(archive), "--exclude=./var/cache/apt/*", "."])
    return archive


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_MAKE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{command[0]} was not done after {_MAKE_SECONDS} s") from error
    if done.returncode:
        last = "\n".join((done.stderr + done.stdout).strip().splitlines()[-10:])
        raise EngineError(f"{command[0]} failed with exit code {done.returncode}:\n{last}")
