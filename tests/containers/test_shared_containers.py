"""Shared directories and mounts inside mounts, in containers that run as nobody in particular."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from foreign_kit import shell
from proctor.runtime.artifacts import LocalArtifacts
from proctor.runtime.base import Handle, InputSource, OutputTarget, RequestRefused
from proctor.runtime.container import user
from proctor.runtime.selfcheck import Bench

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("foreign")]
DATA = OutputTarget(name="data", mount_path="/work/data", shared=True)
READ = InputSource(name="before", shared="data", mount_path="/work/data/")
FILE = OutputTarget(name="stats", mount_path="/work/data/made/stats.yaml", type="file")


def works(bench: Bench, handle: Handle) -> dict[str, str]:
    outcome = bench.finish(handle)
    assert outcome.failure is None, outcome.failure
    return outcome.outputs


def shared(bench: Bench) -> Path:
    return LocalArtifacts(bench.home).shared("selfcheck", bench.run, "data")


def test_steps_write_in_place_and_it_belongs_to_the_containers_user(bench: Bench) -> None:
    script = "mkdir /work/data/sub && echo one > /work/data/sub/a.txt"
    assert works(bench, shell(bench, "one", script, outputs=(DATA,))) == {}
    # The same directory twice at one place, as input and output, is one mount.
    script = "grep one /work/data/sub/a.txt && echo two > /work/data/sub/a.txt"
    works(bench, shell(bench, "two", script, inputs=(READ,), outputs=(DATA,)))
    # An input alone can be written to, at another place as well.
    elsewhere = InputSource(name="x", shared="data", mount_path="/elsewhere")
    script = "grep two /elsewhere/sub/a.txt && rm -r /elsewhere/sub && touch /elsewhere/cleaned"
    works(bench, shell(bench, "three", script, inputs=(elsewhere,)))
    assert [p.name for p in shared(bench).iterdir()] == ["cleaned"]
    owners = {(p.stat().st_uid, p.stat().st_gid) for p in (shared(bench), *shared(bench).iterdir())}
    assert owners == {user()}
    assert 0 not in user() or os.geteuid() != 0


def test_a_subjects_part_of_a_run_works_in_the_runs_directory(bench: Bench) -> None:
    parts = [f"{bench.run}~{key * 8}" for key in ("0a", "0b")]
    for number, run in enumerate(parts):
        script = f"echo {number} > /work/data/{number}.txt"
        works(bench, shell(bench, "each", script, run=run, outputs=(DATA,)))
    assert sorted(p.name for p in shared(bench).iterdir()) == ["0.txt", "1.txt"]


def test_a_file_inside_a_shared_directory(bench: Bench) -> None:
    script = "test -w /work/data/made/stats.yaml && echo n: 1 > /work/data/made/stats.yaml"
    made = works(bench, shell(bench, "file", script, inputs=(READ,), outputs=(DATA, FILE)))
    store = LocalArtifacts(bench.home)
    assert store.path(made["stats"]).read_text() == "n: 1\n"
    assert not store.path(made["stats"]).stat().st_mode & 0o222
    # What is left of it in the directory is a place that its user can use.
    place = shared(bench) / "made" / "stats.yaml"
    assert place.read_text() == ""
    assert (place.stat().st_uid, place.parent.stat().st_uid) == (user()[0], user()[0])
    works(bench, shell(bench, "use", "echo x > /work/data/made/stats.yaml", outputs=(DATA,)))
    # A later step reads the file of the other one there.
    given = InputSource(name="s", uri=made["stats"], mount_path=FILE.mount_path, type="file")
    script = "grep 'n: 1' /work/data/made/stats.yaml && ! echo y > /work/data/made/stats.yaml"
    works(bench, shell(bench, "read", script, inputs=(READ, given)))


def test_a_shared_file_is_empty_at_first_and_written_in_place(bench: Bench) -> None:
    file = OutputTarget(name="log", mount_path="/log.txt", type="file", shared=True)
    for step, lines in (("one", 1), ("two", 2)):
        script = f"echo line >> /log.txt; test $(wc -l < /log.txt) = {lines}"
        works(bench, shell(bench, step, script, outputs=(file,)))


def test_a_bound_file_inside_a_bound_folder(bench: Bench, tmp_path: Path) -> None:
    folder, file = tmp_path / "scans", tmp_path / "parameters.yaml"
    folder.mkdir()
    file.write_text("size: 3\n")
    inputs = (
        InputSource(name="scans", host_path=str(folder), mount_path="/raw"),
        InputSource(name="p", host_path=str(file), mount_path="/raw/parameters.yaml", type="file"),
    )
    with pytest.raises(
        RequestRefused, match=r"/raw/parameters\.yaml cannot be mounted inside /raw"
    ):
        shell(bench, "absent", "true", inputs=inputs)
    assert list(folder.iterdir()) == []
    (folder / "parameters.yaml").touch()
    works(bench, shell(bench, "there", "grep 'size: 3' /raw/parameters.yaml", inputs=inputs))


def test_a_link_that_a_step_left_leads_nowhere(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    script = f"ln -s {outside} /work/data/made"
    works(bench, shell(bench, "link", script, outputs=(DATA,)))
    with pytest.raises(RequestRefused, match="something else has this name there, or a link"):
        shell(bench, "trapped", "true", outputs=(DATA, FILE))
    assert list(outside.iterdir()) == []


def test_two_things_at_one_place_are_refused(bench: Bench) -> None:
    other = OutputTarget(name="other", mount_path="/work//data")
    with pytest.raises(RequestRefused, match="two things cannot be mounted at /work/data"):
        shell(bench, "twice", "true", outputs=(DATA, other))
