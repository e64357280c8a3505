"""Steps that are done for each subject: one run for each, alone, in the record and in Airflow."""

from __future__ import annotations

import json
from typing import Any

from airflow_site import Site, Started

from proctor.airflow.subjects import run_id
from proctor.records.store import RunRecord

SPEC = """
    pipeline: {name}
    params: {{look: {{type: string, default: once}}}}
    partition_def: {{from: ingest.scans, glob: "*/*/", fan_in: {fan_in}}}
    steps:
      - id: ingest
        image: proctor/steps
        command: dataset fetch
        params: {{look: "${{params.look}}"}}
        outputs: {{scans: directory}}
      - id: convert
        image: proctor/steps
        command: selfcheck act
        partition: true
        inputs: {{scan: {{from: ingest.scans, per_subject: true}}}}
        outputs: {{nifti: directory}}
      - id: segment
        image: proctor/steps
        command: selfcheck act
        partition: true
        limit: 1
        inputs: {{nifti: convert.nifti}}
        outputs: {{mask: directory}}
      - id: gather
        image: proctor/steps
        command: selfcheck act
        inputs: {{masks: segment.mask}}
        outputs: {{all: directory}}
"""
# Slashes, blanks, letters of other alphabets, and as long as a subject may be called.
NAMES = ["AAAC_1/2008.03.30", "AAAC 2/späť №7", f"long/{'x' * 195}"]


def spec(name: str, fan_in: str = "all") -> str:
    return SPEC.format(name=name, fan_in=fan_in)


def script(names: list[str], **steps: Any) -> dict[str, Any]:
    scans = {f"{name}/scan.txt": name for name in names}
    return {
        "ingest": {"outputs": {"scans": scans}},
        "list-subjects": {"outputs": {"subjects": {"subjects.json": json.dumps(names)}}},
        **steps,
    }


def starts(site: Site, run: Started, step: str) -> list[str]:
    """The subjects for which a step was started in a run."""
    mine = [r for r in site.fake.starts(step) if r["run"].startswith(run.record.run)]
    return sorted(r["partition"] for r in mine)


def child(site: Site, part: RunRecord, round: int = 1) -> tuple[str, str]:
    return f"{part.pipeline}.subjects-1", run_id(part, round)


def test_every_subject_goes_its_way_alone(site: Site) -> None:
    site.fake.script(script(NAMES))
    run = site.start("subjects", spec("subjects"))
    assert run.ended() == "success"
    for step in ("convert", "segment"):
        assert starts(site, run, step) == sorted(NAMES)
    scans = [r["inputs"] for r in site.fake.starts("convert") if r["pipeline"] == "subjects"]
    assert sorted(inputs[0]["below"] for inputs in scans) == sorted(NAMES)
    gather = site.fake.starts("gather")[-1]
    assert sorted(i["cell"] for i in gather["inputs"]) == sorted(NAMES)
    assert len({i["mount_path"] for i in gather["inputs"]}) == len(NAMES)
    for name in NAMES:
        part = run.record.subject(name)
        assert part.verify_chain() == []
        assert {line.partition for line in part.lines()} == {name}
        dag_run = site.instance.client.run(*child(site, part))
        assert (dag_run["state"], dag_run["note"]) == ("success", name)
    summary = run.summary()
    assert summary["state"] == "succeeded"
    assert {s["id"]: s.get("subjects") for s in summary["steps"]}["segment"] == {"succeeded": 3}


def test_a_failed_subject_stops_no_other_and_is_mended_alone(site: Site) -> None:
    failing = {"convert@b/1": {"outcome": "data_error", "message": "b/1/scan.dcm is truncated"}}
    names = ["a/1", "b/1", "c/1"]
    site.fake.script(script(names) | failing)
    run = site.start("mended", spec("mended"))
    part = run.record.subject("b/1")
    run.until(lambda: site.instance.client.run_state(*child(site, part)) == "failed")
    other = child(site, run.record.subject("c/1"))
    run.until(lambda: site.instance.client.run_state(*other) == "success")
    run.until(lambda: "b/1/scan.dcm is truncated" in str(run.summary()["steps"]))
    assert run.state() == "running"
    assert run.tasks()["subjects-1"] == "deferred"
    site.fake.script(script(names))
    site.instance.client.clear(*child(site, part), ["convert"])
    assert run.ended() == "success"
    assert starts(site, run, "convert") == ["a/1", "b/1", "b/1", "c/1"]
    assert starts(site, run, "segment") == names


def test_what_follows_goes_on_without_those_that_failed_where_the_spec_says_so(site: Site) -> None:
    failing = {"segment@b/1": {"outcome": "data_error", "message": "no brain found"}}
    site.fake.script(script(["a/1", "b/1", "c/1"]) | failing)
    run = site.start("without", spec("without", "{at_least: 2}"))
    assert run.ended() == "success"
    gather = [r for r in site.fake.starts("gather") if r["run"] == run.record.run]
    assert [i["cell"] for i in gather[0]["inputs"]] == ["a/1", "c/1"]
    assert run.record.last("result", "subjects-1").data["left_out"] == ["b/1"]  # type: ignore[union-attr]


def test_only_what_is_new_runs_where_subjects_are_added(site: Site) -> None:
    site.fake.script(script(["n/1", "n/2"]))
    first = site.start("added", spec("added"), {"look": "at two"}, reuse=True)
    assert first.ended() == "success"
    # Here the fetch looks again; what it finds for the old subjects is the same.
    site.fake.script(script(["n/1", "n/2", "n/3"]))
    second = site.start("added", spec("added"), {"look": "at three"}, reuse=True)
    assert second.ended() == "success"
    assert starts(site, second, "convert") == ["n/3"]
    assert starts(site, second, "segment") == ["n/3"]
    assert len(starts(site, second, "gather")) == 1


def test_a_cleared_stretch_runs_again_only_where_something_changed(site: Site) -> None:
    site.fake.script(script(["k/1", "k/2"]))
    run = site.start("again", spec("again"))
    assert run.ended() == "success"
    changed = script(["k/1", "k/2"])
    changed["ingest"]["outputs"]["scans"]["k/2/scan.txt"] = "another"
    site.fake.script(changed)
    site.instance.client.clear(run.record.pipeline, run.record.run, ["ingest"])
    run.until(lambda: run.state() != "success")
    assert run.ended() == "success"
    assert starts(site, run, "convert") == ["k/1", "k/2", "k/2"]
    assert site.instance.client.run_state(*child(site, run.record.subject("k/1"), 2)) == "success"


def test_nothing_goes_on_for_a_run_that_was_given_up(site: Site) -> None:
    site.fake.script(script(["g/1"]) | {"convert@*": {"outcome": "hang"}})
    run = site.start("given-up", spec("given-up"))
    part = run.record.subject("g/1")
    run.until(lambda: site.fake.find("given-up", part.run, "convert"))
    site.instance.client.give_up("given-up", run.record.run)
    from proctor.site.reaper import Reaper

    reaper = Reaper(site.instance)
    run.until(lambda: reaper.look() or not site.fake.find("given-up", part.run, "convert"), 60)
    run.until(lambda: site.instance.client.run_state(*child(site, part)) == "failed")
