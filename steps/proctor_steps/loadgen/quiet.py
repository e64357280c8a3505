"""Whether the machine was quiet while a run was measured, and why not.

Three things are looked at: what the host shows of itself before and after (memory, frequency,
temperature), what others took of the processors meanwhile, and how long fixed work took before and
after. What a machine does not tell is ``unknown`` and speaks neither for nor against it.

The load average is recorded and not judged: it remembers the step before this one for minutes. What
others do at this moment is judged instead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

from proctor_steps import hoststate
from proctor_steps.hoststate import UNKNOWN
from proctor_steps.loadgen import others, pace
from proctor_steps.loadgen.others import NotTold, Reading, Share
from proctor_steps.loadgen.pace import Pace, Probe
from proctor_steps.loadgen.pulse import Phase


@dataclass(frozen=True)
class Limits:
    """What counts as quiet. Processors are counted in wholes: 0.1 is a tenth of one.

    ``others``, ``others_share``: others may take so much on average during the run, or so large a
    part of the processors that it may use, whichever is more: one busy core is seen among a
    hundred. ``stretch``: as much in the worst stretch of ``every`` seconds, which shows in a tail
    latency and not in an average. ``pace``: fixed work may take so much more or less time after the
    run than before. ``memory``: so large a part has to be free. ``frequency``: it may fall by so
    much. ``before``: the run waits ``wait`` seconds at most, until others take no more than that.
    """

    others: float = 0.10
    others_share: float = 0.005
    stretch: float = 0.50
    every: float = 10.0
    pace: float = 0.10
    memory: float = 0.05
    frequency: float = 0.10
    celsius: float = 90.0
    before: float = 0.25
    wait: float = 10.0

    def of(self, processors: int) -> float:
        """What others may take on average."""
        return max(self.others, self.others_share * processors)


QUIET = Limits()
# Seconds over which it is seen whether others are at work now.
_GLANCE = 0.5
# A probe lasts so long a part of the run on one core, and as long on all threads; before and after.
_PART, _MOST_S = 0.01, 1.0


class Stretch(BaseModel):
    """What others took in a part of the run; ``after_s``: since its start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after_s: float
    seconds: float
    processors: float


class Machine(BaseModel):
    """What was seen around one run.

    ``before``, ``after``: what the host showed, read at the end of each probe, so that the
    frequency is one under load. ``processors``: how many the run may use. ``others``: what others
    took of them during the run, ``stolen`` being the hypervisor's part; ``others_before``: just
    before it, after a wait of ``waited_s``. ``why_unknown``: why these are not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: dict[str, JsonValue]
    after: dict[str, JsonValue]
    processors: int
    waited_s: float
    others_before: float | None = None
    others: float | None = None
    stolen: float | None = None
    worst: Stretch | None = None
    why_unknown: str = ""
    limits: dict[str, float] = {}


class Probes(BaseModel):
    """Fixed work before and after the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: Probe
    after: Probe


@dataclass
class Lookout:
    """Looks at the machine around one run: ``before``, then ``during`` as often as one likes, then
    ``after``.

    ``seconds``: the run's length. ``threads``: of the system under test. ``foreign``: why what
    others take cannot be told from the system under test; empty where it can.
    """

    seconds: float
    threads: int
    foreign: str = ""
    limits: Limits = QUIET
    _readings: list[Reading] = field(default_factory=list)
    _before: tuple[dict[str, JsonValue], Probe] | None = None
    _waited: float = 0.0
    _glance: Share | None = None
    _unknown: str = ""

    def before(self) -> None:
        """Wait until others are quiet, for ``limits.wait`` seconds at most; then look."""
        self._settle()
        probe = pace.probe(self.threads, self._length())
        self._before = hoststate.state(), probe

    def during(self, child: int, phase: Phase) -> None:
        """Read the counts when the run begins, each ``limits.every`` seconds, and when it has
        ended.

        Args:
            child: the LoadGen process; 0 when it was waited for.
        """
        ended = not child and bool(self._readings)
        now = time.monotonic()
        due = not self._readings or now - self._readings[-1].at >= self.limits.every
        if self._unknown or not (ended or (phase is Phase.RUNNING and due)):
            return
        if ended and len(self._readings) > 1 and now - self._readings[-1].at < self._short:
            self._readings.pop()  # what is left of the run belongs to the stretch before
        try:
            self._readings.append(others.read(child))
        except NotTold as error:
            self._unknown = str(error)

    @property
    def _short(self) -> float:
        """Too short for a stretch of its own: the counts are ticks of 10 ms."""
        return self.limits.every / 2

    def after(self) -> tuple[Machine, Probes]:
        """Look again."""
        if self._before is None:
            raise ValueError("before() comes first")
        state, first = self._before
        last = pace.probe(self.threads, self._length())
        machine = Machine(
            before=state,
            after=hoststate.state(),
            processors=len(others.usable()),
            waited_s=round(self._waited, 2),
            others_before=self._glance.processors if self._glance else None,
            limits=asdict(self.limits),
            **self._meanwhile(),
        )
        return machine, Probes(before=first, after=last)

    def _length(self) -> float:
        return min(_PART * self.seconds, _MOST_S)

    def _settle(self) -> None:
        """Whoever started this step, or ended the one before, may be at work for some seconds."""
        if self.foreign:
            self._unknown = self.foreign
            return
        began = time.monotonic()
        try:
            while True:
                first = others.read()
                time.sleep(_GLANCE)
                self._glance = others.between(first, others.read())
                self._waited = time.monotonic() - began
                calm = self._glance.processors <= self.limits.before
                if calm or self._waited + _GLANCE > self.limits.wait:
                    return
        except NotTold as error:
            self._unknown = str(error)

    def _meanwhile(self) -> dict[str, Any]:
        if not self._unknown and len(self._readings) < 2:
            self._unknown = "the run was over before anybody looked"
        try:
            if self._unknown:
                raise NotTold(self._unknown)
            readings = self._readings
            whole = others.between(readings[0], readings[-1])
            stretches = [
                (a.at - readings[0].at, others.between(a, b)) for a, b in pairwise(readings)
            ]
        except NotTold as error:
            return {"why_unknown": str(error)}
        after, worst = max(stretches, key=lambda each: each[1].processors)
        stretch = Stretch(
            after_s=round(after, 1), seconds=round(worst.seconds, 1), processors=worst.processors
        )
        return {"others": whole.processors, "stolen": whole.stolen, "worst": stretch}


