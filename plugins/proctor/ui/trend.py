"""Results over time: what can be followed, one figure's plot with its table, and downloads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import HTMLResponse, Response

from proctor.airflow import instance
from proctor.records.book import Book, Entry, Identity, open_findings
from proctor.records.figures import machine
from proctor.records.store import RecordError
from proctor.records.trend import (
    Difference,
    Held,
    Measurement,
    Point,
    Trend,
    by_identity,
    held,
    trend,
    trends_of,
)
from proctor.ui.downloads import as_download, as_table
from proctor.ui.pages import respond
from proctor.ui.plot import SIZE, changed, plot_of, said_of
from proctor.ui.results import readable
from proctor.ui.rights import may_see
from proctor_steps.contract import brief

TREND_FORMAT = "proctor.trend/1"
CHOICES = (50, 200, 1000)
_MOST_WORDS = 8  # differences that are told of one point


def add_trend(app: FastAPI) -> None:
    """Add the page and the downloads."""
    app.get("/results/trend")(over_time)
    app.get("/results/trend.csv")(as_csv)
    app.get("/results/trend.json")(as_json)


@dataclass(frozen=True)
class Chosen:
    """What to show. ``None``: whatever there is; "" is what a backend does not tell."""

    benchmark: str | None = None
    scenario: str | None = None
    system: str | None = None
    backend: str | None = None
    precision: str | None = None
    figure: str = ""
    last: int = CHOICES[1]

    def fits(self, identity: Identity) -> bool:
        """Whether an identity is what was asked for."""
        asked = {name: getattr(self, name) for name in Identity.__dataclass_fields__}
        return all(value in (None, getattr(identity, name)) for name, value in asked.items())


Choice = Annotated[Chosen, Depends()]


@dataclass(frozen=True)
class Listed:
    """An identity that can be followed, with its newest measurement."""

    identity: Identity
    count: int
    newest: Measurement
    query: str


def query_of(identity: Identity, **more: Any) -> str:
    """A trend's address, behind the question mark."""
    given = {name: getattr(identity, name) for name in Identity.__dataclass_fields__}
    return urlencode({**given, **more})


def over_time(user: GetUserDep, chosen: Choice) -> HTMLResponse:
    """The trend that is meant; where it may be several, the list of them."""
    runs = readable(user)
    every = by_identity(trends_of(instance.home().path).of(runs))
    found = {identity: of for identity, of in every.items() if chosen.fits(identity)}
    damaged = sum(bool(run.problem) for run in runs)
    if len(found) != 1:
        listed = [Listed(i, len(of), of[-1], query_of(i)) for i, of in found.items()]
        return respond(
            "trends",
            title="Results over time",
            listed=listed,
            every=len(every),
            damaged=damaged,
        )
    ((identity, measurements),) = found.items()
    entries, problem = _book()
    shown = _trend(user, measurements, chosen, entries)
    return respond(
        "trend",
        title=f"{identity} over time",
        trend=shown,
        plot=plot_of(shown),
        changes=[(point, words(point.made_of)) for point in changed(shown.points)],
        rows=[(point, words(point.changed)) for point in reversed(shown.points)],
        baselines=[(each, said_of(each, shown)) for each in shown.baselines],
        findings=[
            entry
            for entry, of in open_findings(entries)
            if identity in of and (entry.answer is None or may_see(user, entry.answer.pipeline))
        ],
        problem=problem,
        chosen=chosen,
        choices=CHOICES,
        query=query_of(identity, figure=shown.figure, last=chosen.last),
        damaged=damaged,
        machine=machine,
        size=SIZE,
    )


def as_csv(user: GetUserDep, chosen: Choice) -> Response:
    """The points that the page shows, one a line."""
    return as_table(_flat(_one(user, chosen)), _COLUMNS, "trend.csv")


