"""Figures as people read them, the same in the terminal and at a gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def figure(metric: Mapping[str, Any]) -> str:
    """A metric as people write it: latencies in milliseconds."""
    value, unit = metric.get("value"), str(metric.get("unit", ""))
    if not isinstance(value, int | float):
        return "–"
    if unit == "ns":
        return f"{value / 1e6:,.2f} ms"
    return f"{value:,.1f} {unit}"
