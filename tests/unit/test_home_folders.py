"""A home is for nobody else of the machine, whoever owns it."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from proctor.site.home import Home


def modes(home: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()}


@pytest.mark.parametrize("uid", [0, 1000])
def test_others_can_pass_through_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    home = Home(tmp_path / "home")
    home.create()
    # Root's PostgreSQL runs as another user, which must reach its own folder and nothing else.
    wanted = 0o711 if uid == 0 else 0o700
    assert stat.S_IMODE(home.path.stat().st_mode) == wanted
    folders = {name: mode for name, mode in modes(home.path).items() if name != ".gitignore"}
    assert set(folders.values()) == {0o700}
    assert {"runs", "artifacts", "work", "plans", "cache", "keys", "secrets"} <= set(folders)


def test_a_home_of_an_earlier_version_is_closed(tmp_path: Path) -> None:
    (tmp_path / "home" / "artifacts").mkdir(parents=True)
    (tmp_path / "home" / "artifacts").chmod(0o755)
    Home(tmp_path / "home").create()
    assert modes(tmp_path / "home")["artifacts"] == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL is another user")
def test_a_start_opens_no_folder_above_it_beyond_passing_through() -> None:
    from proctor.site.postgres import Postgres

    with tempfile.TemporaryDirectory(prefix="p-") as made:
        above = Path(made)
        own, shared = above / "own", above / "own" / "shared"
        home = Home(shared / "home")
        home.create()
        own.chmod(0o700)
        shared.chmod(0o750)
        server = Postgres(home.path / "postgres")
        server.start()
        try:
            found = [stat.S_IMODE(each.stat().st_mode) for each in (above, own, shared, home.path)]
            assert [f"{mode:o}" for mode in found] == ["711", "711", "751", "711"]
        finally:
            server.stop()
