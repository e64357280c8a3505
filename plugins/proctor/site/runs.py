"""One run from the terminal: register, trigger, watch, answer gates where told to, sum up."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg2  # type: ignore[import-untyped]
from pydantic import JsonValue

from proctor.airflow.answers import KEEP, unattended
from proctor.airflow.approval import announce_unattended
from proctor.airflow.cleanup import stop_of
from proctor.airflow.dag import SPEC_ERRORS, task_ids
from proctor.airflow.fan_out import look
from proctor.airflow.recorded import refresh_summary
from proctor.airflow.reuse import Wish, wish_of
from proctor.airflow.subjects import parse_run_id
from proctor.plan.model import Plan
from proctor.records.store import RunRecord
from proctor.records.summary import summarise
from proctor.site import mounts
from proctor.site.client import AirflowUnavailable
from proctor.site.home import PROFILE_FILE, file_path
from proctor.site.instance import Instance
from proctor.site.rework import Rework, forgo
from proctor.site.settings import roles, user_name
from proctor.site.upkeep import Upkeep

WATCH_SECONDS = 1.0
# Airflow is asked when its database tells of a change; without one, only this often.
ASK_SECONDS = 30.0
# A component that dies is started again; this long a silence is more than that.
SILENCE_SECONDS = 120.0
PARSE_SECONDS = 120.0
# Airflow may mistake a task that is resumed at once for the process that has just asked.
SETTLE_SECONDS = 3.0
_ENDED = ("success", "failed")
NAMES = 8  # of subjects, in one line


def new_run_id() -> str:
    """A run id: the time, for people, and a little chance, for uniqueness."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class Asked:
    """What a command asks for. ``bound``: what the site binds to logical mounts, by name."""

    plan: Plan
    params: Mapping[str, JsonValue]
    bound: Mapping[str, str] = field(default_factory=dict)
    wish: Wish = field(default_factory=Wish)

    def began(self, record: RunRecord) -> bool:
        """Whether a run was begun by the same command."""
        if record.pipeline != self.plan.pipeline or not record.exists():
            return False
        if mounts.kept(record) != self.bound or wish_of(record) != self.wish:
            return False
        same_plan = record.header().plan_digest == self.plan.digest
        return same_plan and record.params() == dict(self.params)


def unfinished_run(instance: Instance, asked: Asked) -> tuple[RunRecord | None, list[str]]:
    """A run that an earlier, ended launcher left, if the same was asked for.

    Any other unfinished run is given up: one that went on unasked would disturb what is measured.
    The second value names those.
    """
    taken, given_up = None, []
    for dag_id, run_id in instance.client.unfinished():
        if parse_run_id(run_id)[1]:
            continue  # a subject's, which goes on or ends with the run it belongs to
        record = instance.home.records.run(dag_id, run_id)
        if taken is None and asked.began(record):
            taken = record
            continue
        forgo(record)
        instance.client.give_up(dag_id, run_id)
        given_up.append(f"{dag_id}/{run_id}")
    return taken or _sent_back(instance, asked), given_up


def _sent_back(instance: Instance, asked: Asked) -> RunRecord | None:
    """A run that somebody's rejection sends back, and that failed as no launcher was there."""
    rework = Rework(instance)
    for record in reversed(instance.home.records.runs()):
        if asked.began(record) and rework.wanted(record):
            return record
    return None


