"""The rounds as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from proctor_steps.rounds.figure import Figure
from proctor_steps.rounds.model import BenchmarkRules, Latency, Round, SystemType

_MARK = "*"  # on a figure that the sources disagree about
_SHORT = {
    "SingleStream": "SS",
    "MultiStream": "MS",
    "Server": "Srv",
    "Interactive": "Int",
    "Offline": "Off",
}


def listing(found: Iterable[Round]) -> Table:
    """All rounds, one a line."""
    table = _table("Round", "Status", "Benchmarks", "LoadGen", "Read from")
    for round_ in found:
        read = "\n".join(f"{name} {about.version}" for name, about in round_.sources.items())
        loadgen = round_.loadgen_versions.value
        versions = f"{loadgen[0]} … {loadgen[-1]}" if loadgen else "unknown"
        table.add_row(round_.round, round_.status, str(len(round_.benchmarks)), versions, read)
    return table


def round_view(round_: Round) -> RenderableType:
    """What holds for all benchmarks, the benchmarks, and what the sources disagree about."""
    about = Text()
    about.append(f"MLPerf Inference {round_.round}", "bold")
    about.append("" if round_.status == "complete" else f"  ({round_.status})", "yellow")
    for name, source in round_.sources.items():
        about.append(f"\n{name}: {source.what}, {source.version}", "dim")
    whole = _figures_table(
        (path, figure)
        for path, figure in figures(round_)
        if path[0] not in ("benchmarks", "scenarios")
    )
    table = _table("Submitted as", "Edge", "Datacenter", "Accuracy", "Samples", "Limits", "Tests")
    for rules in round_.benchmarks.values():
        for name in rules.accuracy:
            table.add_row(name, *_row(rules, name))
    samples = (
        "Samples: those that must be in memory / the dataset's / in the Offline query at least. "
        "Limits: milliseconds, of a query or of the first token/each further one. "
        "SS SingleStream, MS MultiStream, Srv Server, Int Interactive, Off Offline."
    )
    return Group(
        about, whole, _by_scenario(round_), table, Text(samples, "dim"), *_disputes(round_)
    )


def benchmark_view(round_: Round, name: str) -> RenderableType:
    """One benchmark: every figure with where it stands. ``name``: any that the round knows."""
    key = round_.name(name)
    if key is None:
        raise KeyError(name)
    rules = round_.benchmarks[key]
    own = [key] if name not in rules.accuracy else [name]
    about = Text()
    about.append(f"{', '.join(rules.accuracy if own == [key] else own)}", "bold")
    about.append(f"  MLPerf Inference {round_.round}: {rules.title}")
    shown = (
        (path, figure)
        for path, figure in figures(rules)
        if path[0] != "accuracy" or own == [key] or path[1] in own
    )
    extra = [f"{kind}: {', '.join(names)}" for kind, names in rules.extra_files.items()]
    files = [Text(f"In the accuracy folder, {each}") for each in extra]
    return Group(about, _figures_table(shown), *files, *_reported(round_, rules))


def figures(
    rules: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Figure[Any]]]:
    """Every figure in the data, with the keys that lead to it."""
    if isinstance(rules, Figure):
        yield path, rules
    elif isinstance(rules, BaseModel):
        for name in type(rules).model_fields:
            yield from figures(getattr(rules, name), (*path, name))
    elif isinstance(rules, dict):
        for name, each in rules.items():
            yield from figures(each, (*path, str(name)))


def words(value: Any) -> str:
    """A figure's value as one says it."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, tuple):
        return ", ".join("|".join(v) if isinstance(v, tuple) else str(v) for v in value) or "none"
    return str(value)


