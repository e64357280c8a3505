"""Where shipped files are found: beside the package in a wheel, else in the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from proctor import shipped as module
from proctor.shipped import find_spec, shipped

ROOT = Path(__file__).resolve().parent.parent.parent


def test_in_the_repository() -> None:
    assert shipped("pipeline_specs") == ROOT / "pipeline_specs"


def test_in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "lib" / "proctor"
    (installed / "share" / "pipeline_specs").mkdir(parents=True)
    (installed / "share" / "pipeline_specs" / "mine.yaml").touch()
    monkeypatch.setattr(module, "_PACKAGE", installed)
    assert find_spec("mine") == installed / "share" / "pipeline_specs" / "mine.yaml"
    with pytest.raises(FileNotFoundError, match=r"neither a file nor a shipped pipeline \(mine\)"):
        find_spec("demo")


def test_absent() -> None:
    with pytest.raises(FileNotFoundError, match="did not come with this installation"):
        shipped("no-such-folder")


def test_a_file_comes_before_a_shipped_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()  # a folder of that name is in nobody's way
    assert find_spec("demo") == ROOT / "pipeline_specs" / "demo.yaml"
    (tmp_path / "demo").rmdir()
    (tmp_path / "demo").touch()
    assert find_spec("demo") == Path("demo")
