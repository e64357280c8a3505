"""Packages of several systems, benchmarks and scenarios as one tree: what is kept, what is told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import submission_kit
from evidence_kit import Kit, approval
from proctor.cli import app
from proctor_steps.contract import tree_digest
from proctor_steps.stage import DataError
from proctor_steps.submission import archive
from proctor_steps.submission.check.run import check
from proctor_steps.submission.merge import merge
from proctor_steps.submission.package import STAGE

NAMES = {"runs": "accuracy_logs", "accuracy": "scores"}
PARAMS = {"submitter": "Example", "division": "closed", "benchmark": "yolo"}
Package = Callable[..., Path]


@pytest.fixture
def package(tmp_path: Path) -> Package:
    """Make a real package; the folder that holds its tree/ and archive."""
    made: list[Path] = []

    def make(
        system: str = "box-1", scenarios: tuple[str, ...] = ("Offline",), **params: Any
    ) -> Path:
        kit = Kit(tmp_path / f"kit-{len(made)}", approvals=(approval(by=f"p{len(made)}"),))
        wanted = {**PARAMS, "system_name": system, **params}
        result, out = kit.fill(scenarios).run(STAGE, "package", wanted, NAMES)
        assert result.status == "ok", result.message
        made.append(out)
        return out

    return make


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def refused(sources: list[Path], out: Path) -> str:
    """The message; nothing was written."""
    before = sorted(out.parent.rglob("*"))
    with pytest.raises(DataError) as caught:
        merge(sources, out)
    assert sorted(out.parent.rglob("*")) == before
    return str(caught.value)


def test_two_systems_become_one_tree(package: Package, tmp_path: Path) -> None:
    one, two = package("box-1"), package("box-2")
    made = merge([one, two], tmp_path / "all")
    assert made.results() == ["box-1/yolo-99/Offline", "box-2/yolo-99/Offline"]
    names = files(tmp_path / "all")
    assert names == files(one / "tree") | files(two / "tree")
    assert {n for n in names if "/systems/" in n} == {
        f"closed/Example/systems/box-{n}.json" for n in (1, 2)
    }
    documents = tmp_path / "all/closed/Example/documentation"
    gates = json.loads((documents / "approvals.json").read_text())
    assert [entry["by"] for entry in gates] == ["p0", "p1"]
    told = (documents / "README.md").read_text()
    assert told.index("# Approvals of box-1, yolo-99") < told.index("# Approvals of box-2")
    assert "# Calibration of box-2" in (documents / "calibration.md").read_text()


def test_scenarios_of_one_system_come_together(package: Package, tmp_path: Path) -> None:
    sources = [package(scenarios=("Offline",)), package(scenarios=("SingleStream",))]
    made = merge(sources, tmp_path / "all")
    assert made.results() == ["box-1/yolo-99/Offline", "box-1/yolo-99/SingleStream"]


def test_archives_and_both_divisions_can_be_merged(package: Package, tmp_path: Path) -> None:
    one, two = package(), package(division="open")
    made = merge([one / "submission.tar.gz", two / "tree"], tmp_path / "all")
    assert {name.split("/")[0] for name in made.files} == {"closed", "open"}
    assert files(tmp_path / "all") == set(made.files)


def test_what_was_merged_can_be_merged_again(package: Package, tmp_path: Path) -> None:
    one, two, three = package("a"), package("b"), package("c")
    merge([one, two], tmp_path / "ab")
    merge([tmp_path / "ab", three], tmp_path / "abc")
    merge([one, two, three], tmp_path / "at-once")
    assert tree_digest(tmp_path / "abc") == tree_digest(tmp_path / "at-once")
    merge([tmp_path / "abc", two, two], tmp_path / "again")
    assert tree_digest(tmp_path / "abc") == tree_digest(tmp_path / "again")


def test_the_archive_of_a_merged_tree_has_the_same_bytes(package: Package, tmp_path: Path) -> None:
    sources = [package("a"), package("b")]
    for name in ("one", "two"):
        merge(sources, tmp_path / name)
        for path in (tmp_path / name).rglob("*"):
            os.utime(path, (len(name), 77 if name == "two" else 3))
            path.chmod(0o755 if name == "two" else 0o700)
        archive.pack(tmp_path / name, tmp_path / f"{name}.tar.gz")
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()


def test_code_that_differs_stays_with_its_system(package: Package, tmp_path: Path) -> None:
    one, two = package("box-1"), package("box-2")
    code = "closed/Example/src/yolo-99/proctor_steps/stage.py"
    (two / "tree" / code).write_text("# another version\n")
    merge([one, two], tmp_path / "all")
    source = tmp_path / "all/closed/Example/src/yolo-99"
    assert sorted(p.name for p in source.iterdir()) == ["box-1", "box-2"]
    assert (source / "box-2/proctor_steps/stage.py").read_text() == "# another version\n"
    assert files(source / "box-1") == files(one / "tree/closed/Example/src/yolo-99")


def test_packages_of_one_system_with_the_same_code_stay_together(
    package: Package, tmp_path: Path
) -> None:
    same = [package("box-1"), package("box-1", ("SingleStream",))]
    other = package("box-2")
    code = next((other / "tree").glob("closed/Example/src/*/README.md"))
    code.write_text("another state")
    merge([*same, other], tmp_path / "all")
    kept = {n.split("/")[4] for n in files(tmp_path / "all") if "/src/" in n}
    assert kept == {"box-1", "box-2"}


def test_a_file_that_is_there_is_not_overwritten_by_the_archive(
    package: Package, tmp_path: Path
) -> None:
    source = package() / "submission.tar.gz"
    before = source.read_bytes()
    for tar in (source, tmp_path / "all" / "x.tar.gz"):
        asked = ["submission", "merge", str(source), "--out", str(tmp_path / "all"), "--tar"]
        answer = CliRunner().invoke(app, [*asked, str(tar)])
        assert answer.exit_code == 2 and "name a new file elsewhere" in answer.output
    assert source.read_bytes() == before and not (tmp_path / "all").exists()


def test_all_conflicts_are_told_at_once_and_nothing_is_written(
    package: Package, tmp_path: Path
) -> None:
    one, two = package(), package()
    home = two / "tree/closed/Example"
    (home / "results/box-1/yolo-99/Offline/user.conf").write_text("*.Offline.target_qps = 7\n")
    (home / "results/box-1/yolo-99/Offline/accuracy/accuracy.txt").write_text("mAP=1%\n")
    system = json.loads((home / "systems/box-1.json").read_text())
    (home / "systems/box-1.json").write_text(json.dumps({**system, "cooling": "water"}))
    (home / "src/yolo-99/README.md").write_text("other code")
    text = refused([one, two, tmp_path / "absent"], tmp_path / "all")
    assert "closed/Example/results/box-1/yolo-99/Offline differs between" in text
    assert "accuracy/accuracy.txt, user.conf" in text and str(one) in text and str(two) in text
    assert "box-1.json differs between" in text and 'cooling is "" and "water"' in text
    assert "src/yolo-99 differs between" in text
    assert "absent: there is no such folder or archive" in text
    assert "nothing was written" in text


def test_several_submitters_are_refused(package: Package, tmp_path: Path) -> None:
    text = refused([package(), package(submitter="Other")], tmp_path / "all")
    assert "several submitters: Example (" in text and "Other (" in text


def test_mappings_of_models_come_together_unless_they_contradict(
    package: Package, tmp_path: Path
) -> None:
    one, two = package("a", division="open"), package("b", division="open")
    home = "tree/open/Example/model_mapping.json"
    (one / home).write_text('{"mine": "yolo-99"}')
    (two / home).write_text('{"other": "resnet"}')
    merge([one, two], tmp_path / "all")
    mapping = json.loads((tmp_path / "all/open/Example/model_mapping.json").read_text())
    assert mapping == {"mine": "yolo-99", "other": "resnet"}
    (two / home).write_text('{"mine": "resnet"}')
    text = refused([one, two], tmp_path / "again")
    assert 'mine is "yolo-99" and "resnet"' in text


@pytest.mark.parametrize(
    ("name", "make", "told"),
    [
        ("two words", lambda p: p.write_text("x"), "has a blank in its name; rename it"),
        (".git", lambda p: p.mkdir(), "begins with a dot"),
        ("link", lambda p: p.symlink_to("/etc/passwd"), "a symbolic link; put the file itself"),
        ("folder-link", lambda p: p.symlink_to("/"), "a symbolic link"),
        ("pipe", lambda p: os.mkfifo(p), "no plain file"),
        ("bad\nname", lambda p: p.write_text("x"), r"bad\nname: has a blank"),
        ("bell\a", lambda p: p.write_text("x"), r"bell\x07: has characters"),
        ("Systems", lambda p: p.mkdir(), "differs from closed/Example/Systems in case"),
        ("large", lambda p: sparse(p, 60 << 20), "62,914,560 bytes; 50 MiB is the most; cut it"),
    ],
)
def test_what_the_repository_refuses_is_told(
    package: Package, tmp_path: Path, name: str, make: Callable[[Path], Any], told: str
) -> None:
    one = package()
    make(one / "tree/closed/Example" / name)
    text = refused([one, package("box-2")], tmp_path / "all")
    assert told in text or (name == "Systems" and "in case or accents' spelling" in text)


def test_names_that_are_no_text_are_told(package: Package, tmp_path: Path) -> None:
    one = package()
    home = os.fsencode(one / "tree/closed/Example")
    Path(os.fsdecode(home + b"/\xff\xfe")).mkdir()
    text = refused([one], tmp_path / "all")
    assert "cannot be shown" in text and text.isascii() and text.encode()


def test_letters_of_every_script_are_kept(package: Package, tmp_path: Path) -> None:
    one = package()
    note = one / "tree/closed/Example/documentation/système-測試.md"
    note.write_text("x")
    merge([one], tmp_path / "all")
    assert (tmp_path / "all" / note.relative_to(one / "tree")).read_text() == "x"
    archive.pack(tmp_path / "all", tmp_path / "all.tar.gz")
    merge([tmp_path / "all.tar.gz"], tmp_path / "unpacked")
    assert tree_digest(tmp_path / "unpacked") == tree_digest(tmp_path / "all")


def test_two_spellings_of_one_accent_are_told(package: Package, tmp_path: Path) -> None:
    one = package()
    for name in ("\u00e9.md", "e\u0301.md"):
        (one / "tree/closed/Example/documentation" / name).write_text("x")
    assert "accents' spelling alone" in refused([one], tmp_path / "all")


def test_a_file_in_one_that_is_a_folder_in_another(package: Package, tmp_path: Path) -> None:
    one, two = package("a"), package("b")
    (one / "tree/closed/Example/extra").write_text("x")
    (two / "tree/closed/Example/extra").mkdir()
    (two / "tree/closed/Example/extra/file").write_text("x")
    text = refused([one, two], tmp_path / "all")
    assert "closed/Example/extra is a file in" in text


def test_sources_that_are_no_submissions(package: Package, tmp_path: Path) -> None:
    empty, damaged = tmp_path / "empty", tmp_path / "damaged.tar.gz"
    empty.mkdir()
    damaged.write_bytes((package() / "submission.tar.gz").read_bytes()[:5000])
    stray = package()
    (stray / "tree/notes.txt").write_text("x")
    text = refused([empty, damaged, stray], tmp_path / "all")
    assert "empty: no submission; it holds none of closed, open, network" in text
    assert "damaged.tar.gz" in text
    assert "notes.txt: stands beside the divisions" in text


def test_where_it_cannot_be_written(package: Package, tmp_path: Path) -> None:
    one = package()
    assert "is there already" in refused([one], one)
    assert "lie inside each other" in refused([one], one / "below")
    assert "there is no such folder" in refused([one], tmp_path / "no" / "such")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("precious")
    assert "is there already" in refused([one], tmp_path / "full")
    (tmp_path / "empty").mkdir()
    merge([one], tmp_path / "empty")
    assert files(tmp_path / "empty") == files(one / "tree")


def test_a_full_disk_leaves_nothing(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, calls = package(), []

    def full(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) > 5:
            raise OSError(28, "No space left on device")
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr("proctor_steps.submission.merge.shutil.copyfile", full)
    (tmp_path / "there").mkdir()
    with pytest.raises(OSError, match="No space"):
        merge([one], tmp_path / "there" / "all")
    assert list((tmp_path / "there").iterdir()) == []


def test_two_submissions_without_fault_make_one_without_fault(tmp_path: Path) -> None:
    """Trees with logs of real runs; the validator judges what comes out."""
    one = submission_kit.make_tree(tmp_path / "one", submission_kit.make_runs(tmp_path / "runs"))
    two = tmp_path / "two"
    for path in (path for path in one.rglob("*") if path.is_file()):
        name = path.relative_to(one).as_posix().replace(submission_kit.SYSTEM, "other")
        submission_kit.write(two / name, path.read_text())
    archive.pack(two, tmp_path / "two.tar.gz")
    made = merge([one, tmp_path / "two.tar.gz"], tmp_path / "all")
    assert len(made.results()) == 6
    report = check(tmp_path / "all", submission_kit.ROUND, jobs=1)
    # These two are one machine's results, under two names.
    assert {finding.rule for finding in report.findings} == {"system_named_twice"}
    assert report.within_rules and len(report.results) == 6
