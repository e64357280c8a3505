"""What the terminal shows: progress while a run goes on, and its results as a table."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from proctor.plan.model import Plan, PlanStep
from proctor.records.figures import figure
from proctor.records.rows import disturbed
from proctor.records.store import RunRecord
from proctor.records.summary import SUMMARY_FILE
from proctor.runtime.attempt import Attempt
from proctor.runtime.failure import read_progress
from proctor.site.home import Home
from proctor.site.runs import View
from proctor_steps.trouble import printable

_LOOK = {
    "success": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "upstream_failed": ("·", "red"),
    "skipped": ("–", "dim"),
    "running": ("▶", "cyan"),
    "deferred": ("▶", "cyan"),
    "awaiting_input": ("?", "bold yellow"),
    "up_for_retry": ("↻", "yellow"),
    "queued": ("…", "blue"),
    "scheduled": ("…", "blue"),
}
_WORD = {
    "awaiting_input": "waits for you",
    "deferred": "running",
    "up_for_retry": "tries again",
    "upstream_failed": "not run",
    "success": "done",
}


# While something is measured and nothing else happens, the picture is drawn this seldom.
MEASURED_SECONDS = 5.0


class ProgressView:
    """Live on a terminal; one line per change where the output is a file or a pipe."""

    def __init__(self, console: Console, plan: Plan, record: RunRecord, home: Home) -> None:
        self._console, self._plan, self._record, self._home = console, plan, record, home
        self._live: Live | None = None
        self._seen: dict[str, str] = {}
        self._states: dict[str, str] = {}
        self._began = self._drawn = time.monotonic()

    def __enter__(self) -> ProgressView:
        if self._console.is_terminal:
            # Drawn when there is something to draw: a thread that redraws would not be quiet.
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, view: View) -> None:
        """Show how the run stands."""
        for note in view.notes:
            self._console.print(Text(f"  {printable(note)}", style="yellow"), soft_wrap=True)
        if self._live:
            if self._due(view):
                self._live.update(self._table(view), refresh=True)
            return
        for step in self._plan.steps:
            state = str(view.tasks.get(step.id, {}).get("state") or "")
            if state and state != self._seen.get(step.id) and state not in ("scheduled", "queued"):
                if not (state == "running" and self._seen.get(step.id) == "deferred"):
                    self._console.print(Text(f"{self._clock()}  ").append(_row(step, state)))
                self._seen[step.id] = state

    def _due(self, view: View) -> bool:
        """Whether to draw now: drawing takes some milliseconds of what is being measured."""
        states = {id: str(ti.get("state")) for id, ti in view.tasks.items()}
        measured = any(
            step.exclusive and states.get(step.id) in ("running", "deferred")
            for step in self._plan.steps
        )
        late = time.monotonic() - self._drawn >= (MEASURED_SECONDS if measured else 0)
        if states == self._states and not late and not view.notes:
            return False
        self._states, self._drawn = states, time.monotonic()
        return True

    def _table(self, view: View) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        subjects, done = self._subjects(), 0
        for step in self._plan.steps:
            ti = view.tasks.get(step.id, {})
            state, progress = str(ti.get("state") or ""), ""
            if step.partition:
                state, progress = _of_subjects(subjects.get(step.id, {}))
            else:
                progress = self._progress(step, state)
            done += state in ("success", "skipped")
            table.add_row(_row(step, state), self._seconds(ti), Text(printable(progress)))
        head = Text(
            f"{self._plan.pipeline}  {done}/{len(self._plan.steps)} steps  {self._clock()}",
            style="bold",
        )
        return Group(head, table)

    def _subjects(self) -> dict[str, dict[str, int]]:
        """How many subjects are how far in each step, as the run's summary was last written."""
        if not self._plan.subjects:
            return {}
        try:
            steps = json.loads((self._record.folder / SUMMARY_FILE).read_bytes())["steps"]
            return {step["id"]: step["subjects"] for step in steps if "subjects" in step}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _progress(self, step: PlanStep, state: str) -> str:
        if state not in ("running", "deferred"):
            return ""
        run = self._record
        attempt = Attempt.newest(
            self._home.path, run.pipeline, run.run, step.id, None, lambda each: True
        )
        progress = read_progress(attempt.step_dir) if attempt else None
        if progress is None:
            return ""
        share = f"{progress.done / progress.total:.0%} " if progress.total else ""
        return f"{share}{progress.done:,.0f} {progress.unit} {progress.note}".strip()

    def _seconds(self, ti: Mapping[str, Any]) -> str:
        seconds = ti.get("duration")
        return f"{seconds:.0f} s" if isinstance(seconds, int | float) else ""

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self._began)
        return f"{seconds // 60:d}:{seconds % 60:02d}"


