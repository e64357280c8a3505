"""Re-validations for the drift detector to judge: of a noise model, and of real runs resampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from proctor_steps.drift.judge import judge_history
from proctor_steps.drift.settings import SETTINGS
from proctor_steps.drift.verdict import DriftVerdict
from proctor_steps.history import Figure, History, Measured, Series

# One scenario of each kind: the figure that counts, and which way a slow-down moves it.
FIGURES = {
    "SingleStream": ("latency_p90", "ns", "lower"),
    "Offline": ("throughput", "samples/s", "higher"),
}
Values = Mapping[str, Sequence[float]]
MADE_BY = {
    "inputs": {"model": "sha256:m1", "dataset": "sha256:d1"},
    "packages": {"onnxruntime": "1.20.0"},
    "image": {"digest": "sha256:aa"},
    "host": {"kernel": "6.8.0"},
}


@dataclass(frozen=True)
class Noise:
    """A machine's noise, as shares of a figure.

    ``day``: what all runs of a session share (normal), alike from one session to the next by
    ``alike`` (AR(1)). ``run``: of each run by itself (Student's t with 4 degrees of freedom, so
    that tails are heavy). ``odd``: how many runs are slower by 5 to 30 % and nobody noticed why;
    not the baseline, which a person looked at. Each scenario has its own.
    """

    day: float
    run: float
    alike: float = 0.5
    odd: float = 0.03

    def factors(self, sessions: int, runs: int, random: np.random.Generator) -> np.ndarray:
        """``sessions x runs`` of a time; 1 is what it is without noise."""
        day = np.empty(sessions)
        day[0] = random.standard_normal()
        for place in range(1, sessions):
            fresh = np.sqrt(1 - self.alike**2) * random.standard_normal()
            day[place] = self.alike * day[place - 1] + fresh
        own = random.standard_t(4, (sessions, runs)) / np.sqrt(2)
        late = (random.random((sessions, runs)) < self.odd) * random.uniform(
            0.05, 0.3, (sessions, runs)
        )
        late[0] = 0
        times: npt.NDArray[np.float64] = np.exp(self.day * day[:, None] + self.run * own + late)
        return times


def simulated(
    noise: Noise, earlier: int, slower: float, random: np.random.Generator
) -> tuple[Values, Values]:
    """Figures of a baseline and ``earlier`` sessions, and those of three runs that are slower."""
    history, now = {}, {}
    for scenario in FIGURES:
        times = noise.factors(earlier + 2, SETTINGS.most_runs, random)
        history[scenario] = [_figure(scenario, t) for t in times[:-1, 0]]
        now[scenario] = [_figure(scenario, (1 + slower) * t) for t in times[-1]]
    return history, now


def _figure(scenario: str, time: float) -> float:
    return float(1e6 * time if FIGURES[scenario][2] == "lower" else 500 / time)


def resampled(
    plain: Values, now: Values, earlier: int, block: int, random: np.random.Generator
) -> tuple[Values, Values]:
    """A history out of blocks of successive real runs, and three successive ones to judge.

    Scenarios measured in turn stay beside each other: one choice of blocks for all of them.
    """
    count = min(map(len, plain.values()))
    starts = random.integers(0, count, -(-(earlier + 1) // block))
    places = (starts[:, None] + np.arange(block)).ravel()[: earlier + 1] % count
    length = min(map(len, now.values()))
    first = random.integers(0, length)
    last = (first + np.arange(SETTINGS.most_runs)) % length
    return (
        {scenario: [values[k] for k in places] for scenario, values in plain.items()},
        {scenario: [values[k] for k in last] for scenario, values in now.items()},
    )


def revalidated(
    before: Values, now: Values, made_by: Mapping[str, Mapping[str, str]] = MADE_BY
) -> tuple[DriftVerdict, int]:
    """As the pipeline does it: another run as long as it is undecided. Verdict and runs."""
    verdict: DriftVerdict | None = None
    for runs in range(1, SETTINGS.most_runs + 1):
        verdict = judge_history(history(before, {s: v[:runs] for s, v in now.items()}, made_by))
        if verdict.state != "undecided":
            break
    assert verdict is not None
    return verdict, runs


def history(before: Values, now: Values, made_by: Mapping[str, Mapping[str, str]]) -> History:
    """``history.json`` of these figures; the first is the baseline."""
    found = []
    for scenario, (name, unit, better) in FIGURES.items():
        if scenario not in before:
            continue
        figure = Figure(name=name, value=0, unit=unit, better=better)
        runs = [_measured(f"r{k}", "1", figure, v) for k, v in enumerate(before[scenario])]
        asked = [_measured("now", str(k), figure, v) for k, v in enumerate(now[scenario])]
        made = {kind: dict(said) for kind, said in made_by.items()}
        found.append(
            Series(
                benchmark="digits",
                scenario=scenario,
                system="host",
                baseline=runs[0],
                history=tuple(runs[1:]),
                now=tuple(m.model_copy(update={"made_by": made}) for m in asked),
            )
        )
    return History(series=tuple(found))


def _measured(run: str, step: str, figure: Figure, value: float) -> Measured:
    return Measured(
        of=f"p/{run}/{step}/1",
        at="2026-01-01T00:00:00Z",
        valid=True,
        disturbed=(),
        figures=(figure.model_copy(update={"value": value}),),
        made_by=MADE_BY,
    )


def changed(kind: str, name: str, value: str) -> dict[str, dict[str, str]]:
    """What made it, with one thing another one."""
    return {k: {**said, **({name: value} if k == kind else {})} for k, said in MADE_BY.items()}


QUIET, USUAL, NOISY = Noise(0.005, 0.01), Noise(0.02, 0.01), Noise(0.03, 0.03)
WITHOUT_ODD = replace(USUAL, odd=0.0)
