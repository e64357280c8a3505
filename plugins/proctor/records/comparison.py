"""Two runs side by side: how their figures differ, and what made them differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from proctor.plan.differences import first_difference
from proctor.plan.model import Plan
from proctor.records.figures import NONE, amount, machine
from proctor.records.model import Line
from proctor.records.rows import Row, rows
from proctor.records.store import RecordStore, RunRecord
from proctor.records.summary import summarise

Better = Literal["first", "second", ""]
_PERCENTILES = ("mean", "p50", "p90", "p95", "p97", "p99", "p999", "max")


@dataclass(frozen=True)
class Pair:
    """One thing in both runs. ``change``: of the second against the first, in words.

    ``better``: which of them, where the unit tells; a difference may be noise all the same.
    """

    name: str
    first: str
    second: str
    change: str = ""
    better: Better = ""


@dataclass(frozen=True)
class Group:
    """Pairs under a heading."""

    title: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Comparison:
    """``figures``: a group for each scenario. ``made_by``: only what differs, a group for each
    kind. ``same``: the kinds in which nothing does."""

    figures: tuple[Group, ...]
    made_by: tuple[Group, ...]
    same: tuple[str, ...]


@dataclass(frozen=True)
class _Side:
    header: Line
    plan: Plan
    lines: list[Line]
    summary: dict[str, Any]


def compare(store: RecordStore, first: RunRecord, second: RunRecord) -> Comparison:
    """Compare two runs.

    Raises:
        RecordError: one of them cannot be read.
    """
    a, b = _side(store, first), _side(store, second)
    paired = list(_paired(rows(a.summary), rows(b.summary)))
    groups = [
        Group("Run", tuple(_begun(a.header, b.header))),
        Group("Parameters", tuple(_unequal(_mapping(a, "params"), _mapping(b, "params")))),
        Group("Versions", tuple(_unequal(_mapping(a, "versions"), _mapping(b, "versions")))),
        Group("Inputs of the site", tuple(_unequal(_mapping(a, "mounts"), _mapping(b, "mounts")))),
        Group("Steps", tuple(_steps(a, b))),
        *(_measuring(title, x, y, a.summary, b.summary) for title, x, y in paired if x and y),
    ]
    figures = tuple(_figures(title, x, y) for title, x, y in paired)
    made_by = tuple(group for group in groups if group.pairs)
    return Comparison(figures, made_by, tuple(g.title for g in groups if not g.pairs))


def _side(store: RecordStore, record: RunRecord) -> _Side:
    header = record.header()
    plan = store.plan(header.plan_digest)
    return _Side(header, plan, record.lines(), summarise(store, record))


def _mapping(side: _Side, key: str) -> dict[str, Any]:
    found = side.header.data.get(key)
    return found if isinstance(found, dict) else {}


def _paired(
    first: tuple[Row, ...], second: tuple[Row, ...]
) -> Iterator[tuple[str, Row | None, Row | None]]:
    """Rows of the same step or, of other pipelines, of the same benchmark and scenario."""
    left, done = list(second), set()
    for row in first:
        key = (row.benchmark, row.scenario)
        alike = [r for r in left if (r.benchmark, r.scenario) == key]
        same = [r for r in alike if r.step == row.step] or (alike if len(alike) == 1 else [])
        other = same[0] if same else None
        if other:
            left.remove(other)
        done.add(key)
        yield _title(row), row, other
    for row in left:
        yield _title(row), None, row


def _title(row: Row) -> str:
    return " · ".join(word for word in (row.benchmark, row.scenario) if word) or row.step


def _figures(title: str, a: Row | None, b: Row | None) -> Group:
    return Group(title, tuple(_pairs(a or _nothing(b), b or _nothing(a))))


def _nothing(row: Row | None) -> Row:
    return Row(row.step, row.benchmark, row.scenario) if row else Row("", "", "")


def _pairs(a: Row, b: Row) -> Iterator[Pair]:
    if a.value is not None or b.value is not None:
        name = a.metric or b.metric
        if a.metric and b.metric and a.metric != b.metric:
            name = f"{a.metric} / {b.metric}"
        yield _numbers(name.replace("_", " "), a.value, b.value, a.unit, b.unit)
        yield Pair("LoadGen", _verdict(a.valid), _verdict(b.valid))
        yield Pair("Rules missed", _missed(a), _missed(b))
    for percentile in _PERCENTILES:
        x, y = a.latency_ns.get(percentile), b.latency_ns.get(percentile)
        if x is not None or y is not None:
            yield _numbers(f"latency {percentile}", x, y, "ns", "ns")
    if a.score or b.score:
        x, y = (each.score.value if each.score else None for each in (a, b))
        units = [each.score.unit if each.score else "" for each in (a, b)]
        score = a.score or b.score
        yield _numbers(score.metric if score else "accuracy", x, y, *units)
    if a.compliance or b.compliance:
        yield Pair("compliance tests", _tests(a), _tests(b))
    if a.disturbed or b.disturbed:
        yield Pair("Machine", machine(a.disturbed), machine(b.disturbed))
    if a.measured_in or b.measured_in:
        yield Pair("Measured in", a.measured_in or "this run", b.measured_in or "this run")


def _numbers(name: str, a: float | None, b: float | None, unit: str, other: str) -> Pair:
    pair = Pair(name, amount(a, unit), amount(b, other))
    if a is None or b is None or (unit and other and unit != other):
        return pair
    if a == b:
        return Pair(name, pair.first, pair.second, "the same")
    better: Better = ""
    if unit == "ns" or unit.endswith("/s"):
        smaller: Better = "first" if a < b else "second"
        larger: Better = "second" if a < b else "first"
        better = smaller if unit == "ns" else larger
    change = f"{(b - a) / abs(a):+.1%}" if a else "from 0"
    return Pair(name, pair.first, pair.second, change, better)


def _verdict(valid: bool | None) -> str:
    return {True: "VALID", False: "INVALID", None: NONE}[valid]


def _missed(row: Row) -> str:
    if row.valid is None and row.official is None:
        return NONE
    return ", ".join(each.rule.replace("_", " ") for each in row.missed) or "none"


def _tests(row: Row) -> str:
    return ", ".join(map(str, row.compliance)) or NONE


def _begun(a: Line, b: Line) -> Iterator[Pair]:
    told = [
        {
            "plan": each.plan_digest[:12],
            "host": each.host,
            "runtime": each.data.get("runtime"),
            "reuse": each.data.get("reuse"),
            **_spec(each),
        }
        for each in (a, b)
    ]
    yield from _unequal(*told)


def _spec(header: Line) -> dict[str, Any]:
    spec = header.data.get("spec")
    if not isinstance(spec, dict):
        return {}
    commit = str(spec.get("git_commit") or "")[:12]
    return {
        "spec": spec.get("name"),
        "spec sha256": str(spec.get("sha256"))[:12],
        "git commit": f"{commit}, changed since" if spec.get("dirty") else commit,
    }


def _unequal(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Pair]:
    for key in sorted({*a, *b}):
        if a.get(key) != b.get(key):
            yield Pair(key, _shown(a.get(key)), _shown(b.get(key)))


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or NONE
    if isinstance(value, dict):
        return ", ".join(f"{k}: {v}" for k, v in value.items() if v not in ("", None, False))
    return NONE if value in (None, "") else str(value)


def _steps(a: _Side, b: _Side) -> Iterator[Pair]:
    """The first thing that makes a step another; steps that only one of the plans has."""
    was, now = _identities(a.lines), _identities(b.lines)
    for id in dict.fromkeys(step.id for side in (a, b) for step in side.plan.steps):
        here, there = (any(s.id == id for s in side.plan.steps) for side in (a, b))
        if here != there:
            told = ("not in its plan", "there")
            yield Pair(id, told[here], told[there])
        elif id in was and id in now and (words := first_difference(was[id], now[id])):
            yield Pair(id, "", "", words)


def _identities(lines: list[Line]) -> dict[str, dict[str, Any]]:
    """What each step's newest attempt is the same by."""
    found = {}
    for line in lines:
        parts = line.data.get("identity_parts")
        if isinstance(parts, dict):
            found[line.step] = parts
    return found


def _measuring(
    title: str, a: Row, b: Row, first: Mapping[str, Any], second: Mapping[str, Any]
) -> Group:
    """Settings in effect, the system under test as it described itself, and the host before."""
    told = [_circumstances(row, summary) for row, summary in ((a, first), (b, second))]
    return Group(f"Measuring {title}", tuple(_unequal(*told)))


def _circumstances(row: Row, summary: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for run in summary["results"]:
        if run.get("step") == row.step:
            metrics = run["metrics"]
            settings = metrics.get("settings")
            effective = settings.get("effective") if isinstance(settings, dict) else None
            found |= effective if isinstance(effective, dict) else {}
            system = metrics.get("sut")
            found |= system if isinstance(system, dict) else {}
            found["loadgen version"] = metrics.get("loadgen_version")
    for step in summary["steps"]:
        before = (step.get("host") or {}).get("before") if step["id"] == row.step else None
        if isinstance(before, dict):
            found |= {f"host before: {key.replace('_', ' ')}": v for key, v in before.items()}
    return found