def _of_subjects(counts: Mapping[str, int]) -> tuple[str, str]:
    """A step's state over all subjects, and how many are how far."""
    every, done = sum(counts.values()), counts.get("succeeded", 0) + counts.get("skipped", 0)
    if not every:
        return "", ""
    failed = counts.get("failed", 0)
    words = f"{done} of {every} subjects" + (f", {failed} failed" if failed else "")
    if done == every:
        return "success", words
    return ("failed" if failed and failed + done == every else "running"), words


def _row(step: PlanStep, state: str) -> Text:
    sign, style = _LOOK.get(state, (" ", "dim"))
    text = Text(f"{sign} {step.label}", style=style)
    return text.append(f"  {_WORD.get(state, state)}" if state else "", style="dim")


def results_table(console: Console, summary: Mapping[str, Any], record: RunRecord) -> None:
    """The run's figures, the rules they miss, and where its files are."""
    performance = {r["scenario"]: r for r in summary["results"] if r.get("mode") == "performance"}
    accuracy = {a.get("scenario"): a for a in summary["accuracy"]}
    table = Table(
        title=f"{summary['pipeline']}  {summary['run']}  {summary['state']}",
        title_justify="left",
        title_style="bold",
        header_style="bold",
    )
    for column in ("Scenario", "Result", "LoadGen", "Accuracy", "Samples"):
        table.add_column(column)
    for scenario in sorted({*performance, *accuracy}, key=str):
        table.add_row(str(scenario), *_cells(performance.get(scenario), accuracy.get(scenario)))
    console.print()
    if table.row_count:
        console.print(table)
    for scenario, run in sorted(performance.items(), key=str):
        if reasons := disturbed(run["metrics"]):
            text = f"! {scenario} was measured on a machine that was not quiet: "
            text += "; ".join(reasons)
            console.print(Text(text, style="yellow"), soft_wrap=True)
        if of := run.get("measured_in"):
            text = f"* {scenario} was not measured in this run: taken over from {of}"
            console.print(Text(text, style="yellow"), soft_wrap=True)
    for step in summary["steps"]:
        if step["state"] == "failed":
            text = f"✗ {step['id']}: {step.get('message', 'failed')}"
            console.print(Text(text, style="bold red"), soft_wrap=True)
    for tested in summary["compliance"]:
        words = f"{tested.get('scenario')} {tested['test']}: {tested['verdict']}"
        style = "green" if tested.get("official") else "yellow"
        console.print(Text(words, style=style if tested["verdict"] == "pass" else "red"))
    _rules_missed(console, list(performance.values()))
    others = [s for s in summary["steps"] if s.get("reused_from") and not s.get("measurement")]
    if taken := [step["id"] for step in others]:
        said = Text("Taken over from earlier runs (--fresh runs them again): ", style="dim")
        console.print(said.append(", ".join(taken)), soft_wrap=True)
    for name, label in _FILES.items():
        if (record.folder / name).is_file():
            console.print(Text(f"{label:<9} {record.folder / name}"), soft_wrap=True)


_FILES = {"report.html": "Report", "submission.tar.gz": "Package", "summary.json": "Summary"}


def _cells(run: Mapping[str, Any] | None, score: Mapping[str, Any] | None) -> tuple[Any, ...]:
    result, valid = "–", Text("–")
    if run:
        mark = " *" if run.get("measured_in") else ""
        mark += " !" if disturbed(run["metrics"]) else ""
        result = figure(run["metrics"].get("metric") or {}) + mark
        valid = Text("VALID", style="green") if run["valid"] else Text("INVALID", style="red")
    if score is None:
        return result, valid, "–", "–"
    value = f"{score['metric']} {score['value']:.4f}"
    return result, valid, value, f"{score.get('samples')} of {score.get('expected_samples')}"


def _rules_missed(console: Console, runs: list[Mapping[str, Any]]) -> None:
    """Each missed rule once, with the scenarios that miss it and what was found."""
    if not runs:
        return
    missed: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        for rule in run["metrics"].get("rules") or []:
            if rule.get("met") is False:
                key = (str(rule.get("rule")), str(rule.get("message") or ""))
                missed.setdefault(key, []).append(str(run["scenario"]))
    if not missed and all(run["metrics"].get("official") for run in runs):
        console.print("Every performance run meets the round's rules.", style="green")
        return
    console.print(Text("Not a valid MLPerf result. Rules missed:", style="yellow"))
    for (rule, message), scenarios in sorted(missed.items()):
        which = "all scenarios" if len(scenarios) == len(runs) > 1 else ", ".join(scenarios)
        text = Text(f"  {rule}", style="yellow").append(f" ({which}): {message}", style="not bold")
        console.print(text, soft_wrap=True)
