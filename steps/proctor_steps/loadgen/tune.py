"""The stage ``loadgen tune``: what LoadGen must expect of the system, found by trial.

Server: the highest rate at which a run of the full length is VALID (:mod:`search`). SingleStream
and MultiStream: the latency, Offline: the rate, by which LoadGen prepares queries enough for the
whole run. Where this is not done, ``loadgen run`` calibrates itself: for seconds, in its own
process, without LoadGen. Here each probe is a LoadGen run in a process of its own.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, JsonValue

from proctor_steps import benchmarks, rounds
from proctor_steps.loadgen import late, log, settings, tuning
from proctor_steps.loadgen import once as single
from proctor_steps.loadgen.child import SERVED
from proctor_steps.loadgen.log import LoadgenRun
from proctor_steps.loadgen.probe import Goal, Seen, shortest
from proctor_steps.loadgen.replay import noise
from proctor_steps.loadgen.search import Budget, OutOfTime, Search
from proctor_steps.loadgen.tuning import Ended, Probe, Trial, Tuning
from proctor_steps.stage import Stage, StepError, StepIO

# Of the step's deadline, what may be spent: the rest is for a probe that takes longer than thought.
_OF_DEADLINE = 0.9
# Trials of a scenario that has no rate to search: enough to see how much they vary.
_TRIALS, _MOST_TRIALS = 3, 6
# Offline never expects more than twice what was seen; a margin that is told as a warning.
_MOST_MARGIN, _MUCH = 1.0, 0.10
# MLPerf's own least duration.
_LONG_S = 600.0
# LoadGen's words.
_CUT_SHORT = "Too many outstanding queries"


class Params(single.Measured):
    """Parameters of the stage; those of the measurement are the same as of ``loadgen run``."""

    budget_seconds: float = Field(
        default=3600,
        ge=0,
        description="longest time for all probes; 0: do not tune, the run calibrates itself then",
    )
    resolution: float = Field(
        default=0.05, gt=0, lt=1, description="Server: how narrow the search gets, relative"
    )
    highest_qps: float = Field(default=10_000, gt=0, description="Server: no higher rate is tried")


class _Probe(single.Params):
    """A run of LoadGen that ends early where more queries are outstanding (0: never), and that
    keeps when each query came and was answered."""

    most_outstanding: int = 0
    keep_served: bool = True


def run(params: Params, io: StepIO) -> None:
    """Tune, write user.conf and tuning.json."""
    out = io.output("tuning")
    tuner = _Tuner(params, io)
    if not params.budget_seconds:
        found = tuner.outcome(ended="off", certain=False)
    elif params.scenario == "Server":
        found = tuner.server()
    else:
        found = tuner.expectation()
    tuning.write(out, benchmarks.get(params.benchmark).config_key, found)
    io.metrics["tuning"] = found.model_dump(mode="json")
    _tell(io, found)


class _Tuner:
    """Runs probes for the stage, and makes its outcome."""

    def __init__(self, params: Params, io: StepIO) -> None:
        self.params, self.io = params, io
        self.began = time.monotonic()
        self.round = rounds.load(params.round)
        self.rules = self.round.benchmark(params.benchmark)
        allowed = _OF_DEADLINE * io.contract.deadline_seconds
        self.budget = Budget(min(params.budget_seconds, allowed))
        self.sut: dict[str, JsonValue] = {}

    # -- Server ------------------------------------------------------------------------------

    def server(self) -> Tuning:
        """The highest rate."""
        goal = self.goal()
        search = Search(goal, lambda *how: self.seen(goal, *how), self.budget, self.told)
        found = search.find()
        return self.outcome(
            target_qps=found.qps, ended=found.ended, certain=found.certain, noise=found.noise,
            margin=found.margin, chance=found.chance, room=goal.room(found.qps),
            probes=tuple(search.probes),
        )  # fmt: skip

    def goal(self) -> Goal:
        """What the rate is wanted for."""
        given = self.params.min_query_count
        least = settings.min_queries(self.rules, "Server", "performance", given) or 1
        percentile = self.percentile() / 100
        if late.allowed(least, percentile) < 0:
            raise StepError(
                f"min_query_count {least} is too small to tune a Server run: LoadGen calls none "
                f"VALID that is so short; leave it out ({settings.SERVER_QUERIES} then)"
            )
        return Goal(
            seconds=self.params.performance_seconds,
            percentile=percentile,
            limit_ms=settings.server_limit_ms(self.rules, self.params.server_target_latency_ms),
            min_queries=least,
            resolution=self.params.resolution,
            highest_qps=self.params.highest_qps,
        )

    def percentile(self) -> float:
        """The latency percentile that counts, in %.

        Raises:
            StepError: the round's is not known.
        """
        scenario = self.params.scenario
        own = self.rules.percentile.get(scenario) if self.rules else None
        found = (own or self.round.scenarios[scenario].percentile).value
        if found is None:
            raise StepError(
                f"round {self.round.round} as it is known here does not say which latency "
                f"percentile counts in {scenario}; choose another (round)"
            )
        return found

    def seen(self, goal: Goal, qps: float | None, seconds: float, whole: bool) -> Seen:
        """One Server run, as the search wants it."""
        with tempfile.TemporaryDirectory(prefix="probe-") as folder:
            logs = Path(folder)
            judged = self.loadgen(
                logs, seconds, whole, target_qps=qps,
                most_outstanding=goal.most_outstanding(qps) if qps else 0,
            )  # fmt: skip
            detail, latencies = log.read(logs), np.load(logs / "latencies.npy")
            # Behind several workers, or a service, what each query took says less of the next one.
            alone = judged.sut["workers"] == 1 and self.params.sut == "local"
            served = np.load(logs / SERVED) if alone else None
        if judged.percentile is None:
            raise StepError("LoadGen did not tell the percentile of a Server run")
        return Seen(
            qps=float(str(judged.settings["effective"]["target_qps"])),
            duration_s=judged.duration_s,
            latencies=latencies,
            late=detail.late,
            percentile_ms=judged.percentile.value_ns / 1e6,
            valid=bool(judged.valid),
            cut_short=any(_CUT_SHORT in error for error in judged.errors),
            service_ms=float(str(judged.sut["service_ms"])),
            served=served,
        )

    def told(self, probe: Probe) -> None:
        """A line of the log."""
        words = {"meets": "meets the limit", "misses": "misses it", "unsure": "leaves it open"}
        self.io.say(
            f"{self.budget.spent:5.0f} s: {probe.qps:.4g} queries/s for {probe.asked_s:.3g} s"
            f"{' (full length)' if probe.whole else ''}{', cut short' if probe.cut_short else ''}: "
            f"{probe.late} of {probe.queries} late ({probe.share:.2%}, {probe.low:.2%} to "
            f"{probe.high:.2%}), {words[probe.verdict]}"
        )

    # -- the others ----------------------------------------------------------------------------

    def expectation(self) -> Tuning:
        """What LoadGen must expect: the fastest of some short runs, the last of which expected it
        and did not run out of queries."""
        by_rate = self.params.scenario == "Offline"
        trials: list[Trial] = []
        expected, spread, margin = None, 0.0, 0.0
        ended: Ended = "found"
        try:
            while len(trials) < _TRIALS or (not trials[-1].enough and len(trials) < _MOST_TRIALS):
                trials.append(self.trial(expected))
                found = [trial.found for trial in trials]
                spread = noise(found)
                # LoadGen prepares twice the queries that the latency asks for, but only a tenth
                # more samples than the rate does.
                margin = min(_MOST_MARGIN, late.SIGMAS * spread) if by_rate else 0.0
                expected = max(found) * (1 + margin) if by_rate else min(found)
        except OutOfTime:
            ended = "budget"
        if expected is None:
            raise StepError(
                f"the budget of {self.budget.seconds:g} s does not hold a single run; "
                "give it more (budget_seconds)"
            )
        return self.outcome(
            target_qps=expected if by_rate else None,
            target_latency_ms=None if by_rate else expected,
            ended=ended, certain=trials[-1].enough, noise=spread, margin=margin,
            trials=tuple(trials),
        )  # fmt: skip

    def trial(self, expected: float | None) -> Trial:
        """One short run; calibrated where nothing is expected yet."""
        by_rate = self.params.scenario == "Offline"
        seconds = shortest(self.params.performance_seconds)
        self.budget.afford(seconds)
        before = self.budget.spent
        with tempfile.TemporaryDirectory(prefix="probe-") as folder:
            key = "target_qps" if by_rate else "expected_latency_ms"
            judged = self.loadgen(Path(folder), seconds, False, **{key: expected})
            detail = log.read(Path(folder))
        self.budget.learn(self.budget.spent - before, seconds)
        field = "target_qps" if by_rate else "target_latency_ms"
        calibrated = judged.sut["calibrated"]
        if expected is None and isinstance(calibrated, dict):
            expected = float(str(calibrated[key]))
        rate = detail.samples / detail.duration_s if by_rate else None
        trial = Trial(
            asked_s=seconds,
            duration_s=detail.duration_s,
            queries=detail.queries,
            expected=expected or 0.0,
            found=rate or 1e3 * detail.duration_s / detail.queries,
            enough=bool(detail.values["result_min_duration_met"]),
        )
        self.io.say(f"{self.budget.spent:5.0f} s: {field} {trial.found:.4g} in {seconds:.3g} s")
        return trial

    # -- shared ------------------------------------------------------------------------------

    def loadgen(self, logs: Path, seconds: float, whole: bool, **settings_: Any) -> LoadgenRun:
        """One LoadGen run; a shorter one has no least number of queries."""
        given = self.params.model_dump(include=set(single.Measured.model_fields))
        given |= {"mode": "performance", "performance_seconds": seconds, **settings_}
        if not whole:
            given["min_query_count"] = 1
        judged = single.once(_Probe(**given), self.io, logs, self.began)
        self.sut = {k: v for k, v in judged.sut.items() if k not in ("calibrated", "service_ms")}
        return judged

    def outcome(self, **found: Any) -> Tuning:
        """The record of what was found."""
        params, server = self.params, self.params.scenario == "Server"
        official = self.rules.limit_ms("Server") if self.rules and server else None
        own = params.server_target_latency_ms
        limit = settings.server_limit_ms(self.rules, own) if server else None
        return Tuning(
            benchmark=params.benchmark,
            round=params.round,
            scenario=params.scenario,
            scenario_in_round=bool(self.rules and self.rules.has(params.scenario)),
            performance_seconds=params.performance_seconds,
            percentile=self.percentile(),
            limit_ms=limit,
            limit_in_round=None if official is None else limit == official,
            budget_s=self.budget.seconds,
            took_s=round(self.budget.spent, 1),
            sut=self.sut,
            **found,
        )


def no_room(found: Tuning) -> str:
    """That a run as short as the one to come may have no late query at all; else nothing."""
    if not found.target_qps or found.room != 0:
        return ""
    percentile = found.percentile / 100
    one = late.fewest(1, percentile) / found.target_qps
    long = max(_LONG_S, 2 * one)
    some = late.allowed(int(long * found.target_qps), percentile)
    return (
        f"at {found.target_qps:.4g} queries/s LoadGen allows no late query in a run of "
        f"{found.performance_seconds:g} s: one stall of the machine makes it INVALID, at this rate "
        f"and at lower ones; from {one:.0f} s on it allows one, in {long:.0f} s {some}"
    )


def unsteady(found: Tuning) -> str:
    """That no rate promises a VALID run, and what this one does; else nothing."""
    if found.chance is None or found.chance >= late.CONFIDENCE:
        return ""
    return (
        f"the system's speed varies so much, within a run and by {found.noise:.1%} from run to "
        f"run, that at this rate a run is VALID with a probability of {found.chance:.0%}, and at "
        "no lower one with a higher (down to a quarter of the one that held); take a quieter "
        "machine or a longer run"
    )


def _tell(io: StepIO, found: Tuning) -> None:
    where = f"{found.scenario} tuning"
    if found.ended == "off":
        io.say("not tuned: the run calibrates itself")
        return
    figure = (
        f"target_qps {found.target_qps:.4g}"
        if found.target_qps
        else f"target_latency {found.target_latency_ms:.4g} ms"
    )
    probes = len(found.probes) + len(found.trials)
    io.say(f"{found.scenario}: {figure}, after {probes} probes in {found.took_s:.0f} s")
    if found.ended == "budget":
        io.find(
            "tuning_budget",
            "warning",
            f"the search ended because its {found.budget_s:g} s were spent; with more "
            "(budget_seconds, and the step's deadline) it may find a better figure",
            where,
        )
    if not found.certain:
        io.find(
            "tuning_unconfirmed",
            "warning",
            "no run of the full length has shown that the figure holds",
            where,
        )
    if found.margin is not None and found.margin > _MUCH:
        io.find(
            "tuning_noise",
            "warning",
            f"the system's own speed varied within runs, and by {found.noise:.1%} from run to run, "
            f"and the figure allows for {found.margin:.0%}; on a quieter machine it will be a "
            "better one",
            where,
        )
    if words := unsteady(found):
        io.find("tuning_unsteady", "warning", words, where)
    if words := no_room(found):
        io.find("tuning_no_room", "warning", words, where)
    if found.scenario == "Server" and not found.scenario_in_round:
        io.find(
            "scenario_in_round",
            "info",
            f"round {found.round} has no Server scenario for {found.benchmark}: the limit of "
            f"{found.limit_ms:g} ms is the run's own, for the open division",
            where,
        )


STAGE = Stage(
    "loadgen tune",
    "Find by trial what LoadGen must expect of the system, so that the first long run is VALID.",
    Params,
    run,
    inputs={
        "dataset": "output of filter-coco",
        "model": "output of model fetch; none for sut: endpoint",
    },
    outputs={"tuning": "user.conf with the found figures, and tuning.json with every probe"},
    services="sut endpoint: the server that has the model, for example sut=http://127.0.0.1:8000",
)
