"""``report html``: the run on one self-contained page, and ``summary.json`` beside it.

The page loads nothing and runs no script, so it can be mailed, archived and opened offline. It is
a function of its inputs: the same evidence gives the same bytes, and so the same digest at a gate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup
from pydantic import Field

from proctor_steps import contract, rounds
from proctor_steps.contract import Approval, Finding
from proctor_steps.report import charts, pictures, verdict
from proctor_steps.report.evidence import Evidence, Run, Score, examples, gather
from proctor_steps.report.page import filled
from proctor_steps.report.verdict import Verdict
from proctor_steps.stage import DataError, Stage, StageParams, StepIO

# More latencies than this are thinned for the drawing of the run's course (not for figures).
MOST_POINTS = 2_000_000


class Params(StageParams):
    """What the page says of itself beyond the evidence."""

    title: str = Field(default="", description="heading of the page; empty: the pipeline's name")
    benchmark: str = Field(default="", description="benchmark, for example yolo")
    round: str = Field(default="v6.1", description="MLPerf round whose rules were applied")
    division: Literal["closed", "open", "network"] = Field(
        default="closed", description="division whose rules count"
    )
    inferred: dict[str, str] = Field(
        default_factory=dict, description="scenarios that are inferred, each with the measured one"
    )
    examples: int = Field(default=6, ge=0, le=24, description="how many pictures to show")


def run(params: Params, io: StepIO) -> None:
    """Read the evidence, judge it, write report.html and summary.json."""
    found = gather(io)
    asked = verdict.Asked(params.division, tuple(params.inferred))
    judged = verdict.judge(found, params.benchmark, params.round, asked)
    for problem in found.problems:
        io.find("evidence", "info", problem)
    out = io.output("report")
    page = render(params, io.contract, found, judged)
    (out / "report.html").write_text(page, encoding="utf-8")
    summary = _summary(found, judged, io.contract.approvals)
    (out / "summary.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    io.say(judged.headline)
    io.metrics["report"] = {
        "valid": judged.valid,
        "verdict": judged.headline,
        "bytes": len(page.encode()),
    }


def render(params: Params, made: contract.Contract, found: Evidence, judged: Verdict) -> str:
    """The page."""
    return filled(
        Path(__file__).with_name("page.html.j2"),
        {
            "duration": charts.duration,
            "percent": verdict.percent,
            "figure": figure,
            "spoken": verdict.words,
        },
        title=params.title or made.pipeline,
        params=params,
        contract=made,
        verdict=judged,
        unchecked=verdict.unchecked(found, params.benchmark, params.round),
        rows=[_row(name, found) for name in found.scenarios()],
        classes=_classes(found),
        pictures=_pictures(found, params.examples),
        rules=[
            (n, found.performance[n].rules) for n in found.scenarios() if n in found.performance
        ],
        approvals=made.approvals,
        licences=_licences(found.dataset),
        found=found,
        findings=verdict.together(_findings(found, judged)),
        known_benchmark=rounds.load(params.round).benchmark(params.benchmark) is not None,
        systems=_systems(found),
        shape=_shape,
        shown_score=pictures.SHOWN_SCORE,
    )


def figure(value: float | int | None, unit: str = "") -> str:
    """A figure with its unit; nanoseconds get the unit that fits them."""
    if value is None:
        return "–"
    if unit == "ns":
        return charts.duration(value)
    text = f"{value:,}" if isinstance(value, int) else charts.significant(value)
    return f"{text} {unit}".strip()


def _systems(found: Evidence) -> list[tuple[str, str]]:
    """What ran the model, as the runs tell it; where they differ, each with its scenarios."""
    told: dict[str, list[str]] = {}
    for scenario, run_ in found.performance.items():
        name = " ".join(str(run_.sut[key]) for key in ("backend", "version") if key in run_.sut)
        if name:
            told.setdefault(name, []).append(scenario)
    if len(told) == 1:
        return [("Backend", next(iter(told))), *_endpoints(found)]
    backends = [("Backend", f"{name} ({', '.join(where)})") for name, where in told.items()]
    return [*backends, *_endpoints(found)]


def _endpoints(found: Evidence) -> list[tuple[str, str]]:
    """Servers that had the model, where the queries went over HTTP; each once."""
    told: dict[str, None] = {}
    for run_ in found.performance.values():
        said = run_.sut.get("endpoint")
        if isinstance(said, dict):
            where = "on the same host" if said.get("same_host") is True else "host unknown"
            told[
                f"{said.get('service')} at {said.get('url')}, over HTTP, {where}: "
                f"{said.get('server')}, model {said.get('model')} ({said.get('platform')})"
            ] = None
    return [("Endpoint", text) for text in told]


def _shape(shape: Any) -> str:
    """``N × 3 × 192 × 192``; a dimension that is open is ``?``."""
    if not isinstance(shape, list):
        return "shape unknown"
    return " × ".join("?" if size is None else str(size) for size in shape)


def _row(scenario: str, found: Evidence) -> dict[str, Any]:
    """Everything that the page says of one scenario."""
    run_, score = found.performance.get(scenario), found.scores.get(scenario)
    distribution, course, note = _drawings(run_, found.logs.get(scenario))
    return {
        "scenario": scenario,
        "run": run_,
        "score": score,
        "throughput": _throughput(run_),
        "distribution": distribution,
        "course": course,
        "note": note,
        "counting": _counting(run_) if run_ else None,
        "in_round": run_.scenario_in_round if run_ else None,
        "measured_in": found.measured_in.get(scenario, ""),
    }


def _throughput(run_: Run | None) -> float | None:
    """Samples per second: LoadGen's own figure where it is the metric, else samples / duration."""
    if run_ is None:
        return None
    if run_.metric and "per_second" in run_.metric.name + run_.metric.unit.replace(
        "/s", "per_second"
    ):
        return run_.metric.value
    if run_.samples and run_.duration_s:
        return run_.samples / run_.duration_s
    return None


