"""A result as a row of the summary that submitters know: the official checker's CSV."""

from __future__ import annotations

import csv
import io
from typing import Any

from proctor_steps.submission.check import files
from proctor_steps.submission.check.report import Report, ResultRow
from proctor_steps.submission.check.result import Result
from proctor_steps.submission.check.scores import as_float

COLUMNS = (
    *("Organization", "Availability", "Division", "SystemType", "SystemName", "Platform", "Model"),
    *("MlperfModel", "Scenario", "Result", "Accuracy", "number_of_nodes"),
    *("host_processor_model_name", "host_processors_per_node", "host_processor_core_count"),
    *("accelerator_model_name", "accelerators_per_node", "total_accelerators", "Location"),
    *("framework", "operating_system", "notes", "compliance", "errors", "version", "inferred"),
    *("has_power", "Units", "weight_data_types", "design_power_watts", "PrivateID"),
)
# Columns that are fields of systems/<system>.json.
_DESCRIBED = {
    "Availability": "status",
    "SystemType": "system_type",
    "SystemName": "system_name",
    **{
        name: name
        for name in COLUMNS
        if name.startswith(("number_", "host_", "accelerator_", "accelerators_"))
    },
    "framework": "framework",
    "operating_system": "operating_system",
    "design_power_watts": "system_power_capacity",
}


def row(result: Result) -> ResultRow:
    """The columns of one result; what is not known stays empty."""
    place, described = result.place, result.system.described.fields or {}
    notes = [described.get(name) for name in ("hw_notes", "sw_notes")]
    columns: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    columns |= {name: _cell(described.get(field)) for name, field in _DESCRIBED.items()}
    value, unit = figure(result)
    columns |= {
        "Organization": place.submitter,
        "Division": place.division,
        "Platform": place.system,
        "Model": place.benchmark,
        "MlperfModel": result.asked.name if result.asked else "",
        "Scenario": place.scenario,
        "Result": "" if value is None else value,
        "Accuracy": "  ".join(f"{m}: {told.text}" for m, told in result.reading.values.items()),
        "total_accelerators": _product(described),
        "Location": place.performance.relative_to(place.root).as_posix(),
        "notes": ". ".join(str(note) for note in notes if note),
        "compliance": place.division,
        "version": result.system.round.round,
        "inferred": int(result.inferred),
        "has_power": files.exists(place.performance.parent / "power"),
        "Units": unit,
        "weight_data_types": _cell((result.measurement.fields or {}).get("weight_data_types")),
    }
    return ResultRow(place.scope, columns, result.mark)


def figure(result: Result) -> tuple[float | None, str]:
    """The result's figure and its unit; inferred as the official checker infers it."""
    asked, log, named = result.asked, result.performance, result.scenario
    if asked is None or named is None or result.ran not in asked.round.scenarios:
        return None, ""
    reported = asked.rules.reported.get(named) or asked.round.scenarios[named].reported
    unit = reported.unit if reported else ""
    ran = next(name for name in asked.round.scenarios if name == result.ran)
    if not result.inferred:
        own = asked.rules.reported.get(ran) or asked.round.scenarios[ran].reported
        value = as_float(log.value(own.key)) if own else None
        return (value * own.factor if own and value is not None else None), unit
    if named == "MultiStream":
        value = as_float(log.value("early_stopping_latency_ms"))
        return (value * 8 / 1e6 if value is not None else None), unit
    if ran == "SingleStream":
        return as_float(log.value("result_qps_without_loadgen_overhead")), unit
    mean = as_float(log.value("result_mean_query_latency_ns"))
    each = as_float(log.value("effective_samples_per_query"))
    return (each * 1e9 / mean if mean and each else None), unit


def _product(described: dict[str, Any]) -> int | str:
    try:
        return int(described["number_of_nodes"]) * int(described["accelerators_per_node"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return ""


def _cell(value: Any) -> Any:
    return "" if value is None else value if isinstance(value, str | int | float) else str(value)


def as_csv(report: Report) -> str:
    """One line for each result, rejected ones included; ``errors`` counts what is against it."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n", quoting=csv.QUOTE_ALL)
    out.write(",".join(COLUMNS) + "\n")
    for result in report.results:
        writer.writerow(result.plain() | {"errors": len(report.against(result.scope))})
    return out.getvalue()
