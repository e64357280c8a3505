"""Programs to call, and the good input that the bad is made from."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hostile_data
import pytest
from hostile_kit import Programs


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


@pytest.fixture(scope="session")
def good_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filtered dataset of four pictures; not to be changed."""
    return hostile_data.dataset(tmp_path_factory.mktemp("good") / "dataset")


@pytest.fixture(scope="session")
def good_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector for it; not to be changed."""
    return hostile_data.model(tmp_path_factory.mktemp("good") / "model")


@pytest.fixture(scope="session")
def good_logs(
    tmp_path_factory: pytest.TempPathFactory, good_dataset: Path, good_model: Path
) -> Path:
    """What an accuracy run of the two left; not to be changed."""
    programs = Programs(tmp_path_factory.mktemp("good"))
    made = programs.stage(
        "loadgen run",
        hostile_data.OFFLINE,
        {"dataset": good_dataset, "model": good_model},
    ).succeeds()
    assert made.folder is not None
    return made.folder


@pytest.fixture(scope="session")
def good_score(
    tmp_path_factory: pytest.TempPathFactory, good_dataset: Path, good_logs: Path
) -> Path:
    """What the scorer made of it; not to be changed."""
    programs = Programs(tmp_path_factory.mktemp("good"))
    inputs = {"logs": good_logs, "dataset": good_dataset}
    made = programs.stage("accuracy score", {"benchmark": "digits"}, inputs).succeeds()
    assert made.folder is not None
    return made.folder


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Outside pytest's own, which is long, and closed to PostgreSQL's user under root."""
    folder = Path(tempfile.mkdtemp(prefix="p-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
