"""The first task of every run: freeze the plan and the parameters in the run's record."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped

from proctor.airflow import instance
from proctor.airflow.faults import faults_told
from proctor.airflow.reuse import wish_of
from proctor.airflow.schedule import Starts, started_by
from proctor.plan.model import Plan, whole_run
from proctor.plan.params import ParamErrors, check_params
from proctor.records.approvals import SigningKey
from proctor.records.origin import spec_origin, versions
from proctor.records.store import RunRecord
from proctor.site import mounts
from proctor.site.home import RUNTIME_VARIABLE, Home, SourceRefused

TASK_ID = "begin"
# Airflow takes 250 characters; a subject's run adds its key, its round and its name.
LONGEST_RUN_ID = 180


class BeginOperator(BaseOperator):
    """Writes the record's header. Run again (cleared), it changes nothing that stands there."""

    ui_color = "#f4f4f4"

    def __init__(self, *, plan: Plan, starts: Starts, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.starts = starts

    def execute(self, context: Any) -> None:
        """Check the parameters, keep the plan, write the header."""
        with faults_told(self.log):
            self._begin(context)

    def _begin(self, context: Any) -> None:
        home = instance.home()
        run = context["dag_run"].run_id
        if whole_run(run) != run:
            message = f"{run!r} is what a subject's part of a run is called; choose another run id"
            raise AirflowFailException(message)
        if self.plan.subjects and len(run) > LONGEST_RUN_ID:
            message = f"the run id has {len(run)} characters; with subjects it may have "
            raise AirflowFailException(f"{message}{LONGEST_RUN_ID}, as their runs begin with it")
        record = home.records.run(self.plan.pipeline, run)
        started = started_by(context["dag_run"])
        if started["by"] == "clock" and self.starts.ticks and not record.exists():
            self._leave_out_older(self.starts.ticks, started["tick"])
        given = self._given(context["dag_run"].conf or {}, started["by"], record)
        try:
            params = check_params(self.plan, given)
        except ParamErrors as error:
            raise AirflowFailException(str(error)) from None
        refused, bound = [], {}
        for name, uri in self.plan.files(params).items():
            try:
                home.source(uri, record)
            except SourceRefused as error:
                refused.append(f"{name}: {error}")
        try:
            bound = mounts.bind(home, self.plan.bound(params), mounts.kept(record))
        except SourceRefused as error:
            refused.append(str(error))
        if refused:
            raise AirflowFailException("\n".join(refused))
        if record.exists():
            _check_same(record, self.plan, params)
            return
        home.records.save_plan(self.plan)
        record.append(
            "header",
            plan_digest=self.plan.digest,
            data={
                "pipeline": self.plan.pipeline,
                "started_by": started,
                "given": given,
                "params": params,
                "mounts": {name: str(path) for name, path in bound.items()},
                "reuse": asdict(wish_of(record)),
                "versions": versions(),
                **_spec(home, self.plan.pipeline),
                "runtime": os.environ.get(RUNTIME_VARIABLE, "process"),
                "public_key": SigningKey(home.path).public(),
            },
        )

    def _given(self, conf: Mapping[str, Any], by: str, record: RunRecord) -> dict[str, Any]:
        # The trigger form sends null for a field that was left empty.
        given = {name: value for name, value in conf.items() if value is not None}
        if by == "person":
            return given
        if record.exists():  # what the schedule gave when the run began, whatever it gives now
            kept = record.header().data.get("given")
            return kept if isinstance(kept, dict) else {}
        if self.starts.problems:
            problems = "\n".join(self.starts.problems)
            raise AirflowFailException(
                f"the schedule has errors, so no value is known:\n{problems}"
            )
        return {**self.starts.values, **given}

    def _leave_out_older(self, ticks: tuple[str, str], tick: str) -> None:
        """Of several ticks that are due, the last one alone is run.

        Airflow starts the first one, too, as that was what it had noted before it went down, or
        before a long run.
        """
        # It loads croniter, which the tasks of other pipelines need not wait for.
        from proctor.spec.cron import next_tick

        later = next_tick(*ticks, datetime.fromisoformat(tick))
        if later <= datetime.now(UTC):
            self.log.info("left out: the tick of %s is due, too, and runs instead", later)
            # Not a skip of its own, which lets steps run that may do without what was skipped.
            tasks = sorted(set(self.dag.task_ids) - {self.task_id})
            raise DownstreamTasksSkipped(tasks=tasks)  # type: ignore[no-untyped-call]


def _spec(home: Home, pipeline: str) -> dict[str, Any]:
    known = home.pipelines().get(pipeline)
    return {"spec": spec_origin(known.spec)} if known else {}


def _check_same(record: RunRecord, plan: Plan, params: dict[str, Any]) -> None:
    """The record that stands under this run's id is of this plan and these parameters."""
    if record.header().plan_digest != plan.digest:
        raise AirflowFailException("the spec changed since this run began; start a new run")
    if record.params() != params:
        raise AirflowFailException(
            f"{record.path} is the record of an earlier run of this id with other parameters; "
            "start the run under another id"
        )
