"""Builds the project's images: ``python -m proctor.runtime.images [NAME ...]``.

An image is tagged by a hash of all that goes into it, so that an unchanged one is not built
again. Its base is ``python:3.11-slim`` where a registry answers, else a Debian made here. Packages
come from a wheelhouse filled on the host, which may know indexes that a container does not.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

import docker
import docker.errors

from proctor.runtime import base_image, host
from proctor.runtime.artifacts import remove_tree
from proctor.runtime.base import EngineError, RequestRefused
from proctor.runtime.engine import connect, engine_errors
from proctor.shipped import shipped
from proctor_steps.contract import digest
from proctor_steps.stages import IMAGE_PREFIX

Say = Callable[[str], None]
PYTHON = "3.11"
LABEL_IMAGE = "proctor.image"
_PIP_SECONDS = 1800


def tag_of(name: str) -> str:
    """The tag of an image of the project as its recipe and code now stand."""
    recipe = {
        "dockerfile": _dockerfile(name).read_text(),
        "requirements": sorted(host.requirements(name)),
        "constraints": constraints(),
        "steps": host.steps_digest(),
    }
    return f"{IMAGE_PREFIX}{name}:{digest(recipe)[:12]}"


def missing(names: Iterable[str]) -> list[str]:
    """Those of the project's images that are not built as they now stand."""
    client = connect()
    return [name for name in sorted(names) if not _exists(client, tag_of(name))]


def build(names: Iterable[str], say: Say = print, base: str | None = None) -> dict[str, str]:
    """Build what is not there; name -> tag.

    Raises:
        EngineError: the engine does not answer, or the build failed; the message says where.
        RequestRefused: no such image.
    """
    wanted = sorted(set(names))
    unknown = [name for name in wanted if name not in host.own_images()]
    if unknown:
        known = ", ".join(host.own_images())
        raise RequestRefused(f"no image {', '.join(unknown)} in containers/; there are {known}")
    client = connect(timeout=900)
    tags = {}
    with _one_builder():
        for name in wanted:
            tags[name] = tag_of(name)
            if _exists(client, tags[name]):
                say(f"image {tags[name]}: unchanged")
            else:
                base = base or base_image.find_or_make(client, cache_folder(), say)
                _build_one(client, name, tags[name], base, say)
            with engine_errors():
                client.images.get(tags[name]).tag(f"{IMAGE_PREFIX}{name}", "latest")
    return tags


def constraints() -> str:
    """The pinned versions, without the local part that names another index's build."""
    try:
        text = shipped("constraints.txt").read_text()
    except FileNotFoundError:
        return ""
    return re.sub(r"(==[^\s+;]+)\+[^\s;]+", r"\1", text)


def cache_folder() -> Path:
    """Where wheels and bases are kept between builds."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    folder = Path(base) / "proctor"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def wheelhouse(name: str, say: Say) -> Path:
    """A folder with every wheel that an image needs, downloaded when it is not there.

    Raises:
        EngineError: pip could not get them.
    """
    pins = constraints()
    wanted = "\n".join(sorted(host.requirements(name)))
    folder = cache_folder() / "wheels" / f"{name}-{digest([wanted, pins, PYTHON])[:12]}"
    if folder.is_dir():
        return folder
    say(f"image {IMAGE_PREFIX}{name}: downloading packages")
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as made:
        (Path(made) / "constraints.txt").write_text(pins)
        (Path(made) / "requirements.txt").write_text(wanted)
        (Path(made) / "wheels").mkdir()
        _download(Path(made))
        (Path(made) / "wheels").rename(folder)
    for old in folder.parent.glob(f"{name}-{'?' * 12}"):
        if old != folder:
            remove_tree(old)
    return folder


def _download(folder: Path) -> None:
    """Wheels from wherever pip is set up to look: for torch, its settings decide CPU or CUDA."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary=:all:", "-d", "wheels", "-r", "requirements.txt"]
    command += ["-c", "constraints.txt"]
    if platform.python_version_tuple()[:2] != tuple(PYTHON.split(".")):
        command += ["--python-version", PYTHON, "--implementation", "cp"]
        for age in ("manylinux_2_28", "manylinux_2_17", "manylinux2014"):
            command += ["--platform", f"{age}_{platform.machine()}"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"pip could not download the packages: {error}") from error
    if done.returncode:
        raise EngineError(f"pip could not download the packages:\n{done.stderr[-3000:].strip()}")


