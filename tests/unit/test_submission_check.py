"""The validator: a submission without fault, and what can be wrong with it, one by one."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import submission_kit as kit
from proctor_steps.cli import submission_app
from proctor_steps.submission.check import run, table
from proctor_steps.submission.check.finding import Finding, Severity
from proctor_steps.submission.check.stage import STAGE
from submission_mutations import MUTATIONS, Mutation


@pytest.fixture
def tree(faultless: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(faultless, tmp_path / "tree"))


def test_a_submission_without_fault_has_no_finding(faultless: Path) -> None:
    report = run.check(faultless, kit.ROUND)
    assert report.findings == ()
    assert report.accepted
    assert report.within_rules
    assert len(report.results) == 3


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_fault_is_found_and_named(mutation: Mutation, tree: Path) -> None:
    mutation.change(tree)
    report = run.check(tree, kit.ROUND, jobs=1)
    told = {(f.severity.name.lower(), f.rule, f.path) for f in report.findings}
    assert (mutation.severity, mutation.rule, mutation.path) in told
    assert "not_judged" not in {f.rule for f in report.findings}
    assert all(f.message and f.advice for f in report.findings)
    json.dumps(report.data())
    table.as_csv(report).encode()


def test_sixty_mutations_at_least() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 60


class TestManySubmitters:
    """Trees of several submitters, and the processes that judge them."""

    @pytest.fixture
    def many(self, tree: Path) -> Path:
        for number, name in enumerate(("Second", "Third"), 1):
            folder = shutil.copytree(tree / kit.SUBMISSION, tree / "closed" / name)
            kit.edit_json(folder / "systems" / f"{kit.SYSTEM}.json", {"submitter": name})
            # So that they are runs of their own.
            for log in folder.rglob(kit.DETAIL):
                log.write_text(log.read_text().replace('"tid": ', f'"tid": {number}'))
        return tree

    def test_processes_find_what_one_finds(self, many: Path) -> None:
        (many / kit.SINGLE / "user.conf").unlink()
        one, several = (run.check(many, kit.ROUND, jobs=jobs) for jobs in (1, 3))
        assert one == several
        assert len(one.results) == 9
        assert one.rejected() == [("closed", kit.SUBMITTER, kit.SYSTEM, "yolo-99", "SingleStream")]

    def test_one_submitter(self, many: Path) -> None:
        report = run.check(many, kit.ROUND, "Third")
        assert {row.scope[1] for row in report.results} == {"Third"}

    def test_one_submitters_broken_file_is_no_one_elses(self, many: Path) -> None:
        (many / kit.DESCRIPTION).write_text("{")
        report = run.check(many, kit.ROUND)
        fates = {row.scope[1]: report.verdict(row.scope) for row in report.results}
        assert fates == {kit.SUBMITTER: Severity.REJECTED, "Second": None, "Third": None}
        assert report.stops

    def test_a_process_that_is_killed(self, many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(run, "_FAMILIES", (lambda _: os.kill(os.getpid(), signal.SIGKILL),))
        report = run.check(many, kit.ROUND, jobs=2)
        assert {finding.rule for finding in report.findings} == {"not_judged"}
        assert not report.within_rules


def test_a_check_that_fails_ends_no_other(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> Iterator[Finding]:
        raise ZeroDivisionError("no")
        yield

    monkeypatch.setattr(run, "_FAMILIES", (broken, *run._FAMILIES))
    (tree / kit.SINGLE / "user.conf").unlink()
    report = run.check(tree, kit.ROUND, jobs=1)
    assert {finding.rule for finding in report.findings} == {"not_judged", "measurements_file"}


class TestTerminal:
    """``proctor submission check``."""

    def ask(self, *words: str | Path) -> Any:
        return CliRunner().invoke(submission_app, ["check", *map(str, words)])

    def test_without_fault(self, faultless: Path) -> None:
        said = self.ask(faultless, "--round", kit.ROUND)
        assert said.exit_code == 0
        assert "3 results of 1 submission, v6.1: 3 without fault" in said.output
        assert "The official checker would take it." in said.output
        assert "nothing is wrong with it" in said.output

    def test_against_the_rules(self, tree: Path) -> None:
        next(m for m in MUTATIONS if m.name == "run INVALID").change(tree)
        said = self.ask(tree, "--round", kit.ROUND)
        assert said.exit_code == 1
        assert "! results/one-server/yolo-99/SingleStream/performance/run_1" in said.output
        assert "The official checker would take it." in said.output
        assert "1 of its results may not be submitted like this." in said.output

    def test_a_traceback_is_foretold(self, tree: Path) -> None:
        (tree / kit.DESCRIPTION).unlink()
        said = self.ask(tree, "--round", kit.ROUND)
        assert said.exit_code == 1
        assert f"end with a traceback at {kit.DESCRIPTION}, and judge nothing" in said.output

    def test_much_that_is_alike_is_counted(self, tree: Path) -> None:
        for number in range(9):
            kit.write(tree / kit.SINGLE / f"note {number}", "x")
        short = self.ask(tree, "--round", kit.ROUND).output
        whole = self.ask(tree, "--round", kit.ROUND, "--all").output
        assert "6 more of this kind (blank_in_name)" in short
        assert whole.count("has a blank in its name") == 9 > short.count("has a blank in its name")

    def test_bad_arguments(self, faultless: Path, tmp_path: Path) -> None:
        assert self.ask(faultless, "--round", "v1.0").exit_code == 2
        assert self.ask(tmp_path / "none", "--round", kit.ROUND).exit_code == 2
        assert self.ask(faultless).exit_code == 2

    def test_as_data(self, tree: Path, tmp_path: Path) -> None:
        (tree / kit.SINGLE / "user.conf").write_text("")
        said = self.ask(tree, "--round", kit.ROUND, "--json", "--csv", tmp_path / "summary.csv")
        data = json.loads(said.output)
        assert data["counts"] == {"rejected": 1, "against": 0, "advice": 0}
        assert data["findings"][0]["path"] == f"{kit.SINGLE}/user.conf"
        assert [row["verdict"] for row in data["results"]] == ["passed", "passed", "rejected"]
        rows = list(csv.DictReader(io.StringIO((tmp_path / "summary.csv").read_text())))
        assert [row["errors"] for row in rows] == ["0", "0", "1"]
        assert rows[0]["Units"] == "Latency (ms)"
        assert rows[0]["Accuracy"] == "mAP: 53.103"
        assert float(rows[1]["Result"]) > 1000


def test_as_a_step(tree: Path, run_stage: Any) -> None:
    (tree / kit.SINGLE / "user.conf").unlink()
    result, out = run_stage(STAGE, {"round": kit.ROUND}, inputs={"package": tree})
    assert result.status == "ok"
    assert [finding.rule for finding in result.findings] == ["measurements_file"]
    assert "refuse it" in (out / "check.txt").read_text()
    assert json.loads((out / "check.json").read_text())["counts"]["rejected"] == 1
    result, _ = run_stage(STAGE, {"round": kit.ROUND, "stop": True}, inputs={"package": tree})
    assert result.status == "data_error"
    assert "refuse it" in result.message
