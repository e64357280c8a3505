"""The evidence page of a verdict: plots, changes, and what differs, for who has to decide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from proctor_steps.contract import Contract
from proctor_steps.drift import chart, tell
from proctor_steps.drift.chart import Point, amount
from proctor_steps.drift.sessions import figure as comparable
from proctor_steps.drift.verdict import DriftVerdict, FigureVerdict, SeriesVerdict
from proctor_steps.history import History, Measured, Series

HEADLINES = {
    "drifted": "Drifted",
    "undecided": "Not decided yet",
    "disturbed": "Not judged: the machine was not quiet",
    "no_baseline": "There is no baseline yet",
    "steady": "Steady",
}
KINDS = {"steady": "good", "drifted": "bad"}


@dataclass(frozen=True)
class Row:
    """A line of the comparison of two records; ``differs``: it is not the same in both."""

    kind: str
    name: str
    values: tuple[str, ...]
    differs: bool


@dataclass(frozen=True)
class Shown:
    """A series with its drawings and its records side by side.

    ``records``: whose values ``rows`` have: baseline, last steady run, now.
    """

    verdict: SeriesVerdict
    charts: tuple[tuple[FigureVerdict, Markup], ...]
    records: tuple[str, ...]
    rows: tuple[Row, ...]


def page(verdict: DriftVerdict, history: History, contract: Contract) -> str:
    """The page. Whatever comes from a record is escaped by the template."""
    from proctor_steps.report.page import filled

    series = {_key(each): each for each in history.series}
    return filled(
        Path(__file__).with_name("page.html.j2"),
        filters={
            "spoken": tell.spoken,
            "percent": tell.percent,
            "confidence": tell.confidence,
        },
        amount=amount,
        verdict=verdict,
        headline=HEADLINES[verdict.state],
        kinds=KINDS,
        shown=[_shown(each, series[_key(each)]) for each in verdict.series],
        contract=contract,
    )


def _key(series: Series | SeriesVerdict) -> tuple[str, ...]:
    return series.benchmark, series.scenario, series.system, series.backend, series.precision


def _shown(verdict: SeriesVerdict, series: Series) -> Shown:
    drawn = (
        (f, chart.history(f, list(_points(f.figure, series)))) for f in verdict.figures if f.primary
    )
    by_name = {m.of: m for m in (*series.history, *series.now)}
    if series.baseline:
        by_name[series.baseline.of] = series.baseline
    # The last steady run is the baseline itself where nothing was measured in between.
    names = (verdict.baseline_of, verdict.last_steady_of, *verdict.now_of[-1:])
    wanted = tuple(dict.fromkeys(name for name in names if name in by_name))
    return Shown(
        verdict,
        tuple((f, svg) for f, svg in drawn if svg is not None),
        wanted,
        tuple(_rows([by_name[name] for name in wanted])),
    )


def _points(name: str, series: Series) -> Iterator[Point]:
    baseline = series.baseline
    runs = [(m, "unquiet" if m.disturbed else "history") for m in series.history]
    if baseline:
        since = [r for r in runs if r[0].at >= baseline.at and r[0].of != baseline.of]
        runs = [(baseline, "baseline"), *since]
    now = {m.of for m in series.now}
    runs = [each for each in runs if each[0].of not in now]
    runs += [(m, "unquiet" if m.disturbed else "now") for m in series.now]
    for measured, kind in runs:
        found = comparable(measured, name)
        if found:
            words = f"{amount(found.value, found.unit)}: {measured.of}, {measured.at}"
            yield Point(found.value, kind, words)


def _rows(records: list[Measured]) -> Iterator[Row]:
    keys = {(kind, name) for m in records for kind, said in m.made_by.items() for name in said}
    for kind, name in sorted(keys):
        values = tuple(m.made_by.get(kind, {}).get(name, "not recorded") for m in records)
        yield Row(kind, name, values, len(set(values)) > 1)
