"""A pipeline's schedule as Airflow gets it, and what the first task makes of what started a run."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped
from airflow.serialization.serialized_objects import DagSerialization

from proctor.airflow import watch
from proctor.airflow.begin import BeginOperator
from proctor.airflow.dag import build
from proctor.airflow.watch import SourcesTrigger
from proctor.records.told import about
from proctor.site import schedules
from proctor.site.home import HOME_VARIABLE, SCHEDULES_VARIABLE, Home, Registered
from proctor.site.sources import Look, Mark

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
DATED = """\
  - id: dated
    image: proctor/steps
    command: model fetch
    params: {uri: "s3://kept/${run.date}"}
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
    assert dag.timetable.timetable == CronTriggerTimetable("0 3 * * *", timezone="Europe/Zurich")
    assert dag.timetable.asset_condition.uri == "proctor-source://watched/nightly"
    assert dag.start_date == schedules.clock(site.home, "nightly", _schedule(site)).since
    assert dag.params["reason"] == "as every night"


def test_the_site_says_when_instead_of_the_spec(site: Site) -> None:
    when = {"cron": "*/5 * * * *", "params": {"reason": "as here"}}
    profile = site.home.path / "site.yaml"
    profile.write_text(json.dumps({"schedules": {"nightly": when}}))
    dag = site.dag()
    assert dag.timetable == CronTriggerTimetable("*/5 * * * *", timezone="UTC")
    assert (dag.max_active_runs, dag.params["reason"]) == (1, "as here")


def test_airflow_starts_at_the_first_tick_after_the_schedule_became_known(site: Site) -> None:
    """Not at one from shortly before, as it would by itself; nor at each of those missed since."""

    def next_tick_of(dag: Any) -> datetime:
        kept = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        found = kept.next_dagrun_info(last_automated_run_info=None)
        assert found is not None
        return found.run_after  # type: ignore[no-any-return]

    now = datetime.now(UTC)
    known = schedules.clock(site.home, "nightly", _schedule(site)).since
    assert now < next_tick_of(site.dag()) <= known + timedelta(days=1, hours=1)
    path = schedules.clock_file(site.home, "nightly")
    old = json.loads(path.read_text()) | {"since": (known - timedelta(days=5)).isoformat()}
    path.write_text(json.dumps(old))
    assert now - timedelta(days=1, hours=1) < next_tick_of(site.dag()) <= datetime.now(UTC)


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


@pytest.mark.parametrize(
    ("of_nightly", "told"),
    [
        ("{params: {reson: x}}", "site.yaml:1:32: reson: there is no such parameter"),
        ('"* * 32 * *"', "site.yaml:1:22: '32' is no day of the month"),
    ],
)
def test_what_the_site_says_wrongly_of_a_schedule_shows_and_stops_nothing_else(
    site: Site, of_nightly: str, told: str
) -> None:
    before = site.dag()
    (site.home.path / "site.yaml").write_text(f"schedules: {{nightly: {of_nightly}}}\n")
    dag = site.dag()
    assert told in str(dag.doc_md)
    assert "schedule has errors" in dag.dag_display_name and "schedule-errors" in dag.tags
    assert not dag.timetable.can_be_scheduled
    assert dag.task_ids == before.task_ids


def test_a_pipeline_without_schedule_is_as_before(site: Site) -> None:
    lines = SPEC.splitlines()
    del lines[5:11]
    site.write("\n".join(lines) + "\n")
    dag = site.dag()
    assert not dag.timetable.can_be_scheduled
    assert dag.max_active_runs != 1


def test_a_source_that_is_another_each_day_is_not_watched(site: Site) -> None:
    site.write(SPEC + DATED)
    assert trigger_of(site) is not None  # it is no reader of what is watched
    site.write(SPEC.replace("assets: model", "assets: [dated, model]") + DATED)
    assert "another source each day" in str(site.dag().doc_md)


# --- what started a run --------------------------------------------------------------------------


def test_by_the_clock_with_the_schedules_values(site: Site) -> None:
    tick = datetime.now(UTC).replace(microsecond=0)
    header = site.begin(run_type="scheduled", logical_date=tick)
    assert header.data["started_by"] == {"by": "clock", "tick": tick.isoformat()}
    assert header.data["given"] == {"reason": "as every night"}
    assert dict(about(header))["started by"] == f"the clock, for {tick.isoformat()}"


def test_a_run_that_was_due_before_a_pause_has_the_schedules_values(site: Site) -> None:
    schedules.pause(site.home, "nightly")
    event = SimpleNamespace(asset=SimpleNamespace(uri="proctor-site://a/prep"), extra={})
    header = site.begin(run_type="asset_triggered", consumed_asset_events=[event])
    assert header.data["given"] == {"reason": "as every night"}


