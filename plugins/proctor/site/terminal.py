"""What the terminal shows: progress while a run goes on, and its results as a table."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from proctor.plan.model import Plan, PlanStep
from proctor.records.store import RunRecord
from proctor.site.home import Home
from proctor.site.runs import View
from proctor_steps.contract import PROGRESS_FILE, Progress

_LOOK = {
    "success": ("✓", "green"), "failed": ("✗", "bold red"), "upstream_failed": ("·", "red"),
    "skipped": ("–", "dim"), "running": ("▶", "cyan"), "deferred": ("▶", "cyan"),
    "awaiting_input": ("?", "bold yellow"), "up_for_retry": ("↻", "yellow"),
    "queued": ("…", "blue"), "scheduled": ("…", "blue"),
}
_WORD = {"awaiting_input": "waits for you", "deferred": "running", "up_for_retry": "tries again",
         "upstream_failed": "not run", "success": "done"}


class ProgressView:
    """Live on a terminal; one line per change where the output is a file or a pipe."""

    def __init__(self, console: Console, plan: Plan, record: RunRecord, home: Home) -> None:
        self._console, self._plan, self._record, self._home = console, plan, record, home
        self._live: Live | None = None
        self._seen: dict[str, str] = {}
        self._began = time.monotonic()

    def __enter__(self) -> ProgressView:
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, view: View) -> None:
        """Show how the run stands."""
        for note in view.notes:
            self._console.print(f"  {note}", style="yellow")
        if self._live:
            self._live.update(self._table(view))
            return
        for step in self._plan.steps:
            state = str(view.tasks.get(step.id, {}).get("state") or "")
            if state and state != self._seen.get(step.id) and state not in ("scheduled", "queued"):
                if not (state == "running" and self._seen.get(step.id) == "deferred"):
                    self._console.print(Text(f"{self._clock()}  ").append(_row(step, state)))
                self._seen[step.id] = state

    def _table(self, view: View) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for step in self._plan.steps:
            ti = view.tasks.get(step.id, {})
            state = str(ti.get("state") or "")
            table.add_row(_row(step, state), self._seconds(ti), self._progress(step, state))
        done = sum(view.tasks.get(s.id, {}).get("state") in ("success", "skipped")
                   for s in self._plan.steps)
        head = Text(f"{self._plan.pipeline}  {done}/{len(self._plan.steps)} steps  {self._clock()}",
                    style="bold")
        return Group(head, table)

    def _progress(self, step: PlanStep, state: str) -> str:
        if state not in ("running", "deferred"):
            return ""
        folders = sorted(self._home.path.glob(
            f"work/{self._record.pipeline}/{self._record.run}/{step.id}/*/{PROGRESS_FILE}"
        ))
        try:
            progress = Progress.model_validate_json(folders[-1].read_bytes())
        except (IndexError, OSError, ValueError):
            return ""
        share = f"{progress.done / progress.total:.0%} " if progress.total else ""
        return f"{share}{progress.done:,.0f} {progress.unit} {progress.note}".strip()

    def _seconds(self, ti: Mapping[str, Any]) -> str:
        seconds = ti.get("duration")
        return f"{seconds:.0f} s" if isinstance(seconds, int | float) else ""

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self._began)
        return f"{seconds // 60:d}:{seconds % 60:02d}"


def _row(step: PlanStep, state: str) -> Text:
    sign, style = _LOOK.get(state, (" ", "dim"))
    name = f"{step.title or step.step}" + (f": {step.cell}" if step.cell else "")
    text = Text(f"{sign} {name}", style=style)
    return text.append(f"  {_WORD.get(state, state)}" if state else "", style="dim")


def results_table(console: Console, summary: Mapping[str, Any], record: RunRecord) -> None:
    """The run's figures, what is wrong with them, and where its files are."""
    performance = {r["scenario"]: r for r in summary["results"] if r.get("mode") == "performance"}
    accuracy = {a.get("scenario"): a for a in summary["accuracy"]}
    table = Table(title=f"{summary['pipeline']}  {summary['run']}", title_justify="left",
                  show_lines=False, header_style="bold")
    for column in ("Scenario", "Result", "LoadGen", "Accuracy", "Samples", "MLPerf rules missed"):
        table.add_column(column, overflow="fold")
    for scenario in dict.fromkeys([*performance, *accuracy]):
        table.add_row(str(scenario), *_cells(performance.get(scenario), accuracy.get(scenario)))
    console.print()
    if table.row_count:
        console.print(table)
    for step in summary["steps"]:
        if step["state"] == "failed":
            console.print(Text(f"✗ {step['id']}: {step.get('message', 'failed')}", style="bold red"))
    _verdict(console, summary)
    for name in ("report.html", "submission.tar.gz", "summary.json"):
        if (record.folder / name).is_file():
            label = {"report.html": "Report", "submission.tar.gz": "Package"}.get(name, "Summary")
            console.print(Text(f"{label:<8} {record.folder / name}"), soft_wrap=True)


def _cells(run: Mapping[str, Any] | None, score: Mapping[str, Any] | None) -> tuple[Any, ...]:
    result, valid, missed = "–", Text("–"), "–"
    if run:
        metric = run["metrics"].get("metric") or {}
        value = metric.get("value")
        result = f"{value:,.4g} {metric.get('unit', '')}" if isinstance(value, int | float) else "–"
        valid = Text("VALID", style="green") if run["valid"] else Text("INVALID", style="red")
        rules = run["metrics"].get("rules") or []
        missed = ", ".join(r["rule"] for r in rules if r.get("met") is False) or "none"
    if score is None:
        return result, valid, "–", "–", missed
    value = f"{score['metric']} {score['value']:.4f}"
    return result, valid, value, f"{score['samples']} of {score['expected_samples']}", missed


def _verdict(console: Console, summary: Mapping[str, Any]) -> None:
    runs = [r for r in summary["results"] if r.get("mode") == "performance"]
    if not runs:
        return
    if all(r["metrics"].get("official") for r in runs):
        console.print("Every performance run meets the round's rules.", style="green")
        return
    console.print(
        Text("Not a valid MLPerf result: the rules named above are missed.", style="yellow")
    )
