"""The stage ``drift judge``: this run's results beside their baselines and their history."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue, ValidationError

from proctor_steps.drift.verdict import (
    FILE,
    PAGE,
    DriftFinding,
    DriftVerdict,
    FigureVerdict,
    SeriesVerdict,
)
from proctor_steps.history import HISTORY_FILE, History
from proctor_steps.stage import DataError, Stage, StageParams, StepError, StepIO, listed

_MOUNT = "history"
_IDENTITY = ("benchmark", "scenario", "system", "backend", "precision")


class Params(StageParams):
    """Parameters of the stage."""


def run(params: Params, io: StepIO) -> None:
    """Judge; write ``verdict.json`` and the evidence page.

    Raises:
        DataError: the history is malformed, or holds no result of this run.
        StepError: there is no history.
    """
    # Loaded when needed: statistics and templates take their time.
    from proctor_steps.drift.judge import judge_history
    from proctor_steps.drift.page import page

    history = _read(_place(io))
    try:
        verdict = judge_history(history)
    except ValueError as error:
        raise DataError(f"{HISTORY_FILE}: {error}; let this step stand behind the runs") from error
    out = io.output("verdict")
    text = verdict.model_dump_json(indent=1)
    (out / FILE).write_text(text + "\n", encoding="utf-8")
    (out / PAGE).write_text(page(verdict, history, io.contract), encoding="utf-8")
    io.say(f"{verdict.state}: {verdict.reason}")
    for finding in verdict.findings:
        io.find(finding.rule, _severity(finding), finding.message, finding.series)
    for left_out in history.left_out:
        io.find("history_left_out", "warning", f"a record is not in the history: {left_out}")
    for series in verdict.series:
        if series.disturbed:
            told = "; ".join(series.disturbed)
            io.find("disturbed", "warning", f"runs that are not judged: {told}", series.name)
        if series.state == "no_baseline":
            io.find("no_baseline", "info", "nothing was accepted yet", series.name)
    io.metrics["drift"] = _metrics(verdict)


def _metrics(verdict: DriftVerdict) -> dict[str, JsonValue]:
    return {
        "state": verdict.state,
        "reason": verdict.reason,
        "runs": verdict.runs,
        "series": {each.name: each.state for each in verdict.series},
        "findings": [_short(finding) for finding in verdict.findings if finding.primary],
        "limits": [_limits(s, f) for s in verdict.series for f in s.figures if f.limits],
    }


def _limits(series: SeriesVerdict, figure: FigureVerdict) -> dict[str, JsonValue]:
    """Between what a figure was to lie, for whoever shows it over time."""
    identity = series.model_dump(include={*_IDENTITY})
    low, high = figure.limits or (None, None)
    return {**identity, "figure": figure.figure, "low": low, "high": high}


def _short(finding: DriftFinding) -> dict[str, JsonValue]:
    told = finding.model_dump(mode="json", exclude={"differs", "message", "primary"})
    return {**told, "differs": [each.words for each in finding.differs]}


def _severity(finding: DriftFinding) -> str:
    bad = finding.decision == "drifted" and finding.direction != "better" and finding.primary
    return "error" if bad else "warning"


def _place(io: StepIO) -> Path:
    """The orchestrator mounts it as what it is; by hand it is an input like any other."""
    found = io.optional("history", _MOUNT) or next(iter(io.inputs(_MOUNT).values()), None)
    if found is None:
        raise StepError("no history is mounted; write 'history: true' in the step")
    return found / HISTORY_FILE if found.is_dir() else found


def _read(path: Path) -> History:
    try:
        return History.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"there is no {path.name} in the history's folder") from None
    except ValidationError as error:
        raise DataError(f"{path.name} is not what Proctor writes:\n{listed(error)}") from error


STAGE = Stage(
    "drift judge",
    "Tell whether this run's results are still what was accepted.",
    Params,
    run,
    inputs={_MOUNT: f"a folder with {HISTORY_FILE}; specs write 'history: true' (optional)"},
    outputs={"verdict": f"{FILE}, {PAGE}"},
)
