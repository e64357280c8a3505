"""What a result was made with, beside what it was made with before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proctor_steps.drift.verdict import Difference
from proctor_steps.history import Measured

# What changes a figure most directly comes first: an image differs whenever a package does.
_TELLING = ("inputs", "packages", "image", "parameters", "settings", "host")
# What tuning and calibration find follows the speed: an effect, before it is a cause.
_FOLLOWS = {("inputs", "tuning")} | {
    ("settings", name)
    for name in ("target_qps", "min_query_count", "min_sample_count", "samples_per_query")
}
_Keys = dict[tuple[str, str], str]


def differences(
    baseline: Measured, steady: Sequence[Measured], now: Measured
) -> tuple[Difference, ...]:
    """What differs, most telling first: what changed after the last steady run, before what that
    one had already; what follows the speed last of each; what never varied, before what did; then
    by kind.

    ``steady``: the steady runs since the baseline, oldest first.
    """
    first, today = _flat(baseline), _flat(now)
    runs = [first, *map(_flat, steady)]
    found = _between(first, runs, today)
    return tuple(sorted(found, key=_place))


def _between(first: _Keys, runs: Sequence[_Keys], today: _Keys) -> Iterator[Difference]:
    last = runs[-1]
    for kind, name in sorted(first.keys() | last.keys() | today.keys()):
        key = (kind, name)
        value = today.get(key)
        if value == first.get(key) and value == last.get(key):
            continue
        yield Difference(
            kind=kind,
            name=name,
            baseline=first.get(key),
            last_steady=last.get(key),
            now=value,
            since="last_steady" if value != last.get(key) else "baseline",
            varied=len({run.get(key) for run in runs}) > 1,
        )


def _flat(measured: Measured) -> _Keys:
    return {
        (kind, name): value
        for kind, said in measured.made_by.items()
        for name, value in said.items()
    }


def _place(found: Difference) -> tuple[bool, bool, bool, int, str, str]:
    rank = _TELLING.index(found.kind) if found.kind in _TELLING else len(_TELLING)
    follows = (found.kind, found.name) in _FOLLOWS
    return found.since == "baseline", follows, found.varied, rank, found.kind, found.name