def disturbed(machine: Machine, probes: Probes, limits: Limits = QUIET) -> tuple[str, ...]:
    """Why the machine was not quiet, in words; empty where nothing speaks against it."""
    return (
        *_others(machine, limits),
        *_pace(probes, limits),
        *_host(machine.before, machine.after, limits),
    )


def _others(machine: Machine, limits: Limits) -> Iterator[str]:
    now, most = machine.others, limits.of(machine.processors)
    of = f"of {machine.processors} processors"
    if machine.others_before is not None and machine.others_before > limits.before:
        yield (
            f"others took {machine.others_before:.2f} {of} just before the run, after a wait of "
            f"{machine.waited_s:.0f} s (at most {limits.before:g})"
        )
    if now is not None and now > most:
        stolen = f", {machine.stolen:.2f} of it the hypervisor" if machine.stolen else ""
        yield f"others took {now:.2f} {of} during the run{stolen} (at most {most:g})"
        return  # the worst stretch says no more
    worst = machine.worst
    # A shorter stretch is a short run, whose average has been judged.
    if worst and worst.seconds >= limits.every / 2 and worst.processors > limits.stretch:
        yield (
            f"others took {worst.processors:.2f} {of} for {worst.seconds:.0f} s, "
            f"{worst.after_s:.0f} s into the run (at most {limits.stretch:g})"
        )


def _pace(probes: Probes, limits: Limits) -> Iterator[str]:
    pairs = [("one core", probes.before.one_core, probes.after.one_core)]
    if probes.before.all_threads and probes.after.all_threads:
        threads = probes.before.all_threads.threads
        name = f"all {threads} threads"
        pairs.append((name, probes.before.all_threads, probes.after.all_threads))
    for name, before, after in pairs:
        change = _change(before, after)
        if abs(change) > limits.pace:
            yield (
                f"fixed work on {name} took {1e3 * before.seconds:.1f} ms before the run and "
                f"{1e3 * after.seconds:.1f} ms after it, {change:+.0%} "
                f"(at most {limits.pace:.0%} either way)"
            )


def _change(before: Pace, after: Pace) -> float:
    return after.seconds / before.seconds - 1


def _host(
    before: Mapping[str, JsonValue], after: Mapping[str, JsonValue], limits: Limits
) -> Iterator[str]:
    for when, state in (("before", before), ("after", after)):
        free, whole = (_number(state, f"memory_{name}_bytes") for name in ("available", "total"))
        if free is not None and whole and free < limits.memory * whole:
            yield (
                f"only {free / 2**20:,.0f} of {whole / 2**20:,.0f} MiB of memory were free {when} "
                f"the run (at least {limits.memory:.0%})"
            )
        celsius = _number(state, "temperature_celsius")
        if celsius is not None and celsius > limits.celsius:
            yield (
                f"the hottest sensor showed {celsius:.0f} °C {when} the run "
                f"(at most {limits.celsius:.0f})"
            )
    first, last = _number(before, "frequency_mhz"), _number(after, "frequency_mhz")
    if first and last and last < (1 - limits.frequency) * first:
        yield (
            f"the processors ran at {first:.0f} MHz before the run and at {last:.0f} after it "
            f"(at most {limits.frequency:.0%} less)"
        )


def _number(state: Mapping[str, JsonValue], name: str) -> float | None:
    value = state.get(name, UNKNOWN)
    return float(value) if isinstance(value, int | float) else None
