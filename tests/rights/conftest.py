"""A real instance with the FAB auth manager, as a shared server runs it; steps are fakes."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from airflow_site import Site, Started
from rights_table import USERS, Person, Stage, log_in
from test_gate import GATED, asked, show

from proctor.runtime.fake import FakeRuntime
from proctor.site.home import Home
from proctor.site.instance import running
from proctor.site.settings import user_name


# Not longer: an instance tells its own process its database, and one that stays up would tell the
# tests of another's that of this one.
@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="proctor-rights-"))
    folder.chmod(0o711)
    home = Home(folder / "home")
    (folder / "specs").mkdir()
    home.create()
    (home.path / "site.yaml").write_text(yaml.safe_dump({"auth": "fab", "users": USERS}))
    try:
        with running(home, "fake", sys.stderr) as instance:
            yield Site(instance, folder / "specs", FakeRuntime(home.path))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def person(site: Site) -> Person:
    """What a user sends, by name or by role."""
    known: dict[str, httpx.Client] = {}
    by_role = {role: name for name, role in USERS.items()} | {"admin": user_name()}

    def client(who: str) -> httpx.Client:
        name = by_role.get(who, who)
        if name not in known:
            known[name] = log_in(site, name)
        return known[name]

    return client


@pytest.fixture(scope="module")
def stage(site: Site) -> Stage:
    """Runs at gates, one for each answer that the table tries, and runs that have ended."""
    show(site, "<h1>evidence</h1>")

    def started(name: str, more: str = "") -> Started:
        return site.start(name, GATED.format(name=name, more=more, question="Good enough?"))

    gates = [started("open") for _ in range(11)]
    named = started("named", ", approvers: [ada]")
    for run in [*gates, named]:
        asked(run)
    ended = [gates.pop() for _ in range(2)]
    for run in ended:
        site.instance.client.answer("open", run.record.run, "approve", "Approve", {})
    for run in ended:
        assert run.ended() == "success"
    return Stage(gates, named, ended)
