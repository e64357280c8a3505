"""The history of one figure as a drawing: limits, baseline, sessions, and the runs judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from proctor_steps.drift.tell import spoken
from proctor_steps.drift.verdict import FigureVerdict
from proctor_steps.report import charts
from proctor_steps.report.charts import LEFT, RIGHT, WIDTH, duration, significant

_HEIGHT, _TOP, _BOTTOM = 236, 24, 30
_AXIS = 74  # room for the labels of the values
_SCALED = ("ns", "fraction")  # units whose values are written in another one
_MOST = 60  # sessions that are drawn, the newest


@dataclass(frozen=True)
class Point:
    """A measurement of the figure. ``kind``: ``baseline``, ``history``, ``unquiet`` or ``now``."""

    value: float
    kind: str
    words: str


def amount(value: float | None, unit: str) -> str:
    """A value with its unit, as short as it can be."""
    if value is None:
        return "–"
    if unit == "ns":
        return duration(value)
    if unit == "fraction":
        return f"{100 * value:.2f} %"
    return f"{significant(value)} {unit}".strip()


def history(figure: FigureVerdict, points: Sequence[Point]) -> Markup | None:
    """The drawing; ``None`` where there is nothing to draw. Oldest first."""
    points = [*points[:1], *points[1:][-_MOST:]]
    bounds = [v for v in (*(figure.limits or ()), *(p.value for p in points)) if v > 0]
    if len(points) < 2 or not bounds:
        return None
    scale = _Scale(min(bounds), max(bounds), len(points))
    parts = [*_band(figure, scale), *_ticks(figure, scale)]
    if figure.baseline:
        y = scale.down(figure.baseline)
        parts.append(_marked("counts", charts.line(_AXIS, y, WIDTH - RIGHT, y, "rule")))
        parts.append(_marked("counts", charts.text(_AXIS + 4, y - 5, "baseline", "start")))
    parts += [_point(p, scale.across(i), scale.down(p.value)) for i, p in enumerate(points)]
    parts.append(charts.text(_AXIS, _HEIGHT - 8, "baseline", "start"))
    parts.append(charts.text(WIDTH - RIGHT, _HEIGHT - 8, "now", "end"))
    now = ", ".join(amount(p.value, figure.unit) for p in points if p.kind == "now")
    label = (
        f"{spoken(figure.figure)} from the baseline ({amount(figure.baseline, figure.unit)}) to "
        f"now ({now}), {len(points)} runs"
    )
    return charts.svg(label, parts, "course", _HEIGHT)


class _Scale:
    def __init__(self, low: float, high: float, count: int) -> None:
        margin = (high - low or high) * 0.08
        self.low, self.high, self.count = low - margin, high + margin, count

    def down(self, value: float) -> float:
        part = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - part * (_HEIGHT - _BOTTOM - _TOP)

    def across(self, place: int) -> float:
        left = _AXIS + 12
        return left + place * (WIDTH - RIGHT - 12 - left) / max(self.count - 1, 1)


def _band(figure: FigureVerdict, scale: _Scale) -> list[Markup]:
    parts = []
    for kind, band in (("limits", figure.limits), ("warning", figure.warning)):
        if band is None:
            continue
        top, bottom = scale.down(band[1]), scale.down(band[0])
        parts.append(
            Markup(
                '<rect class="{}" x="{}" y="{:.1f}" width="{}" height="{:.1f}">'
                "<title>{}: {} to {}</title></rect>"
            ).format(
                kind,
                _AXIS,
                top,
                WIDTH - RIGHT - _AXIS,
                bottom - top,
                "limits of an alarm" if kind == "limits" else "limits of another run",
                *(amount(edge, figure.unit) for edge in band),
            )
        )
    return parts


def _ticks(figure: FigureVerdict, scale: _Scale) -> list[Markup]:
    floor = _HEIGHT - _BOTTOM
    parts = [charts.line(_AXIS, floor, WIDTH - RIGHT, floor, "axis")]
    for value in charts.even(scale.low, scale.high):
        y = scale.down(value)
        parts.append(charts.line(_AXIS - 4, y, _AXIS, y, "axis"))
        label = amount(value, figure.unit if figure.unit in _SCALED else "")
        parts.append(charts.text(LEFT, y + 4, label, "start"))
    return parts


def _point(point: Point, x: float, y: float) -> Markup:
    return Markup(
        '<circle class="probe {}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>'
    ).format(point.kind, x, y, 5 if point.kind in ("now", "baseline") else 3.5, point.words)


def _marked(kind: str, drawn: Markup) -> Markup:
    return Markup('<g class="mark {}">{}</g>').format(kind, drawn)
