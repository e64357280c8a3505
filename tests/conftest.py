"""What tests of every kind share: the shared data, a Docker engine, a browser."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

IN_CI = os.environ.get("CI") == "true"
ROOT = Path(__file__).resolve().parent.parent


def absent(what: str) -> None:
    """Skip on a developer's machine; in CI, where everything can be installed, fail."""
    if IN_CI:
        pytest.fail(f"{what} is absent; in CI it must be there")
    pytest.skip(f"{what} is absent")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images and models, beside the checkout."""
    folder = Path(os.environ.get("PROCTOR_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "SOURCES.md").is_file():
        absent(f"the shared test data ({folder})")
    return folder


@pytest.fixture(scope="session")
def docker_engine() -> object:
    """A client of a Docker engine that answers."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        absent(f"a Docker engine ({error})")
    return client


@pytest.fixture(scope="session")
def steps_image(docker_engine: object) -> None:
    """The image of Proctor's own steps, as this checkout makes it."""
    from proctor.runtime import images

    images.build(["steps"], lambda line: None)


@pytest.fixture(scope="session")
def machines_faults() -> None:
    """What it takes to make a machine misbehave for one run alone."""
    tools = ("setpriv", "unshare", "mount")
    missing = [name for name in tools if not shutil.which(name)]
    if os.geteuid() or missing or not list(Path("/usr/lib").rglob("libfaketimeMT.so.1")):
        absent(f"root, libfaketime or one of {', '.join(tools)}")


@pytest.fixture(scope="session")
def machines() -> None:
    """What it takes to have machines of a test's own, and to see what leaves them."""
    missing = [name for name in ("ip", "nsenter", "tcpdump") if not shutil.which(name)]
    if os.geteuid() or missing:
        absent(f"root, or one of iproute2 and tcpdump ({', '.join(missing)})")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Debian's browser."""
    path = Path("/usr/bin/chromium")
    if not path.exists():
        absent("/usr/bin/chromium")
    return str(path)
