"""The official checker as a second opinion: what is made of what it says, and of how it ends.

A small program stands in for it. With PROCTOR_INFERENCE naming a checkout of mlcommons/inference,
the real one judges every mutation as well.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import mutation_table
import submission_kit as kit
from proctor_steps.cli import submission_app
from proctor_steps.stage import DataError, StepError
from proctor_steps.submission.check import official, render, run
from proctor_steps.submission.check.compare import Comparison, compare
from proctor_steps.submission.check.second import STAGE

HEAD = "[2026-08-20 08:55:51,001 {file}.py:42 {level}] {text}"
SCENARIOS = sorted(kit.SCENARIOS)


def say(text: str, level: str = "INFO", file: str = "main") -> str:
    return HEAD.format(file=file, level=level, text=text)


def path(scenario: str) -> str:
    return f"ROOT/{kit.RESULTS}/{scenario}/performance/run_1/mlperf_log_detail.txt"


def all_well() -> list[str]:
    return [*(say(f"Results {path(s)} 12.5") for s in SCENARIOS), say("SUMMARY: looks OK")]


def checkout(folder: Path, lines: list[str], code: int = 0, seconds: float = 0) -> Path:
    """A checkout whose checker says these lines."""
    home = folder / "inference" / "tools" / "submission" / "submission_checker"
    home.mkdir(parents=True)
    (home / "__init__.py").touch()
    (home / "main.py").write_text(
        "import sys, time\n"
        "root = sys.argv[sys.argv.index('--input') + 1]\n"
        f"for line in {lines!r}:\n    print(line.replace('ROOT', root), flush=True)\n"
        f"time.sleep({seconds})\nsys.exit({code})\n"
    )
    return folder / "inference"


def ask(faultless: Path, inference: Path, deadline: float = 60) -> Comparison:
    opinion = official.ask(inference, faultless, kit.ROUND, None, deadline)
    return compare(run.check(faultless, kit.ROUND, jobs=1), opinion)


def words(both: Comparison) -> str:
    return "\n".join(render.plain(line) for line in render.comparison(both))


def test_both_pass(faultless: Path, tmp_path: Path) -> None:
    both = ask(faultless, checkout(tmp_path, all_well()))
    assert both.counts == {"both pass": 3}
    assert both.agree
    assert "They agree on every result." in words(both)


def test_only_the_official_checker_rejects(faultless: Path, tmp_path: Path) -> None:
    lines = [
        say("Starting performance checks for: " + path("Offline")),
        say(
            f"{path('Offline')} qsl_rng_seed is wrong, expected=1, found=2", "ERROR", "performance"
        ),
        say(f"{path('Offline')} accuracy not met: expected=1, found=0", "WARNING", "accuracy"),
        say("Some performance checks Checks failed for: " + path("Offline"), "ERROR", "base"),
        *(say(f"Results {path(s)} 12.5") for s in SCENARIOS if s != "Offline"),
        say(f"NoResults {path('Offline')}", "ERROR"),
        say("SUMMARY: submission has errors", "ERROR"),
    ]
    both = ask(faultless, checkout(tmp_path, lines, code=1))
    assert both.counts == {"both pass": 2, "only the official checker rejects": 1}
    assert not both.agree
    (row,) = both.differing
    assert [finding.rule for finding in row.theirs] == ["official_performance", "official_accuracy"]
    assert row.theirs[0].path == path("Offline").removeprefix("ROOT/")
    assert "qsl_rng_seed is wrong" in words(both)


def test_only_proctor_rejects(faultless: Path, tmp_path: Path) -> None:
    tree = Path(shutil.copytree(faultless, tmp_path / "tree"))
    (tree / kit.SINGLE / "user.conf").unlink()
    both = ask(tree, checkout(tmp_path, all_well()))
    assert both.counts == {"both pass": 2, "only Proctor rejects": 1}
    assert "user.conf is missing" in words(both)


def test_a_traceback_is_its_own(faultless: Path, tmp_path: Path) -> None:
    lines = [
        say(f"Loading System log from ROOT/{kit.DESCRIPTION}", file="loader"),
        "Traceback (most recent call last):",
        '  File "loader.py", line 3, in load',
        "AttributeError: 'NoneType' object has no attribute 'get'",
    ]
    both = ask(faultless, checkout(tmp_path, lines, code=1))
    assert both.counts == {"not judged by the official checker": 3}
    assert both.opinion.crash == lines[-1]
    assert both.opinion.findings[-1].rule == "official_crash"
    assert kit.DESCRIPTION in both.opinion.findings[-1].path
    assert not both.agree
    assert "Proctor did not foresee it." in words(both)


def test_a_traceback_that_was_foreseen(faultless: Path, tmp_path: Path) -> None:
    tree = Path(shutil.copytree(faultless, tmp_path / "tree"))
    (tree / kit.DESCRIPTION).unlink()
    lines = ["Traceback (most recent call last):", "AttributeError: no"]
    both = ask(tree, checkout(tmp_path, lines, code=1))
    assert both.agree
    assert "Proctor foresaw it." in words(both)


def test_the_deadline(faultless: Path, tmp_path: Path) -> None:
    inference = checkout(tmp_path, all_well(), seconds=60)
    start = time.monotonic()
    both = ask(faultless, inference, deadline=2)
    assert time.monotonic() - start < 30
    assert "the deadline" in both.opinion.crash
    assert both.counts == {"not judged by the official checker": 3}


def test_what_does_not_start(faultless: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name a checkout of mlcommons/inference"):
        ask(faultless, tmp_path)
    inference = checkout(tmp_path, ["ModuleNotFoundError: No module named 'x'"], code=1)
    with pytest.raises(StepError, match="does not start: ModuleNotFoundError"):
        ask(faultless, inference)


def test_an_unpacked_archive(tmp_path: Path) -> None:
    inside = checkout(tmp_path / "archive", [])
    assert official.find(tmp_path / "archive") == (inside / "tools" / "submission").resolve()


def test_on_the_terminal(faultless: Path, tmp_path: Path) -> None:
    words = [
        "compare",
        faultless,
        "--round",
        kit.ROUND,
        "--checker",
        checkout(tmp_path, all_well()),
    ]
    said = CliRunner().invoke(submission_app, [*map(str, words)])
    assert said.exit_code == 0
    assert "They agree on every result." in said.output
    said = CliRunner().invoke(submission_app, [*map(str, words[:-1]), str(tmp_path / "none")])
    assert said.exit_code == 2


def test_as_a_step(faultless: Path, tmp_path: Path, run_stage: Any) -> None:
    inputs = {"package": faultless, "checker": checkout(tmp_path, all_well()[1:])}
    for stop, wanted in ((False, "ok"), (True, "data_error")):
        result, out = run_stage(STAGE, {"stop": stop}, inputs=inputs, attempt=wanted)
        assert result.status == wanted
        assert [finding.rule for finding in result.findings] == ["opinions_differ"]
        assert (out / "official.json").is_file()


def test_the_real_one_on_every_mutation(tmp_path: Path) -> None:
    named = os.environ.get("PROCTOR_INFERENCE")
    if not named:
        pytest.skip("PROCTOR_INFERENCE names no checkout of mlcommons/inference")
    assert mutation_table.main(Path(named), tmp_path / "page.md") == 0
