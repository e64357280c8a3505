"""What ``loadgen tune`` found, with its evidence, and how ``loadgen run`` takes it over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from proctor_steps.loadgen import settings
from proctor_steps.rounds import LoadgenScenario
from proctor_steps.stage import StepError

FILE = "tuning.json"
FORMAT = "proctor.tuning/1"
Verdict = Literal["meets", "misses", "unsure"]
Ended = Literal["found", "highest", "budget", "off"]
# What a run's own description of its system has to agree in with the tuned one's.
_SAME = ("backend", "threads", "workers", "batch")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Probe(_Record):
    """One Server run at one rate.

    ``asked_s``, ``duration_s``: as set and as measured. ``share``, ``low``, ``high``: queries over
    the limit, 0..1, with the interval. ``burst``: late queries that come together. ``chance``: that
    a run of the full length at this rate is VALID. ``valid``: what LoadGen called this one.
    ``whole``: it had the full length. ``cut_short``: it was ended because too many queries were
    outstanding. ``service_ms``: what a query took on the mean, without its wait.
    """

    qps: float
    asked_s: float
    duration_s: float
    queries: int
    late: int
    share: float
    low: float
    high: float
    burst: float
    chance: float
    verdict: Verdict
    percentile_ms: float
    valid: bool
    whole: bool
    cut_short: bool
    service_ms: float


class Trial(_Record):
    """One short run of another scenario: what was expected of the system, and what it did.

    ``target_qps`` (samples per second) or ``target_latency_ms``; ``found`` in the same unit.
    ``enough``: LoadGen had queries for the whole of its time.
    """

    asked_s: float
    duration_s: float
    queries: int
    expected: float
    found: float
    enough: bool


class Tuning(_Record):
    """The outcome. ``target_qps``, ``target_latency_ms``: what user.conf says, ``None`` if nothing.

    ``certain``: a run of the full length at the rate or above it was VALID, with room to spare.
    ``noise``: how much the system's own speed varied from run to run (relative, one sigma);
    ``margin``: by how much the rate stands below the highest that held, for that and for what it
    varied within that run; ``chance``: that a run at the rate is VALID, by what was measured.
    ``limit_in_round``: whether the limit is the round's, ``None`` where there is none.
    ``room``: late queries that LoadGen allows in a Server run of the full length at the rate.
    """

    format: str = FORMAT
    benchmark: str
    round: str
    scenario: LoadgenScenario
    scenario_in_round: bool
    performance_seconds: float
    percentile: float
    limit_ms: float | None = None
    limit_in_round: bool | None = None
    target_qps: float | None = None
    target_latency_ms: float | None = None
    ended: Ended
    certain: bool
    noise: float | None = None
    margin: float | None = None
    chance: float | None = None
    room: int | None = None
    budget_s: float
    took_s: float
    probes: tuple[Probe, ...] = ()
    trials: tuple[Trial, ...] = ()
    sut: dict[str, JsonValue] = Field(default_factory=dict)


def write(folder: Path, key: str, found: Tuning) -> None:
    """user.conf with the found figures alone, and tuning.json."""
    wanted = settings.Wanted(
        target_qps=found.target_qps,
        # Server's target latency is the limit.
        target_latency_ms=found.limit_ms if found.target_qps else found.target_latency_ms,
    )
    if found.scenario == "Offline":
        wanted = settings.Wanted(target_qps=found.target_qps)
    settings.write_user_conf(folder / settings.USER_CONF, key, found.scenario, wanted)
    text = found.model_dump_json(indent=1) + "\n"
    (folder / FILE).write_text(text, encoding="utf-8")


def taken(
    folder: Path, key: str, scenario: LoadgenScenario, given: Mapping[str, JsonValue]
) -> dict[str, float]:
    """Parameters of ``loadgen run`` from the folder's user.conf, as far as they are not given.

    Raises:
        StepError: the tuning is of another scenario, or for another latency limit.
    """
    said = settings.read_expected(folder / settings.USER_CONF, key, scenario)
    server, tuned = scenario == "Server", said.target_latency_ms
    latency = "server_target_latency_ms" if server else "expected_latency_ms"
    limit = given.get("server_target_latency_ms")
    if server and tuned and limit not in (None, tuned):
        raise StepError(
            f"the rate was tuned for a limit of {tuned:g} ms, the parameter "
            f"server_target_latency_ms says {limit}; tune for the limit that the run has"
        )
    found = {"target_qps": said.target_qps, latency: tuned}
    return {k: v for k, v in found.items() if v is not None and given.get(k) is None}


def differences(folder: Path, sut: dict[str, JsonValue]) -> list[str]:
    """In what the tuned system differs from the one that ran, in words; nothing if unknown."""
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        tuned = json.loads(path.read_bytes())["sut"]
        known = [key for key in _SAME if key in tuned and key in sut]
        return [f"{k} {tuned[k]}, not {sut[k]}" for k in known if tuned[k] != sut[k]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StepError(f"{path} is no output of loadgen tune: {error}") from error
