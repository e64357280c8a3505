"""Baselines end to end: a gate with three answers, the way back, and what a step is told of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from airflow_site import Site, Started
from test_gate import answer, asked
from test_gate_answers import answers, patch, question, shown
from typer.testing import CliRunner

from history_kit import accuracy, loadgen
from proctor.airflow import past
from proctor.airflow.answers import ACCEPT, KEEP, RUN_AGAIN
from proctor.cli import app
from proctor.records.book import Book, current, open_findings
from proctor.records.history import history
from proctor.site.rework import Rework
from proctor.site.verify import verify
from proctor_steps.history import History, Series

SPEC = """
    pipeline: {name}
    steps:
      - id: accuracy
        image: proctor/steps
        command: selfcheck act
        exclusive: true
        outputs: {{logs: directory}}
      - id: score
        image: proctor/steps
        command: selfcheck act
        inputs: {{logs: accuracy.logs}}
        outputs: {{score: directory}}
      - id: performance
        image: proctor/steps
        command: selfcheck act
        exclusive: true
        outputs: {{logs: directory}}
      - id: judge
        image: proctor/steps
        command: selfcheck act
        history: true
        inputs: {{logs: performance.logs, score: score.score}}
        outputs: {{verdict: directory}}
      - id: approve
        approval:
          question: Is it a drift?
          evidence: [judge.verdict]
          baseline: true
          keep: true
          on_reject: {{rework: performance}}
      - id: package
        after: [approve]
        image: proctor/steps
        command: selfcheck act
        inputs: {{verdict: judge.verdict}}
        outputs: {{package: directory}}
"""


def script(site: Site, name: str, value: float) -> None:
    """What the steps measure from now on. Each test has a benchmark of its own in the one home."""
    run = loadgen(value, benchmark=name)
    log = loadgen(benchmark=name, mode="accuracy", valid=None, metric=None, latency_ns={})
    logs = {"logs": {"mlperf_log_summary.txt": f"{value}\n"}}
    steps: dict[str, Mapping[str, Any]] = {
        "accuracy": {"metrics": {"loadgen": log}},
        "score": {"metrics": {"accuracy": accuracy(benchmark=name)}},
        "performance": {"metrics": {"loadgen": run}, "outputs": logs},
        "judge": {"outputs": {"verdict": {"verdict.json": '{"state": "drifted"}\n'}}},
    }
    site.fake.script(steps)


def at_the_gate(site: Site, name: str, value: float = 100.0) -> Started:
    script(site, name, value)
    run = site.start(name, SPEC.format(name=name))
    asked(run)
    return run


def book(site: Site) -> Book:
    return Book(site.instance.home.path)


def baseline(site: Site, name: str) -> Any:
    found = [b for i, b in current(book(site).entries()).items() if i.benchmark == name]
    return found[0] if found else None


def findings(site: Site, name: str) -> list[str]:
    found = open_findings(book(site).entries())
    return [entry.id for entry, left in found if left[0].benchmark == name]


def told(run: Started, name: str, attempt: int = 1) -> Series:
    """The series of a test's benchmark, in the file that the judge was given."""
    mine = run.record.run
    request = [r for r in run.site.fake.starts("judge") if r["run"] == mine][attempt - 1]
    path = past.place(run.record, "judge", attempt)
    assert request["history"] == str(path.resolve())
    found = History.model_validate_json(path.read_bytes())
    return next(each for each in found.series if each.benchmark == name)


def wrong(run: Started) -> list[str]:
    return [x.message for x in verify(run.site.instance.home, run.record) if x.state == "bad"]


def test_what_a_person_accepts_is_the_baseline_that_the_next_run_is_told(site: Site) -> None:
    run = at_the_gate(site, "accepted")
    asks = question(run)
    assert asks["options"] == [ACCEPT, KEEP, RUN_AGAIN]
    assert "becomes the baseline" in asks["body"]
    assert baseline(site, "accepted") is None
    answer(run, ACCEPT, comment="")  # only the others need a reason
    assert run.ended() == "success"
    made = baseline(site, "accepted")
    assert made.measured.of == f"accepted/{run.record.run}/performance/1"
    assert {f.name for f in made.measured.figures} >= {"throughput", "accuracy"}
    assert made.entry.answer.via == "ui"
    assert wrong(run) == []
    second = at_the_gate(site, "accepted", 80)
    assert "throughput 100.0 samples/s" in question(second)["body"]  # what it was so far
    series = told(second, "accepted")
    assert series.baseline == made.measured
    assert [each.of for each in series.history] == [made.measured.of]
    assert [each.of for each in series.now] == [f"accepted/{second.record.run}/performance/1"]
    assert series.now[0].figures[0].value == 80
    answer(second, ACCEPT)
    assert second.ended() == "success"
    assert baseline(site, "accepted").measured.figures[0].value == 80