def test_a_run_that_begins_once_more_keeps_its_values(site: Site) -> None:
    tick = datetime.now(UTC)
    site.begin(run_type="scheduled", logical_date=tick)
    profile = site.home.path / "site.yaml"
    profile.write_text("schedules: {nightly: {params: {reason: changed}}}\n")
    header = site.begin(run_type="scheduled", logical_date=tick)
    assert header.data["given"] == {"reason": "as every night"}
    profile.write_text("schedules: {nightly: {params: {reson: x}}}\n")
    with pytest.raises(AirflowFailException, match=r"the schedule has errors.*\n.*reson"):
        site.begin(run_type="scheduled", logical_date=tick, run_id="r2")


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
    assert header.data["started_by"] == {"by": "assets", "assets": ["proctor-site://a/prep"]}


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


# --- the trigger that watches --------------------------------------------------------------------


@pytest.fixture
def watching(site: Site, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A trigger whose looks and clock a test says; ``kept`` is what it has kept."""
    said = SimpleNamespace(looks=[], measuring=[], slept=[], kept=[])

    def next_look(*_: object) -> Any:
        found = said.looks.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def measuring() -> bool:
        if not said.measuring:
            raise asyncio.CancelledError  # as the triggerer ends it
        return bool(said.measuring.pop(0))

    async def sleep(seconds: float) -> None:
        said.slept.append(seconds)

    def kept(home: Home, pipeline: str, marks: Any) -> None:
        said.kept.append(marks)

    monkeypatch.setattr(watch, "_look", next_look)
    monkeypatch.setattr(watch, "_measuring", measuring)
    monkeypatch.setattr(watch.asyncio, "sleep", sleep)
    monkeypatch.setattr(watch.sources, "keep", kept)
    said.trigger = SourcesTrigger("nightly", "0a", 60.0)
    return said


def events(said: SimpleNamespace) -> list[Any]:
    """What the trigger yields until its looks have run out."""

    async def collect() -> list[Any]:
        found = []
        with contextlib.suppress(asyncio.CancelledError):
            async for event in said.trigger.run():
                found.append(event.payload)
        return found

    return asyncio.run(collect())


def seen(*changed: str, trouble: str = "") -> Look:
    mark = Mark("of", trouble=trouble)
    changes = tuple({"name": name, "was": "a", "is": "b"} for name in changed)
    return Look({"m": mark}, {"m": mark}, changes)


def test_all_that_changed_is_one_event_and_counts_as_told_thereafter(
    watching: SimpleNamespace,
) -> None:
    watching.looks, watching.measuring = [seen(), seen("m", "n"), seen()], [False] * 3
    (event,) = events(watching)
    assert [change["name"] for change in event["changed"]] == ["m", "n"]
    assert len(watching.kept) == 1
    assert watching.slept == [60, watch.TOLD_SECONDS, 60, 60]


def test_nobody_looks_while_something_is_measured(watching: SimpleNamespace) -> None:
    watching.looks, watching.measuring = [seen()], [True, True, False]
    assert events(watching) == []
    assert watching.slept == [watch.QUIET_SECONDS] * 2 + [60]


def test_a_fault_does_not_end_the_watch(watching: SimpleNamespace) -> None:
    watching.looks, watching.measuring = [OSError("boom"), None, seen("m")], [False] * 3
    assert len(events(watching)) == 1


def test_its_arguments_make_another_one_like_it() -> None:
    path, given = SourcesTrigger("nightly", "0a", 60.0).serialize()
    assert path == f"{SourcesTrigger.__module__}.{SourcesTrigger.__qualname__}"
    assert SourcesTrigger(**given).serialize() == (path, given)


def test_a_look_goes_by_what_the_home_says_now(site: Site) -> None:
    assert watch._look(site.home, "nightly") is None
    model = site.spec.parent / "model.onnx"
    model.write_text("one")
    (site.home.path / "site.yaml").write_text(
        f"roots: [{model.parent}]\n"
        f"schedules: {{nightly: {{params: {{model: {model.as_uri()!r}}}}}}}\n"
    )
    site.home.register("nightly", site.spec, {})
    first = watch._look(site.home, "nightly")
    assert first is not None
    assert (first.troubles, first.changes) == ({}, ())
    model.write_text("two")
    second = watch._look(site.home, "nightly")
    assert second is not None
    assert [change["name"] for change in second.changes] == ["model"]
    site.write(SPEC.replace("  assets: model\n  every: 1m\n", ""))
    assert watch._look(site.home, "nightly") is None
