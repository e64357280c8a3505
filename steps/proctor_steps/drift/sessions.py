"""The runs of a series, as they are compared: usable ones alone, put together by session."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proctor_steps.drift import accuracy
from proctor_steps.history import Figure, Measured, Series


@dataclass(frozen=True)
class Runs:
    """A series as it is judged.

    ``now``: this re-validation's undisturbed runs, oldest first; ``disturbed``: why others are not
    judged. ``sessions``: the undisturbed runs since the baseline, a group for each run of a
    pipeline, oldest first.
    """

    series: Series
    now: tuple[Measured, ...]
    disturbed: tuple[str, ...]
    sessions: tuple[tuple[Measured, ...], ...]

    @property
    def timed(self) -> tuple[Measured, ...]:
        """Those of ``now`` that measured performance."""
        return tuple(m for m in self.now if any(f.name != accuracy.NAME for f in m.figures))

    def names(self) -> list[str]:
        """The performance figures of baseline and now, in their order."""
        baseline = (self.series.baseline,) if self.series.baseline else ()
        all_ = (f.name for measured in (*baseline, *self.now) for f in measured.figures)
        return [name for name in dict.fromkeys(all_) if name != accuracy.NAME]


def runs_of(series: Series) -> Runs:
    """Sort out what may be judged, and what may make limits."""
    quiet = tuple(m for m in series.now if not m.disturbed)
    reasons = dict.fromkeys(r for m in series.now for r in m.disturbed or ())
    return Runs(series, quiet, tuple(reasons), tuple(_since_baseline(series)))


def _since_baseline(series: Series) -> Iterable[tuple[Measured, ...]]:
    baseline = series.baseline
    if baseline is None:
        return
    apart = {_session(baseline), *map(_session, series.now)}
    usable = [
        m
        for m in series.history
        if m.at >= baseline.at
        and not m.disturbed
        and not (m.valid is False and baseline.valid)
        and _session(m) not in apart
    ]
    groups: dict[str, list[Measured]] = {}
    for measured in usable:
        groups.setdefault(_session(measured), []).append(measured)
    yield from map(tuple, groups.values())


def values(runs: Sequence[Measured], name: str) -> list[float]:
    """A performance figure of those runs that have it, as far as it can be compared."""
    found = (figure(measured, name) for measured in runs)
    return [f.value for f in found if f is not None]


def figure(measured: Measured, name: str) -> Figure | None:
    """A figure that is a positive number: of no other has its size a meaning as a share."""
    found = (f for f in measured.figures if f.name == name)
    return next((f for f in found if math.isfinite(f.value) and f.value > 0), None)


def _session(measured: Measured) -> str:
    """The run of a pipeline that a measurement is of."""
    return "/".join(measured.of.split("/")[:2])
