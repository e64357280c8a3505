"""A home of its own for each run that is killed, with the engine's events from before it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults_kit import EngineEvents, Target


@pytest.fixture
def target(docker_engine: object) -> Iterator[Target]:
    # Outside pytest's own folder: as root, PostgreSQL runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="proctor-faults-"))
    folder.chmod(0o711)
    events = EngineEvents(folder / "home", folder / "events.jsonl")
    made = Target(folder / "home", events)
    yield made
    made.clear_away()
    events.close()
    shutil.rmtree(folder, ignore_errors=True)
