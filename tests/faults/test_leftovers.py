"""What a crash leaves behind: a pid file that names somebody else, a database in recovery."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from faults_kit import killed, until

from proctor.site.postgres import Postgres, PostgresFailed
from proctor.site.processes import Components, end_leftovers


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="proctor-faults-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def postgres(folder: Path) -> Iterator[Postgres]:
    made = Postgres(folder / "postgres")
    made.start()
    yield made
    made.stop()


def answers(postgres: Postgres) -> bool:
    import psycopg2  # type: ignore[import-untyped]

    connection = psycopg2.connect(postgres.addresses()[0].replace("+psycopg2", ""))
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        found = cursor.fetchone() == (1,)
    connection.close()
    return found


def test_a_killed_database_is_seen_and_comes_back(postgres: Postgres, folder: Path) -> None:
    assert postgres.alive()
    pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
    for process in [psutil.Process(pid), *psutil.Process(pid).children()]:
        killed(process)
    assert not postgres.alive()
    postgres.start()
    assert postgres.alive()
    assert answers(postgres)


def test_nothing_of_a_database_is_shared_with_other_homes_or_users(postgres: Postgres) -> None:
    opened = {file.path for file in psutil.Process().open_files()}
    named = [Path(name) for name in opened if "lock" in name]
    with postgres._server._lock:
        held = {file.path for file in psutil.Process().open_files()} - opened
    assert held and named == []
    assert all(Path(name).parent == postgres._folder.parent for name in held)


@pytest.mark.parametrize("number", ["init's", "ours", "cut short"])
def test_a_pid_file_that_misleads_stops_nobody(
    postgres: Postgres, folder: Path, number: str
) -> None:
    file = folder / "postgres" / "postmaster.pid"
    lines = file.read_text().splitlines(keepends=True)
    killed(psutil.Process(int(lines[0])))
    named = {"init's": "1\n", "ours": f"{os.getpid()}\n", "cut short": ""}[number]
    file.write_text("".join([named, *lines[1:]]) if named else "")
    assert not postgres.alive()
    postgres.start()
    assert answers(postgres)


def test_a_database_that_cannot_start_says_where_its_log_is(
    postgres: Postgres, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proctor.site.postgres.REFUSED_SECONDS", 0.5)
    postgres.stop()
    (folder / "postgres" / "global" / "pg_control").unlink()
    with pytest.raises(PostgresFailed, match=str(folder / "postgres" / "log")):
        postgres.start()


def sleeper(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"], cwd=folder, start_new_session=True)


def test_only_sessions_that_work_in_the_home_are_ended(folder: Path) -> None:
    (folder / "airflow").mkdir()
    (folder / "elsewhere").mkdir()
    ours, other = sleeper(folder / "airflow"), sleeper(folder / "elsewhere")
    # As after a reboot: the number is written down, and it is another's now.
    written = {"scheduler": [ours.pid, 1.0], "triggerer": [other.pid, 1.0]}
    (folder / "airflow" / "processes.json").write_text(json.dumps(written))
    end_leftovers(folder / "airflow")
    assert ours.wait(10) == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    other.wait()


def test_a_component_that_hangs_is_replaced_with_all_its_children(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proctor.site.processes.COMPONENTS", {"triggerer": ("version",)})
    components = Components(folder, {"PATH": os.environ["PATH"]})
    components.start()
    first = components._running["triggerer"]
    first.send_signal(signal.SIGSTOP)
    components.restart("triggerer")
    assert first.returncode == -signal.SIGKILL
    second = components._running["triggerer"]
    assert second.pid != first.pid
    until(lambda: second.poll() is not None, 60)
    components.stop()
