"""Plans as real DAG runs: order, skipping, failures, retries, deadlines, clearing."""

from __future__ import annotations

import pytest
from airflow_site import Site

from proctor.site.reaper import Reaper

CHAIN = """
    pipeline: {name}
    params:
      scenarios: {{type: choices, choices: [A, B], default: [A, B]}}
    steps:
      - id: fetch
        image: proctor/steps
        command: dataset fetch
        outputs: {{dataset: directory}}
      - id: measure
        matrix: {{scenario: "${{params.scenarios}}"}}
        image: proctor/steps
        command: loadgen run
        params: {{scenario: "${{matrix.scenario}}"}}
        inputs: {{dataset: fetch.dataset}}
        outputs: {{logs: directory}}
        deadline: {deadline}
      - id: report
        image: proctor/steps
        command: report html
        inputs: {{runs: measure.logs}}
        outputs: {{report: directory}}
        publish: ["report/*.html"]
"""


def chain(name: str, deadline: str = "1h") -> str:
    return CHAIN.format(name=name, deadline=deadline)


def test_a_pipeline_runs_and_leaves_out_what_its_parameters_leave_out(site: Site) -> None:
    site.fake.script({"report": {"outputs": {"report": {"report.html": "<h1>r</h1>"}}}})
    run = site.start("leaves-out", chain("leaves-out"), {"scenarios": ["A"]})
    assert run.ended() == "success"
    assert run.tasks()["measure.B"] == "skipped"
    summary = run.summary()
    assert summary["state"] == "succeeded"
    assert {s["id"]: s["state"] for s in summary["steps"]} == {
        "fetch": "succeeded",
        "measure.A": "succeeded",
        "measure.B": "skipped",
        "report": "succeeded",
    }
    started = [r for r in site.fake.starts() if r["run"] == run.record.run]
    assert [r["step"] for r in started] == ["fetch", "measure.A", "report"]
    assert [i["cell"] for i in started[-1]["inputs"]] == ["A"]
    assert (run.record.folder / "report.html").read_text() == "<h1>r</h1>"
    assert run.record.verify_chain() == []


def test_a_matrix_of_which_nothing_was_chosen(site: Site) -> None:
    """What stands behind it alone is left out, too; with another input, a step runs without it."""
    spec = (
        chain("nothing").replace("default: [A, B]", "default: []")
        + """
      - id: both
        image: proctor/steps
        command: report html
        inputs: {runs: measure.logs, dataset: fetch.dataset}
        outputs: {report: directory}
"""
    )
    run = site.start("nothing", spec)
    assert run.ended() == "success"
    tasks = run.tasks()
    assert {tasks[id] for id in ("measure.A", "measure.B", "report")} == {"skipped"}
    started = [r for r in site.fake.starts() if r["run"] == run.record.run]
    assert [r["step"] for r in started] == ["fetch", "both"]
    assert [each["name"] for each in started[-1]["inputs"]] == ["dataset"]
    assert run.summary()["state"] == "succeeded"


def test_wrong_data_fails_for_good_and_says_so(site: Site) -> None:
    site.fake.script({"fetch": {"outcome": "data_error", "message": "a.zip is truncated"}})
    run = site.start("wrong-data", chain("wrong-data"))
    assert run.ended() == "failed"
    assert run.tasks()["measure.A"] == "upstream_failed"
    assert len([r for r in site.fake.starts("fetch") if r["run"] == run.record.run]) == 1
    assert "a.zip is truncated" in run.log("fetch")
    assert run.summary()["state"] == "failed"


@pytest.mark.parametrize("failure", ["engine", "killed"])
def test_what_the_step_had_no_part_in_is_tried_again(site: Site, failure: str) -> None:
    site.fake.script({"fetch": {"attempts": [{"outcome": failure}, {"outcome": "ok"}]}})
    run = site.start(failure, chain(failure))
    assert run.ended() == "success"
    results = [
        x.data["state"] for x in run.record.lines() if x.step == "fetch" and "state" in x.data
    ]
    assert results[-1] == "succeeded"


def test_a_deadline_stops_the_step(site: Site) -> None:
    site.fake.script({"measure.*": {"outcome": "hang"}})
    run = site.start("deadline", chain("deadline", "2s"), {"scenarios": ["A"]})
    assert run.ended() == "failed"
    assert "deadline of 2 s" in run.log("measure.A")
    handle = site.fake.find("deadline", run.record.run, "measure.A")
    assert handle is None or site.fake.poll(handle).phase != "running"


def test_the_log_of_a_step_is_the_tasks_log(site: Site) -> None:
    site.fake.script({"fetch": {"log": ["first line", "ünïcode"], "seconds": 0.5}})
    run = site.start("logs", chain("logs"), {"scenarios": ["A"]})
    assert run.ended() == "success"
    log = run.log("fetch")
    assert log.count("first line") == 1
    assert "ünïcode" in log


