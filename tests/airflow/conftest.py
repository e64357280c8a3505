"""A real PostgreSQL and a real Airflow, once for all tests here; steps run on the fake runtime."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow_site import Site

from proctor.runtime.fake import FakeRuntime
from proctor.site.home import Home
from proctor.site.instance import running


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    # Not below pytest's own folder: as root, PostgreSQL runs as another user, and pytest closes
    # that folder to others whenever a session starts.
    folder = Path(tempfile.mkdtemp(prefix="proctor-airflow-"))
    folder.chmod(0o711)
    home = Home(folder / "home")
    (folder / "specs").mkdir()
    home.create()
    (home.path / "site.yaml").write_text("users: {ada: user, bob: user, vera: viewer}\n")
    with running(home, "fake", sys.stderr) as instance:
        yield Site(instance, folder / "specs", FakeRuntime(home.path))
    shutil.rmtree(folder, ignore_errors=True)
