"""Family *consistency*: whether files that tell of one run tell the same, and are of that run."""

from __future__ import annotations

import filecmp
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from proctor_steps.loadgen.log import DETAIL, SUMMARY
from proctor_steps.submission.check.finding import Finding, Teller
from proctor_steps.submission.check.report import ResultRow
from proctor_steps.submission.check.result import Log, Result
from proctor_steps.submission.check.scores import as_float

_SAME_RUN = "put there the summary that LoadGen wrote with this detail log"
# Line of the summary -> key of the detail log.
_TOLD_TWICE = {
    "SUT name": "sut_name",
    "Scenario": "effective_scenario",
    "Mode": "effective_test_mode",
    "Result is": "result_validity",
    "Samples per second": "result_samples_per_second",
    "Completed samples per second": "result_completed_samples_per_sec",
    "Min latency (ns)": "result_min_latency_ns",
    "Max latency (ns)": "result_max_latency_ns",
    "Mean latency (ns)": "result_mean_latency_ns",
    "90.00 percentile latency (ns)": "result_90.00_percentile_latency_ns",
    "99.00 percentile latency (ns)": "result_99.00_percentile_latency_ns",
    "target_qps": "effective_target_qps",
    "min_duration (ms)": "effective_min_duration_ms",
    "min_query_count": "effective_min_query_count",
    "qsl_rng_seed": "effective_qsl_rng_seed",
    "sample_index_rng_seed": "effective_sample_index_rng_seed",
    "schedule_rng_seed": "effective_schedule_rng_seed",
    "performance_sample_count": "effective_performance_sample_count",
}
_OF_QUERIES = {
    line: key.replace("_latency_ns", "_per_query_latency_ns")
    if "percentile" in key
    else key.replace("_latency_ns", "_query_latency_ns")
    for line, key in _TOLD_TWICE.items()
    if line.endswith("latency (ns)")
}
_LINE = re.compile(r"\s*([^:]+?)\s*:\s*(.*?)\s*$")
_CLOSE = 1e-3  # relative: the summary is rounded to six figures or to two decimals
# What both runs of a result have in common: the rules want one code for both.
_SHARED = ("sut_name", "qsl_name", "effective_scenario", "loadgen_version")


def findings(result: Result) -> Iterator[Finding]:
    """Everything within one result; copies are :func:`copies`."""
    runs = [(result.performance, "performance"), (result.accuracy, "accuracy")]
    for log, kind in [*runs, *((log, test) for test, log in result.tests.items())]:
        if log.scan is not None and log.scan.values:
            yield from _summary(result, log, kind)
            yield from _twice(result, log)
    yield from _both(result)


def _summary(result: Result, log: Log, kind: str) -> Iterator[Finding]:
    """The summary against the detail log: a stale one was left from another run."""
    path, tell, text = log.folder / SUMMARY, result.tell, log.summary
    if text.absence:
        yield tell.against(
            "summary", path, text.problem, f"add the summary of the {kind} run, as LoadGen wrote it"
        )
        return
    keys = _TOLD_TWICE
    if log.value("effective_scenario") == "MultiStream":
        keys = keys | _OF_QUERIES  # its summary tells the latencies of queries, of eight samples
    apart = []
    for number, line in enumerate(text.lines, 1):
        match = _LINE.match(line)
        key = keys.get(match[1]) if match else None
        value = log.value(key) if key else None
        if match and value is not None and not _same(match[2], value):
            apart.append((number, f"{match[1]} is {match[2]}; {key} is {value}"))
    if apart:
        more = f" ({len(apart)} lines differ)" if len(apart) > 1 else ""
        text_ = f"is not of the run in the detail log: {apart[0][1]}{more}"
        yield tell.against("summary_stale", path, text_, _SAME_RUN, apart[0][0])


def _same(said: str, value: object) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = as_float(said)
        return number is not None and abs(number - value) <= max(_CLOSE * abs(value), 0.006)
    return said == str(value)


