"""A verdict in words: the findings, and figures as people write them."""

from __future__ import annotations

from collections.abc import Iterator

from proctor_steps.drift.verdict import DriftFinding, FigureVerdict, SeriesVerdict

_SHOWN = 3  # differences in a message; the page has all
_NEARLY = 0.001


def findings(series: SeriesVerdict) -> Iterator[DriftFinding]:
    """What is not as it was, first of the figures that count; of the others once one of those
    drifted."""
    drifted = series.state == "drifted"
    for figure in sorted(series.figures, key=lambda each: not each.primary):
        open_ = figure.decision == "undecided" and figure.primary
        if open_ or (drifted and figure.decision == "drifted"):
            yield _finding(series, figure)


def _finding(series: SeriesVerdict, figure: FigureVerdict) -> DriftFinding:
    return DriftFinding(
        rule=figure.rule or "drift",
        decision=figure.decision,
        series=series.name,
        figure=figure.figure,
        primary=figure.primary,
        direction=figure.direction,
        size=figure.size,
        interval=figure.interval,
        confidence=None if figure.chance is None else 1 - figure.chance,
        runs=len(figure.now) or series.runs,
        differs=series.differs,
        message=_message(series, figure),
    )


def _message(series: SeriesVerdict, figure: FigureVerdict) -> str:
    words = f"{series.name}: {spoken(figure.figure)}: {change(figure)}"
    if figure.reason:
        words += f"; {figure.reason}"
    if figure.decision == "undecided":
        return f"{words}; another run is needed to tell"
    shown = ", ".join(each.words for each in series.differs[:_SHOWN])
    more = len(series.differs) - _SHOWN
    shown += f" and {more} more" if more > 0 else ""
    return f"{words}. What differs: {shown or 'nothing that was recorded'}"


def change(figure: FigureVerdict) -> str:
    """A change: its size with its interval, the direction, how sure it is, in how many runs."""
    count = f"{len(figure.now)} run{'' if len(figure.now) == 1 else 's'}"
    if figure.size is None:
        return f"changed in {count}" if figure.now else "not comparable"
    words = percent(figure.size)
    if figure.direction != "unknown":
        words += f" ({figure.direction})"
    if figure.interval:
        words += f", 95 % interval {percent(figure.interval[0])} to {percent(figure.interval[1])}"
    return f"{words}, confidence {confidence(figure.chance)}, {count}"


def confidence(chance: float | None) -> str:
    """1 less a chance; the last digits of one that is nearly certain say nothing."""
    if chance is None:
        return "unknown"
    return "over 99.9 %" if chance < _NEARLY else f"{100 * (1 - chance):.3g} %"


def percent(share: float) -> str:
    """A share as a change in per cent, with its sign."""
    return f"{100 * share:+.3g} %"


def spoken(name: str) -> str:
    """A figure's name in words: ``latency p90``."""
    return name.replace("_", " ")
