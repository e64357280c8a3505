"""A rejection that leads back: the step and what follows it run again, once, and it is asked."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from airflow_site import Site, Started
from test_gate import answer, asked
from test_gate_answers import answers, logged_in, question, shown

from crash_points import dies_at
from proctor.airflow.reuse import Wish
from proctor.site.client import AirflowClient
from proctor.site.notify import Notifier
from proctor.site.rework import Rework, forgo
from proctor.site.runs import Asked, WatchedRun, unfinished_run
from proctor.site.settings import user_name
from proctor.site.upkeep import Upkeep

SPEC = """
    pipeline: {name}
    params: {{how: {{type: string, default: well}}}}
    steps:
      - id: prepare
        image: proctor/steps
        command: selfcheck act
        matrix: {{part: [a, b]}}
        params: {{how: "${{params.how}}"}}
        outputs: {{data: directory}}
      - id: beside
        image: proctor/steps
        command: selfcheck act
        outputs: {{data: directory}}
      - id: evidence
        image: proctor/steps
        command: report html
        inputs: {{data: prepare.data, other: beside.data}}
        outputs: {{report: directory}}
      - id: approve
        approval: {{evidence: [evidence.report], on_reject: {{rework: prepare}}}}
      - id: package
        after: [approve]
        image: proctor/steps
        command: submission package
        inputs: {{report: evidence.report}}
        outputs: {{package: directory}}
