"""The report's charts: they stay finite and inside their drawing, and lose no query."""

from __future__ import annotations

import re

import numpy as np
import pytest

from proctor_steps.report import charts


@pytest.mark.parametrize(
    ("ns", "text"),
    [(12, "12 ns"), (1500, "1.50 µs"), (12_345_678, "12.3 ms"), (7.5e9, "7.50 s"), (None, "–")],
)
def test_durations_read_well(ns: float | None, text: str) -> None:
    assert charts.duration(ns) == text


@pytest.mark.parametrize(
    "values",
    [[5, 5], [0, 0, 0], [1, 10**9], [10**6] * 99 + [4 * 10**9], list(range(1, 2000))],
)
def test_charts_of_odd_latencies_are_finite(values: list[int]) -> None:
    latencies = np.array(values, dtype=np.int64)
    drawn = charts.distribution(latencies, [charts.Mark("p90", float(values[-1]), "counts")])
    drawn += charts.over_time(latencies)
    assert "nan" not in drawn and "inf" not in drawn
    bars = re.findall(r'class="bar" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"', drawn)
    assert bars and all(0 <= float(x) <= charts.WIDTH for x, _, _ in bars)


def test_every_query_is_in_the_distribution() -> None:
    latencies = np.random.default_rng(2).lognormal(14, 1, 3000).astype(np.int64)
    drawn = charts.distribution(latencies, [])
    counted = re.findall(r": ([\d,]+) queries</title>", drawn)
    assert sum(int(text.replace(",", "")) for text in counted) == 3000


@pytest.mark.parametrize("value", [1e6, 3e6, 5e6, 7e6, 9e6])
def test_a_long_label_stays_in_the_drawing(value: float) -> None:
    latencies = np.linspace(1e6, 9e6, 500).astype(np.int64)
    mark = charts.Mark("early-stopping estimate of p90", value, "counts")
    drawn = charts.distribution(latencies, [mark])
    found = re.search(r'<text x="([\d.]+)" y="11.0" text-anchor="(\w+)">(early[^<]+)<', drawn)
    assert found
    x, long = float(found[1]), len(found[3]) * charts.LETTER
    ends = (x - long, x) if found[2] == "end" else (x, x + long)
    assert ends[0] >= 0 and ends[1] <= charts.WIDTH