def test_clearing_a_deferred_step_stops_it_and_starts_another(site: Site) -> None:
    site.fake.script({"measure.*": {"attempts": [{"outcome": "hang"}, {"outcome": "ok"}]}})
    run = site.start("cleared", chain("cleared"), {"scenarios": ["A"]})
    run.until_task("measure.A", "deferred")
    first = site.fake.find("cleared", run.record.run, "measure.A")
    assert first is not None
    site.instance.client.clear(run.record.pipeline, run.record.run, ["measure.A"])
    assert run.ended(120) == "success"
    lines = [x for x in run.record.lines() if x.step == "measure.A" and x.kind == "attempt"]
    assert {x.attempt for x in lines} == {1, 2}
    assert "cancelled" in [x.data["status"] for x in lines if x.attempt == 1]
    assert site.fake.poll(first).phase != "running"


def test_marking_a_deferred_step_failed_stops_it(site: Site) -> None:
    site.fake.script({"measure.*": {"outcome": "hang"}})
    run = site.start("marked-deferred", chain("marked-deferred"), {"scenarios": ["A"]})
    run.until_task("measure.A", "deferred")
    handle = site.fake.find("marked-deferred", run.record.run, "measure.A")
    assert handle is not None
    site.instance.client.set_task_state("marked-deferred", run.record.run, "measure.A", "failed")
    # The triggerer may not have taken it up yet; then the launcher's reaper ends it.
    reaper = Reaper(site.instance)
    run.until(lambda: reaper.look() or site.fake.poll(handle).phase != "running")
    assert site.fake.poll(handle).phase != "running"


def test_marking_a_running_step_failed_stops_it(site: Site) -> None:
    site.fake.script({"measure.*": {"outcome": "hang"}})
    run = site.start("marked", chain("marked"), {"scenarios": ["A"]})
    run.until(lambda: site.fake.find("marked", run.record.run, "measure.A"))
    handle = site.fake.find("marked", run.record.run, "measure.A")
    assert handle is not None
    site.instance.client.set_task_state("marked", run.record.run, "measure.A", "failed")
    reaper = Reaper(site.instance)
    run.until(lambda: reaper.look() or site.fake.poll(handle).phase != "running")
    assert site.fake.poll(handle).phase != "running"


def test_a_run_does_not_go_on_with_an_edited_spec(site: Site) -> None:
    site.fake.script({"fetch": {"seconds": 12.0}})
    run = site.start("edited", chain("edited"), {"scenarios": ["A"]})
    run.until_task("fetch", "running")
    site.write("edited", chain("edited").replace("A, B", "A, C"))
    assert run.ended() == "failed"
    assert not [
        r for r in site.fake.starts() if r["run"] == run.record.run and r["step"] != "fetch"
    ]
    refused = [t for t, s in run.tasks().items() if s == "failed"]
    assert refused
    assert "the spec changed since this run began; start a new run" in run.log(refused[0])


def test_what_measures_is_collected_before_the_next_one_begins(site: Site) -> None:
    site.fake.script({"measure.*": {"seconds": 4.0}})
    spec = chain("one-by-one").replace("deadline: 1h", "deadline: 1h\n        exclusive: true")
    run = site.start("one-by-one", spec)
    assert run.ended() == "success"
    lines = [x for x in run.record.lines() if x.step.startswith("measure.")]
    told = [(x.step, x.kind) for x in lines if x.kind == "result" or "handle" in x.data]
    assert told == [
        ("measure.A", "attempt"),
        ("measure.A", "result"),
        ("measure.B", "attempt"),
        ("measure.B", "result"),
    ]


def test_a_broken_spec_shows_its_errors_and_the_others_load(site: Site) -> None:
    site.fake.script({})
    path = site.write("broken", "pipeline: broken\nsteps:\n  - id: a\n    imge: x\n")
    site.instance.home.register("broken", path, {})
    run = site.start("beside-broken", chain("beside-broken"), {"scenarios": ["A"]})
    assert run.ended() == "success"
    run.until(lambda: site.instance.client.has_dag("broken", {"spec-errors"}))
    page = site.instance.client.dag("broken")
    assert "broken.yaml:4:5" in page["doc_md"]
    assert "imge" in page["doc_md"]


def test_what_an_earlier_run_did_is_taken_over_and_cleared_it_runs(site: Site) -> None:
    first = site.start("taken-over", chain("taken-over"), {"scenarios": ["A"]}, reuse=True)
    assert first.ended() == "success"
    second = site.start("taken-over", chain("taken-over"), {"scenarios": ["A"]}, reuse=True)
    assert second.ended() == "success"
    assert [r for r in site.fake.starts() if r["run"] == second.record.run] == []
    assert "had the same command, image, parameters and inputs" in second.log("fetch")
    second.site.instance.client.clear(second.record.pipeline, second.record.run, ["measure.A"])
    second.until(lambda: second.state() != "success")
    assert second.ended() == "success"
    started = [r["step"] for r in site.fake.starts() if r["run"] == second.record.run]
    assert started[0] == "measure.A"
    assert "fetch" not in started
