"""A service in its run: one at a time, found again after a crash at every point, ended for good."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from proctor.airflow.attempts import StepRun
from proctor.airflow.cleanup import remove_orphans, step_runs, stop_running
from proctor.airflow.evidence import StepRefused
from proctor.airflow.services import ServiceRun
from proctor.plan.compile import compile
from proctor.plan.model import Plan
from proctor.records.summary import summarise
from proctor.runtime.base import EngineError, Handle
from proctor.runtime.fake import FakeRuntime
from proctor.site.home import Home
from proctor.spec.load import parse_pipeline

SPEC = """
pipeline: p
services:
  echo:
    image: proctor/steps
    command: selfcheck serve
    params: {text: "${params.text}"}
    inputs: {model: fetch.model}
    port: 8000
    ready: /ready
    ready_within: %s
params:
  text: {type: string, default: hi}
steps:
  - {id: fetch, image: proctor/steps, command: model fetch, outputs: {model: directory}}
  - {id: ask, image: proctor/steps, command: selfcheck act, services: echo, outputs: {o: directory}}
  - {id: more, image: proctor/steps, command: selfcheck act, services: echo, after: ask}
"""


class Bench:
    """A run that has begun on the fake runtime, its model fetched."""

    def __init__(self, tmp_path: Path, within: str = "30s", spec: str = SPEC) -> None:
        self.home = Home(tmp_path)
        self.home.create()
        self.plan: Plan = compile(parse_pipeline(spec % within, "p.yaml"))
        self.fake = FakeRuntime(tmp_path)
        self.record = self.home.records.run("p", "r")
        self.home.records.save_plan(self.plan)
        header = {"params": {"text": "hi"}, "runtime": "fake"}
        self.record.append("header", plan_digest=self.plan.digest, data=header)
        fetch = self.step("fetch")
        taken = fetch.take_up_or_start()
        assert isinstance(taken, Handle)
        fetch.finish(taken)

    def step(self, id: str, generation: int = 0) -> StepRun:
        return StepRun(self.home, self.plan, self.plan.step(id), self.record, self.fake, generation)

    def service(self) -> ServiceRun:
        echo = self.plan.service("echo")
        return ServiceRun(self.home, self.plan, echo, self.record, self.fake)

    def started(self, id: str = "ask", generation: int = 0) -> Handle:
        taken = self.step(id, generation).take_up_or_start()
        assert isinstance(taken, Handle)
        return taken

    def statuses(self) -> list[tuple[int, Any]]:
        lines = [x for x in self.record.lines() if x.step == "echo" and x.kind == "attempt"]
        return [(x.attempt, x.data["status"]) for x in lines]

    def forget(self, lines: int) -> None:
        """As a crash would: the record's last lines were never written."""
        kept = self.record.path.read_bytes().splitlines(keepends=True)[:-lines]
        self.record.path.write_bytes(b"".join(kept))

    def running(self) -> Handle | None:
        found = self.fake.find("p", "r", "echo")
        return found if found and self.fake.poll(found).phase == "running" else None


def test_the_first_step_that_needs_it_starts_it_and_the_next_finds_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.step("ask").finish(bench.started())
    bench.step("more").finish(bench.started("more"))
    (start,) = bench.fake.starts("echo")
    assert start["listening"] == {"port": 8000, "ready": "/ready"}
    assert start["deadline_seconds"] == 0
    assert start["params"] == {"text": "hi"}
    assert [i["name"] for i in start["inputs"]] == ["model"]
    assert [s["services"] for s in bench.fake.starts("ask")] == [{"echo": "http://echo:8000"}]
    assert bench.statuses() == [(1, "running"), (1, "running")]
    assert bench.service().end()[0] == "stopped"
    assert bench.statuses()[-1] == (1, "finished")
    assert bench.running() is None
    assert bench.record.verify_chain() == []


