"""A gate on one way of a conditional `next`: asked there, and wanted from nobody elsewhere."""

from __future__ import annotations

from airflow_site import Site, Started
from test_gate import answer, asked

SPEC = """
    pipeline: {name}
    conditions:
      - {{id: many, files: {{of: look.found, glob: "*.txt", at_least: 2}}}}
    steps:
      - id: look
        image: proctor/steps
        command: selfcheck act
        outputs: {{found: directory}}
        next: {{if: [{{condition: many, target: [approve]}}], else: [note]}}
      - {{id: approve, approval: {{evidence: [look.found]}}}}
      - {{id: note, image: proctor/steps, command: selfcheck act, outputs: {{o: directory}}}}
      - id: publish
        image: proctor/steps
        command: selfcheck act
        inputs: {{found: look.found}}
        outputs: {{o: directory}}
        after: [approve, note]
"""


def started(site: Site, name: str, files: int) -> Started:
    found = {f"{number}.txt": "x" for number in range(files)}
    site.fake.script({"look": {"outputs": {"found": found}}})
    return site.start(name, SPEC.format(name=name))


def test_a_gate_on_the_way_is_asked_and_its_answer_is_wanted(site: Site) -> None:
    run = started(site, "way-with-gate", 2)
    asked(run)
    assert run.tasks()["note"] == "skipped"
    answer(run, "Approve")
    assert run.ended() == "success"
    (publish,) = [r for r in site.fake.starts("publish") if r["run"] == run.record.run]
    assert [a["gate"] for a in publish["approvals"]] == ["approve"]


def test_a_gate_that_is_left_out_is_not_asked_and_nobody_waits_for_it(site: Site) -> None:
    run = started(site, "way-without-gate", 1)
    assert run.ended() == "success"
    assert run.tasks() | {"approve": "skipped", "publish": "success"} == run.tasks()
    assert not [line for line in run.record.lines() if line.kind == "asked"]
    (publish,) = [r for r in site.fake.starts("publish") if r["run"] == run.record.run]
    assert publish["approvals"] == []
