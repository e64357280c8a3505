"""Subjects: stretches in a plan, names, policies of the fan-in, rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proctor.airflow.subjects import (
    Stand,
    begin,
    begin_again,
    begin_round,
    folder_name,
    generation,
    parse_run_id,
    problems_of,
    round_of,
    rounds,
    run_id,
    runs_anew,
)
from proctor.plan.compile import compile
from proctor.plan.model import FanIn, Plan, whole_run
from proctor.records.store import RecordStore, subject_key
from proctor.spec.load import parse_pipeline


def plan_of(text: str) -> Plan:
    return compile(parse_pipeline(text, "p.yaml"))


def step(id: str, after: str = "", *, each: bool = False) -> str:
    text = f"  - {{id: {id}, image: a/b, command: x, outputs: {{o: directory}}"
    return f"{text}{f', after: {after}' if after else ''}{', partition: true' if each else ''}}}\n"


TWO = "pipeline: p\npartition_def: {from: a.o}\nsteps:\n" + (
    step("a")
    + step("b", "a", each=True)
    + step("c", "b", each=True)
    + step("d", "c")
    + step("e", "[d, b]", each=True)
    + step("f", "e")
)


def test_steps_between_two_that_run_once_are_one_stretch() -> None:
    plan = plan_of(TWO)
    assert {s.id: s.partition for s in plan.steps if s.partition} == {
        "b": "subjects-1",
        "c": "subjects-1",
        "e": "subjects-2",
    }
    upstream = {s.id: set(s.upstream) for s in plan.steps}
    assert upstream["subjects-1"] == {"list-subjects", "a"}
    assert upstream["d"] == {"c", "subjects-1"}
    assert upstream["subjects-2"] == {"list-subjects", "d", "subjects-1"}
    assert upstream["f"] == {"e", "subjects-2"}
    assert [s.id for s in plan.part("subjects-1").steps] == ["b", "c"]
    assert [s.upstream for s in plan.part("subjects-1").steps] == [(), ("b",)]
    whole = {s.id: s.upstream for s in plan.part("").steps}
    assert whole["f"] == ("subjects-2",)


def test_a_round_begins_anew_at_its_start_and_behind_it() -> None:
    plan = plan_of(TWO)
    assert not runs_anew(plan, plan.step("b"), "c")
    assert runs_anew(plan, plan.step("c"), "c")
    assert runs_anew(plan, plan.step("c"), "b")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "a JSON list"),
        ([1], "a JSON list"),
        ([], "no subject"),
        (["../etc"], "'..'"),
        (["/etc"], "no absolute path"),
        (["a\nb"], "unprintable"),
        (["a", "a"], "twice"),
        ([" "], "1 to 200"),
        (["x" * 201], "1 to 200"),
    ],
)
def test_what_cannot_be_a_subject(found: Any, words: str) -> None:
    assert words in problems_of(found)[0]


def test_what_can_be_a_subject() -> None:
    assert problems_of(["a/b", "späť 7", "x" * 200, "..a"]) == []


def test_folders_are_readable_and_never_the_same() -> None:
    names = ["plain-1.2", "a/b", "a b", "a_b", "ä/б", "x" * 200, ".hidden", "a" * 150]
    folders = [folder_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert folders[0] == "plain-1.2" and folders[1].startswith("a_b-")
    assert all("/" not in f and len(f) < 100 and not f.startswith(".") for f in folders)


@pytest.mark.parametrize(
    ("policy", "stand", "may"),
    [
        (FanIn(), Stand(("a", "b"), (), ()), True),
        (FanIn(), Stand(("a",), ("b",), ()), False),
        (FanIn(), Stand(("a",), (), ("b",)), False),
        (FanIn(policy="any_done"), Stand(("a",), ("b",), ()), True),
        (FanIn(policy="any_done"), Stand((), ("b",), ()), False),
        (FanIn(policy="any_done"), Stand(("a",), (), ("b",)), False),
        (FanIn(at_least=2), Stand(("a",), ("b",), ()), False),
        (FanIn(at_least=2), Stand(("a", "c"), ("b",), ()), True),
        (FanIn(at_least=2), Stand(("a", "c"), (), ("b",)), False),
    ],
)
def test_when_what_follows_may_start(policy: FanIn, stand: Stand, may: bool) -> None:
    assert stand.may_go_on(policy) is may


def test_a_subject_s_part_has_a_record_of_its_own(tmp_path: Path) -> None:
    plan, store = plan_of(TWO), RecordStore(tmp_path)
    record = store.run("p", "r1")
    record.append("header", plan_digest=plan.digest, data={"params": {}, "runtime": "fake"})
    part = record.subject("a/b c")
    begin(part, plan)
    begin(part, plan)
    assert [line.kind for line in part.lines()] == ["header"]
    again = store.run("p", part.run)
    assert (again.partition, again.whole.run, again.folder) == ("a/b c", "r1", part.folder)
    assert [p.run for p in record.subjects()] == [f"r1~{subject_key('a/b c')}"]
    assert [r.run for r in store.runs()] == ["r1"]
    assert [r.run for r in store.all()] == ["r1", part.run]
    assert part.run != "r1" and whole_run(part.run) == "r1" == whole_run("r1")


def test_rounds_are_counted_and_begun_once_for_each_reason(tmp_path: Path) -> None:
    plan = plan_of(TWO)
    record = RecordStore(tmp_path).run("p", "r1")
    record.append("header", plan_digest=plan.digest, data={"params": {}})
    part = record.subject("s")
    begin(part, plan)
    assert parse_run_id(run_id(part, 3)) == (part.run, 3)
    assert parse_run_id("manual__2026") == ("manual__2026", 0)
    begin_again(part, plan, "subjects-1", 2, "running")
    assert len(rounds(part, "subjects-1")) == 1
    begin_again(part, plan, "subjects-1", 2, "failed")
    begin_again(part, plan, "subjects-1", 2, "failed")
    begin_round(part, plan, "subjects-1", "b", "sent back")
    assert [(r.number, r.start) for r in rounds(part, "subjects-1")] == [(1, ""), (2, ""), (3, "b")]
    assert len(rounds(part, "subjects-2")) == 1


def test_a_round_counts_for_more_than_any_clearing() -> None:
    assert generation(2, 3) > generation(1, 900)
    assert (round_of(generation(2, 7)), round_of(generation(0, 3))) == (2, 0)


def test_an_image_is_told_its_subject_in_the_word_of_its_time() -> None:
    """MedPerf's runner said ``--subject-subdir`` while its files said ``per_subject``."""
    older = "pipeline: p\nper_subject_def: {from: a.o}\nsteps:\n" + (
        step("a") + step("b", "a", each=True).replace("partition", "per_subject") + step("c", "b")
    )
    told = {s.id: s.subject_option for s in plan_of(older).steps if s.subject_option}
    assert told == {"b": "--subject-subdir"}
    assert {s.subject_option for s in plan_of(TWO).steps if s.partition} == {"--partition"}