def _figures_table(found: Iterable[tuple[tuple[str, ...], Figure[Any]]]) -> Table:
    table = _table("", "In force", "Stands in", "What the others say, and why this one counts")
    for path, figure in found:
        value = Text(words(figure.value), "" if figure.value is not None else "yellow")
        if figure.in_force is None and figure.stated:
            value = Text("no rule", "yellow")
        agree = [s for s, v in figure.stated.items() if figure.in_force and v == figure.value]
        others = [f"{s}: {words(v)}" for s, v in figure.stated.items() if s not in agree]
        more = "; ".join(filter(None, [", ".join(others), figure.why]))
        table.add_row(" ".join(path), value, ", ".join(agree), more)
    return table


def _by_scenario(round_: Round) -> Table:
    names = ("Percentile", "Queries at least", "Samples a query", "Early stopping", "Reported")
    table = _table("Scenario", *names)
    for scenario, rules in round_.scenarios.items():
        figures_ = (rules.percentile, rules.min_query_count, rules.samples_per_query)
        reported = rules.reported.key if rules.reported else "?"
        stopping = words(rules.early_stopping.value).replace("unknown", "?")
        table.add_row(scenario, *(_marked(each) for each in figures_), stopping, reported)
    return table


def _row(rules: BenchmarkRules, name: str) -> Iterator[str]:
    for kind in ("edge", "datacenter"):
        yield _scenarios(rules, kind)
    yield "\n".join(_accuracy(rules, name))
    offline = rules.offline_min_samples
    counts = (rules.performance_samples, rules.dataset_samples, offline)
    yield " / ".join(_marked(each) if each else "–" for each in counts)
    yield "\n".join(f"{_SHORT[s]} {_limit(latency)}" for s, latency in rules.latency.items())
    yield " ".join(t.removeprefix("TEST") for t in rules.compliance.value or ()) or (
        "none" if rules.compliance.value is not None else "?"
    )


def _scenarios(rules: BenchmarkRules, kind: SystemType) -> str:
    figure = rules.scenarios.get(kind)
    if figure is None:
        return "–"
    if figure.value is None:
        return "?"
    short = ["|".join(_SHORT[s] for s in one_of) for one_of in figure.value]
    return " ".join(short) + (_MARK if figure.disputed else "")


def _accuracy(rules: BenchmarkRules, name: str) -> Iterator[str]:
    for metric, bound in rules.accuracy[name].items():
        low, high = bound.at_least, bound.at_most
        if low and high and low.value is not None:
            yield f"{metric} {_marked(low)} … {_marked(high)}"
        elif low and low.value is not None:
            yield f"{metric} ≥ {_marked(low)}"
        elif high:
            yield f"{metric} ≤ {_marked(high)}"
        else:
            yield f"{metric} ?"


def _limit(latency: Latency) -> str:
    if latency.ttft_ms and latency.tpot_ms:
        return f"{_marked(latency.ttft_ms)}/{_marked(latency.tpot_ms)}"
    return _marked(latency.latency_ms) if latency.latency_ms else "–"


def _marked(figure: Figure[Any]) -> str:
    if figure.value is None:
        return "?"
    value = f"{figure.value:.7g}" if isinstance(figure.value, float) else words(figure.value)
    return value + (_MARK if figure.disputed else "")


def _disputes(round_: Round) -> Iterator[RenderableType]:
    found = [(p[1:], f) for p, f in figures(round_) if p[0] == "benchmarks" and f.disputed]
    if found:
        yield Text(f"\n{_MARK} Where the sources disagree", "bold")
        yield _figures_table(found)


def _reported(round_: Round, rules: BenchmarkRules) -> Iterator[RenderableType]:
    table = _table("Scenario", "Reported", "From the log's", "Better")
    for scenario, about in round_.scenarios.items():
        reported = rules.reported.get(scenario, about.reported)
        if reported is not None and rules.has(scenario):
            table.add_row(scenario, reported.unit, reported.key, reported.better)
    if table.row_count:
        yield table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, column in enumerate(columns):
        # Names stay whole; what leads to a figure may be long, and has no heading.
        table.add_column(column, overflow="fold", no_wrap=number == 0 and bool(column))
    return table
