"""Figures as people read them, the same in the terminal, at a gate and on our pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NONE = "–"


def figure(metric: Mapping[str, Any]) -> str:
    """A metric as people write it: latencies in milliseconds."""
    value, unit = metric.get("value"), str(metric.get("unit", ""))
    return amount(value if isinstance(value, int | float) else None, unit)


def amount(value: float | None, unit: str) -> str:
    """A number with its unit: latencies in milliseconds, fractions with four digits."""
    if value is None:
        return NONE
    if unit == "ns":
        return f"{value / 1e6:,.2f} ms"
    if unit in ("", "fraction"):
        return f"{value:.4f}"
    return f"{value:,.1f} {unit}"


def machine(disturbed: Sequence[str] | None) -> str:
    """Whether the machine was quiet during a run; ``None``: nobody looked."""
    if disturbed is None:
        return "not looked at"
    return f"not quiet: {'; '.join(disturbed)}" if disturbed else "quiet"
