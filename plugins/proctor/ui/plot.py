"""Places and words of a trend's plot. The template draws it; nothing of it needs a script."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, pairwise

from proctor.records.figures import amount
from proctor.records.trend import Held, Point, Trend, moment

WIDTH, HEIGHT = 960.0, 340.0
LEFT, RIGHT, TOP, BOTTOM = 70.0, 20.0, 34.0, 30.0
SIZE = {
    "width": WIDTH,
    "height": HEIGHT,
    "left": LEFT,
    "right": RIGHT,
    "top": TOP,
    "bottom": BOTTOM,
}
# More marks than these stand over each other; the table has them all.
MOST_CHANGES = 40
_REACH = 4.0  # of the first and the last run's limits
_LABELS = 7  # of an axis, about
_HOUR = 3600
_STEPS = [_HOUR * n for n in (1 / 60, 1 / 12, 0.25, 1, 3, 6, 12, 24, 48, 168, 336, 720, 2160, 8760)]


@dataclass(frozen=True)
class Tick:
    """A line of the grid, at ``at`` of its axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Level:
    """A baseline, for as long as it held."""

    left: float
    right: float
    y: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A point. ``kind``: ``plain``, ``disturbed`` or ``invalid``."""

    x: float
    y: float
    kind: str
    point: Point


@dataclass(frozen=True)
class Plot:
    """``unit``: of the numbers ``up`` the side. ``bands`` and ``lines``: corners, as SVG writes
    them. ``changes``: where the system became another one, numbered from 1 as in the list beside
    the plot."""

    unit: str
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    bands: tuple[str, ...]
    lines: tuple[str, ...]
    levels: tuple[Level, ...]
    changes: tuple[Tick, ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class _Axis:
    """From values to places; ``low`` and ``high`` differ."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.begin + share * (self.end - self.begin), 1)


def plot_of(trend: Trend) -> Plot:
    """The plot of a trend with one point at least."""
    times = [point.measurement.at.timestamp() for point in trend.points]
    x = _Axis(*_room(min(times), max(times), 0.02, _HOUR), LEFT, WIDTH - RIGHT)
    values = list(_values(trend))
    y = _Axis(*_room(min(values), max(values), 0.08, 0), HEIGHT - BOTTOM, TOP)
    return Plot(
        unit="ms" if trend.unit == "ns" else trend.unit,
        across=tuple(_dates(x)),
        up=tuple(_values_up(y, 1e6 if trend.unit == "ns" else 1.0)),
        bands=tuple(_bands(trend.points, x, y)),
        lines=(_corners((_x(p, x), y(p.figure.value)) for p in trend.points if p.counts),),
        levels=tuple(_levels(trend, x, y)),
        changes=tuple(
            Tick(_x(point, x), str(number))
            for number, point in enumerate(changed(trend.points), start=1)
        ),
        marks=tuple(
            Mark(_x(point, x), y(point.figure.value), _kind(point), point) for point in trend.points
        ),
    )


def changed(points: Sequence[Point]) -> list[Point]:
    """Where the system became another one: the newest of such points, oldest first."""
    return [point for point in points[1:] if point.made_of][-MOST_CHANGES:]


def _kind(point: Point) -> str:
    if point.disturbed:
        return "disturbed"
    return "invalid" if point.measurement.found.measured.valid is False else "plain"


def _x(point: Point, axis: _Axis) -> float:
    return axis(point.measurement.at.timestamp())


def _values(trend: Trend) -> Iterator[float]:
    for point in trend.points:
        yield point.figure.value
        if point.limits:
            yield from (point.limits.low, point.limits.high)
    for each in trend.baselines:
        if figure := each.figure(trend.figure):
            yield figure.value


def _room(low: float, high: float, share: float, least: float) -> tuple[float, float]:
    """With some room at both ends, also where there is but one value."""
    more = max((high - low) * share, least, 0 if high > low else abs(high) * 0.05 or 1.0)
    return low - more, high + more


def _values_up(y: _Axis, scale: float) -> Iterator[Tick]:
    """Multiples of 1, 2 or 5 of a power of ten, with the digits that tell them apart."""
    low, high = y.low / scale, y.high / scale
    rough = (high - low) / _LABELS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(n * power for n in (1, 2, 5, 10) if n * power >= rough)
    digits = max(0, -math.floor(math.log10(step)))
    for n in range(math.ceil(low / step), math.floor(high / step) + 1):
        yield Tick(y(n * step * scale), f"{n * step:,.{digits}f}")


def _dates(x: _Axis) -> Iterator[Tick]:
    wanted = (x.high - x.low) / _LABELS
    step = next((each for each in _STEPS if each >= wanted), _STEPS[-1])
    at = math.ceil(x.low / step) * step
    while at <= x.high:
        moment = datetime.fromtimestamp(at, UTC)
        yield Tick(x(at), moment.strftime("%Y-%m-%d" if step >= 24 * _HOUR else "%m-%d %H:%M"))
        at += step


def _bands(points: Sequence[Point], x: _Axis, y: _Axis) -> Iterator[str]:
    """Limits are a run's own, so they reach half the way to the runs beside it."""
    for _, group in groupby(points, key=lambda point: point.limits is not None):
        run = [(_x(p, x), y(p.limits.low), y(p.limits.high)) for p in group if p.limits]
        if run:
            middles = [(a[0] + b[0]) / 2 for a, b in pairwise(run)]
            edges = [run[0][0] - _REACH, *middles, run[-1][0] + _REACH]
            upper = [(at, high) for n, (_, _, high) in enumerate(run) for at in edges[n : n + 2]]
            lower = [(at, low) for n, (_, low, _) in enumerate(run) for at in edges[n : n + 2]]
            yield _corners([*upper, *reversed(lower)])


def _levels(trend: Trend, x: _Axis, y: _Axis) -> Iterator[Level]:
    for each in trend.baselines:
        figure = each.figure(trend.figure)
        left, right = _moment(each.since, x.low), _moment(each.until, x.high)
        if figure and right >= x.low and left <= x.high:
            left, right = max(left, x.low), min(right, x.high)
            words = f"baseline {amount(figure.value, trend.unit)}"
            yield Level(x(left), x(right), y(figure.value), words)


def said_of(baseline: Held, trend: Trend) -> str:
    """A baseline in words."""
    figure = baseline.figure(trend.figure)
    value = amount(figure.value if figure else None, trend.unit)
    return f"baseline {value}" + (f", set by {baseline.by}" if baseline.by else "")


def _moment(at: str, otherwise: float) -> float:
    found = moment(at)
    return otherwise if found is None else found.timestamp()


def _corners(places: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{a:g},{b:g}" for a, b in places)
