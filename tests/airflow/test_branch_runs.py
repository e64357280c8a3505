"""Conditional `next`: branches, waiting, and a subject that goes back and begins a new round."""

from __future__ import annotations

import json
from typing import Any

from airflow_site import Site
from test_subject_runs import child, script, starts

from proctor.airflow.subjects import rounds

LOOP = """
    pipeline: {name}
    partition_def: {{from: ingest.scans, glob: "*/*/"}}
    conditions:
      - id: good
        value: {{of: check.report, file: report.json, key: dice, at_least: 0.8}}
      - id: mended
        files: {{of: check.report, glob: "*.mask"}}
    steps:
      - {{id: ingest, image: proctor/steps, command: dataset fetch, outputs: {{scans: directory}}}}
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
        inputs: {{nifti: convert.nifti}}
        outputs: {{mask: directory}}
      - id: check
        image: proctor/steps
        command: selfcheck act
        partition: true
        inputs: {{mask: segment.mask}}
        outputs: {{report: directory}}
        next:
          if:
            - {{condition: good, target: compare}}
            - {{condition: mended, target: roll-back}}
          else: check
          wait: 2
      - id: roll-back
        image: proctor/steps
        command: selfcheck act
        partition: true
        inputs: {{report: check.report}}
        outputs: {{old: directory}}
        next: segment
      - id: compare
        image: proctor/steps
        command: selfcheck act
        partition: true
        inputs: {{mask: segment.mask}}
        outputs: {{voxels: directory}}
      - id: gather
        image: proctor/steps
        command: selfcheck act
        inputs: {{all: compare.voxels}}
        outputs: {{all: directory}}
"""


def report(dice: float, **more: str) -> dict[str, Any]:
    return {"outputs": {"report": {"report.json": json.dumps({"dice": dice}), **more}}}


def test_a_subject_goes_back_and_keeps_what_stands_before(site: Site) -> None:
    first = report(0.2, **{"brain.mask": "m"})
    checks = {"check@b/1": {"attempts": [first, report(0.9)]}, "check": report(0.95)}
    site.fake.script(script(["a/1", "b/1"]) | checks)
    run = site.start("loop", LOOP.format(name="loop"))
    assert run.ended() == "success"
    assert starts(site, run, "convert") == ["a/1", "b/1"]
    assert starts(site, run, "segment") == ["a/1", "b/1", "b/1"]
    assert starts(site, run, "roll-back") == ["b/1"]
    assert starts(site, run, "compare") == ["a/1", "b/1"]
    sent_back, other = run.record.subject("b/1"), run.record.subject("a/1")
    assert [(r.number, r.start) for r in rounds(sent_back, "subjects-1")] == [
        (1, ""),
        (2, "segment"),
    ]
    assert len(rounds(other, "subjects-1")) == 1
    states = site.instance.client.task_states(*child(site, sent_back))
    assert (states["compare"]["state"], states["roll-back"]["state"]) == ("skipped", "success")
    decided = [x.data for x in sent_back.lines() if x.kind == "result" and x.step == "next-check"]
    assert [(d["condition"], d["targets"]) for d in decided] == [
        ("mended", ["roll-back"]),
        ("good", ["compare"]),
    ]
    assert sent_back.verify_chain() == []
    gather = [r for r in site.fake.starts("gather") if r["run"] == run.record.run]
    assert sorted(i["cell"] for i in gather[0]["inputs"]) == ["a/1", "b/1"]


def test_it_waits_without_a_worker_until_a_condition_holds(site: Site) -> None:
    site.fake.script(script(["w/1"]) | {"check": report(0.2)})
    run = site.start("waits", LOOP.format(name="waits"))
    part = run.record.subject("w/1")
    client = site.instance.client

    def state(task: str) -> str | None:
        if client.run_state(*child(site, part)) is None:
            return None
        found = client.task_states(*child(site, part))[task]["state"]
        return str(found)

    run.until(lambda: state("next-check") == "deferred")
    assert "dice in report.json is 0.2, wanted at least 0.8" in client.log(
        *child(site, part), "next-check", 1
    )
    site.fake.script(script(["w/1"]) | {"check": report(0.85)})
    client.clear(*child(site, part), ["check"])
    assert run.ended() == "success"
    assert starts(site, run, "check") == ["w/1", "w/1"]


BRANCH = """
    pipeline: {name}
    conditions:
      - {{id: many, files: {{of: look.found, glob: "*.txt", at_least: 2}}}}
    steps:
      - id: look
        image: proctor/steps
        command: selfcheck act
        outputs: {{found: directory}}
        next: {{if: [{{condition: many, target: [sort, count]}}], else: [complain]}}
      - {{id: sort, image: proctor/steps, command: selfcheck act, outputs: {{o: directory}}}}
      - {{id: count, image: proctor/steps, command: selfcheck act, outputs: {{o: directory}}}}
      - {{id: complain, image: proctor/steps, command: selfcheck act, outputs: {{o: directory}}}}
      - id: behind
        image: proctor/steps
        command: selfcheck act
        inputs: {{o: complain.o}}
        outputs: {{o: directory}}
      - {{id: both, type: dummy, after: [sort, count, behind]}}
"""


def test_branches_of_what_runs_once(site: Site) -> None:
    site.fake.script({"look": {"outputs": {"found": {"a.txt": "a", "b.txt": "b", "c.txt": ""}}}})
    run = site.start("branch", BRANCH.format(name="branch"))
    assert run.ended() == "success"
    done = {id for id, state in run.tasks().items() if state == "success"}
    assert done == {"begin", "look", "next-look", "sort", "count", "both"}
    assert "2 files match '*.txt', wanted at least 2; 1 are empty (c.txt)" in run.log("next-look")
    site.fake.script({"look": {"outputs": {"found": {"a.txt": "a"}}}})
    site.instance.client.clear("branch", run.record.run, ["look"])
    run.until(lambda: run.state() != "success")
    assert run.ended() == "success"
    left_out = {id for id, state in run.tasks().items() if state == "skipped"}
    assert left_out == {"sort", "count"}
    assert run.summary()["state"] == "succeeded"
