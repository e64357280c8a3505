"""What all runs of a home have measured, as series: what a step with ``history: true`` is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from proctor.records.book import Identity
from proctor.records.measured import Found, measured
from proctor.records.store import RecordError, RecordStore, RunRecord
from proctor_steps.history import History, Measured, Series

# Of a series: the first since its baseline, which make the limits, and the newest; what lies
# between says little.
LONGEST, _FIRST = 200, 100


def history(
    store: RecordStore, asking: RunRecord, baselines: Mapping[Identity, Measured]
) -> History:
    """What whole runs measured of the identities that the asking run has measured, in their order.

    A measurement that a run took over counts once, where it was made. What a subject's part of a
    run measured is not in it. Of other runs, a record that cannot be read is left out and named.

    Args:
        asking: the run that is told; its own results are ``now`` and no part of the history.
        baselines: the accepted result of each identity that has one.

    Raises:
        RecordError: the asking run's own record cannot be read.
    """
    now = measured(store, asking, anew=True)
    before: list[Found] = []
    left_out = []
    for record in store.runs():
        if record.name == asking.name:
            continue
        try:
            before += [each for each in measured(store, record) if not each.taken_over]
        except (RecordError, OSError) as error:
            left_out.append(f"{record.name}: {error}")
    own = {each.measured.of for each in now}
    before = [each for each in before if each.measured.of not in own]
    series = [
        Series(
            **asdict(identity),
            baseline=baselines.get(identity),
            history=_told(_oldest_first(before, identity), baselines.get(identity)),
            now=_oldest_first(now, identity),
        )
        for identity in sorted({each.identity for each in now})
    ]
    return History(series=tuple(series), left_out=tuple(sorted(left_out)))


def _told(mine: tuple[Measured, ...], baseline: Measured | None) -> tuple[Measured, ...]:
    """Would the first since the baseline fall out with time, the limits would follow the figure."""
    if baseline is None or len(mine) <= LONGEST:
        return mine[-LONGEST:]
    since = [each for each in mine if (each.at, each.of) >= (baseline.at, baseline.of)]
    first, rest = since[:_FIRST], since[_FIRST:]
    older = [each for each in mine if (each.at, each.of) < (baseline.at, baseline.of)]
    newest = (older + rest)[-(LONGEST - len(first)) :]
    return tuple(sorted([*first, *newest], key=lambda each: (each.at, each.of)))


def _oldest_first(found: list[Found] | tuple[Found, ...], of: Identity) -> tuple[Measured, ...]:
    mine = [each.measured for each in found if each.identity == of]
    return tuple(sorted(mine, key=lambda each: (each.at, each.of)))