def _drawings(run_: Run | None, logs: Path | None) -> tuple[Markup | None, Markup | None, str]:
    """The two charts of a scenario, or the sentence that stands in their place."""
    if run_ is None or logs is None:
        return None, None, "No performance run of this scenario was made."
    path = logs / "latencies.npy"
    if not path.is_file():
        return None, None, "The run kept no latencies."
    latencies = _latencies(path)
    if len(latencies) < 2:
        samples = f" of {run_.samples:,} samples" if run_.samples else ""
        return None, None, f"One query{samples}: throughput counts here, latency does not."
    thinned = latencies[:: max(1, len(latencies) // MOST_POINTS)]
    return charts.distribution(latencies, _marks(run_)), charts.over_time(thinned), ""


def _latencies(path: Path) -> Any:
    """Nanoseconds per query.

    Raises:
        DataError: the file is damaged, or holds something else.
    """
    import numpy as np

    try:
        values = np.asarray(np.load(path, allow_pickle=False), np.float64).ravel()
    except (ValueError, TypeError, EOFError, AttributeError) as error:
        raise DataError(
            f"{path}: no list of latencies ({error}); give the logs as the run left them"
        ) from error
    if not np.isfinite(values).all():
        raise DataError(f"{path}: a latency is no number; give the logs as the run left them")
    return values


def _counting(run_: Run) -> charts.Mark | None:
    """The latency that the scenario is judged by: the early-stopping estimate that is LoadGen's
    result, else the measured percentile; none where throughput alone counts."""
    if run_.percentile is None or run_.scenario == "Offline":
        return None
    name, metric = run_.percentile.name, run_.metric
    if metric and metric.value and metric.name.startswith("early_stopping"):
        return charts.Mark(f"early-stopping estimate of {name}", metric.value, "counts")
    value = run_.percentile.value_ns or run_.latency_ns.get(name)
    return charts.Mark(name, value, "counts") if value else None


def _marks(run_: Run) -> list[charts.Mark]:
    counting = _counting(run_)
    marks = [counting] if counting else []
    measured = dict(run_.latency_ns)
    if run_.percentile and run_.percentile.value_ns is not None:
        measured[run_.percentile.name] = run_.percentile.value_ns
    for name in dict.fromkeys([run_.percentile.name if run_.percentile else "", "p50", "p99"]):
        value = measured.get(name)
        if value and not (counting and counting.name == name):
            marks.append(charts.Mark(name, value))
    limit = run_.settings.effective.get("target_latency_ns")
    if run_.scenario == "Server" and isinstance(limit, int | float) and limit > 0:
        marks.append(charts.Mark("latency", float(limit), "limit"))
    return marks


def _classes(found: Evidence) -> list[Any]:
    """Precision per class of the first scenario that has it, best first; absent classes last."""
    scores = [found.scores[n] for n in found.scenarios() if n in found.scores]
    score = next((s for s in scores if s.per_class), None)
    known = [c for c in score.per_class if c.ap is not None and c.ap >= 0] if score else []
    return sorted(known, key=lambda c: -(c.ap or 0))


def _pictures(found: Evidence, limit: int) -> list[pictures.Picture]:
    names = {c.category: c.name for s in found.scores.values() for c in s.per_class}
    folder = found.dataset_folder
    sources = _sources(folder)
    shown = examples(found, limit)
    return [pictures.draw(e, folder, names, sources.get(e.file_name, "")) for e in shown]


def _sources(folder: Path | None) -> dict[str, str]:
    """File name -> licence, which is to be named wherever a picture is shown."""
    path = folder / "annotations" / "instances_val2017.json" if folder else None
    if path is None or not path.is_file():
        return {}
    try:
        coco = json.loads(path.read_bytes())
        names = {entry["id"]: str(entry.get("name", "")) for entry in coco.get("licenses", [])}
        return {i["file_name"]: names.get(i.get("license"), "") for i in coco.get("images", [])}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: no COCO file ({type(error).__name__} {error}); give the output of filter-coco"
        ) from error


def _licences(dataset: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Rows (licence, images, images kept) of dataset.json's ``by_licence``."""
    rows = []
    for key, value in (dataset.get("by_licence") or {}).items():
        if isinstance(value, Mapping):
            name = str(value.get("name") or value.get("url") or key)
            rows.append((name, str(value.get("total", "")), str(value.get("kept", ""))))
        else:
            rows.append((str(key), str(value), ""))
    return rows


def _summary(found: Evidence, judged: Verdict, approvals: tuple[Approval, ...]) -> dict[str, Any]:
    scenarios = found.scenarios()
    return {
        "format": "proctor.report/1",
        "verdict": {
            "valid": judged.valid,
            "text": judged.headline,
            "missed": [asdict(missed) for missed in judged.missed],
        },
        "results": [found.raw_runs[n] for n in scenarios if n in found.raw_runs],
        "accuracy": [
            {**_brief(found.scores[n]), "scenario": n} for n in scenarios if n in found.scores
        ],
        "compliance": [v.model_dump(mode="json") for _, v in sorted(found.compliance.items())],
        "findings": [f.model_dump() for f in _findings(found, judged)],
        "approvals": [a.model_dump() for a in approvals],
        "measured_in": found.measured_in,
        "tuning": [found.tunings[n].model_dump() for n in sorted(found.tunings)],
        # The list of names is in the dataset itself, and stands here by its digest.
        "dataset": {k: v for k, v in found.dataset.items() if k != "images"},
        "usage": found.usage.model_dump(mode="json") if found.usage else None,
        "model": found.model,
    }


def _brief(score: Score) -> dict[str, Any]:
    return score.model_dump(mode="json")


def _findings(found: Evidence, judged: Verdict) -> list[Finding]:
    missing = [Finding(rule="evidence", severity="info", message=p) for p in found.problems]
    return [*judged.findings, *missing]


STAGE = Stage(
    "report html",
    "Make one self-contained page of a run, and the same as data.",
    Params,
    run,
    inputs={
        "dataset": "the filtered dataset",
        "model": "the model",
        "accuracy": "the scores, one cell a scenario",
        "performance": "the logs of the performance runs, one cell a scenario",
        "runs": "the logs of the accuracy runs, one cell a scenario (optional)",
        "compliance": "compliance tests that were verified, one cell each (optional)",
        "tuning": "the outputs of loadgen tune, one cell a scenario (optional)",
    },
    outputs={"report": "report.html and summary.json"},
)
