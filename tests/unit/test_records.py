"""The record: whole after a crash at any byte, one chain, names that lead nowhere else."""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path

import pytest

from proctor.plan.model import Plan
from proctor.records.store import RecordError, RecordStore, RunRecord


def record(tmp_path: Path) -> RunRecord:
    return RecordStore(tmp_path).run("demo", "one")


def test_lines_come_back_in_order_and_chained(tmp_path: Path) -> None:
    run = record(tmp_path)
    run.append("header", data={"params": {"a": 1}})
    run.append("attempt", step="fetch", attempt=1, data={"status": "running"})
    assert [line.seq for line in run.lines()] == [1, 2]
    assert run.params() == {"a": 1}
    assert run.verify_chain() == []


def test_a_crash_at_any_byte_loses_at_most_the_line_being_written(tmp_path: Path) -> None:
    run = record(tmp_path)
    run.append("header")
    before = run.path.read_bytes()
    run.append("attempt", step="fetch", data={"status": "running", "text": "ü" * 20})
    whole = run.path.read_bytes()
    for cut in range(len(before), len(whole) + 1):
        run.path.write_bytes(whole[:cut])
        assert len(run.lines()) == (2 if cut == len(whole) else 1), cut
        run.append("skipped", step="after")
        assert run.lines()[-1].kind == "skipped"
        assert run.verify_chain() == [], cut


def test_very_long_lines_are_followed(tmp_path: Path) -> None:
    run = record(tmp_path)
    for size in (10, 100_000, 5_000, 1_000_000, 1):
        run.append("attempt", data={"status": "x" * size})
    assert [line.seq for line in run.lines()] == [1, 2, 3, 4, 5]
    assert run.verify_chain() == []


def test_an_edited_line_breaks_the_chain(tmp_path: Path) -> None:
    run = record(tmp_path)
    run.append("header", data={"params": {"a": 1}})
    run.append("skipped", step="x")
    run.path.write_text(run.path.read_text().replace('"a":1', '"a":2'))
    assert any("does not follow" in problem for problem in run.verify_chain())


def test_a_foreign_line_is_named(tmp_path: Path) -> None:
    run = record(tmp_path)
    run.append("header")
    with run.path.open("a") as file:
        file.write("nonsense\n")
    with pytest.raises(RecordError, match=r"lines\.jsonl:2: no record line"):
        run.lines()


def _write_many(home: str) -> None:
    run = RecordStore(Path(home)).run("demo", "one")
    for number in range(20):
        run.append("attempt", step="s", data={"number": number})


def test_several_writers_keep_one_chain(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many, args=(str(tmp_path),)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    run = record(tmp_path)
    assert [line.seq for line in run.lines()] == list(range(1, 61))
    assert run.verify_chain() == []


@pytest.mark.parametrize("name", ["..", ".", "a/b", "", "../x", "a b", "a\n"])
def test_names_that_could_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no pipeline or run id"):
        RecordStore(tmp_path).run("demo", name)


def test_runs_are_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    for run in ("b", "a", "c"):
        store.run("demo", run).append("header", data={})
        time.sleep(0.002)
    store.run("demo", "b").append("attempt", step="s", attempt=1)  # the last to be written to
    assert [record.run for record in store.runs()] == ["b", "a", "c"]
    assert store.find("latest").run == "c"


def test_a_plan_that_was_changed_on_disk_is_refused(tmp_path: Path) -> None:
    store, plan = RecordStore(tmp_path), Plan(pipeline="p", steps=())
    store.save_plan(plan)
    assert store.plan(plan.digest) == plan
    path = tmp_path / "plans" / f"{plan.digest}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"title": "other"}))
    with pytest.raises(RecordError, match="was changed"):
        store.plan(plan.digest)
    with pytest.raises(RecordError, match="is not in"):
        store.plan("0" * 64)
