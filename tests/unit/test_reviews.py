"""A review's files: missing, renamed, too many, empty, growing; and what is taken."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from proctor.airflow.reviews import expected, outstanding
from proctor.plan.model import Review

NAMES = ["a/mask.nii.gz", "b/mask.nii.gz"]


def put(folder: Path, name: str, text: str = "m", age: float = 60) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    then = time.time() - age
    os.utime(path, (then, then))


def test_all_there_is_nothing_to_say(tmp_path: Path) -> None:
    for name in NAMES:
        put(tmp_path, name)
    assert list(outstanding(tmp_path, NAMES)) == []


def test_what_is_missing_is_named_with_its_place(tmp_path: Path) -> None:
    put(tmp_path, NAMES[0])
    (line,) = outstanding(tmp_path, NAMES)
    assert line == f"b/mask.nii.gz: outstanding; put it into {tmp_path / 'b/mask.nii.gz'}"


def test_a_renamed_file_is_told_from_a_missing_one(tmp_path: Path) -> None:
    put(tmp_path, NAMES[0])
    put(tmp_path, "b/mask_final.nii.gz")
    (line,) = outstanding(tmp_path, NAMES)
    assert "b/mask_final.nii.gz: is no name of a file to review; if it is b/mask.nii.gz" in line


def test_a_second_file_is_one_too_many(tmp_path: Path) -> None:
    for name in (*NAMES, "a/mask (1).nii.gz"):
        put(tmp_path, name)
    (line,) = outstanding(tmp_path, NAMES)
    assert line.startswith("a/mask (1).nii.gz: is one too many")


@pytest.mark.parametrize(
    ("text", "age", "words"), [("", 60, "is empty"), ("m", 0, "is still being written")]
)
def test_what_cannot_be_taken_yet(tmp_path: Path, text: str, age: float, words: str) -> None:
    put(tmp_path, NAMES[0])
    put(tmp_path, NAMES[1], text, age)
    (line,) = outstanding(tmp_path, NAMES)
    assert line.startswith(f"b/mask.nii.gz: {words}")


def test_a_link_is_no_file(tmp_path: Path) -> None:
    put(tmp_path, NAMES[0])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mask.nii.gz").symlink_to("/etc/hostname")
    (line,) = outstanding(tmp_path, NAMES)
    assert "is no file" in line


def test_many_are_counted(tmp_path: Path) -> None:
    lines = list(outstanding(tmp_path, [f"{n}.nii.gz" for n in range(50)]))
    assert len(lines) == 21 and lines[-1] == "30 more files are outstanding"


def test_what_is_to_review_is_what_matches(tmp_path: Path) -> None:
    for name in ("a/mask.nii.gz", "a/log.txt", "top.nii.gz"):
        put(tmp_path, name)
    assert expected(tmp_path, Review(files=("**/*.nii.gz",))) == ["a/mask.nii.gz", "top.nii.gz"]
