"""What waits for a person, in one run or in all: answers at gates, and files to finish."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg2  # type: ignore[import-untyped]
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from proctor.airflow import instance, subjects
from proctor.airflow.children import under_way
from proctor.airflow.decisions import waiting
from proctor.plan.model import Gate, Plan, PlanStep, whole_run
from proctor.records.model import Line
from proctor.records.store import RecordError, RunRecord
from proctor.site.home import Home
from proctor.ui.pages import address, airflow_address, respond
from proctor.ui.rights import may_answer, may_see

SHOWN = 50  # of the subjects that one step waits for


@dataclass(frozen=True)
class Part:
    """Of what waits, one subject's part, or the run's own (subject "").

    ``since``: as records spell times. ``outstanding``: what is missing, a line for each file.
    ``airflow``: the address of the task.
    """

    subject: str
    since: str
    airflow: str
    outstanding: tuple[str, ...] = ()


@dataclass(frozen=True)
class Waits:
    """A step that waits, for ``count`` subjects or once. ``who``: who may end it, in words.

    ``parts``: the first of them. ``earlier``: why an answer that was given did not count.
    ``evidence``: the address, "" where there is none.
    """

    pipeline: str
    run: str
    step: str
    title: str
    kind: str
    who: str
    parts: tuple[Part, ...]
    count: int = 1
    instructions: str = ""
    earlier: str = ""
    evidence: str = ""
    may_answer: bool = False

    @property
    def since(self) -> str:
        """Since when the first of its parts waits."""
        return min((part.since for part in self.parts if part.since), default="")


def add_review(app: FastAPI) -> None:
    """Add the page of all runs."""
    app.get("/review")(review)


def review(user: GetUserDep) -> HTMLResponse:
    """What waits in all runs under way, of the pipelines that the user may see; oldest first."""
    home = instance.home()
    items: list[Waits] = []
    damaged: list[tuple[str, str]] = []
    try:
        records = _under_way(home)
    except psycopg2.Error as error:
        return respond("message", 503, title="Airflow's database does not answer", text=str(error))
    seen = {name: may_see(user, name) for name in {record.pipeline for record in records}}
    for record in records:
        if not seen[record.pipeline]:
            continue
        try:
            items += waits_in(home, record, user)
        except (RecordError, OSError) as error:
            damaged.append((record.name, str(error)))
    items.sort(key=lambda each: each.since)
    return respond("review", title=_title(items), items=items, damaged=damaged, run="")


def review_page(home: Home, record: RunRecord, user: Any) -> HTMLResponse:
    """What waits in one run."""
    whole = record.whole
    items = list(waits_in(home, whole, user)) if whole.exists() else []
    return respond("review", title=_title(items), items=items, damaged=[], run=whole.name)


def waits_in(home: Home, record: RunRecord, user: Any) -> Iterator[Waits]:
    """What waits in a run: its gates, then its reviews and what it decides.

    Raises:
        RecordError: the record cannot be read.
    """
    plan = home.records.plan(record.header().plan_digest)
    lines = record.lines()
    for step in plan.steps:
        of_step = [line for line in lines if line.step == step.id]
        if step.gate and of_step and of_step[-1].kind in ("asked", "uncounted"):
            yield _question(record, step, step.gate, of_step, user)
    work: dict[str, list[dict[str, Any]]] = {}
    for told in waiting(record):
        work.setdefault(str(told.get("step")), []).append(told)
    yield from (_work(plan, record, step, work[step.id]) for step in plan.steps if step.id in work)


def _question(record: RunRecord, step: PlanStep, gate: Gate, lines: list[Line], user: Any) -> Waits:
    asked = next(line for line in reversed(lines) if line.kind == "asked")
    before = [line for line in lines if line.kind in ("approval", "uncounted")]
    uncounted = before[-1].data.get("message") if before and before[-1].kind == "uncounted" else ""
    mine = not gate.approvers or str(user.get_name()) in gate.approvers
    who = ", ".join(gate.approvers) or "whoever may answer questions of this pipeline"
    may = mine and may_answer(user, record.pipeline)
    task = (record.pipeline, record.run, "tasks", step.id)
    return Waits(
        pipeline=record.pipeline,
        run=record.run,
        step=step.id,
        title=gate.question,
        kind="approval",
        who=f"May answer: {who}. " + ("You may." if may else "You may only look."),
        parts=(Part("", asked.at, airflow_address(*task, "required_actions")),),
        earlier=f"The last answer did not count: {uncounted}" if uncounted else "",
        evidence=address("evidence", record.pipeline, record.run, step.id),
        may_answer=may,
    )


def _work(plan: Plan, record: RunRecord, step: PlanStep, told: list[dict[str, Any]]) -> Waits:
    return Waits(
        pipeline=record.pipeline,
        run=record.run,
        step=step.id,
        title=str(told[0].get("title") or step.label),
        kind="review" if step.review else "decision",
        who="Whoever can write to the folders that are named, on this machine."
        if step.review
        else "It goes on by itself as soon as one of its conditions holds.",
        parts=tuple(_part(plan, record, step, each) for each in told[:SHOWN]),
        count=len(told),
        instructions=step.review.instructions if step.review else "",
    )


def _part(plan: Plan, record: RunRecord, step: PlanStep, told: dict[str, Any]) -> Part:
    subject, words = str(told.get("subject") or ""), told.get("words")
    part = record.subject(subject) if subject else record
    began = [line.at for line in part.lines() if line.step == step.id and line.kind == "attempt"]
    dag_id, run_id = record.pipeline, record.run
    if subject:
        dag_id = subjects.dag_id(plan, step.partition)
        run_id = subjects.run_id(part, subjects.rounds(part, step.partition)[-1].number)
    return Part(
        subject=subject,
        since=began[-1] if began else "",
        airflow=airflow_address(dag_id, run_id, "tasks", step.id),
        outstanding=tuple(str(line) for line in words) if isinstance(words, list) else (),
    )


def _under_way(home: Home) -> list[RunRecord]:
    """The recorded runs of which something goes on in Airflow."""
    found = {
        (subjects.pipeline_of(dag), whole_run(subjects.parse_run_id(run)[0]))
        for dag, run in under_way()
    }
    records = []
    for pipeline, run in sorted(found):
        try:
            record = home.records.run(pipeline, run)
        except ValueError:
            continue  # a DAG or run of somebody else's
        records += [record] if record.exists() else []
    return records


def _title(items: list[Waits]) -> str:
    count = sum(each.count for each in items)
    return f"{count:,} waiting for a person" if count else "Nothing waits for a person"
