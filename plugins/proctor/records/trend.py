"""Results of one identity over time: a point for each measurement, and what stands beside it.

What a run measured comes from :mod:`proctor.records.measured`, as the drift step is told it, so
that page and verdict speak of the same figures.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from proctor.records.book import Entry, Identity
from proctor.records.judged import Limits
from proctor.records.measured import Found, measured, stamp
from proctor.records.results import RunResults
from proctor.records.store import RecordError, RecordStore
from proctor_steps.history import Figure, Measured

# What makes a system another: told at the point where it changed.
MADE_OF = ("image", "packages", "host", "inputs")
# What it was asked to do: told in the table alone, as it may change from run to run.
ASKED = ("parameters", "settings")


@dataclass(frozen=True)
class Measurement:
    """What one run measured of one identity. ``at``: when, with its time zone."""

    run: RunResults
    found: Found
    at: datetime

    def figure(self, name: str) -> Figure | None:
        """One of its figures."""
        return next((each for each in self.found.measured.figures if each.name == name), None)


@dataclass(frozen=True)
class Difference:
    """What a measurement was made with, and the one before it was not; "" where it was not told."""

    kind: str
    name: str
    was: str
    now: str


@dataclass(frozen=True)
class Held:
    """A baseline: a measurement that was accepted, ``since`` when, ``until`` when ("": still), and
    by whom."""

    measured: Measured
    since: str
    until: str = ""
    by: str = ""

    def figure(self, name: str) -> Figure | None:
        """One of its figures."""
        return next((each for each in self.measured.figures if each.name == name), None)


@dataclass(frozen=True)
class Point:
    """A measurement's figure in a trend. ``changed``: since the point before, whatever it shows.

    ``limits``: as the run's drift step judged the figure, where one did. ``accepted``: it is, or
    was, a baseline.
    """

    measurement: Measurement
    figure: Figure
    changed: tuple[Difference, ...] = ()
    limits: Limits | None = None
    accepted: bool = False

    @property
    def made_of(self) -> tuple[Difference, ...]:
        """What makes the system another one."""
        return tuple(each for each in self.changed if each.kind in MADE_OF)

    @property
    def disturbed(self) -> tuple[str, ...] | None:
        """Why the machine was not quiet; ``None``: nobody looked."""
        return self.measurement.found.measured.disturbed

    @property
    def counts(self) -> bool:
        """Whether it tells of the system: LoadGen does not call it invalid, on a quiet machine as
        far as anybody looked."""
        return not self.disturbed and self.measurement.found.measured.valid is not False


@dataclass(frozen=True)
class Trend:
    """``points``: the newest, oldest first; ``every``: how many there are. ``figures``: the names
    of what can be shown. ``other_units``: measurements whose figure has another unit."""

    identity: Identity
    figure: str
    unit: str
    better: str
    figures: tuple[str, ...]
    points: tuple[Point, ...]
    every: int
    baselines: tuple[Held, ...] = ()
    other_units: int = 0


class Trends:
    """What the runs of a home measured; kept in memory, read anew where a record changed."""

    def __init__(self, home: Path) -> None:
        self._store = RecordStore(home)
        self._known: dict[str, tuple[tuple[int, int], tuple[Found, ...]]] = {}
        self._lock = threading.Lock()

    def of(self, runs: Iterable[RunResults]) -> list[Measurement]:
        """All that these runs measured themselves, oldest first; of a damaged one nothing."""
        with self._lock:
            found = [each for run in runs if not run.problem for each in self._of(run)]
        return sorted(found, key=lambda each: (each.at, each.found.measured.of))

    def _of(self, run: RunResults) -> Iterator[Measurement]:
        record = self._store.run(run.pipeline, run.run)
        try:
            now = stamp(record)
            known = self._known.get(run.name)
            if known is None or known[0] != now:
                known = self._known[run.name] = (now, measured(self._store, record))
        except (RecordError, OSError):
            return  # the page Results says why
        for each in known[1]:
            at = moment(each.measured.at) or moment(run.began)
            if at is not None and not each.taken_over:
                yield Measurement(run, each, at)


@functools.cache
def trends_of(home: Path) -> Trends:
    """The trends of a home; one for the process."""
    return Trends(home)


def by_identity(measurements: Iterable[Measurement]) -> dict[Identity, list[Measurement]]:
    """Measurements by what they can be compared by, in the identities' order."""
    found: dict[Identity, list[Measurement]] = {}
    for each in measurements:
        found.setdefault(each.found.identity, []).append(each)
    return dict(sorted(found.items()))


def trend(
    measurements: Sequence[Measurement],
    figure: str = "",
    last: int = 0,
    baselines: Sequence[Held] = (),
) -> Trend:
    """The trend of measurements of one identity, one at least, oldest first.

    Args:
        figure: its name; "" for the first of the newest measurement that has any.
        last: how many of the newest points; 0 for all.

    Raises:
        LookupError: none of them has such a figure.
    """
    names = tuple(dict.fromkeys(f.name for m in reversed(measurements) for f in _figures(m)))
    figure = figure or next(iter(names), "")
    newest = next((f for m in reversed(measurements) if (f := m.figure(figure))), None)
    if newest is None:
        raise LookupError(f"no run has measured {figure or 'a figure'} of this")
    accepted = {each.measured.of for each in baselines}
    points = [
        point
        for before, each in zip([None, *measurements], measurements, strict=False)
        if (point := _point(each, before, figure, accepted)) is not None
    ]
    alike = [point for point in points if point.figure.unit == newest.unit]
    return Trend(
        identity=measurements[0].found.identity,
        figure=figure,
        unit=newest.unit,
        better=newest.better,
        figures=names,
        points=tuple(alike[-last:]),
        every=len(alike),
        baselines=tuple(
            each for each in baselines if (f := each.figure(figure)) and f.unit == newest.unit
        ),
        other_units=len(points) - len(alike),
    )


def _figures(measurement: Measurement) -> tuple[Figure, ...]:
    return measurement.found.measured.figures


def _point(
    each: Measurement, before: Measurement | None, name: str, accepted: set[str]
) -> Point | None:
    figure = each.figure(name)
    if figure is None:
        return None
    changed = differences(before.found.measured, each.found.measured) if before else ()
    limits = [
        limit
        for limit in each.run.limits
        if limit.figure == name and limit.identity == each.found.identity
    ]
    here = each.found.measured.of in accepted
    return Point(each, figure, tuple(changed), limits[-1] if limits else None, here)


def held(entries: Iterable[Entry], of: Identity) -> list[Held]:
    """The baselines of an identity, oldest first, each for as long as it held."""
    found: list[Held] = []
    for entry in entries:
        accepted = [each.measured for each in entry.accepted if each.identity == of]
        ends = bool(accepted) or (entry.kind == "retired" and of in entry.identities)
        if ends and found and not found[-1].until:
            found[-1] = replace(found[-1], until=entry.at)
        found += [Held(each, entry.at, by=entry.by) for each in accepted]
    return found


def differences(before: Measured, after: Measured) -> Iterator[Difference]:
    """What two measurements were made with that differs, by kind and name."""
    for kind in (*MADE_OF, *ASKED):
        was, now = (each.made_by.get(kind, {}) for each in (before, after))
        for name in sorted({*was, *now}):
            if was.get(name, "") != now.get(name, ""):
                yield Difference(kind, name, was.get(name, ""), now.get(name, ""))


def moment(at: str) -> datetime | None:
    """A time of ISO 8601, in UTC where it names no zone; ``None`` where it is none."""
    try:
        found = datetime.fromisoformat(at)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
