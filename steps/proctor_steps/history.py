"""What was measured before, as a step is told it: the orchestrator writes it, a step compares.

``history.json`` holds a series for each identity of a result (benchmark, scenario, system, backend,
precision). It is made from records alone, so the same records give the same bytes. The step's
contract names the file by a mount of kind ``history``, called ``history``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from proctor_steps.contract import Model

HISTORY_FILE = "history.json"


class Figure(Model):
    """One number of a result.

    ``name``: ``throughput``, ``latency_<percentile>`` (ns), ``accuracy``, or LoadGen's own name of
    the scenario's metric where that is a latency. ``samples``: what it
    was taken over (queries or samples), ``None`` where that is not told. ``low`` and ``high``: its
    own confidence interval (95 %), where the step that made it gave one.
    """

    name: str
    value: float
    unit: str = ""
    better: Literal["higher", "lower", ""] = ""
    samples: int | None = None
    low: float | None = None
    high: float | None = None


class Measured(Model):
    """One measurement, with what made it.

    ``of``: ``pipeline/run/step/attempt``; of one that a run took over, where it was measured.
    ``at``: when it began, UTC, ISO 8601. ``disturbed``: why the machine was
    not quiet, empty where it was; ``None`` where nobody looked. ``made_by``: by kind (``image``,
    ``packages``, ``host``, ``parameters``, ``settings``, ``inputs``) what the figure was made with,
    name to value. ``output_sha256``: of the log folder that accuracy was scored on.
    """

    of: str
    at: str
    valid: bool | None = None
    disturbed: tuple[str, ...] | None = None
    figures: tuple[Figure, ...] = ()
    made_by: dict[str, dict[str, str]] = Field(default_factory=dict)
    output_sha256: str = ""


class Series(Model):
    """Results of one identity, oldest first. ``now``: those of the run that asks."""

    benchmark: str
    scenario: str
    system: str
    backend: str = ""
    precision: str = ""
    baseline: Measured | None = None
    history: tuple[Measured, ...] = ()
    now: tuple[Measured, ...] = ()


class History(Model):
    """``history.json``.

    ``left_out``: records that cannot be read, and why; nothing of them is in it.
    """

    format: Literal["proctor.history/1"] = "proctor.history/1"
    series: tuple[Series, ...] = ()
    left_out: tuple[str, ...] = ()