"""


def script(site: Site, page: str) -> None:
    data = {"outputs": {"data": {"data.txt": page}}}
    report = {"outputs": {"report": {"report.html": page}}}
    site.fake.script({"prepare.a": data, "prepare.b": data, "beside": data, "evidence": report})


def rejected(site: Site, name: str) -> Started:
    """A run that somebody has sent back, with no launcher there to see it."""
    script(site, "first")
    run = site.start(name, SPEC.format(name=name))
    asked(run)
    answer(run, "Reject", comment="the charts are empty")
    assert run.ended() == "failed"
    script(site, "second")
    return run


def starts(run: Started) -> dict[str, int]:
    mine = [r["step"] for r in run.site.fake.starts() if r["run"] == run.record.run]
    return {step: mine.count(step) for step in sorted(set(mine))}


def test_the_step_and_all_that_follows_run_again_and_it_is_asked_anew(site: Site) -> None:
    run = rejected(site, "rework")
    steps = {step["id"]: step for step in run.summary()["steps"]}
    assert steps["approve"]["message"].endswith("the charts are empty; back to prepare")
    upkeep = Upkeep(site.instance)
    assert upkeep.look(True) == [f"rework/{run.record.run}: rejected at approve, back to prepare"]
    asked(run, 2)
    assert starts(run) == {"beside": 1, "evidence": 2, "prepare.a": 2, "prepare.b": 2}
    assert "rejected other evidence before: the charts are empty" in question(run)["body"]
    for _ in range(3):
        assert upkeep.look(True) == []
        assert Upkeep(site.instance, run.record).look(True) == []
    answer(run, "Approve", comment="better")
    assert run.ended() == "success"
    assert [a.verdict for a in answers(run)] == ["rejected; back to prepare", "approved"]
    assert [a.signature for a in answers(run)] == ["good", "good"]
    assert "approve #1: rejected; back to prepare" in shown(run)
    assert starts(run) == {"beside": 1, "evidence": 2, "package": 1, "prepare.a": 2, "prepare.b": 2}
    assert run.summary()["state"] == "succeeded"
    assert Rework(site.instance).wanted(run.record) == []


@pytest.mark.parametrize(("edge", "done"), [(1, False), (2, True)])
def test_wherever_the_launcher_dies_the_next_one_goes_back_once(
    site: Site, edge: int, done: bool
) -> None:
    run = rejected(site, f"killed-{edge}")

    def launcher() -> None:
        # A process of its own has connections of its own.
        instance = replace(site.instance, client=logged_in(site, user_name()))
        Rework(instance).look_at(run.record)

    assert dies_at(edge, [(AirflowClient, "clear")], launcher)
    said = Rework(site.instance).look_at(run.record)
    assert len(said) == (0 if done else 1)
    asked(run, 2)
    assert Rework(site.instance).look_at(run.record) == []
    assert starts(run) == {"beside": 1, "evidence": 2, "prepare.a": 2, "prepare.b": 2}


def test_the_same_command_takes_up_a_run_that_was_sent_back(site: Site) -> None:
    run = rejected(site, "sent-back")
    plan, find, anew = run.watched.plan, partial(unfinished_run, site.instance), Wish(fresh=True)
    assert find(Asked(plan, {"how": "well"}))[0] is None
    # What other tests have left waiting is given up by this, as by any other command.
    assert find(Asked(plan, {"how": "badly"}, wish=anew))[0] is None
    assert find(Asked(plan, {"how": "well"}, wish=anew))[0] == run.record
    watched = WatchedRun(site.instance, plan, run.record, yes=True)
    notes: list[str] = []
    assert watched.watch(lambda view: notes.extend(view.notes)) == "success"
    assert any("back to prepare" in note for note in notes)
    assert [a.verdict for a in answers(run)] == ["rejected; back to prepare", "approved"]
    assert find(Asked(plan, {"how": "well"}, wish=anew))[0] is None


def test_a_launcher_that_watches_goes_on_after_the_rejection(site: Site) -> None:
    script(site, "first")
    run = site.start("watched", SPEC.format(name="watched"))
    notes: list[str] = []

    def person(view: object) -> None:
        """Rejects the first question, as soon as it is open, and approves the second."""
        notes.extend(view.notes)  # type: ignore[attr-defined]
        questions = [line for line in run.record.lines() if line.kind == "asked"]
        if view.asks and len(questions) > len(given):  # type: ignore[attr-defined]
            time.sleep(3)
            given.append("Approve" if given else "Reject")
            script(site, "second")
            answer(run, given[-1], comment="because")

    given: list[str] = []
    assert WatchedRun(site.instance, run.watched.plan, run.record).watch(person) == "success"
    assert given == ["Reject", "Approve"]
    assert len([note for note in notes if "approve waits for an answer" in note]) == 2


def test_a_run_that_was_given_up_goes_back_no_more(site: Site) -> None:
    run = rejected(site, "forgone")
    assert len(Rework(site.instance).wanted(run.record)) == 1
    forgo(run.record)
    assert Upkeep(site.instance).look(True) == []
    assert run.summary()["state"] == "failed"
    assert run.record.verify_chain() == []


def test_a_gate_that_a_person_clears_is_not_sent_back_as_well(site: Site) -> None:
    run = rejected(site, "cleared-first")
    site.instance.client.clear(run.record.pipeline, run.record.run, ["approve"])
    assert Rework(site.instance).look_at(run.record) == []
    asked(run, 2)
    assert Rework(site.instance).look_at(run.record) == []
    assert starts(run)["evidence"] == 1


def test_the_hook_hears_of_a_run_from_its_first_question_to_its_end(
    site: Site, tmp_path: Path
) -> None:
    hook, heard = site.instance.home.path / "hooks" / "notify", tmp_path / "heard"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ncat >> {heard}\n")
    hook.chmod(0o700)
    try:
        script(site, "first")
        run = site.start("heard", SPEC.format(name="heard"))
        asked(run)
        notifier = Notifier(site.instance)
        assert notifier.finish() == []
        # The launcher ends here; the next one tells the rest.
        answer(run, "Reject", comment="no")
        assert run.ended() == "failed"
        notifier = Notifier(site.instance)
        assert notifier.finish() == []
        assert Rework(site.instance).look_at(run.record)
        asked(run, 2)
        answer(run, "Approve")
        assert run.ended() == "success"
        for _ in range(2):
            assert notifier.finish() == []
        assert Notifier(site.instance).finish() == []
    finally:
        hook.unlink()
        hook.parent.rmdir()
    events = [json.loads(line) for line in heard.read_text().splitlines()]
    mine = [e for e in events if e["run"] == run.record.run]
    told = [(e["event"], e.get("decision") or e.get("state")) for e in mine]
    assert told == [
        ("question_asked", None),
        ("answered", "rejected"),
        ("question_asked", None),
        ("answered", "approved"),
        ("run_ended", "success"),
    ]
    first = mine[0]
    assert (first["pipeline"], first["gate"]) == ("heard", "approve")
    assert first["question"] == "Approve what has been made so far?"
    tasks = f"{site.instance.url}/dags/heard/runs/{run.record.run}/tasks/approve"
    assert first["link"] == f"{tasks}/required_actions"
