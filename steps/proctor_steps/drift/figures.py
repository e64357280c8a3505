"""Each figure of a series beside what it is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from proctor_steps.drift import accuracy
from proctor_steps.drift.decide import judge, not_drifted
from proctor_steps.drift.limits import middle, reference
from proctor_steps.drift.sessions import Runs, figure, values
from proctor_steps.drift.settings import Settings
from proctor_steps.drift.verdict import FigureVerdict
from proctor_steps.history import Measured

VALIDITY = "validity"  # LoadGen's own verdict, judged as a figure is
# By figure: of each session since the baseline, whether it had not drifted.
Within = Mapping[str, Sequence[bool]]
_Decision = Literal["steady", "undecided", "drifted", "not judged"]


def primary(runs: Runs, settings: Settings) -> list[str]:
    """The performance figures that count in the series' scenario, as far as there are any."""
    wanted = settings.primary.get(runs.series.scenario)
    return [name for name in runs.names() if wanted is None or name in wanted]


def deciding(runs: Runs, settings: Settings) -> int:
    """How many figures of a series are judged by chance: they share the chance of an alarm."""
    baseline = runs.series.baseline
    if baseline is None:
        return 0
    names = primary(runs, settings)
    timed = sum(bool(figure(baseline, n) and values(runs.timed, n)) for n in names)
    return timed + bool(accuracy.of(baseline) and _scored(runs))


def unjudged(runs: Runs) -> Iterator[FigureVerdict]:
    """The figures of a series without a baseline."""
    found = {f.name: f for measured in runs.now for f in measured.figures}
    for name, about in found.items():
        yield FigureVerdict(
            figure=name,
            unit=about.unit,
            better=about.better,
            decision="not judged",
            reason="there is no baseline",
            now=tuple(values(runs.now, name)),
        )


def judged(
    runs: Runs, baseline: Measured, within: Within, family: int, settings: Settings
) -> Iterator[FigureVerdict]:
    """Every figure: performance, accuracy, and whether LoadGen calls the runs valid."""
    for name in runs.names():
        yield _timed(name, runs, baseline, within[name], family, settings)
    yield from _accuracy(runs, baseline, family, settings)
    yield from _validity(runs, baseline, settings)


def replayed(runs: Runs, baseline: Measured, family: int, settings: Settings) -> Within:
    """Which sessions since the baseline make limits, by performance figure."""
    return {name: _replayed(name, runs, baseline, family, settings) for name in runs.names()}


def _replayed(
    name: str, runs: Runs, baseline: Measured, family: int, settings: Settings
) -> list[bool]:
    """One that lacks the figure says nothing against it."""
    then = figure(baseline, name)
    found = [values(session, name) for session in runs.sessions]
    if then is None:
        return [True] * len(found)
    steady = iter(not_drifted(then.value, [each for each in found if each], family, settings))
    return [next(steady) if each else True for each in found]


def _timed(
    name: str,
    runs: Runs,
    baseline: Measured,
    within: Sequence[bool],
    family: int,
    settings: Settings,
) -> FigureVerdict:
    then, now = figure(baseline, name), values(runs.timed, name)
    told = _about(name, (baseline, *runs.now)) | {"primary": name in primary(runs, settings)}
    if then is None or not now:
        return _missing(told, then is not None, len(runs.timed), settings)
    sessions = [values(session, name) for session in runs.sessions]
    made = [middle(each) for each, good in zip(sessions, within, strict=True) if good and each]
    beside = reference([then.value, *made], settings)
    found = judge(now, beside, family, settings)
    few = f"too few sessions for limits ({beside.sessions}): compared with the baseline"
    return FigureVerdict(
        **told,
        decision=found.decision,
        reason="" if beside.scale else few,
        baseline=then.value,
        now=tuple(now),
        sessions=beside.sessions,
        centre=beside.value,
        limits=beside.band(settings.alarm / family),
        warning=beside.band(settings.warn / family),
        autocorrelation=beside.autocorrelation if beside.scale else None,
        size=found.change.size,
        interval=found.change.interval,
        chance=found.chance,
    )


def _missing(told: dict[str, Any], known: bool, runs: int, settings: Settings) -> FigureVerdict:
    """A figure that baseline or run lacks. Runs that time and again lack it are a change."""
    decision: _Decision = "not judged"
    reason = "the baseline has no such figure" if not known else "not measured in this run"
    if known and runs:
        decision = "drifted" if runs >= settings.most_runs else "undecided"
        reason = "the baseline has this figure, and the run has none that is a positive number"
    return FigureVerdict(**told, decision=decision, rule="missing_figure", reason=reason)


def _accuracy(
    runs: Runs, baseline: Measured, family: int, settings: Settings
) -> Iterator[FigureVerdict]:
    scored, then = _scored(runs), accuracy.of(baseline)
    if not scored:
        if then is not None:
            told = _about(accuracy.NAME, (baseline,)) | {"baseline": then.value}
            reason = "not measured in this run"
            yield FigureVerdict(**told, decision="not judged", reason=reason)
        return
    after = scored[-1]
    now = accuracy.of(after)
    assert now is not None  # noqa: S101 - it is what scored is made of
    told = _about(accuracy.NAME, (baseline, after)) | {"primary": True, "now": (now.value,)}
    if then is None:
        reason = "the baseline has no such figure"
        yield FigureVerdict(**told, decision="not judged", reason=reason)
        return
    found = accuracy.compare(baseline, then, after, now, family, settings)
    yield FigureVerdict(
        **told,
        decision="drifted" if found.rule else "steady",
        rule=found.rule,
        reason=found.reason,
        baseline=then.value,
        sessions=1,
        centre=then.value,
        size=found.size,
        interval=found.interval,
        chance=None if found.chance is None else min(1.0, family * found.chance),
    )


def _validity(runs: Runs, baseline: Measured, settings: Settings) -> Iterator[FigureVerdict]:
    """Runs that LoadGen calls INVALID one after the other, where the baseline's was valid."""
    said = [m.valid for m in runs.timed if m.valid is not None]
    if not (baseline.valid and said) or any(said):
        return
    yield FigureVerdict(
        figure=VALIDITY,
        primary=True,
        decision="drifted" if len(said) > 1 else "undecided",
        rule="validity",
        reason="LoadGen calls the run INVALID; the baseline's was VALID",
    )


def _scored(runs: Runs) -> list[Measured]:
    """Those with an accuracy: no noise of the machine changes an answer."""
    return [measured for measured in runs.series.now if accuracy.of(measured)]


def _about(name: str, measured: Sequence[Measured]) -> dict[str, Any]:
    found = next(f for m in measured for f in m.figures if f.name == name)
    return {"figure": name, "unit": found.unit, "better": found.better}
