"""The report's charts: static SVG that needs no script, takes its colours from the page's style,
and tells its figures in ``<title>`` and in text as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

WIDTH, HEIGHT = 480, 226
LEFT, RIGHT, TOP, BOTTOM = 8, 8, 68, 26
# Room for one letter of a bold label; a little too much rather than too little.
LETTER = 7.6

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Mark:
    """A vertical line in a distribution: ``counts`` marks the figure that the rules look at."""

    name: str
    value_ns: float
    kind: str = ""  # "" (for orientation), "counts" or "limit"


def duration(ns: float | None) -> str:
    """Nanoseconds with a unit that a person would choose: ``12.3 ms``."""
    if ns is None:
        return "–"
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if abs(ns) >= size:
            return f"{significant(ns / size)} {unit}"
    return f"{ns:.0f} ns"


def significant(value: float) -> str:
    """Three significant digits, thousands apart, no exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 2 - int(np.floor(np.log10(abs(value))))
    return f"{value:.{max(digits, 0)}f}"


def distribution(latencies: npt.NDArray[np.int64], marks: Sequence[Mark]) -> Markup:
    """How many queries took how long; a logarithmic axis where the range is wide."""
    values = np.sort(latencies.astype(np.float64))
    values = np.maximum(values, 1.0)
    edges, wide = _edges(values, marks)
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    scale = _Scale(float(edges[0]), float(edges[-1]), wide)
    parts = [_bars(edges, counts, scale), _axis(scale)]
    # All lines lie below all labels, so that none runs through a figure.
    parts += [_rule(mark, row, scale) for row, mark in enumerate(marks)]
    parts += [_label(mark, row, scale) for row, mark in enumerate(marks)]
    named = ", ".join(f"{m.name} {duration(m.value_ns)}" for m in marks)
    label = f"Latency of {len(values):,} queries: {named}"
    return svg(label, parts, "distribution")


