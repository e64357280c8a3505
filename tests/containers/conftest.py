"""Steps in an image that is not Proctor's, on the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from foreign_kit import NAME, stand_in
from proctor.runtime.docker import DockerRuntime
from proctor.runtime.selfcheck import Bench


@pytest.fixture(scope="module")
def foreign(docker_engine: Any) -> Iterator[str]:
    """The image's id, while a module needs it."""
    with stand_in(docker_engine) as id:
        yield id


@pytest.fixture
def bench(foreign: str, docker_engine: Any, tmp_path: Path) -> Iterator[Bench]:
    """Where its steps are started; none of their containers may be left."""
    made = Bench(DockerRuntime(tmp_path / "home"), tmp_path / "home", image=NAME)
    yield made
    made.clean()
    wanted = {"label": f"proctor.home={made.home}"}
    assert docker_engine.containers.list(all=True, filters=wanted) == []
