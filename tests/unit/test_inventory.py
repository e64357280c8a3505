"""What a site has, file by file: what is listed, what is refused, what of it people see."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from proctor_steps.contract import Result
from proctor_steps.dataset import catalogue, inventory

SCENES = Path(inventory.__file__).parent.parent / "embedded" / "digits" / "scenes.zip"


def refused(ran: tuple[Result, Path]) -> str:
    assert ran[0].status == "data_error"
    return ran[0].message


def picture() -> bytes:
    with zipfile.ZipFile(SCENES) as scenes:
        return scenes.read(sorted(scenes.namelist())[0])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "series").mkdir(parents=True)
    (folder / "series" / "one.png").write_bytes(picture())
    (folder / "scan").write_bytes(b"\0" * 128 + b"DICM" + b"rest")
    (folder / "notes.csv").write_text("a,b\n")
    return folder


def test_every_file_is_listed_with_its_digest_and_kind(data: Path, run_stage: Any) -> None:
    _, out = run_stage(inventory.STAGE, {}, inputs={"data": data})
    files = json.loads((out / "inventory.json").read_text())["files"]
    assert [(file["name"], file["kind"]) for file in files] == [
        ("notes.csv", "text/csv"),
        ("scan", "application/dicom"),
        ("series/one.png", "image/png"),
    ]
    assert files[2]["sha256"] == sha256(picture()).hexdigest()
    assert files[2]["bytes"] == len(picture())


def test_all_that_cannot_be_used_is_named_at_once(data: Path, run_stage: Any) -> None:
    (data / "empty.bin").touch()
    (data / "series" / "cut.png").write_bytes(picture()[:-40])
    (data / "text.jpg").write_text("no picture")
    told = refused(run_stage(inventory.STAGE, {}, inputs={"data": data}))
    assert told.startswith("3 of 6 files cannot be used:")
    assert "\n  empty.bin: is empty" in told
    assert "\n  series/cut.png: cut.png cannot be decoded" in told
    assert "\n  text.jpg: text.jpg cannot be decoded" in told


def test_a_file_that_may_not_be_read_is_named(
    data: Path, run_stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    may = os.access  # root may read everything
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "scan" and may(path, mode))
    told = refused(run_stage(inventory.STAGE, {}, inputs={"data": data}))
    assert "scan: cannot be read by this step" in told


def test_a_dataset_in_which_nothing_matches(data: Path, run_stage: Any) -> None:
    told = refused(run_stage(inventory.STAGE, {"files": "*.nii.gz"}, inputs={"data": data}))
    assert told.startswith("no file matches '*.nii.gz'")


@pytest.fixture
def inventories(tmp_path: Path) -> Callable[..., dict[str, Path]]:
    def made(**subjects: dict[str, bytes]) -> dict[str, Path]:
        found = {}
        for name, files in subjects.items():
            folder = tmp_path / "in" / name
            folder.mkdir(parents=True)
            listed = [
                {"name": key, "bytes": len(text), "sha256": sha256(text).hexdigest(), "kind": "x/y"}
                for key, text in files.items()
            ]
            (folder / "inventory.json").write_text(json.dumps({"files": listed}))
            found[name] = folder
        return found

    return made


def test_the_catalogue_counts_and_has_a_page(
    inventories: Callable[..., dict[str, Path]], run_stage: Any
) -> None:
    given = inventories(one={"a": b"1", "b": b"22"}, two={"<b>": b"333"})
    _, out = run_stage(catalogue.STAGE, {}, inputs={"inventories": given})
    made = json.loads((out / "catalogue.json").read_text())
    assert (made["subjects"], made["files"], made["bytes"]) == (2, 3, 6)
    assert made["kinds"] == {"x/y": 3}
    assert made["same_content"] == []
    page = (out / "catalogue.html").read_text()
    assert "2 subjects, 3 files, 6 Bytes" in page
    assert "http" not in page


def test_a_subject_that_is_there_twice_is_told(
    inventories: Callable[..., dict[str, Path]], run_stage: Any
) -> None:
    given = inventories(one={"a": b"same", "b": b"same"}, two={"c<i>": b"same"}, three={"d": b"x"})
    ran, out = run_stage(catalogue.STAGE, {}, inputs={"inventories": given})
    made = json.loads((out / "catalogue.json").read_text())
    assert made["same_content"] == [["one/a", "one/b", "two/c<i>"]]
    assert [finding.rule for finding in ran.findings] == ["same_content"]
    assert "two/c&lt;i&gt;" in (out / "catalogue.html").read_text()


@pytest.mark.parametrize("text", ["", "[]", '{"files": [{"name": "a"}]}'])
def test_an_inventory_that_is_none(
    inventories: Callable[..., dict[str, Path]], run_stage: Any, text: str
) -> None:
    given = inventories(one={"a": b"1"})
    (given["one"] / "inventory.json").write_text(text)
    told = refused(run_stage(catalogue.STAGE, {}, inputs={"inventories": given}))
    assert told.startswith("subject one: inventory.json cannot be used")