def test_what_keeps_the_old_goes_on_and_leaves_a_finding_open(site: Site) -> None:
    first = at_the_gate(site, "kept")
    answer(first, ACCEPT)
    assert first.ended() == "success"
    run = at_the_gate(site, "kept", 80)
    for option in (KEEP, RUN_AGAIN):
        refused = patch(run, "ada", option, {"evidence_reviewed": True, "comment": " "})
        assert refused.status_code == 422
        assert f"“{option}” needs a comment" in refused.json()["detail"]
    assert question(run)["response_received"] is False
    answer(run, KEEP, comment="the fan is loud")
    assert run.ended() == "success"
    assert baseline(site, "kept").measured.figures[0].value == 100
    (approval,) = run.summary()["approvals"]
    assert (approval["decision"], approval["comment"]) == ("kept", "the fan is loud")
    behind = next(r for r in site.fake.starts("package") if r["run"] == run.record.run)
    assert behind["approvals"] == [approval]
    last = answers(run)[-1]
    assert (last.verdict, last.counts, last.signature) == ("kept the old baseline", True, "good")
    assert "kept the old baseline" in shown(run)
    (finding,) = run.summary()["open_findings"]
    assert findings(site, "kept") == [finding["id"]]
    assert wrong(run) == []
    home = ["--home", str(site.instance.home.path)]
    closed = CliRunner().invoke(
        app, ["baseline", "close", finding["id"], "--why", "a new fan", *home]
    )
    assert closed.exit_code == 0, closed.output
    assert findings(site, "kept") == []
    assert run.summary()["open_findings"] == []


def test_it_runs_again_and_is_asked_anew(site: Site) -> None:
    run = at_the_gate(site, "again", 70)
    answer(run, RUN_AGAIN, comment="somebody compiled meanwhile")
    assert run.ended() == "failed"
    script(site, "again", 101)
    assert Rework(site.instance).look_at(run.record) == [
        f"again/{run.record.run}: rejected at approve, back to performance"
    ]
    asked(run, 2)
    series = told(run, "again", 2)
    assert [each.of for each in series.now] == [f"again/{run.record.run}/performance/2"]
    assert told(run, "again").now[0].figures[0].value == 70  # what the first was told stays
    assert baseline(site, "again") is None
    answer(run, ACCEPT, comment="quiet now")
    assert run.ended() == "success"
    assert baseline(site, "again").measured.figures[0].value == 101
    starts = [r["step"] for r in site.fake.starts() if r["run"] == run.record.run]
    assert (starts.count("accuracy"), starts.count("performance")) == (1, 2)


def test_yes_keeps_the_old_and_leaves_the_question_to_a_person(site: Site) -> None:
    run = at_the_gate(site, "unattended-drift")
    run.watched.yes = True
    notes: list[str] = []
    assert run.watched.watch(lambda view: notes.extend(view.notes)) == "success"
    assert any("the old baseline kept by --yes" in note for note in notes)
    assert baseline(site, "unattended-drift") is None
    (finding,) = run.summary()["open_findings"]
    assert finding["comment"] == "answered by --yes"


def test_an_answer_whose_entry_was_lost_is_carried_out_when_the_task_comes_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kill between the record's line and the book leaves it, in a real instance."""
    run = at_the_gate(site, "killed-between")
    path = book(site).path
    before = path.read_bytes() if path.exists() else b""
    answer(run, ACCEPT)
    assert run.ended() == "success"
    path.write_bytes(before)
    assert wrong(run) == ["the answer was never carried out; clear the gate and answer it again"]
    client = site.instance.client
    # Airflow tries a killed task again under the same number of tries; clearing raises it.
    line = run.record.last("approval", "approve")
    assert line is not None
    client.set_task_state("killed-between", run.record.run, "approve", "failed")
    client.clear("killed-between", run.record.run, ["approve"])
    asked(run, 2)
    answer(run, ACCEPT)
    assert run.ended() == "success"
    assert baseline(site, "killed-between") is not None


def test_a_book_that_was_changed_stops_a_judge_before_it_compares(site: Site) -> None:
    first = at_the_gate(site, "tampered-book")
    answer(first, ACCEPT)
    assert first.ended() == "success"
    path = book(site).path
    whole = path.read_bytes()
    try:
        path.write_bytes(whole.replace(b'"by":"', b'"by":"x', 1))
        script(site, "tampered-book", 90)
        run = site.start("tampered-book", SPEC.format(name="tampered-book"))
        assert run.ended() == "failed"
        assert "the baselines were changed" in run.log("judge")
        assert run.tasks()["approve"] == "upstream_failed"
    finally:
        path.write_bytes(whole)


def test_a_run_tells_a_home_of_many_what_it_measured(site: Site) -> None:
    """What the tests before this one left in the home reads as one history."""
    run = at_the_gate(site, "many")
    found = history(site.instance.home.records, run.record, {})
    assert found.left_out == ()
    assert json.loads(found.model_dump_json())["format"] == "proctor.history/1"