def as_json(user: GetUserDep, chosen: Choice) -> Response:
    """The points that the page shows, with the baselines, as JSON."""
    shown = _one(user, chosen)
    told = {
        "format": TREND_FORMAT,
        **vars(shown.identity),
        "figure": shown.figure,
        "unit": shown.unit,
        "better": shown.better,
        "points_in_all": shown.every,
        "points": [
            {**row, "changed": [vars(each) for each in point.changed]}
            for row, point in zip(_flat(shown), shown.points, strict=True)
        ],
        "baselines": [_baseline(each, shown) for each in shown.baselines],
    }
    return as_download(
        json.dumps(told, indent=1, ensure_ascii=False), "application/json", "trend.json"
    )


def _one(user: Any, chosen: Chosen) -> Trend:
    every = by_identity(trends_of(instance.home().path).of(readable(user)))
    found = [of for identity, of in every.items() if chosen.fits(identity)]
    if len(found) != 1:
        which = "nothing that was measured" if not found else f"{len(found)} series"
        raise HTTPException(404, f"This address means {which}; choose one under Results over time")
    entries, problem = _book()
    if problem:
        raise HTTPException(500, problem)
    return _trend(user, found[0], chosen, entries)


def _trend(
    user: Any, measurements: Sequence[Measurement], chosen: Chosen, entries: Sequence[Entry]
) -> Trend:
    identity = measurements[0].found.identity
    kept = [each for each in held(entries, identity) if _visible(user, each)]
    try:
        return trend(measurements, chosen.figure, max(1, chosen.last), kept)
    except LookupError as error:
        raise HTTPException(404, str(error)) from None


def _book() -> tuple[list[Entry], str]:
    """The entries of the book of baselines, or why it cannot be read."""
    try:
        return Book(instance.home().path).entries(), ""
    except RecordError as error:
        return [], str(error)


def _visible(user: Any, baseline: Held) -> bool:
    return may_see(user, baseline.measured.of.partition("/")[0])


def words(differences: Sequence[Difference]) -> list[str]:
    """What differs, for people; of much, the first few."""
    told = [f"{_name(d)}: {_short(d.was)} → {_short(d.now)}" for d in differences[:_MOST_WORDS]]
    more = len(differences) - len(told)
    return [*told, f"and {more} more"] if more else told


def _name(difference: Difference) -> str:
    """``packages openvino``; an image's digest needs no more words."""
    return f"{difference.kind} {difference.name}"


def _short(value: str) -> str:
    if not value:
        return "not told"
    return brief(value)[:80]


_COLUMNS = (
    *("benchmark", "scenario", "system", "backend", "precision", "figure", "at", "pipeline", "run"),
    *("step", "attempt", "value", "unit", "samples", "loadgen_valid", "disturbed", "low", "high"),
    *("baseline", "answers", "changed"),
)


def _flat(shown: Trend) -> Iterator[dict[str, Any]]:
    for point in shown.points:
        yield {**vars(shown.identity), "figure": shown.figure, **_row(point)}


def _row(point: Point) -> dict[str, Any]:
    run, told = point.measurement.run, point.measurement.found.measured
    return {
        "at": told.at,
        "pipeline": run.pipeline,
        "run": run.run,
        "step": point.measurement.found.step,
        "attempt": told.of.rpartition("/")[2],
        "value": point.figure.value,
        "unit": point.figure.unit,
        "samples": point.figure.samples,
        "loadgen_valid": told.valid,
        "disturbed": None if told.disturbed is None else "; ".join(told.disturbed),
        "low": point.limits.low if point.limits else None,
        "high": point.limits.high if point.limits else None,
        "baseline": point.accepted,
        "answers": "; ".join(map(str, run.answers)),
        "changed": "; ".join(words(point.changed)),
    }


def _baseline(each: Held, shown: Trend) -> dict[str, Any]:
    figure = each.figure(shown.figure)
    return {
        "of": each.measured.of,
        "value": figure.value if figure else None,
        "since": each.since,
        "until": each.until,
        "by": each.by,
    }
