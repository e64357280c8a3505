"""The results of a submission tree as the table that submitters know, on a page and as CSV.

One table for each division and suite; a line for each system, a column for each benchmark, scenario
and unit, as in MLCommons' own table of results. Each result is judged by the validator first: one
that anything stands against is marked as such in every place where its figure stands.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proctor_steps import rounds
from proctor_steps.loadgen import log
from proctor_steps.report.verdict import words
from proctor_steps.stage import DataError
from proctor_steps.submission import power
from proctor_steps.submission.check.finding import Finding, Severity
from proctor_steps.submission.check.report import Report, ResultRow
from proctor_steps.submission.check.run import check

# Title of a column -> the column of the official checker's CSV that it comes from.
IDENTITY = {
    "Submitter": "Organization",
    "Availability": "Availability",
    "System": "SystemName",
    "Nodes": "number_of_nodes",
    "Processor": "host_processor_model_name",
    "p#": "host_processors_per_node",
    "Accelerator": "accelerator_model_name",
    "a#": "accelerators_per_node",
    "Total Accelerators": "total_accelerators",
    "Software": "framework",
    "Notes": "notes",
}
_SUITES = ("datacenter", "edge")
_SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline", "Interactive")
# What is said first of a result that is not valid; any other rule is said in its own words.
_MARKS = {
    "result_validity": "INVALID",
    "min_duration": "short",
    "loadgen_errors": "LoadGen errors",
    "accuracy_target": "accuracy missed",
}

Column = tuple[str, str, str]  # benchmark, scenario, unit


@dataclass(frozen=True)
class Cell:
    """A figure. ``marks``: why it is not valid, in a word or two each."""

    value: float | None
    marks: tuple[str, ...]

    @property
    def text(self) -> str:
        """The figure as MLCommons prints it: three decimals."""
        return "no figure" if self.value is None else f"{self.value:,.3f}"


@dataclass
class Line:
    """One system: its description, and its figures by column."""

    identity: dict[str, Any]
    cells: dict[Column, Cell] = field(default_factory=dict)


@dataclass
class Table:
    """The results of one division and suite."""

    division: str
    suite: str
    lines: list[Line]
    columns: list[Column]

    @property
    def models(self) -> list[tuple[str, int]]:
        """Benchmarks with how many columns each has."""
        return _runs([column[:1] for column in self.columns])

    @property
    def scenarios(self) -> list[tuple[str, int]]:
        """Scenarios with how many columns each has, within its benchmark."""
        return _runs([column[:2] for column in self.columns])


@dataclass(frozen=True)
class Summary:
    """All tables. ``against``: each result that is not valid, with all that stands against it.
    ``elsewhere``: what is against the submission, and against no result."""

    round: str
    tables: tuple[Table, ...]
    against: tuple[tuple[str, tuple[Finding, ...]], ...]
    results: int
    elsewhere: tuple[Finding, ...] = ()

    @property
    def valid(self) -> int:
        """How many results nothing stands against."""
        return self.results - len(self.against)


def write(folder: Path, root: Path, round_: str) -> None:
    """``results.html`` and ``results.csv`` of the tree at ``root``, judged by the validator."""
    made = summarise(root, check(root, round_))
    (folder / "results.html").write_text(as_html(made), encoding="utf-8")
    (folder / "results.csv").write_text(as_csv(made), encoding="utf-8")


def summarise(root: Path, report: Report) -> Summary:
    """Arrange the results of a tree that the validator has judged."""
    lines: dict[tuple[str, str], dict[tuple[Any, ...], Line]] = {}
    against = []
    for result in report.results:
        found = report.against(result.scope)
        place = "/".join(result.scope)
        if found:
            against.append((place, tuple(found)))
        cells = dict(_cells(root, result, _marks(found), _unit(result, report.round)))
        for suite in _suites(result):
            table = lines.setdefault((result.scope[0], suite), {})
            table.setdefault(_key(result), Line(_identity(result))).cells.update(cells)
    order = [*rounds.load(report.round).benchmarks.values()]
    names = [name for rules in order for name in rules.accuracy]
    tables = [
        Table(division, suite, [found[key] for key in sorted(found)], _columns(found, names))
        for (division, suite), found in sorted(lines.items())
    ]
    told = {finding for _, found in against for finding in found}
    rest = [f for f in report.findings if f.severity is not Severity.ADVICE and f not in told]
    return Summary(report.round, tuple(tables), tuple(against), len(report.results), tuple(rest))


def as_csv(summary: Summary) -> str:
    """All tables in one, with division and suite in front.

    A figure that is not valid is no number there: ``not valid (INVALID, short): 12.300``. So no
    spreadsheet counts it in.
    """
    columns = list(dict.fromkeys(c for table in summary.tables for c in table.columns))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["Division", "Suite", *_TITLES, *(" / ".join(c) for c in columns)])
    for table in summary.tables:
        for line in table.lines:
            cells = [_csv_cell(line.cells.get(column)) for column in columns]
            described = [_plain(line.identity[title]) for title in _TITLES]
            writer.writerow([table.division, table.suite, *described, *cells])
    return out.getvalue()


def as_html(summary: Summary) -> str:
    """One page that loads nothing and runs no script."""
    # Loaded when needed: templates take their time.
    from proctor_steps.report.page import filled

    template = Path(__file__).with_name("summary.html.j2")
    return _sound(filled(template, summary=summary, counted=_counted, spoken=words))


def _counted(count: Any, what: Any) -> str:
    """``8 x NVIDIA B200``; of none there is only what was written."""
    return f"{count} x {what}" if str(count) not in ("", "0", "1") else str(what)


_TITLES = [*IDENTITY, "UsedModel", "Accuracy", "Location"]


def _identity(result: ResultRow) -> dict[str, Any]:
    described = {title: result.columns.get(name, "") for title, name in IDENTITY.items()}
    described["System"] = described["System"] or result.scope[2]
    is_open = result.scope[0] == "open"
    described["UsedModel"] = result.scope[3] if is_open else ""
    described["Accuracy"] = result.columns.get("Accuracy", "") if is_open else ""
    described["Location"] = "/".join((*result.scope[:2], "results", result.scope[2]))
    return described


def _key(result: ResultRow) -> tuple[str, ...]:
    """What shares a line: the results of one system; in the open division, as in MLCommons' table,
    those of one model with one accuracy. Folders of one benchmark (``resnet``, ``resnet50``) that
    lie side by side do not share one: no figure hides another."""
    described = _identity(result)
    own = "" if result.scope[3] == result.columns.get("MlperfModel") else result.scope[3]
    return (*result.scope[:3], own, str(described["UsedModel"]), str(described["Accuracy"]))


def _suites(result: ResultRow) -> list[str]:
    kind = str(result.columns.get("SystemType", ""))
    return [suite for suite in _SUITES if suite in kind.split(",")] or ["unknown suite"]


def _scenario(result: ResultRow) -> str:
    """The scenario in its official spelling."""
    folder = result.scope[4]
    return next((name for name in _SCENARIOS if name.lower() == folder.lower()), folder)


def _unit(result: ResultRow, round_: str) -> str:
    """The unit of the result; where it has no figure, the one that it would have."""
    if result.columns.get("Units"):
        return str(result.columns["Units"])
    known, scenario = rounds.load(round_), _scenario(result)
    rules = known.benchmark(result.scope[3])
    own = {str(name): reported for name, reported in rules.reported.items()} if rules else {}
    every = {str(name): each.reported for name, each in known.scenarios.items()}
    reported = own.get(scenario) or every.get(scenario)
    return reported.unit if reported else "unknown unit"


def _cells(
    root: Path, result: ResultRow, marks: tuple[str, ...], unit: str
) -> Iterable[tuple[Column, Cell]]:
    model = str(result.columns.get("MlperfModel") or result.scope[3])
    scenario, value = _scenario(result), result.columns.get("Result")
    figure = float(value) if isinstance(value, int | float) else _measured(root, result)
    if figure is None and not marks:
        marks = ("no figure",)
    yield (model, scenario, unit), Cell(figure, marks)
    if result.columns.get("has_power"):
        try:
            run = root / str(result.columns["Location"])
            watts, kind = power.metric(run, scenario)
        except (DataError, OSError):
            watts, kind = None, "Watts"  # why, the validator says
        told = marks if watts is not None else (*marks, "power cannot be read")
        yield (model, scenario, kind), Cell(watts, told)


def _measured(root: Path, result: ResultRow) -> float | None:
    """The scenario's figure by the log, for a benchmark that the round does not have; in ms, or in
    samples a second. It is not valid, but it was measured."""
    try:
        metric = log.read(root / str(result.columns.get("Location", ""))).metric()
    except (DataError, OSError):
        return None
    if metric is None:
        return None
    return metric.value / 1e6 if metric.unit == "ns" else metric.value


def _marks(against: Sequence[Finding]) -> tuple[str, ...]:
    found = dict.fromkeys(finding.rule for finding in against)
    first = [text for rule, text in _MARKS.items() if rule in found]
    return (*first, *(words(rule) for rule in found if rule not in _MARKS))


def _columns(lines: Mapping[Any, Line], names: Sequence[str]) -> list[Column]:
    """The columns that have a figure: benchmarks in the round's order, scenarios in MLPerf's."""

    def place(column: Column) -> tuple[int, str, int, str, bool, str]:
        model, scenario, unit = column
        first = names.index(model) if model in names else len(names)
        second = _SCENARIOS.index(scenario) if scenario in _SCENARIOS else len(_SCENARIOS)
        return first, model, second, scenario, unit in ("Watts", "millijoules"), unit

    return sorted({column for line in lines.values() for column in line.cells}, key=place)


def _runs(keys: Sequence[tuple[str, ...]]) -> list[tuple[str, int]]:
    found: list[tuple[tuple[str, ...], int]] = []
    for key in keys:
        if found and found[-1][0] == key:
            found[-1] = (key, found[-1][1] + 1)
        else:
            found.append((key, 1))
    return [(key[-1], count) for key, count in found]


def _csv_cell(cell: Cell | None) -> Any:
    if cell is None:
        return ""
    if cell.marks:
        return f"not valid ({', '.join(cell.marks)}): {cell.text}"
    return cell.value


def _sound(text: str) -> str:
    """Names of files that are no UTF-8 reach Python in surrogates, which no output takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _plain(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula is made text; broken UTF-8 is escaped."""
    if not isinstance(value, str):
        return value
    text = _sound(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
