"""Services in real DAG runs: up when a step needs them, gone when none does."""

from __future__ import annotations

from airflow_site import Site, Started

from proctor.runtime.base import Handle
from proctor.site.reaper import Reaper

SPEC = """
    pipeline: {name}
    params:
      scenarios: {{type: choices, choices: [A, B], default: [A]}}
    services:
      echo:
        title: Echo
        image: proctor/steps
        command: selfcheck serve
        inputs: {{model: fetch.model}}
        port: 8000
        ready: /ready
        ready_within: {within}
    steps:
      - {{id: fetch, image: proctor/steps, command: model fetch, outputs: {{model: directory}}}}
      - id: other
        image: proctor/steps
        command: selfcheck act
      - id: measure
        matrix: {{scenario: "${{params.scenarios}}"}}
        image: proctor/steps
        command: loadgen run
        services: echo
        outputs: {{logs: directory}}
      - id: after
        image: proctor/steps
        command: selfcheck act
        after: [measure, other]
        services: echo
"""


def spec(name: str, within: str = "1m") -> str:
    return SPEC.format(name=name, within=within)


def alive(run: Started) -> Handle | None:
    fake, record = run.site.fake, run.record
    found = fake.find(record.pipeline, record.run, "echo")
    return found if found and fake.poll(found).phase == "running" else None


def starts(run: Started, step: str) -> int:
    return len([r for r in run.site.fake.starts(step) if r["run"] == run.record.run])


def test_a_service_is_started_once_and_stopped_at_the_end(site: Site) -> None:
    site.fake.script({"echo": {"log": ["serving", "bye"], "ready_after": 0.5}})
    run = site.start("served", spec("served"), {"scenarios": ["A", "B"]})
    assert run.ended() == "success"
    assert run.tasks()["stop-echo"] == "success"
    assert starts(run, "echo") == 1
    assert alive(run) is None
    asked = [r for r in site.fake.starts("after") if r["run"] == run.record.run]
    assert asked[0]["services"] == {"echo": "http://echo:8000"}
    log = run.log("stop-echo")
    assert "serving" in log
    assert "bye" in log
    assert run.summary()["state"] == "succeeded"
    assert run.record.verify_chain() == []
    # Whoever looks at the task that started it sees that it did.
    assert any("service echo: started" in run.log(f"measure.{cell}") for cell in "AB")
    site.instance.client.clear("served", run.record.run, ["stop-echo"])
    assert run.ended() == "success"
    assert starts(run, "echo") == 1


def test_a_step_that_fails_does_not_keep_its_service_and_fails_the_run(site: Site) -> None:
    site.fake.script({"measure.*": {"outcome": "step_error", "message": "no luck"}})
    run = site.start("unlucky", spec("unlucky"))
    assert run.ended() == "failed"
    assert run.tasks()["stop-echo"] == "success"
    assert run.tasks()["after"] == "upstream_failed"
    assert alive(run) is None
    assert run.summary()["state"] == "failed"


def test_the_last_step_that_fails_fails_the_run(site: Site) -> None:
    # Only the stop stands behind it, and that succeeds.
    site.fake.script({"after": {"outcome": "step_error"}})
    run = site.start("last", spec("last"))
    assert run.ended() == "failed"
    assert run.tasks()["stop-echo"] == "success"


def test_a_service_waits_for_each_of_its_steps(site: Site) -> None:
    # `after` is not run at once when `other` fails, while `measure` still needs the service.
    site.fake.script({"other": {"outcome": "step_error"}, "measure.*": {"seconds": 14}})
    run = site.start("each", spec("each"))
    run.until_task("after", "upstream_failed")
    run.until(lambda: alive(run))
    assert run.tasks()["measure.A"] in ("running", "deferred")
    assert run.ended() == "failed"
    assert run.tasks()["measure.A"] == "success"
    assert alive(run) is None


def test_what_nobody_needed_was_never_started(site: Site) -> None:
    text = spec("unneeded").partition("      - id: after")[0]
    site.fake.script({"fetch": {"outcome": "step_error"}})
    run = site.start("unneeded", text)
    assert run.ended() == "failed"
    assert run.tasks()["stop-echo"] == "success"
    assert "it was never started" in run.log("stop-echo")
    assert starts(run, "echo") == 0


def test_skipped_steps_need_no_service(site: Site) -> None:
    text = spec("skipped").partition("      - id: after")[0]
    site.fake.script({})
    run = site.start("skipped", text, {"scenarios": ["B"]})
    assert run.ended() == "success"
    assert run.tasks()["measure.A"] == "skipped"
    assert alive(run) is None


def test_a_service_that_is_never_ready_is_a_clear_failure(site: Site) -> None:
    site.fake.script({"echo": {"ready_after": 600, "log": ["still loading the model"]}})
    run = site.start("late", spec("late", within="2s"))
    assert run.ended() == "failed"
    log = run.log("measure.A")
    assert "the service 'echo' was not ready within 2 s (GET /ready on port 8000)" in log
    assert "still loading the model" in log
    assert starts(run, "measure.A") == 0
    assert alive(run) is None


def test_a_task_that_is_ended_while_it_waits_starts_nothing(site: Site) -> None:
    site.fake.script({"echo": {"ready_after": 15}})
    run = site.start("impatient", spec("impatient"))
    run.until(lambda: alive(run))
    site.instance.client.set_task_state("impatient", run.record.run, "measure.A", "failed")
    assert run.ended() == "failed"
    assert run.tasks()["stop-echo"] == "success"
    assert alive(run) is None
    assert starts(run, "measure.A") == 0


def test_a_run_that_is_given_up_leaves_no_service(site: Site) -> None:
    site.fake.script({"measure.*": {"outcome": "hang"}})
    run = site.start("abandoned", spec("abandoned"))
    run.until(lambda: alive(run) and starts(run, "measure.A"))
    site.instance.client.give_up("abandoned", run.record.run)
    reaper = Reaper(site.instance)
    run.until(lambda: reaper.look() or alive(run) is None, 90)
    assert run.ended() == "failed"
    assert alive(run) is None


def test_a_step_cleared_alone_gets_a_service_that_ends_with_it(site: Site) -> None:
    site.fake.script({})
    run = site.start("alone", spec("alone"))
    assert run.ended() == "success"
    site.fake.script({"measure.*": {"seconds": 15}})
    client = site.instance.client
    client.clear("alone", run.record.run, ["measure.A"], downstream=False)
    run.until(lambda: alive(run))
    reaper = Reaper(site.instance)

    def ended() -> bool:
        reaper.look()
        busy = run.tasks()["measure.A"] != "success"
        assert not busy or alive(run), "the service was taken from a step that needs it"
        return not busy and alive(run) is None

    run.until(ended, 120)
    assert starts(run, "echo") == 2