def over_time(latencies: npt.NDArray[np.int64], buckets: int = 96) -> Markup:
    """The run from its first query to its last: median, and the band of the middle 90 %."""
    values = latencies.astype(np.float64)
    # A band needs some queries each; a short run gets fewer pieces.
    pieces = np.array_split(values, min(buckets, max(len(values) // 5, 2)))
    low, middle, high = (np.array([np.percentile(p, q) for p in pieces]) for q in (5, 50, 95))
    # A rare spike must not flatten the rest: it is cut, and the chart says so.
    ceiling = min(float(high.max()), 2.5 * float(np.median(high))) * 1.08 or 1.0
    cut = float(high.max()) > ceiling
    across = np.linspace(LEFT, WIDTH - RIGHT, len(pieces))
    height = 104
    floor = height - 18

    def points(series: Floats) -> list[str]:
        down = floor - np.minimum(series / ceiling, 1) * (floor - 16)
        return [f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True)]

    band = " ".join(points(high) + points(low)[::-1])
    label = (
        f"Latency over the run: median {duration(float(middle[0]))} at the start, "
        f"{duration(float(middle[-1]))} at the end"
    )
    top = f"0 to {duration(ceiling)}" + (", higher ones cut" if cut else "")
    parts = [
        Markup('<polygon class="band" points="{}"/>').format(band),
        Markup('<polyline class="middle" points="{}"/>').format(" ".join(points(middle))),
        line(LEFT, floor, WIDTH - RIGHT, floor, "axis"),
        text(LEFT, height - 3, "first query", "start"),
        text(WIDTH - RIGHT, height - 3, f"query {len(values):,}", "end"),
        text(WIDTH - RIGHT, 10, top, "end"),
    ]
    return svg(label, parts, "over-time", height)


class _Scale:
    """From nanoseconds to the x of the drawing."""

    def __init__(self, low: float, high: float, wide: bool) -> None:
        self.low, self.high, self.wide = low, high, wide

    def __call__(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        if self.wide:
            part = np.log(value / self.low) / np.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return LEFT + float(part) * (WIDTH - LEFT - RIGHT)

    def ticks(self) -> list[float]:
        """Round values inside the range, eight at most."""
        if not self.wide:
            return even(self.low, self.high)
        powers = range(int(np.floor(np.log10(self.low))), int(np.log10(self.high)) + 1)
        for digits in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1,)):
            inside = [m * 10.0**p for p in powers for m in digits]
            inside = [value for value in inside if self.low <= value <= self.high]
            if len(inside) <= 8:
                break
        return inside


def even(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two values."""
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
    return [float(v) for v in np.arange(np.ceil(low / step) * step, high, step)]


def _edges(values: Floats, marks: Sequence[Mark]) -> tuple[Floats, bool]:
    limits = [m.value_ns for m in marks if m.value_ns > 0]
    low, high = min([values[0], *limits]), max([values[-1], *limits])
    if high <= low:
        low, high = low * 0.9, high * 1.1 + 1
    wide = high / low > 4
    if wide:
        return np.geomspace(low, high, 65), True
    margin = (high - low) * 0.02
    return np.linspace(max(low - margin, 0.0), high + margin, 65), False


def _bars(edges: Floats, counts: npt.NDArray[np.int64], scale: _Scale) -> Markup:
    floor, most = HEIGHT - BOTTOM, max(int(counts.max()), 1)
    bars = []
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        if count == 0:
            continue
        # One query in a million must still be seen: tails are what the rules are about.
        height = max(float(count) / most * (floor - TOP), 1.5)
        x, end = scale(float(low)), scale(float(high))
        bars.append(
            Markup(
                '<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="1">'
                "<title>{}</title></rect>"
            ).format(
                x,
                floor - height,
                max(end - x - 0.6, 0.8),
                height,
                f"{duration(float(low))} to {duration(float(high))}: {int(count):,} queries",
            )
        )
    return Markup("").join(bars)


def _axis(scale: _Scale) -> Markup:
    floor = HEIGHT - BOTTOM
    parts = [line(LEFT, floor, WIDTH - RIGHT, floor, "axis")]
    used = -100.0
    for tick in scale.ticks():
        x = scale(tick)
        parts.append(line(x, floor, x, floor + 4, "axis"))
        anchor = "start" if x < 24 else "end" if x > WIDTH - 24 else "middle"
        middle = {"start": x + 24, "end": x - 24}.get(anchor, x)
        if middle - used >= 52:
            parts.append(text(x, floor + 17, _short(tick), anchor))
            used = middle
    return Markup("").join(parts)


def _rule(mark: Mark, row: int, scale: _Scale) -> Markup:
    x = scale(mark.value_ns)
    drawn = line(x, 2 + row * 15, x, HEIGHT - BOTTOM, "rule")
    return Markup('<g class="mark {}">{}</g>').format(mark.kind, drawn)


def _label(mark: Mark, row: int, scale: _Scale) -> Markup:
    x = scale(mark.value_ns)
    right = x > WIDTH * 0.62
    note = f": {mark.kind}" if mark.kind else ""
    # A name of several words is set apart from its figure.
    said = f"{mark.name}{',' if ' ' in mark.name else ''} {duration(mark.value_ns)}{note}"
    # A long label is moved over its line rather than out of the drawing.
    long = len(said) * LETTER
    place = max(x - 5, long) if right else min(x + 5, WIDTH - long)
    words = text(place, 11 + row * 15, said, "end" if right else "start")
    return Markup('<g class="mark {}">{}</g>').format(mark.kind, words)


def _short(ns: float) -> str:
    """A tick's label: as short as its round value allows."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            return f"{ns / size:,.4g} {unit}"
    return f"{ns:,.0f} ns"


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A line of a style (``axis``, ``rule``)."""
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
        kind, x1, y1, x2, y2
    )


def text(x: float, y: float, words: str, anchor: str) -> Markup:
    """Words at a place, which is their ``start``, ``middle`` or ``end``."""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x, y, anchor, words
    )


def svg(label: str, parts: Sequence[Markup], kind: str, height: int = HEIGHT) -> Markup:
    """A whole drawing; ``label`` says in words what it shows."""
    return Markup(
        '<svg class="chart {}" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        "<title>{}</title>{}</svg>"
    ).format(kind, WIDTH, height, label, escape(label), Markup("").join(parts))
