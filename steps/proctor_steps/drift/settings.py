"""The detector's settings, all of them. How each is used: docs/revalidation.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_PRIMARY = {
    "SingleStream": ("latency_p90",),
    "MultiStream": ("latency_p99",),
    "Server": ("latency_p99", "throughput"),
    "Offline": ("throughput",),
}


@dataclass(frozen=True)
class Settings:
    """What decides. Changes are shares of the reference: 0.02 is 2 %.

    ``alarm``, ``warn``: chances, for all primary figures of a re-validation together, that one of
    them leaves its limits although nothing changed: the limits of an alarm, and the narrower ones
    that ask for another run. ``most_runs``: of a re-validation, before it is decided.
    ``least_change``: a smaller one is never told, however certain.
    ``few``, ``few_change``: with fewer sessions there are no limits; a change is then told from
    this size on, with no confidence. ``reference_sessions``: that many, from the baseline on, make
    the limits; later ones do not move them, so that a figure cannot creep away with its limits.
    ``usual_noise``, ``usual_weight``: the scatter of a session's figure on a machine that nobody
    knows yet, and how many degrees of freedom that guess is worth.
    ``scale_weight``: degrees of freedom that each session gives to the median absolute deviation
    (its efficiency on normal data). ``least_autocorrelation``: of successive sessions, where the
    history shows less or is too short (``autocorrelation_from`` sessions) to show any.
    ``accuracy_alone``: a change of accuracy that is told where there is no interval.
    ``primary``: the figures that decide, by scenario; of any other scenario all do.
    """

    alarm: float = 0.01
    warn: float = 0.10
    most_runs: int = 3
    least_change: float = 0.02
    few: int = 5
    few_change: float = 0.20
    reference_sessions: int = 20
    usual_noise: float = 0.02
    usual_weight: float = 3.0
    scale_weight: float = 0.37
    least_autocorrelation: float = 0.3
    autocorrelation_from: int = 8
    accuracy_alone: float = 0.01
    primary: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: MappingProxyType(_PRIMARY)
    )


SETTINGS = Settings()
