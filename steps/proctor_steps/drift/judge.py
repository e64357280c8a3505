"""All series of a re-validation judged together: history in, verdict out. No files here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proctor_steps.drift import figures
from proctor_steps.drift.differences import differences
from proctor_steps.drift.sessions import Runs, runs_of
from proctor_steps.drift.settings import SETTINGS, Settings
from proctor_steps.drift.tell import findings
from proctor_steps.drift.verdict import DriftVerdict, FigureVerdict, SeriesVerdict, State
from proctor_steps.history import History, Series

_WORST_FIRST: tuple[State, ...] = ("drifted", "undecided", "disturbed", "no_baseline", "steady")
_REASONS: dict[State, str] = {
    "drifted": "what was accepted does not hold any more",
    "undecided": "a figure is outside its limits; another run is needed to tell",
    "disturbed": "the machine was not quiet, so nothing can be told",
    "no_baseline": "nothing was accepted yet that this could be compared with",
    "steady": "every figure that was judged is what it was, within its limits",
}


def judge_history(history: History, settings: Settings = SETTINGS) -> DriftVerdict:
    """The verdict on the results of the run that asks.

    Raises:
        ValueError: the run that asks has no result.
    """
    measured = [runs for runs in map(runs_of, history.series) if runs.series.now]
    if not measured:
        raise ValueError("there is no result of this run to judge")
    family = max(1, sum(figures.deciding(runs, settings) for runs in measured))
    names = _names([runs.series for runs in measured])
    judged = [
        _series(runs, name, family, settings) for runs, name in zip(measured, names, strict=True)
    ]
    state = next(s for s in _WORST_FIRST if s in {verdict.state for verdict in judged})
    return DriftVerdict(
        state=state,
        reason=_REASONS[state],
        runs=max(verdict.runs for verdict in judged),
        family=family,
        settings=settings_told(settings),
        findings=tuple(f for v in judged for f in findings(v)),
        series=tuple(judged),
    )


def _names(series: Sequence[Series]) -> list[str]:
    """What people call each: benchmark and scenario, and what else tells it from the others."""
    apart = ("backend", "precision", "system")
    told = [name for name in apart if len({getattr(each, name) for each in series}) > 1]
    return [
        " ".join(filter(None, (each.benchmark, each.scenario, *(getattr(each, n) for n in told))))
        for each in series
    ]


def _series(runs: Runs, name: str, family: int, settings: Settings) -> SeriesVerdict:
    series, baseline = runs.series, runs.series.baseline
    told: dict[str, Any] = {
        **series.model_dump(exclude={"baseline", "history", "now"}),
        "name": name,
        "runs": len(runs.timed),
        "disturbed": runs.disturbed,
        "now_of": tuple(m.of for m in runs.now),
    }
    unquiet = bool(runs.disturbed) and not runs.timed
    if baseline is None:
        state: State = "disturbed" if unquiet else "no_baseline"
        return SeriesVerdict(**told, state=state, figures=tuple(figures.unjudged(runs)))
    within = figures.replayed(runs, baseline, family, settings)
    judged = tuple(figures.judged(runs, baseline, within, family, settings))
    columns = [within[name] for name in figures.primary(runs, settings)]
    steady = [
        session[-1]
        for place, session in enumerate(runs.sessions)
        if all(column[place] for column in columns)
    ]
    return SeriesVerdict(
        **told,
        state=_state(judged, unquiet),
        baseline_of=baseline.of,
        last_steady_of=(steady or [baseline])[-1].of,
        figures=judged,
        differs=differences(baseline, steady, (runs.now or series.now)[-1]),
    )


def _state(judged: Sequence[FigureVerdict], unquiet: bool) -> State:
    found = {each.decision for each in judged if each.primary}
    if "drifted" in found:
        return "drifted"
    if unquiet:
        return "disturbed"
    return "undecided" if "undecided" in found else "steady"


def settings_told(settings: Settings) -> dict[str, Any]:
    """Settings as ``verdict.json`` has them."""
    return {**vars(settings), "primary": {k: list(v) for k, v in settings.primary.items()}}