def _build_one(client: docker.DockerClient, name: str, tag: str, base: str, say: Say) -> None:
    begun = time.monotonic()
    wheels = wheelhouse(name, say)
    say(f"image {tag}: building on {base}")
    with tempfile.TemporaryFile() as context:
        _pack(context, name, wheels)
        context.seek(0)
        if tag_of(name) != tag:
            raise EngineError(f"the code changed while {tag} was packed; build again")
        _run_build(client, context, tag, {"BASE_IMAGE": base}, {LABEL_IMAGE: name}, say)
    with engine_errors():
        size = client.images.get(tag).attrs["Size"]
    say(f"image {tag}: ready, {size / 1e6:.0f} MB, {time.monotonic() - begun:.0f} s")


def _run_build(
    client: docker.DockerClient,
    context: IO[bytes],
    tag: str,
    arguments: dict[str, str],
    labels: dict[str, str],
    say: Say,
) -> None:
    last: list[str] = []
    with engine_errors():
        for event in client.api.build(
            fileobj=context,
            custom_context=True,
            tag=tag,
            buildargs=arguments,
            labels=labels,
            network_mode="none",
            rm=True,
            forcerm=True,
            decode=True,
        ):
            text = str(event.get("stream", "")).strip()
            if text.startswith("Step ") and " RUN " in text:
                # The long ones: installing the packages, compiling the code.
                say(f"image {tag}: {text.splitlines()[0][:90]}")
            last = [*last, *text.splitlines()][-20:]
            if "error" in event:
                raise EngineError(f"building {tag} failed: {event['error']}\n" + "\n".join(last))


def _pack(context: IO[bytes], name: str, wheels: Path) -> None:
    """The build's context. Times and owners are left out, so that the engine's cache holds."""
    with tarfile.open(fileobj=context, mode="w") as tar:
        _add_text(tar, "Dockerfile", _dockerfile(name).read_text())
        _add_text(tar, "requirements.txt", "\n".join(sorted(host.requirements(name))) + "\n")
        _add_text(tar, "constraints.txt", constraints())
        for wheel in sorted(wheels.iterdir()):
            tar.add(wheel, f"wheelhouse/{wheel.name}", filter=_plain)
        root = host.steps_package()
        for path in host.steps_files():
            tar.add(path, f"proctor_steps/{path.relative_to(root).as_posix()}", filter=_plain)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mtime = 0
    entry.mode = 0o644
    return entry


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    entry = _plain(tarfile.TarInfo(name))
    entry.size = len(text.encode())
    tar.addfile(entry, BytesIO(text.encode()))


def _dockerfile(name: str) -> Path:
    own = shipped("containers") / name / "Dockerfile"
    return own if own.exists() else shipped("containers") / "steps" / "Dockerfile"


def _exists(client: docker.DockerClient, tag: str) -> bool:
    with engine_errors():
        try:
            client.images.get(tag)
        except docker.errors.ImageNotFound:
            return False
    return True


@contextmanager
def _one_builder() -> Iterator[None]:
    """Two launchers build one after the other: the second finds what the first has built."""
    with (cache_folder() / "images.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(argv: list[str] | None = None) -> int:
    """Build the named images, all without a name; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m proctor.runtime.images", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="steps, sut-onnxruntime, ...")
    parser.add_argument("--base", help="the base image, instead of python:3.11-slim or Debian's")
    parser.add_argument("--clean-cache", action="store_true", help="forget downloaded packages")
    options = parser.parse_args(argv)
    if options.clean_cache:
        remove_tree(cache_folder() / "wheels")
    names = [name.removeprefix(IMAGE_PREFIX) for name in options.names]
    try:
        build(names or host.own_images(), lambda line: print(line, flush=True), options.base)
    except (EngineError, RequestRefused) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
