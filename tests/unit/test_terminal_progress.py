"""The live view of a run: how far a running step is."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from proctor.plan.compile import load_plan
from proctor.runtime.artifacts import AttemptName
from proctor.runtime.attempt import Attempt
from proctor.runtime.base import Failure
from proctor.shipped import shipped
from proctor.site.home import Home
from proctor.site.runs import View
from proctor.site.terminal import MEASURED_SECONDS, ProgressView
from proctor_steps.contract import PROGRESS_FILE, Progress

STEP = "performance.Offline"
ROOT = Path(__file__).resolve().parent.parent.parent


def seen(home: Home, state: str) -> str:
    plan = load_plan(shipped("pipeline_specs") / "demo.yaml")
    console = Console(file=io.StringIO(), width=120, force_terminal=True, record=True)
    with ProgressView(console, plan, home.records.run("demo", "a-run"), home) as view:
        view.show(View("running", {STEP: {"state": state, "duration": 5.0}}))
        console.print(view._live.get_renderable() if view._live else "")
    return console.export_text()


def test_a_running_step_shows_how_far_its_newest_attempt_is(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for number, done in ((9, 1), (10, 1500)):
        folder = Attempt(tmp_path, AttemptName("demo", "a-run", STEP, number)).step_dir
        folder.mkdir(parents=True)
        progress = Progress(done=done, total=2000, unit="samples", note="running")
        (folder / PROGRESS_FILE).write_text(progress.model_dump_json())
    assert "75% 1,500 samples running" in seen(home, "running")
    assert "samples" not in seen(home, "success")


def test_a_step_that_told_nothing_yet_shows_only_its_state(tmp_path: Path) -> None:
    assert "samples" not in seen(Home(tmp_path), "deferred")


def test_while_something_is_measured_only_changes_are_drawn_at_once(tmp_path: Path) -> None:
    plan = load_plan(shipped("pipeline_specs") / "demo.yaml")
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with ProgressView(
        console, plan, Home(tmp_path).records.run("demo", "r"), Home(tmp_path)
    ) as view:
        measured = View("running", {STEP: {"state": "deferred"}})
        assert view._due(measured)
        assert not view._due(measured)
        view._drawn -= MEASURED_SECONDS
        assert view._due(measured)
        ended = View("running", {STEP: {"state": "success"}})
        assert view._due(ended)
        assert view._due(ended)  # nothing is measured any more


def test_steps_of_subjects_show_how_many_are_through(tmp_path: Path) -> None:
    home = Home(tmp_path)
    plan = load_plan(ROOT / "tests" / "golden" / "specs" / "subjects.yaml")
    record = home.records.run("subjects", "r")
    record.folder.mkdir(parents=True)
    rows = [
        {"id": "convert", "subjects": {"succeeded": 20}},
        {"id": "segment", "subjects": {"succeeded": 11, "failed": 1, "running": 8}},
    ]
    (record.folder / "summary.json").write_text(json.dumps({"steps": rows}))
    console = Console(file=io.StringIO(), width=120, force_terminal=True, record=True)
    with ProgressView(console, plan, record, home) as view:
        view.show(View("running", {"subjects-1": {"state": "deferred"}}))
        console.print(view._live.get_renderable() if view._live else "")
    text = console.export_text()
    assert "convert  done" in text and "20 of 20 subjects" in text
    assert "segment  running" in text and "11 of 20 subjects, 1 failed" in text


WILD = "[/] [red]x[/red] \x1b[2J\x1b]0;owned\x07 \u202etxt.exe"


@pytest.mark.parametrize("in_a_terminal", [True, False])
def test_a_strangers_words_are_shown_and_do_nothing(tmp_path: Path, in_a_terminal: bool) -> None:
    home, plan = Home(tmp_path), load_plan(shipped("pipeline_specs") / "demo.yaml")
    folder = Attempt(tmp_path, AttemptName("demo", "r", STEP, 1)).step_dir
    folder.mkdir(parents=True)
    progress = Progress(done=1, total=2, unit=WILD, note=WILD)
    (folder / PROGRESS_FILE).write_text(progress.model_dump_json())
    said = io.StringIO()
    console = Console(file=said, width=400, force_terminal=in_a_terminal, color_system=None)
    with ProgressView(console, plan, home.records.run("demo", "r"), home) as view:
        view.show(View("running", {STEP: {"state": "running"}}, notes=[f"1 failed ({WILD})"]))
        console.print(view._live.get_renderable() if view._live else "")
    assert r"1 failed ([/] [red]x[/red] \x1b[2J\x1b]0;owned\x07 \u202etxt.exe)" in said.getvalue()
    for acts in ("\x1b[2J", "\x1b]0", "\x07", "\u202e"):
        assert acts not in said.getvalue()


def test_a_failures_words_do_nothing_wherever_they_are_shown() -> None:
    told = Failure(kind="step", message=f"two lines:\n{WILD}").message
    assert told.startswith("two lines:\n[/] ") and "\x1b" not in told and "\\x1b[2J" in told
