"""Which runtime a run gets: what was asked for or, with ``auto``, the best this machine has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from proctor.runtime import host
from proctor.runtime.base import EngineError, RequestRefused, Runtime
from proctor.runtime.fake import FakeRuntime
from proctor.runtime.process import ProcessRuntime

Kind = Literal["auto", "docker", "process", "fake"]


def make(kind: str, home: Path) -> Runtime:
    """The runtime of that name.

    Raises:
        RequestRefused: there is none of that name.
    """
    if kind == "process":
        return ProcessRuntime(home)
    if kind == "fake":
        return FakeRuntime(home)
    if kind == "docker":
        # Imported when asked for: the SDK takes its time, and not every machine has an engine.
        from proctor.runtime.docker import DockerRuntime

        return DockerRuntime(home)
    raise RequestRefused(f"--runtime {kind}: there is none; choose auto, docker or process")


def choose(
    kind: str,
    home: Path,
    images: Iterable[str],
    say: Callable[[str], None] = print,
    local: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Runtime, str]:
    """The runtime for a run that needs these images, and in words why it is that one.

    ``local``: what the site runs for images of specs, by their name.

    With ``docker`` and ``auto`` the project's images are built where they are missing; ``say``
    gets a line at each stage of that.

    Raises:
        EngineError: ``docker`` was asked for, and no engine answers or a build failed.
        RequestRefused: the images cannot be run by what was asked for.
    """
    if kind != "auto":
        runtime = make(kind, home)
        if kind == "docker":
            _prepare(images, say, local)
        elif kind == "process":
            for image in sorted(images):
                runtime.identity(image)
        return runtime, f"asked for; {runtime.describe()}"
    try:
        _prepare(images, say, local)
    except (EngineError, RequestRefused) as error:
        why = str(error)
    else:
        runtime = make("docker", home)
        return runtime, f"a Docker engine answers and the images are here; {runtime.describe()}"
    foreign = sorted(image for image in images if host.own_image(image) is None)
    if foreign:
        raise RequestRefused(
            f"{why}\nWithout an engine only the project's own images can be run, not "
            f"{', '.join(foreign)}"
        )
    runtime = make("process", home)
    for image in sorted(images):
        runtime.identity(image)
    return runtime, f"no containers: {why}; {runtime.describe()}"


def _prepare(images: Iterable[str], say: Callable[[str], None], local: Mapping[str, str]) -> None:
    """An engine that answers, with every image: the project's built, others already there.

    Raises:
        EngineError, RequestRefused: as the engine, the builder or an image gives cause.
    """
    from proctor.runtime import engine
    from proctor.runtime import images as builder

    engine.check()
    own = {image: host.own_image(image) for image in images}
    builder.build([name for name in own.values() if name is not None], say)
    runtime = make("docker", Path())
    for image in own:
        runtime.identity(image, local.get(image, ""))
