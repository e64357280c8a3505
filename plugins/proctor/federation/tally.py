"""The numbers of a report, counted from a run's record: states go in, only counts come out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import proctor
from proctor.federation.report import (
    REPORT_FORMAT,
    RUN_STATES,
    RunState,
    SiteReport,
    StepReport,
    minute,
    reported_steps,
    step_report,
)
from proctor.plan.compile import NEXT
from proctor.plan.model import Plan
from proctor.records.store import RunRecord
from proctor.records.summary import run_state, step_state, stretch_state

# What is known of a record: its file's size, and the state of each step.
_Known = tuple[int, dict[str, str]]


@dataclass
class Tally:
    """Counts runs; remembers the records that have not grown since the last look."""

    _known: dict[Path, _Known] = field(default_factory=dict)

    def report(self, record: RunRecord, plan: Plan, now: datetime, subjects: int = 0) -> SiteReport:
        """How far a run is; its number and sequence are for the outbox to give.

        ``subjects``: how many are known; those that have not begun count as pending.

        Raises:
            RecordError: the record is damaged.
        """
        header, records = record.header(), [record, *record.subjects()]
        whole, *parts = [self._states(each) for each in records]
        parts += [{}] * (subjects - len(parts))
        waits = Counter(step for each in records for step in _waited_for(each, plan))
        began = datetime.fromisoformat(header.at)
        steps = steps_of(plan, whole, parts, waits)
        return _made(header.plan_digest, _run_state(plan, whole, parts), began, now, steps)

    def _states(self, record: RunRecord) -> dict[str, str]:
        size = record.path.stat().st_size
        known = self._known.get(record.path)
        if known is None or known[0] != size:
            by_step = defaultdict(list)
            for line in record.lines():
                by_step[line.step].append(line)
            known = (size, {step: step_state(lines)[0] for step, lines in by_step.items()})
            self._known[record.path] = known
        return known[1]


def first_report(plan: Plan, now: datetime) -> SiteReport:
    """What a run of a plan reports when it begins."""
    return _made(plan.digest, "running", now, now, steps_of(plan, {}, [], {}))


def _made(
    plan: str, state: RunState, began: datetime, now: datetime, steps: tuple[StepReport, ...]
) -> SiteReport:
    return SiteReport(
        format=REPORT_FORMAT,
        version=proctor.__version__,
        sequence=1,
        plan=plan,
        run=1,
        state=state,
        started=minute(began),
        updated=minute(now),
        steps=steps,
    )


def steps_of(
    plan: Plan,
    whole: Mapping[str, str],
    parts: Sequence[Mapping[str, str]],
    waits: Mapping[str, int],
) -> tuple[StepReport, ...]:
    """The steps of a report from states by plan step: of the run, and of each subject's part.

    ``waits``: plan step -> how many wait for a person there.
    """
    found = []
    for id, members in reported_steps(plan).items():
        counts: Counter[str] = Counter()
        for member in members:
            where = parts if plan.step(member).partition else [whole]
            counts.update(states.get(member, "pending") for states in where)
        # What a person does so that a decision can be made is done for the step before it.
        asking = sum(waits.get(each, 0) for id_ in members for each in (id_, f"{NEXT}{id_}"))
        found.append(step_report(id, counts, counts["waiting"] + asking))
    return tuple(found)


def _run_state(
    plan: Plan, whole: Mapping[str, str], parts: Sequence[Mapping[str, str]]
) -> RunState:
    states = []
    for step in plan.steps:
        state = whole.get(step.id, "pending")
        if step.partition:
            counts = Counter(part.get(step.id, "pending") for part in parts)
            state = stretch_state(counts, over=whole.get(step.partition) == "succeeded")
        states.append(state)
    told = run_state(states)
    return next(state for state in RUN_STATES if state == told)


def _waited_for(record: RunRecord, plan: Plan) -> Iterator[str]:
    """Plan steps that wait for a person's files; the notes' names say it, their words stay here."""
    for step in plan.steps:
        if step.kind in ("review", "decision") and record.waits_at(step.id).exists():
            yield step.id
