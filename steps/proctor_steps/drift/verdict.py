"""The verdict of ``drift judge`` as data (``verdict.json``)."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from proctor_steps.contract import Model, brief

FILE = "verdict.json"
PAGE = "drift.html"
State = Literal["steady", "drifted", "undecided", "no_baseline", "disturbed"]
Rule = Literal["drift", "validity", "missing_figure", "accuracy", "scorer_changed"]
Direction = Literal["worse", "better", "unknown"]
Since = Literal["last_steady", "baseline"]


class Difference(Model):
    """One thing that the figure was made with and that is not as it was.

    ``kind`` and ``name`` as ``made_by`` has them; a value is ``None`` where it was not recorded.
    ``since``: it changed after the last steady run, or before it but after the baseline.
    ``varied``: steady runs differed in it, too, so it says little.
    """

    kind: str
    name: str
    baseline: str | None
    last_steady: str | None
    now: str | None
    since: Since
    varied: bool

    @property
    def words(self) -> str:
        """In one line."""
        before = self.last_steady if self.since == "last_steady" else self.baseline
        return f"{self.kind} {self.name}: {_said(before)} → {_said(self.now)}"


class FigureVerdict(Model):
    """One figure of a series beside its reference.

    ``now``: of each run that was judged. ``centre``: the median of ``sessions`` sessions, or the
    baseline itself where they are too few for ``limits`` (of an alarm) and ``warning`` limits (of
    another run). ``size``: of the change, as a share of the centre, with its 95 % interval.
    ``chance``: that a figure of this re-validation leaves its limits as far where nothing changed.
    ``primary``: it counts; the others are only told. ``rule``: of a finding. ``reason``: why
    ``decision`` is ``not judged``, or what there is to know of it.
    """

    figure: str
    unit: str = ""
    better: Literal["higher", "lower", ""] = ""
    primary: bool = False
    decision: Literal["steady", "undecided", "drifted", "not judged"]
    rule: Rule | Literal[""] = "drift"
    reason: str = ""
    baseline: float | None = None
    now: tuple[float, ...] = ()
    sessions: int = 0
    centre: float | None = None
    limits: tuple[float, float] | None = None
    warning: tuple[float, float] | None = None
    autocorrelation: float | None = None
    size: float | None = None
    interval: tuple[float, float] | None = None
    chance: float | None = None

    @property
    def direction(self) -> Direction:
        """Whether the change is for the worse."""
        if not self.size or not self.better:
            return "unknown"
        return "better" if (self.size > 0) == (self.better == "higher") else "worse"


class DriftFinding(Model):
    """Something that is not as it was accepted.

    ``size`` and ``interval`` (95 %) as shares. ``confidence``: 1 less the chance of such a change
    where nothing changed, for all figures together; ``None`` where there are no limits.
    ``decision``: ``undecided`` where another run is to tell. ``runs``: it was found in.
    ``differs``: most telling first.
    """

    rule: Rule
    decision: Literal["undecided", "drifted"]
    series: str
    figure: str
    primary: bool
    direction: Direction
    size: float | None
    interval: tuple[float, float] | None
    confidence: float | None
    runs: int
    differs: tuple[Difference, ...]
    message: str


class SeriesVerdict(Model):
    """One identity. ``disturbed``: why runs were not judged. ``differs``: now from before."""

    name: str
    benchmark: str
    scenario: str
    system: str
    backend: str
    precision: str
    state: State
    reason: str = ""
    runs: int = 0
    disturbed: tuple[str, ...] = ()
    baseline_of: str = ""
    last_steady_of: str = ""
    now_of: tuple[str, ...] = ()
    figures: tuple[FigureVerdict, ...] = ()
    differs: tuple[Difference, ...] = ()


class DriftVerdict(Model):
    """``verdict.json``. ``family``: how many figures were judged together."""

    format: Literal["proctor.drift/1"] = "proctor.drift/1"
    state: State
    reason: str
    runs: int
    family: int
    settings: dict[str, JsonValue]
    findings: tuple[DriftFinding, ...] = ()
    series: tuple[SeriesVerdict, ...] = ()


def _said(value: str | None) -> str:
    return "not recorded" if value is None else brief(value)
