"""Histories as records tell them, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from proctor_steps.history import Figure, History, Measured, Series

MADE: dict[str, dict[str, str]] = {
    "inputs": {"model": "sha256:m1", "dataset": "sha256:d1"},
    "packages": {"onnxruntime": "1.20.0", "numpy": "2.4.6"},
    "image": {"performance": "proctor/sut-onnxruntime@sha256:aa"},
    "parameters": {"threads": "0"},
    "settings": {"effective_min_duration_ms": "20000"},
    "host": {"kernel": "6.8.0", "governor": "performance", "driver": "none"},
}


def made(**changes: str) -> dict[str, dict[str, str]]:
    """What a figure was made with; ``packages_onnxruntime="1.21.0"`` changes one thing."""
    found = {kind: dict(said) for kind, said in MADE.items()}
    for key, value in changes.items():
        kind, _, name = key.partition("_")
        found[kind][name] = value
    return found


def latency(milliseconds: float, percentile: str = "p90") -> Figure:
    """A latency."""
    value = milliseconds * 1e6
    return Figure(name=f"latency_{percentile}", value=value, unit="ns", better="lower")


def throughput(value: float) -> Figure:
    """A throughput."""
    return Figure(name="throughput", value=value, unit="samples/s", better="higher")


def accuracy(value: float, low: float | None = None, high: float | None = None) -> Figure:
    """An accuracy."""
    return Figure(
        name="accuracy", value=value, unit="fraction", better="higher", low=low, high=high
    )


def measured(run: int | str, *figures: Figure, step: str = "performance", **more: Any) -> Measured:
    """A measurement of a run; a later number is a later day."""
    day = run if isinstance(run, int) else 900
    told: dict[str, Any] = {"valid": True, "disturbed": (), "made_by": made(), **more}
    at = f"2026-{1 + day // 28:02d}-{1 + day % 28:02d}T02:00:00Z" if day < 336 else "2027-01-01"
    return Measured(of=f"revalidation/r{run}/{step}/1", at=at, figures=figures, **told)


def scattered(count: int, noise: float = 0.01, seed: int = 0) -> list[float]:
    """Factors of runs in which nothing changed."""
    return list(np.exp(noise * np.random.default_rng(seed).standard_normal(count)))


def stream(
    now: Sequence[float | Measured],
    history: Sequence[float | Measured] = tuple(scattered(12)),
    baseline: Measured | float | None = 1.0,
    **more: Any,
) -> Series:
    """A SingleStream series of latencies in milliseconds. ``more``: of the runs of now."""
    steps = ("performance", "performance-2", "performance-3", "performance-4")
    return Series(
        benchmark="digits",
        scenario="SingleStream",
        system="host",
        baseline=measured(0, latency(baseline)) if isinstance(baseline, float) else baseline,
        history=tuple(
            h if isinstance(h, Measured) else measured(i, latency(h))
            for i, h in enumerate(history, 1)
        ),
        now=tuple(
            n if isinstance(n, Measured) else measured("now", latency(n), step=step, **more)
            for n, step in zip(now, steps, strict=False)
        ),
    )


def offline(now: Sequence[float], history: Sequence[float] = tuple(scattered(12))) -> Series:
    """An Offline series of throughputs around 500."""
    runs = [measured(i, throughput(500 * h), step="p.off") for i, h in enumerate(history, 1)]
    asked = [measured("now", throughput(500 * n), step=f"o-{i}") for i, n in enumerate(now)]
    baseline = measured(0, throughput(500.0), step="p.off")
    return Series(
        benchmark="digits", scenario="Offline", system="host", baseline=baseline,
        history=tuple(runs), now=tuple(asked),
    )  # fmt: skip


def history(*series: Series) -> History:
    """The file."""
    return History(series=series)