@dataclass
class View:
    """How a run stands, for whoever shows it."""

    state: str
    tasks: dict[str, dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    stuck: bool = False

    @property
    def asks(self) -> bool:
        """Whether a gate waits for an answer."""
        return any(ti["state"] == "awaiting_input" for ti in self.tasks.values())


@dataclass
class WatchedRun:
    """A run that this launcher started or took up. ``bound``: mounts that were named for it."""

    instance: Instance
    plan: Plan
    record: RunRecord
    yes: bool = False
    bound: Mapping[str, str] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def start(self, params: Mapping[str, JsonValue], spec: Path, build: Mapping[str, Any]) -> None:
        """Register the pipeline, allow the files that were named here, and trigger the run."""
        home = self.instance.home
        home.register(self.plan.pipeline, spec, build)
        home.allow_for_run(self.record, [file_path(u) for u in self.plan.files(params).values()])
        mounts.keep(self.record, self.bound)
        self._wait_for_dag()
        trigger, run = self.instance.client.trigger, self.record.run
        self.instance.patiently(lambda: trigger(self.plan.pipeline, run, params))

    def watch(self, show: Callable[[View], None]) -> str:
        """Until the run has ended; Airflow's word for how.

        Raises:
            ComponentFailed: a service dies again and again.
        """
        silent_since: float | None = None
        upkeep = Upkeep(self.instance, self.record)
        view, asked, changed = View("unknown", {}), float("-inf"), True
        while True:
            notes = [f"{name} died; started again" for name in self.instance.supervise()]
            changed |= self.instance.changes.wait(0)
            view = replace(view, notes=notes)
            try:
                due = changed or view.asks or time.monotonic() - asked > ASK_SECONDS
                if due:
                    view, asked = self._view(notes), time.monotonic()
                view.notes += upkeep.look(due)
                if view.state in _ENDED:
                    # A rejection may just have sent it back.
                    view = self._view(view.notes)
                if view.asks:
                    view.notes += self._answer_gates() if self.yes else self._tell_who_waits()
                silent_since, changed = None, False
            except (AirflowUnavailable, httpx.HTTPError, psycopg2.Error) as error:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > SILENCE_SECONDS:
                    problem = f"Airflow does not answer any more: {error}"
                    raise AirflowUnavailable(problem) from error
                if view.notes:
                    show(view)
                time.sleep(WATCH_SECONDS)
                continue
            if view.stuck:
                self.instance.client.give_up(self.plan.pipeline, self.record.run)
            if view.state in _ENDED:
                view.notes += self._end_what_is_left() + upkeep.finish()
            show(view)
            if view.state in _ENDED:
                return view.state
            time.sleep(WATCH_SECONDS)

    def summary(self) -> dict[str, Any]:
        """The run's summary, written anew."""
        if not self.record.exists():
            return {
                "pipeline": self.plan.pipeline,
                "run": self.record.run,
                "state": "failed",
                "steps": [],
                "results": [],
                "accuracy": [],
                "compliance": [],
            }
        refresh_summary(self.instance.home, self.record)
        return summarise(self.instance.home.records, self.record)

    def _view(self, notes: list[str]) -> View:
        client, pipeline, run = self.instance.client, self.plan.pipeline, self.record.run
        state = client.run_state(pipeline, run) or "unknown"
        view = View(state, client.task_states(pipeline, run), notes)
        for step in self.plan.steps:
            if step.kind == "subjects" and view.tasks.get(step.id, {}).get("state") == "deferred":
                self._look_at_subjects(view, step.id)
        return view

    def _end_what_is_left(self) -> list[str]:
        """A run that was given up has an end in its record, before anybody is told how it ended."""
        if not self.record.exists():
            return []
        home, runtime = self.instance.home, self.instance.runtime
        parts = [self.record, *self.record.subjects()]
        return [line for part in parts for line in stop_of(home, part, runtime)]

    def _look_at_subjects(self, view: View, partition: str) -> None:
        """Here nobody clears a step: where nothing goes on and too many failed, the run is over."""
        found = look(self.instance.home, self.record, self.plan, partition)
        if found.under_way or found.may_go_on(self.plan.fan_in):
            return
        view.stuck = True
        names = ", ".join(found.failed[:NAMES]) + (" ..." if found.failed[NAMES:] else "")
        view.notes.append(
            f"{len(found.failed)} of {len(found.failed + found.succeeded)} subjects failed "
            f"({names}), and nothing else can go on. Mend their data and give the same command: "
            "what succeeded is taken over"
        )

    def _answer_gates(self) -> list[str]:
        client, said = self.instance.client, []
        for question in client.open_questions(self.plan.pipeline, self.record.run):
            gate = question["task_instance"]["task_id"]
            asked = datetime.fromisoformat(question["created_at"])
            if (datetime.now(UTC) - asked).total_seconds() < SETTLE_SECONDS:
                continue
            if self._others_answer(gate):
                said += self._tell(question, "--yes cannot answer for others; ")
                continue
            announce_unattended(self.record, gate)
            form = {"evidence_reviewed": False, "comment": "answered by --yes"}
            planned = self.plan.step(gate).gate
            chosen = unattended(planned) if planned else ""
            client.answer(self.plan.pipeline, self.record.run, gate, chosen, form)
            what = "the old baseline kept" if chosen == KEEP else "approved"
            said.append(f"{gate}: {what} by --yes, without a review of the evidence")
        return said

    def _tell_who_waits(self) -> list[str]:
        """Where to answer, once for every question; the first login link has long expired."""
        questions = self.instance.client.open_questions(self.plan.pipeline, self.record.run)
        return [line for question in questions for line in self._tell(question)]

    def _tell(self, question: Mapping[str, Any], why: str = "") -> list[str]:
        gate = question["task_instance"]["task_id"]
        if (name := f"{gate} {question['created_at']}") in self._told:
            return []
        self._told.add(name)
        for line in [each for each in self.record.lines() if each.step == gate][-2:-1]:
            if line.kind == "uncounted":
                why += f"the last answer did not count: {line.data.get('message')}; "
        if others := self._others_answer(gate):
            home = self.instance.home
            known = roles(home)
            can = [name for name in others if known.get(name, "viewer") != "viewer"]
            who = f"{gate} waits for an answer of {', '.join(others)}"
            how = (
                f"proctor login --home {home.path} --user {can[0]}"
                if can
                else (f"none of them may answer; see to `users` in {home.path / PROFILE_FILE}")
            )
            return [f"{why}{who}: {how}"]
        return [f"{why}{gate} waits for an answer: {self.instance.login_link()}"]

    def _others_answer(self, gate: str) -> tuple[str, ...]:
        """Who may answer at a gate where the owner may not."""
        asked = self.plan.step(gate).gate
        approvers = asked.approvers if asked else ()
        return () if user_name() in approvers else approvers

    def _wait_for_dag(self) -> None:
        """The DAG processor looks for changes every few seconds."""
        give_up = time.monotonic() + PARSE_SECONDS
        client, patiently = self.instance.client, self.instance.patiently
        for name, wanted in task_ids(self.plan).items():
            while not patiently(partial(client.has_dag, name, wanted)):
                if patiently(lambda: client.has_dag(self.plan.pipeline, {SPEC_ERRORS})):
                    raise AirflowUnavailable(client.dag(self.plan.pipeline)["doc_md"])
                if time.monotonic() > give_up:
                    log = self.instance.components.log("dag-processor")
                    raise AirflowUnavailable(
                        f"Airflow did not load the DAG {name!r} within {PARSE_SECONDS:g} s; see "
                        f"{log}"
                    )
                time.sleep(0.3)


def write_json(path: Path, summary: Mapping[str, Any]) -> None:
    """Write a summary for other programs."""
    path.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
