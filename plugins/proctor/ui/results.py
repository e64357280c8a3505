"""The page Results: what every run measured and scored, two runs side by side, and downloads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.responses import HTMLResponse, Response

from proctor.airflow import instance
from proctor.records.comparison import compare
from proctor.records.results import RunResults, results_of
from proctor.records.rows import Row
from proctor.records.store import RunRecord
from proctor.ui.downloads import as_download, as_table
from proctor.ui.links import Link, links_of
from proctor.ui.pages import respond
from proctor.ui.rights import may_see

PAGE_RUNS = 25
RESULTS_FORMAT = "proctor.results/1"
MET, MISSED = "met", "missed"
_PERCENTILES = ("mean", "p50", "p90", "p95", "p97", "p99", "p999", "max")


def add_results(app: FastAPI) -> None:
    """Add the page, the comparison and the downloads."""
    app.get("/results")(results)
    app.get("/results.csv")(as_csv)
    app.get("/results.json")(as_json)
    app.get("/compare")(side_by_side)


@dataclass(frozen=True)
class Wanted:
    """What to show; "" for all. ``rules``: whether the round's rules are met or missed."""

    pipeline: str = ""
    benchmark: str = ""
    scenario: str = ""
    state: str = ""
    rules: str = ""

    def rows_of(self, run: RunResults) -> tuple[Row, ...]:
        """Those of a run's rows that are wanted."""
        return tuple(row for row in run.rows if self._row(row))

    def run(self, run: RunResults) -> bool:
        """Whether a run is wanted; a damaged one where nothing is asked of its rows."""
        if self.pipeline not in ("", run.pipeline) or self.state not in ("", run.state):
            return False
        of_rows = self.benchmark or self.scenario or self.rules
        return bool(self.rows_of(run)) or not (run.rows or of_rows)

    def _row(self, row: Row) -> bool:
        same = self.benchmark in ("", row.benchmark) and self.scenario in ("", row.scenario)
        return same and self.rules in ("", rules(row))

    def query(self, **more: Any) -> str:
        """The same wish in an address, "" or with its question mark."""
        given = {**dataclasses.asdict(self), **more}
        text = urlencode({key: value for key, value in given.items() if value})
        return f"?{text}" if text else ""


def rules(row: Row) -> str:
    """Whether a performance run meets every rule of the round; "" where nothing was measured.

    Met is not yet valid: the accuracy's target, and compliance, are for themselves.
    """
    if row.valid is None and row.official is None:
        return ""
    return MET if row.valid and row.official else MISSED


Wish = Annotated[Wanted, Depends()]


@dataclass(frozen=True)
class Shown:
    """A run of the page, with its rows that are wanted and where to go from it."""

    run: RunResults
    rows: tuple[Row, ...]
    links: tuple[Link, ...]


def results(
    user: GetUserDep, wanted: Wish, page: Annotated[int, Query(ge=1, le=1_000_000)] = 1
) -> HTMLResponse:
    """All runs that measured or scored something, newest first, a page at a time."""
    every = readable(user)
    found = [run for run in every if wanted.run(run)]
    pages = max(1, -(-len(found) // PAGE_RUNS))
    page = min(page, pages)
    home = instance.home()
    here = found[(page - 1) * PAGE_RUNS : page * PAGE_RUNS]
    shown = [Shown(run, wanted.rows_of(run), tuple(links_of(home, run))) for run in here]
    return respond(
        "results",
        title="Results",
        shown=shown,
        found=len(found),
        every=len(every),
        choices=_choices(every),
        wanted=wanted,
        page=page,
        pages=pages,
        rules=rules,
    )


def as_csv(user: GetUserDep, wanted: Wish) -> Response:
    """Every wanted row, one a line."""
    columns = list(_flat_row(RunResults("", "", ""), Row("", "", "")))
    return as_table(_flat(user, wanted), columns, "results.csv")


def as_json(user: GetUserDep, wanted: Wish) -> Response:
    """Every wanted row, as JSON."""
    told = {"format": RESULTS_FORMAT, "results": list(_flat(user, wanted))}
    text = json.dumps(told, indent=1, ensure_ascii=False)
    return as_download(text, "application/json", "results.json")


def side_by_side(
    user: GetUserDep, run: Annotated[list[str] | None, Query(max_length=8)] = None
) -> HTMLResponse:
    """Two runs: their figures, and what made them."""
    names = list(dict.fromkeys(run or []))
    if len(names) != 2:
        text = "Tick exactly two runs on the page Results, then choose Compare."
        return respond("message", 400, title="Two runs are compared", text=text)
    first, second = (_record(user, name) for name in names)
    store = instance.home().records
    found = compare(store, first, second)
    sides = [{"record": record, "header": record.header()} for record in (first, second)]
    swap = urlencode([("run", names[1]), ("run", names[0])])
    return respond("compare", title="Comparison", sides=sides, found=found, swap=swap)


def _record(user: Any, name: str) -> RunRecord:
    pipeline, _, run = name.partition("/")
    try:
        record = instance.home().records.run(pipeline, run)
    except ValueError as error:
        raise HTTPException(404, str(error)) from None
    if not may_see(user, pipeline):
        raise HTTPException(403, f"You may not see {pipeline}; an administrator can say")
    if not record.exists():
        raise HTTPException(404, f"There is no run {name}")
    return record


def readable(user: Any) -> list[RunResults]:
    """All runs of the pipelines that a user may see, newest first."""
    known = results_of(instance.home().path)
    return known.of([name for name in known.pipelines() if may_see(user, name)])


def _choices(runs: list[RunResults]) -> dict[str, list[str]]:
    every = [row for run in runs for row in run.rows]
    found = {
        "pipeline": {run.pipeline for run in runs},
        "benchmark": {row.benchmark for row in every},
        "scenario": {row.scenario for row in every},
        "state": {run.state for run in runs},
        "rules": {MET, MISSED},
    }
    return {name: sorted(values - {""}) for name, values in found.items()}


def _flat(user: Any, wanted: Wanted) -> Iterator[dict[str, Any]]:
    for run in readable(user):
        if wanted.run(run):
            yield from (_flat_row(run, row) for row in wanted.rows_of(run))


def _flat_row(run: RunResults, row: Row) -> dict[str, Any]:
    score = row.score
    return {
        "pipeline": run.pipeline,
        "run": run.run,
        "began": run.began,
        "state": run.state,
        "runtime": run.runtime,
        "plan_digest": run.plan_digest,
        "step": row.step,
        "benchmark": row.benchmark,
        "scenario": row.scenario,
        "metric": row.metric,
        "value": row.value,
        "unit": row.unit,
        "rules": rules(row),
        "loadgen_valid": row.valid,
        "rules_missed": " ".join(each.rule for each in row.missed),
        "measured_in": row.measured_in,
        "disturbed": None if row.disturbed is None else "; ".join(row.disturbed),
        "compliance": " ".join(f"{each.test}:{each.verdict}" for each in row.compliance),
        "accuracy_metric": score.metric if score else None,
        "accuracy": score.value if score else None,
        "accuracy_unit": score.unit if score else None,
        "accuracy_target": score.target if score else None,
        "accuracy_met": score.met if score else None,
        "samples": score.samples if score else None,
        "expected_samples": score.expected if score else None,
        **{f"latency_{name}_ns": row.latency_ns.get(name) for name in _PERCENTILES},
    }
