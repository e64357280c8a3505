"""Disks that are full or read-only: the real thing, a small file system of memory."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import hostile_data as data
import pytest
from hostile_kit import NOT_STARTED, STEP, USAGE, Programs
from test_hostile_sources import serving

from proctor.records.store import RecordStore

ROOM = 512 << 10
FULL = "No space left on device; make room there, and start again"


class Disk(Path):
    """A small file system, mounted there."""

    _flavour = type(Path())._flavour  # type: ignore[attr-defined]

    def grow(self) -> None:
        _mount("-o", "remount,size=64m", str(self))

    def lock(self) -> None:
        _mount("-o", "remount,ro", str(self))

    def fill(self) -> None:
        """Leave not a byte."""
        with (self / ".filled").open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    yield from _mounted(tmp_path)


@pytest.fixture
def short_disk(short_folder: Path) -> Iterator[Disk]:
    """Under a short path, which PostgreSQL's socket needs."""
    yield from _mounted(short_folder)


def _mounted(parent: Path) -> Iterator[Disk]:
    folder = Disk(parent / "disk")
    folder.mkdir()
    if os.geteuid() or not _mount("-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)):
        end = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        end("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*words: str) -> bool:
    return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0


def big(folder: Path) -> Path:
    path = folder / "big.bin"
    path.write_bytes(os.urandom(2 * ROOM))
    return path


def test_a_fetch_into_a_full_disk_goes_on_when_there_is_room(
    programs: Programs, disk: Disk
) -> None:
    uri = f"file://{big(programs.root)}"
    said = programs.stage("dataset fetch", {"uri": uri}, out=disk / "out")
    said.refuses(FULL, str(disk), code=STEP)
    disk.grow()
    programs.stage("dataset fetch", {"uri": uri}, out=disk / "out").succeeds()


def test_a_cache_that_is_full_is_not_poisoned(programs: Programs, disk: Disk) -> None:
    """A server that does not say how much comes: the disk fills up in the middle."""
    body = big(programs.root).read_bytes()

    def does(connection: object) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + body)  # type: ignore[attr-defined]

    with serving(does) as port:
        step = _step(programs, {"uri": f"http://127.0.0.1:{port}/x", "retries": 1}, disk)
        said = programs.contract("dataset fetch", step)
        said.refuses("the disk of cache 'cache'", FULL, code=STEP)
        assert list((programs.root / "made").iterdir()) == []
        disk.grow()
        programs.contract("dataset fetch", step).succeeds()
    assert (programs.root / "made" / "x").read_bytes() == body


def test_pictures_are_copied_to_a_full_disk(programs: Programs, disk: Disk) -> None:
    made = data.dataset(programs.root / "data", {"0.png": os.urandom(2 * ROOM)})
    inputs = {"images": made, "annotations": made / "annotations"}
    said = programs.stage("dataset filter-coco", {}, inputs, disk / "out")
    said.refuses(FULL, code=STEP)
    disk.grow()
    programs.stage("dataset filter-coco", {}, inputs, disk / "out").succeeds()


def test_logs_on_a_full_disk(
    programs: Programs, disk: Disk, good_dataset: Path, good_model: Path
) -> None:
    """LoadGen itself does not say that it could not write."""
    (disk / "out").mkdir()
    disk.fill()
    inputs = {"dataset": good_dataset, "model": good_model}
    said = programs.stage("loadgen run", data.OFFLINE, inputs, disk / "out")
    said.refuses(FULL, code=STEP)


@pytest.mark.parametrize("stage", ["accuracy score", "report html"])
def test_results_on_a_full_disk(
    programs: Programs,
    disk: Disk,
    good_dataset: Path,
    good_logs: Path,
    good_score: Path,
    stage: str,
) -> None:
    (disk / "out").mkdir()
    disk.fill()
    if stage == "accuracy score":
        params, inputs = {"benchmark": "digits"}, {"logs": good_logs, "dataset": good_dataset}
    else:
        params, inputs = {}, {"accuracy": good_score, "dataset": good_dataset}
    programs.stage(stage, params, inputs, disk / "out").refuses(FULL, code=STEP)


def test_a_result_that_cannot_be_written_is_said(programs: Programs, disk: Disk) -> None:
    """The step itself did its work; nobody may take it for done."""
    step = _step(programs, {"uri": f"file://{big(programs.root)}"}, programs.root, disk)
    disk.fill()
    said = programs.contract("dataset fetch", step)
    said.refuses("the step's result is lost", FULL, code=STEP)
    assert not (step / "result.json").exists()


def test_a_disk_that_may_only_be_read(programs: Programs, disk: Disk) -> None:
    disk.lock()
    said = programs.stage("dataset fetch", {"uri": "embedded:digits"}, out=disk / "out")
    said.refuses(f"{disk}/out cannot be made (Read-only file system)", code=USAGE)


def test_an_output_that_may_only_be_read(programs: Programs, disk: Disk) -> None:
    (disk / "out").mkdir()
    disk.lock()
    said = programs.stage(
        "dataset fetch", {"uri": f"file://{big(programs.root)}"}, out=disk / "out"
    )
    said.refuses("Read-only file system; it is mounted read-only", str(disk), code=STEP)


def test_a_record_on_a_full_disk_goes_on_when_there_is_room(disk: Disk) -> None:
    record = RecordStore(disk).run("p", "r")
    for number in range(3):
        record.append("header", data={"number": number})
    disk.fill()
    with pytest.raises(OSError, match="No space left on device"):
        record.append("attempt", data={"long": "x" * 9000})
    assert len(record.lines()) == 3
    (disk / ".filled").unlink()
    record.append("attempt", data={"long": "x" * 9000})
    assert [line.seq for line in record.lines()] == [1, 2, 3, 4] and not record.verify_chain()


@pytest.mark.parametrize(
    ("state", "phrase"),
    [
        ("read-only", "home cannot be the home: Read-only file system"),
        ("full", "home cannot be the home: No space left on device"),
        ("nearly full", "MiB are free on the disk of"),
    ],
)
def test_a_home_on_such_a_disk(
    programs: Programs, short_disk: Disk, state: str, phrase: str
) -> None:
    if state == "read-only":
        short_disk.lock()
    elif state == "full":
        short_disk.fill()
    home = str(short_disk / "home")
    said = programs.proctor("run", "demo", "--home", home, "--runtime", "process")
    said.refuses(phrase, home, code=NOT_STARTED)


def _step(
    programs: Programs, params: dict[str, object], cache: Path, step: Path | None = None
) -> Path:
    """A step's folder with a contract: the output ``made`` and a cache."""
    made, folder = programs.root / "made", step or programs.root / "step"
    made.mkdir()
    folder.mkdir(exist_ok=True)
    mounts = [
        {"name": "dataset", "kind": "output", "path": str(made)},
        {"name": "cache", "kind": "cache", "path": str(cache)},
    ]
    text = {"pipeline": "p", "run": "r", "step": "s", "params": params, "mounts": mounts}
    (folder / "contract.json").write_text(json.dumps(text))
    return folder