def test_the_step_is_told_only_when_the_service_is_ready(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.fake.script({"echo": {"ready_after": 1.0}})
    begun = time.monotonic()
    bench.started()
    assert time.monotonic() - begun >= 1.0


def test_a_crash_between_start_and_record_is_found_by_its_labels(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = bench.service().ensure()
    bench.forget(1)
    assert bench.service().ensure() == first
    assert len(bench.fake.starts("echo")) == 1


def test_a_crash_before_the_start_gives_the_same_attempt(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.record.append("attempt", step="echo", attempt=1, data={"status": "running"})
    assert bench.service().ensure().attempt == 1
    assert len(bench.fake.starts("echo")) == 1


def test_a_crash_before_the_step_started_keeps_the_service(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = bench.service().ensure()
    bench.started()
    assert bench.running() == first
    assert len(bench.fake.starts("echo")) == 1


def test_a_step_that_is_taken_up_keeps_its_service(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.fake.script({"ask": {"outcome": "hang"}})
    first = bench.started()
    assert bench.started() == first
    assert len(bench.fake.starts("echo")) == 1


def test_many_that_need_it_at_once_start_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.fake.script({"echo": {"ready_after": 0.5}})
    found: list[Handle] = []
    threads = [
        threading.Thread(target=lambda: found.append(bench.service().ensure())) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(bench.fake.starts("echo")) == 1


def test_one_that_has_ended_is_replaced_and_its_end_is_recorded(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    dies = {"outcome": "killed", "seconds": 1.5, "log": ["the last word"]}
    bench.fake.script({"echo": {"attempts": [dies, {"outcome": "ok"}]}})
    bench.step("ask").finish(bench.started())
    time.sleep(1.6)
    assert bench.service().ensure().attempt == 2
    line = bench.record.last("result", "echo")
    assert line is not None and line.attempt == 1
    assert "SIGKILL" in str(line.data["message"]) and "the last word" in str(line.data["message"])


def test_one_that_ends_before_it_is_ready_is_a_clear_refusal(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    act = {"outcome": "no_result", "seconds": 0.2, "ready_after": 9, "log": ["no such model"]}
    bench.fake.script({"echo": act})
    with pytest.raises(StepRefused, match=r"'echo' ended before it was ready.*no such model"):
        bench.started()
    assert bench.statuses()[-1] == (1, "finished")
    assert not bench.fake.starts("ask")
    assert bench.fake.ours() == []


def test_one_that_is_not_ready_in_time_is_ended(tmp_path: Path) -> None:
    bench = Bench(tmp_path, within="1s")
    bench.fake.script({"echo": {"ready_after": 60, "log": ["loading"]}})
    with pytest.raises(StepRefused, match=r"not ready within 1 s \(GET /ready on port 8000\)"):
        bench.started()
    assert bench.running() is None
    line = bench.record.last("result", "echo")
    assert line is not None and "loading" in str(line.data["message"])
    bench.fake.script({})
    assert bench.started(generation=1).attempt == 1  # of the step: it had none
    assert bench.running() is not None


def test_one_that_the_engine_lost_while_it_started_is_worth_another_try(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    lost = {"outcome": "gone", "seconds": 0.1, "ready_after": 9}
    bench.fake.script({"echo": {"attempts": [lost, {"outcome": "ok"}]}})
    with pytest.raises(EngineError, match="'echo' was lost"):
        bench.started()
    assert isinstance(bench.started(), Handle)


def test_an_engine_that_refuses_it_leaves_nothing_running(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.fake.script({"echo": {"outcome": "refused", "message": "no such image"}})
    with pytest.raises(StepRefused, match="service 'echo': no such image"):
        bench.started()
    assert bench.statuses()[-1] == (1, "finished")
    bench.fake.script({"echo": {"outcome": "engine"}})
    with pytest.raises(EngineError):
        bench.started()


def test_a_failure_says_that_the_service_had_ended(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    dies = {"outcome": "out_of_memory", "seconds": 1.5, "log": ["allocating"]}
    fails = {"outcome": "step_error", "seconds": 1.6, "message": "connection reset"}
    bench.fake.script({"echo": dies, "ask": fails})
    handle = bench.started()
    time.sleep(1.7)
    failure = bench.step("ask").finish(handle).failure
    assert failure is not None and failure.kind == "step"
    assert "connection reset; its service 'echo' had ended" in failure.message
    assert "more memory" in failure.message and "allocating" in failure.message
    again = bench.service().how_it_ended()
    assert again and again in failure.message  # told the same to the next one that asks


def test_a_failure_is_not_blamed_on_a_service_that_runs(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.fake.script({"ask": {"outcome": "step_error", "message": "of its own"}})
    failure = bench.step("ask").finish(bench.started()).failure
    assert failure is not None and failure.message == "of its own"
    assert bench.running() is not None


def test_clearing_a_step_keeps_the_service_that_is_alive(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.step("ask").finish(bench.started())
    first = bench.running()
    assert bench.started(generation=1).attempt == 2
    assert bench.running() == first
    assert len(bench.fake.starts("echo")) == 1


def test_ending_it_twice_or_never_started_is_harmless(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert "never started" in bench.service().end()[0]
    bench.fake.script({"echo": {"log": ["one", "two"]}})
    bench.service().ensure()
    assert bench.service().end() == ("stopped", ("one", "two"))
    assert bench.service().end() == ("it has ended", ())
    assert bench.service().ensure().attempt == 2


def test_an_end_that_was_cut_short_is_ended(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    handle = bench.service().ensure()
    bench.fake.stop(handle)  # and then the task was killed
    bench.service().end()
    assert bench.fake.ours() == []
    assert bench.statuses()[-1] == (1, "finished")


def test_what_ends_attempts_ends_services(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.fake.script({"ask": {"outcome": "hang"}})
    bench.started()
    assert remove_orphans(bench.home, bench.fake) == []
    assert stop_running(bench.home, "fake") == ["stopped p/r/ask", "stopped p/r/echo"]
    assert bench.fake.ours() == []
    assert bench.started(generation=0).attempt == 2  # the run is taken up: with a new service
    assert [s["attempt"] for s in bench.fake.starts("echo")] == [1, 2]


def test_a_service_that_no_record_wants_is_removed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.service().ensure()
    bench.forget(2)
    (said,) = remove_orphans(bench.home, bench.fake)
    assert said == "removed p/r/echo, which no run wants"
    assert bench.fake.ours() == []


def test_it_is_needed_by_its_users_and_its_stop(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    tasks = {run.step.id: run.tasks for run in step_runs(bench.home, bench.record, "fake")}
    assert tasks["echo"] == ("ask", "more", "stop-echo")
    assert tasks["ask"] == ("ask",)


def test_a_summary_does_not_wait_for_a_service(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for id in ("ask", "more"):
        bench.step(id).finish(bench.started(id))
    bench.service().end()
    bench.record.append("result", step="stop-echo", data={"state": "succeeded"})
    summary = summarise(bench.home.records, bench.record)
    assert summary["state"] == "succeeded"
    assert [s["id"] for s in summary["steps"]] == ["fetch", "ask", "more", "stop-echo"]
    json.dumps(summary)


def test_the_identity_of_a_step_holds_its_services(tmp_path: Path) -> None:
    def identity(name: str, text: str) -> str:
        bench = Bench(tmp_path / name)
        lines = bench.record.path.read_text().replace('"text":"hi"', f'"text":"{text}"')
        bench.record.path.write_text(lines)
        bench.started()
        return next(x.identity for x in bench.record.lines() if x.step == "ask" and x.identity)

    assert identity("a", "one") == identity("b", "one")
    assert identity("c", "one") != identity("d", "two")


def test_what_no_gate_has_seen_does_not_come_in_by_a_service(tmp_path: Path) -> None:
    spec = SPEC.replace(
        "  - {id: ask,",
        "  - {id: seen, image: proctor/steps, command: selfcheck act}\n"
        '  - {id: ok, approval: {question: "?"}, after: seen}\n'
        "  - {id: ask, after: ok,",
    )
    bench = Bench(tmp_path, spec=spec)
    with pytest.raises(StepRefused, match=r"reads fetch\.model, which no gate has seen"):
        bench.started()