def _twice(result: Result, log: Log) -> Iterator[Finding]:
    """A key with two values: two logs in one file, or an edited one."""
    doubled = [
        key
        for key in (log.scan.first if log.scan else {})
        if key.startswith(("effective_", "result_", "requested_"))
    ]
    if doubled:
        yield result.tell.against(
            "detail_log_twice", log.path,
            f"{len(doubled)} keys stand there twice with different values, first {doubled[0]}: "
            "the file holds more than one run",
            "give the log of one run as LoadGen wrote it", log.line(doubled[0]),
        )  # fmt: skip


def _both(result: Result) -> Iterator[Finding]:
    """The accuracy run against the performance run."""
    performance, accuracy = result.performance, result.accuracy
    for key in _SHARED:
        one, other = performance.value(key), accuracy.value(key)
        if one is None or other is None or one == other:
            continue
        make = result.tell.advice if key == "loadgen_version" else result.tell.against
        yield make(
            f"accuracy_of_another_{key.removeprefix('effective_')}", accuracy.path,
            f"{key} is {other!r}; the performance log says {one!r}",
            "make both runs with the same code on the same system, in the same scenario",
            accuracy.line(key),
        )  # fmt: skip


def copies(results: Iterable[Result]) -> Iterator[Finding]:
    """Results of one system whose performance logs are one and the same file.

    An edge result may be inferred from another scenario's log; else one log is one result.
    """
    first: dict[str, Result] = {}
    for result in results:
        if not result.mark:
            continue
        origin = first.setdefault(result.mark, result)
        if origin is not result and _equal(origin, result):
            yield from _copy(origin, result)


def _equal(one: Result, other: Result) -> bool:
    return filecmp.cmp(one.performance.path, other.performance.path, shallow=False)


def _copy(origin: Result, result: Result) -> Iterator[Finding]:
    same_benchmark = bool(
        origin.asked and result.asked and origin.asked.rules == result.asked.rules
    )
    if origin.place.benchmark == result.place.benchmark:
        return  # inferred from it, or the scenario is told to be another one's
    source = origin.place.folder.relative_to(origin.place.root).as_posix()
    text = f"is a copy of {source}: one measurement is submitted as two results"
    if same_benchmark:
        yield result.tell.advice(
            "copy", result.performance.path, text,
            "both targets may be met by one model; say in README.md that it is one measurement",
        )  # fmt: skip
    else:
        yield result.tell.against(
            "copy", result.performance.path, text, "measure each benchmark by itself"
        )


def across_systems(root: Path, rows: Iterable[ResultRow]) -> Iterator[Finding]:
    """Results of different systems whose performance logs are one and the same.

    A result may stand in two divisions; there its system has the same name. A submitter may also
    name a machine twice, which the descriptions tell.
    """
    first: dict[str, ResultRow] = {}
    for row in rows:
        origin = first.setdefault(row.mark, row) if row.mark else row
        if origin.scope[1:3] == row.scope[1:3]:
            continue
        one, other = (root / str(each.columns["Location"]) / DETAIL for each in (origin, row))
        if not filecmp.cmp(one, other, shallow=False):
            continue
        tell, text = Teller(root, row.scope), f"is the log of {origin.columns['Location']} as well"
        if origin.scope[1] == row.scope[1] and _machine(origin) == _machine(row):
            yield tell.advice(
                "system_named_twice", other, f"{text}; both systems are described alike",
                "submit a machine's results once",
            )  # fmt: skip
        else:
            yield tell.against(
                "copy_of_another_system", other, f"{text}, which is another system",
                "measure each system by itself",
            )  # fmt: skip


def _machine(row: ResultRow) -> list[object]:
    """What the description says that a system is made of."""
    named = ("number_", "host_", "accelerator_", "accelerators_", "framework", "operating_system")
    return [value for name, value in row.columns.items() if name.startswith(named)]
