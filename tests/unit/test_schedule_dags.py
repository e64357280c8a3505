"""A pipeline's schedule as Airflow gets it, and what the first task makes of what started a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped
from airflow.serialization.serialized_objects import DagSerialization

from proctor.airflow.begin import BeginOperator
from proctor.airflow.dag import build
from proctor.records.told import about
from proctor.site import schedules
from proctor.site.home import HOME_VARIABLE, SCHEDULES_VARIABLE, Home, Registered

SPEC = """
pipeline: nightly
params:
  model: {type: uri, default: "https://example.org/model.onnx?sig=hunter2"}
  reason: {type: string, required: true}
schedule:
  cron: 0 3 * * *
  timezone: Europe/Zurich
  assets: model
  every: 1m
  params: {reason: as every night}
steps:
  - id: fetch
    image: proctor/steps
    command: model fetch
    params: {uri: "${params.model}", why: "${params.reason}"}
    outputs: {model: directory}
    network: true
"""


class Site:
    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.home.create()
        self.spec = folder / "nightly.yaml"
        self.write(SPEC)

    def write(self, text: str) -> None:
        self.spec.write_text(text)

    def dag(self) -> Any:
        return build(Registered("nightly", self.spec, {}))[0]

    def begin(self, **dag_run: Any) -> Any:
        """Begins a run; the header's data."""
        dag = self.dag()
        operator = dag.get_task("begin")
        assert isinstance(operator, BeginOperator)
        run = SimpleNamespace(**({"run_id": "r", "conf": {}} | dag_run))
        operator.execute({"dag_run": run})
        return self.home.records.run("nightly", run.run_id).header()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site(tmp_path)
    monkeypatch.setenv(HOME_VARIABLE, str(made.home.path))
    monkeypatch.setenv(SCHEDULES_VARIABLE, "1")
    return made


def test_clock_and_sources_as_one_schedule(site: Site) -> None:
    dag = site.dag()
    assert isinstance(dag.timetable, AssetOrTimeSchedule)
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    assert dag.timetable.timetable == CronTriggerTimetable(
        "0 3 * * *", timezone="Europe/Zurich", run_immediately=timedelta(0)
    )
    assert dag.timetable.asset_condition.uri == "proctor-source://watched/nightly"
    assert dag.start_date == schedules.clock(site.home, "nightly", _schedule(site)).since
    assert dag.params["reason"] == "as every night"


def test_what_airflow_keeps_of_it_is_the_same_each_time_and_names_no_source(site: Site) -> None:
    first, second = (DagSerialization.to_dict(site.dag()) for _ in range(2))
    assert first == second
    assert "proctor-source://watched/nightly" in str(first["dag"]["timetable"])
    assert "hunter2" not in str(first["dag"]["timetable"])
    assert "hunter2" not in str(trigger_of(site).serialize())


def test_another_source_is_another_trigger(site: Site) -> None:
    before = trigger_of(site).serialize()
    assert trigger_of(site).serialize() == before
    (site.home.path / "site.yaml").write_text(
        'schedules: {nightly: {params: {model: "file:///srv/model.onnx"}}}\n'
    )
    assert trigger_of(site).serialize() != before


def test_nothing_starts_beside_a_run_from_the_terminal(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SCHEDULES_VARIABLE, "")
    dag = site.dag()
    assert not dag.timetable.can_be_scheduled
    assert dag.max_active_runs == 1
    assert "reason" in dag.params


def test_nothing_starts_while_it_is_paused_or_at_a_data_site(site: Site) -> None:
    schedules.pause(site.home, "nightly")
    assert not site.dag().timetable.can_be_scheduled
    schedules.resume(site.home, "nightly")
    assert site.dag().timetable.can_be_scheduled
    (site.home.path / "trusted.json").write_text('{"images": {}, "plans": []}')
    assert not site.dag().timetable.can_be_scheduled


def test_a_value_of_the_site_that_does_not_fit_shows(site: Site) -> None:
    (site.home.path / "site.yaml").write_text("schedules: {nightly: {params: {reson: x}}}\n")
    dag = site.dag()
    assert dag.task_ids == ["spec-errors"]
    assert "site.yaml: schedules: nightly: reson: there is no such parameter" in str(dag.doc_md)


def test_a_pipeline_without_schedule_is_as_before(site: Site) -> None:
    lines = SPEC.splitlines()
    del lines[5:11]
    site.write("\n".join(lines) + "\n")
    dag = site.dag()
    assert not dag.timetable.can_be_scheduled
    assert dag.max_active_runs != 1


# --- what started a run --------------------------------------------------------------------------


def test_by_the_clock_with_the_schedules_values(site: Site) -> None:
    tick = datetime.now(UTC).replace(microsecond=0)
    header = site.begin(run_type="scheduled", logical_date=tick)
    assert header.data["started_by"] == {"by": "clock", "tick": tick.isoformat()}
    assert header.data["given"] == {"reason": "as every night"}
    assert dict(about(header))["started by"] == f"the clock, for {tick.isoformat()}"


def test_by_a_source_that_changed(site: Site) -> None:
    change = {"name": "model", "was": "etag 1", "is": "etag 2"}
    event = SimpleNamespace(
        asset=SimpleNamespace(uri="proctor-source://watched/nightly"),
        extra={"from_trigger": True, "payload": {"changed": [change]}},
    )
    header = site.begin(run_type="asset_triggered", consumed_asset_events=[event])
    assert header.data["started_by"] == {"by": "sources", "changed": [change]}
    assert dict(about(header))["started by"] == "a change of model from etag 1 to etag 2"


def test_by_sites_that_were_ready(site: Site) -> None:
    event = SimpleNamespace(asset=SimpleNamespace(uri="proctor-site://a/prep"), extra={})
    header = site.begin(run_type="asset_triggered", consumed_asset_events=[event])
    assert header.data["started_by"] == {"by": "sites", "assets": ["proctor-site://a/prep"]}


def test_by_a_person_who_gives_what_the_schedule_would(site: Site) -> None:
    with pytest.raises(AirflowFailException, match="reason: a value is required"):
        site.begin(run_type="manual")
    header = site.begin(
        run_type="manual", triggering_user_name="ada", conf={"reason": "to look at it"}
    )
    assert header.data["started_by"] == {"by": "person", "name": "ada"}
    assert header.data["given"] == {"reason": "to look at it"}


def test_of_ticks_that_were_missed_the_last_one_alone_runs(site: Site) -> None:
    old = datetime.now(UTC) - timedelta(days=3)
    with pytest.raises(DownstreamTasksSkipped) as left_out:
        site.begin(run_type="scheduled", logical_date=old)
    assert left_out.value.tasks == ["fetch"]
    assert not site.home.records.run("nightly", "r").exists()
    site.begin(run_type="scheduled", run_id="last", logical_date=datetime.now(UTC))
    # One that began is not left out when it is cleared long after.
    site.begin(run_type="scheduled", run_id="last", logical_date=old)


def test_with_catch_up_each_of_them_runs(site: Site) -> None:
    site.write(SPEC.replace("  every: 1m\n", "  catch_up: true\n"))
    assert site.dag().catchup
    site.begin(run_type="scheduled", logical_date=datetime.now(UTC) - timedelta(days=3))


def trigger_of(site: Site) -> Any:
    return site.dag().timetable.asset_condition.watchers[0].trigger


def _schedule(site: Site) -> Any:
    found = schedules.scheduled(site.home, Registered("nightly", site.spec, {}))
    assert found is not None
    return found.schedule
