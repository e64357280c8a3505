"""Load tuning in the report: each probe, and the chart of rate against latency."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup
from pydantic import Field

from proctor_steps.report import charts
from proctor_steps.report.charts import LEFT, RIGHT, WIDTH, duration, significant
from proctor_steps.report.read import Read

_HEIGHT, _TOP, _BOTTOM = 240, 22, 26
_AXIS = 64  # room for the latencies' labels
# Rates further above those that hold only squeeze the rest together.
_FARTHEST = 2.2
_KIND = {"meets": "good", "misses": "bad", "unsure": "open"}


class Tried(Read):
    """One Server probe."""

    qps: float = Field(gt=0)
    asked_s: float
    duration_s: float
    queries: int
    late: int
    share: float
    low: float
    high: float
    chance: float
    verdict: str
    percentile_ms: float = Field(gt=0)
    whole: bool
    cut_short: bool

    @property
    def kind(self) -> str:
        """How it is coloured."""
        return _KIND.get(self.verdict, "open")

    @property
    def words(self) -> str:
        """The verdict, for people."""
        if self.cut_short:
            return "misses, cut short"
        if self.whole and self.verdict == "unsure":
            return "too close"
        return {"unsure": "too few queries to say"}.get(self.verdict, self.verdict)


class Trial(Read):
    """One short run of another scenario."""

    asked_s: float
    expected: float
    found: float
    enough: bool


class Tuned(Read):
    """What ``loadgen tune`` found (``tuning.json``)."""

    scenario: str
    scenario_in_round: bool = False
    round: str = ""
    benchmark: str = ""
    percentile: float = 0
    performance_seconds: float = 0
    limit_ms: float | None = None
    target_qps: float | None = None
    target_latency_ms: float | None = None
    ended: str
    certain: bool = False
    noise: float | None = None
    margin: float | None = None
    chance: float | None = None
    budget_s: float = 0
    took_s: float = 0
    probes: tuple[Tried, ...] = ()
    trials: tuple[Trial, ...] = ()

    @property
    def figure(self) -> str:
        """What was found, with its name."""
        if self.target_qps is not None:
            return f"target_qps {significant(self.target_qps)}"
        if self.target_latency_ms is not None:
            return f"target_latency {duration(1e6 * self.target_latency_ms)}"
        return "nothing"

    @property
    def chart(self) -> Markup | None:
        """Rate against the latency percentile, with the limit; ``None`` without Server probes."""
        if self.target_qps is None or self.limit_ms is None or len(self.probes) < 2:
            return None
        return rates(self.probes, self.target_qps, self.limit_ms, self.percentile)


def rates(probes: Sequence[Tried], found: float, limit_ms: float, percentile: float) -> Markup:
    """Each probe as a point; a line at the limit, and one at the rate that was found."""
    held = max([found, *(p.qps for p in probes if p.verdict == "meets")])
    shown = [p for p in probes if p.qps <= _FARTHEST * held]
    top = max(found, *(p.qps for p in shown)) * 1.06 if shown else found * 1.06
    low = min(limit_ms, *(p.percentile_ms for p in shown)) if shown else limit_ms / 10
    high = max(limit_ms, *(p.percentile_ms for p in shown)) if shown else limit_ms
    low, high = low / 1.3, high * 1.3
    floor = _HEIGHT - _BOTTOM

    def across(qps: float) -> float:
        return _AXIS + qps / top * (WIDTH - RIGHT - _AXIS)

    def down(ms: float) -> float:
        return floor - math.log(ms / low) / math.log(high / low) * (floor - _TOP)

    right = across(found) > WIDTH * 0.6
    parts = [
        charts.line(_AXIS, floor, WIDTH - RIGHT, floor, "axis"),
        *(_tick(across(q), floor, significant(q)) for q in charts.even(0, top)[1:]),
        charts.text(LEFT, _HEIGHT - 9, "queries/s", "start"),
        _marked("limit", _AXIS, down(limit_ms), WIDTH - RIGHT, down(limit_ms)),
        _label("limit", LEFT, down(limit_ms) + 4, duration(1e6 * limit_ms), "start"),
        _marked("counts", across(found), _TOP - 8, across(found), floor),
        _label(
            "counts",
            across(found) + (-5 if right else 5),
            _TOP - 10 + 8,
            f"target_qps {significant(found)}",
            "end" if right else "start",
        ),
        *(_point(p, across(p.qps), down(p.percentile_ms)) for p in shown),
    ]
    label = (
        f"{percentile:g}th percentile of latency over the rate, {len(shown)} probes; limit "
        f"{duration(1e6 * limit_ms)}, found {significant(found)} queries/s"
    )
    return charts.svg(label, parts, "rates", _HEIGHT)


def _point(probe: Tried, x: float, y: float) -> Markup:
    told = (
        f"{significant(probe.qps)} queries/s: {duration(1e6 * probe.percentile_ms)}, "
        f"{probe.late:,} of {probe.queries:,} late; {probe.words}"
    )
    return Markup(
        '<circle class="probe {}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>'
    ).format(probe.kind, x, y, 5 if probe.whole else 3.5, told)


def _tick(x: float, floor: float, text: str) -> Markup:
    return charts.line(x, floor, x, floor + 4, "axis") + charts.text(x, floor + 17, text, "middle")


def _marked(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<g class="mark {}">{}</g>').format(kind, charts.line(x1, y1, x2, y2, "rule"))


def _label(kind: str, x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<g class="mark {}">{}</g>').format(kind, charts.text(x, y, text, anchor))
