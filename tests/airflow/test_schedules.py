"""Pipelines that start by themselves, in a real Airflow: ticks of a minute, a file that changes."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow_site import sql
from typer.testing import CliRunner

from proctor.airflow import children, instance
from proctor.cli import app
from proctor.records.store import RunRecord
from proctor.runtime.fake import FakeRuntime
from proctor.site import schedules, sources
from proctor.site.home import Home
from proctor.site.instance import Instance, running

# A minute, the scheduler's longest sleep, and a machine that does something else, too.
TICK_SECONDS = 180.0
MEASURE_SECONDS = 6.0
MISSED = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=7)

SPEC = """
    pipeline: {name}
    params:
      data: {{type: uri, default: "embedded:digits"}}
    schedule: {schedule}
    steps:
      - id: fetch
        image: proctor/steps
        command: dataset fetch
        params: {{uri: "${{params.data}}"}}
        outputs: {{dataset: directory}}
      - id: measure
        image: proctor/steps
        command: loadgen run
        inputs: {{dataset: fetch.dataset}}
        outputs: {{logs: directory}}
        exclusive: true
"""


@dataclass
class Site:
    """An instance in which schedules count."""

    home: Home
    folder: Path
    running: Instance

    def register(self, name: str, schedule: str) -> None:
        register(self.home, self.folder, name, schedule)

    def runs(self, name: str) -> list[RunRecord]:
        return [r for r in self.home.records.runs() if r.pipeline == name]

    def ended(self, name: str) -> list[RunRecord]:
        """Runs that succeeded, oldest first."""
        state = self.running.client.run_state
        return [r for r in self.runs(name) if state(name, r.run) == "success"]

    def in_airflow(self, name: str) -> list[dict[str, Any]]:
        return list(self.running.client._pages(f"/dags/{name}/dagRuns?", "dag_runs"))

    def fake(self) -> FakeRuntime:
        return FakeRuntime(self.home.path)

    def started(self, record: RunRecord) -> list[str]:
        # Runs of one tick are called the same in every pipeline.
        name = (record.pipeline, record.run)
        return [r["step"] for r in self.fake().starts() if (r["pipeline"], r["run"]) == name]

    def proctor(self, *words: str) -> str:
        done = CliRunner().invoke(app, ["schedule", *words, "--home", str(self.home.path)])
        assert done.exit_code == 0, done.output
        return done.output


def register(home: Home, folder: Path, name: str, schedule: str) -> None:
    path = folder / f"{name}.yaml"
    path.write_text(textwrap.dedent(SPEC).format(name=name, schedule=schedule))
    home.register(name, path, {})


def until(site: Site, condition: Callable[[], Any], seconds: float = TICK_SECONDS) -> Any:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        site.running.supervise()
        if value := condition():
            return value
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds} s")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="proctor-schedules-"))
    folder.chmod(0o711)
    home = Home(folder / "home")
    home.create()
    (folder / "data").mkdir()
    (home.path / "site.yaml").write_text(
        f"roots: [{folder}/data]\n"
        f"schedules: {{watching: {{params: {{data: 'file://{folder}/data/model.onnx'}}}}}}\n"
    )
    FakeRuntime(home.path).script({"measure": {"seconds": MEASURE_SECONDS}})
    # Known for three days, and the tick of today came when nothing ran here.
    cron = f"{MISSED.minute} {MISSED.hour} * * *"
    register(home, folder, "missed", json.dumps(cron))
    known = {"says": f"{cron} UTC", "since": (MISSED - timedelta(days=3, hours=1)).isoformat()}
    schedules.made_folder(home, "missed")
    schedules.clock_file(home, "missed").write_text(json.dumps(known))
    with running(home, "fake", sys.stderr, schedules=True) as up:
        yield Site(home, folder, up)
    shutil.rmtree(folder, ignore_errors=True)


def test_a_missed_tick_runs_once(site: Site) -> None:
    (record,) = until(site, lambda: site.ended("missed"))
    assert record.header().data["started_by"] == {"by": "clock", "tick": MISSED.isoformat()}
    # What Airflow had noted before it went down: it starts that, too, and it is left out.
    old = MISSED - timedelta(days=2)
    with sql(site.running) as cursor:
        cursor.execute(
            "UPDATE dag SET next_dagrun = %(t)s, next_dagrun_create_after = %(t)s, "
            "next_dagrun_data_interval_start = %(t)s, next_dagrun_data_interval_end = %(t)s "
            "WHERE dag_id = 'missed'",
            {"t": old},
        )
    until(site, lambda: len(site.in_airflow("missed")) > 1)
    until(site, lambda: {run["state"] for run in site.in_airflow("missed")} == {"success"})
    time.sleep(25)  # the scheduler looks at least once more
    assert len(site.in_airflow("missed")) == 2
    assert site.runs("missed") == [record]
    assert (site.started(record)) == ["fetch", "measure"]
    assert site.running.client.dag("missed")["max_active_runs"] == 1
    row = json.loads(site.proctor("list", "--json"))["schedules"][0]
    assert row["next"] == (MISSED + timedelta(days=1)).isoformat()
    assert row["last"]["state"] == "succeeded"


def test_ticks_of_a_minute_measure_anew_and_never_beside_each_other(site: Site) -> None:
    """Two pipelines whose ticks are the same; each step takes the whole host."""
    for name in ("one", "other"):
        site.register(name, '"* * * * *"')
    until(site, lambda: all(len(site.ended(n)) > 1 for n in ("one", "other")), 3 * TICK_SECONDS)
    for name in ("one", "other"):
        site.proctor("pause", name)
    measured = []
    for name in ("one", "other"):
        first, second, *_ = site.ended(name)
        assert [r.header().data["started_by"]["by"] for r in (first, second)] == ["clock"] * 2  # type: ignore[index,call-overload]
        assert site.started(second) == ["measure"]  # what it measures is what it was
        for record in (first, second):
            line = record.last("result", "measure")
            assert line is not None
            assert "reused_from" not in line.data
            measured.append((datetime.fromisoformat(str(line.data["started_at"])), record.name))
    # By the engine's own times: a record is written later, on a busy machine much so.
    for (start, before), (after, beside) in itertools.pairwise(sorted(measured)):
        assert start + timedelta(seconds=MEASURE_SECONDS) <= after, (before, beside)
    # Paused: Airflow knows of no tick any more, and a run by hand does not wait.
    until(site, lambda: site.running.client.dag("one")["next_dagrun_run_after"] is None)
    known = len(site.runs("one"))
    assert "started one/" in site.proctor("run", "one")
    until(site, lambda: len(site.runs("one")) > known)
    assert site.runs("one")[-1].header().data["started_by"]["by"] == "person"  # type: ignore[index,call-overload]


def test_a_changed_file_starts_one_run_that_fetches_it(site: Site) -> None:
    model = site.folder / "data" / "model.onnx"
    model.write_text("one")
    site.register("watching", "{assets: data, every: 10s}")

    def mark() -> str:
        return sources.marks(site.home, "watching").get("data", sources.Mark("")).version

    first = until(site, mark)
    time.sleep(25)
    assert site.runs("watching") == []
    site.proctor("run", "watching")
    by_hand = until(site, lambda: site.ended("watching"))[0]
    assert site.started(by_hand) == ["fetch", "measure"]
    model.write_text("two")
    by_change = until(site, lambda: site.ended("watching")[1:])[0]
    second = mark()
    assert first != second
    changed = [{"name": "data", "was": first, "is": second}]
    assert by_change.header().data["started_by"] == {"by": "sources", "changed": changed}
    assert site.started(by_change) == ["fetch", "measure"]
    time.sleep(25)
    assert len(site.in_airflow("watching")) == 2


def test_nobody_looks_while_a_step_has_the_host_to_itself(site: Site) -> None:
    assert not children.measuring(instance.POOL, instance.slots())
    site.proctor("run", "one")
    until(site, lambda: children.measuring(instance.POOL, instance.slots()))
    until(site, lambda: not children.measuring(instance.POOL, instance.slots()))


def test_a_source_out_of_reach_is_told_and_starts_nothing(site: Site) -> None:
    known = len(site.in_airflow("watching"))
    model = site.folder / "data" / "model.onnx"
    away = model.rename(model.with_suffix(".away"))
    until(site, lambda: sources.marks(site.home, "watching")["data"].trouble)
    assert "there is no such file" in site.proctor("list")
    away.rename(model)
    until(site, lambda: not sources.marks(site.home, "watching")["data"].trouble)
    assert len(site.in_airflow("watching")) == known
