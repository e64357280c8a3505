"""An instance that waits for changes: it is told of them, does without, and else keeps quiet."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest
from airflow_site import Site, Started, sql

from proctor.airflow import changes
from proctor.airflow.changes import DECIDED, TASKS, Changes

HANG = """
    pipeline: {name}
    steps:
      - id: measure
        image: proctor/steps
        command: loadgen run
        outputs: {{logs: directory}}
        exclusive: true
        deadline: 1h
"""


@pytest.fixture
def listener(site: Site) -> Changes:
    made = Changes(site.instance.postgres.addresses()[0], TASKS)
    assert made.wait(0)  # connected; what happened before is not known
    while made.wait(1):
        pass  # what an earlier test leaves
    return made


def deferred(site: Site, name: str) -> Started:
    """A run whose exclusive step is under way, and nobody has anything to do."""
    run = site.start(name, HANG.format(name=name))
    run.until_task("measure", "deferred")
    time.sleep(5)
    return run


def end(run: Started) -> None:
    run.site.instance.client.give_up(run.record.pipeline, run.record.run)
    run.until(lambda: run.tasks()["measure"] not in ("deferred", "running"))


def component(site: Site, name: str) -> psutil.Process:
    return psutil.Process(site.instance.components._running[name].pid)


def backend(listener: Changes) -> int | None:
    """The database's process that serves the listener."""
    return listener._connection.info.backend_pid if listener._connection else None


def test_a_click_is_told_and_a_heartbeat_is_not(site: Site, listener: Changes) -> None:
    site.fake.script({"measure": {"outcome": "hang"}})
    run = deferred(site, "told")
    while listener.wait(1):
        pass
    with sql(site.instance) as cursor:
        cursor.execute("UPDATE task_instance SET last_heartbeat_at = now()")
    assert not listener.wait(1)
    site.instance.client.set_task_state("told", run.record.run, "measure", "failed")
    assert listener.wait(60)


def test_what_the_scheduler_did_itself_is_not_told_to_it(site: Site) -> None:
    """Every step of a task on its way to a worker; and what a trigger or a person does, is."""
    url = site.instance.postgres.addresses()[0]
    all_of_it, deciding = Changes(url, TASKS), Changes(url, TASKS, ignored=DECIDED)
    site.fake.script({})
    run = site.start("decided", HANG.format(name="decided"))
    assert run.ended() == "success"
    for each in (all_of_it, deciding):
        while each.wait(1):
            pass
    with sql(site.instance) as cursor:
        for before, after in (("success", "scheduled"), ("scheduled", "queued")):
            cursor.execute(
                "UPDATE task_instance SET state = %s WHERE run_id = %s AND task_id = 'begin'",
                (after, run.record.run),
            )
            assert all_of_it.wait(30), (before, after)
            assert deciding.wait(3) == (before == "success"), (before, after)
        cursor.execute(
            "UPDATE task_instance SET state = 'success' WHERE run_id = %s AND task_id = 'begin'",
            (run.record.run,),
        )
    assert deciding.wait(30)


def test_a_listener_that_is_cut_off_connects_again(
    site: Site, listener: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_RECONNECT_SECONDS", 0.0)
    first = backend(listener)
    with sql(site.instance) as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'proctor changes'"
        )
        give_up = time.monotonic() + 60
        while backend(listener) in (None, first):
            listener.wait(1)
            assert time.monotonic() < give_up
        while listener.wait(1):
            pass
        cursor.execute("UPDATE dag_run SET state = state")
    site.fake.script({})
    run = site.start("after-cut", HANG.format(name="after-cut"))
    assert listener.wait(60)
    assert run.ended() == "success"  # the components' own listeners were cut off, too


def test_a_migration_finds_airflows_tables_as_airflow_made_them(site: Site) -> None:
    url = site.instance.postgres.addresses()[0]
    count = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"
    with sql(site.instance) as cursor:
        try:
            changes.remove(url)
            cursor.execute(count)
            assert cursor.fetchone() == (0,)
        finally:
            changes.install(url)
            changes.install(url)  # twice does no harm
        cursor.execute(count)
        assert cursor.fetchone() == (len(changes._WATCHED),)


def test_while_a_step_is_measured_the_database_is_left_alone(site: Site) -> None:
    site.fake.script({"measure": {"outcome": "hang"}})
    run = deferred(site, "left-alone")
    seconds = 20
    before = transactions(site)
    time.sleep(seconds)
    used = transactions(site) - before
    end(run)
    # Asking five times a second, the scheduler alone needed some 800. A slow machine needs fewer.
    assert 0 < used < 10 * seconds, f"{used} transactions in {seconds} s"


def transactions(site: Site) -> int:
    with sql(site.instance) as cursor:
        cursor.execute("SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database")
        return int(cursor.fetchone()[0])


def test_a_step_goes_on_and_its_end_is_seen_when_the_triggerer_was_killed(site: Site) -> None:
    site.fake.script({"measure": {"seconds": 40.0}})
    run = deferred(site, "no-triggerer")
    killed = component(site, "triggerer")
    children = killed.children(recursive=True)
    os.kill(killed.pid, signal.SIGKILL)
    run.until(site.instance.supervise)
    assert run.ended(120) == "success"
    assert len([r for r in site.fake.starts("measure") if r["run"] == run.record.run]) == 1
    assert not [child for child in children if child.is_running()]
    assert component(site, "triggerer").pid != killed.pid


def test_a_new_spec_is_parsed_without_waiting_for_the_next_round(site: Site) -> None:
    """The DAG file is read again every ten minutes only; a spec must not wait for that."""
    site.fake.script({})
    run = site.start("new-spec", HANG.format(name="new-spec"))
    assert run.ended() == "success"
    text = HANG.format(name="new-spec").replace("measure", "weigh")
    site.write("new-spec", text)
    client = site.instance.client
    run.until(lambda: client.has_dag("new-spec", {"begin", "weigh"}), 60)
