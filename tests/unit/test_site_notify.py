"""The owner's hook: what it hears, once, and what it cannot do to a run."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proctor.plan.model import Gate, Plan, PlanStep
from proctor.records.store import RunRecord
from proctor.site import notify
from proctor.site.client import AirflowUnavailable
from proctor.site.home import Home
from proctor.site.notify import Notifier, unusable

GATE = PlanStep(id="look", step="look", kind="approval", gate=Gate(question="Good?"))
PLAN = Plan(pipeline="p", steps=(GATE,))


class Bench:
    """A home with a run at its gate, an Airflow that knows of ended runs, and a hook."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(folder / "home")
        self.home.create()
        self.home.records.save_plan(PLAN)
        self.ended: list[dict[str, Any]] = []
        client = SimpleNamespace(ended=lambda since: self.ended)
        self.instance: Any = SimpleNamespace(
            home=self.home, url="http://127.0.0.1:8080", client=client
        )
        self.hook = self.home.path / "hooks" / "notify"
        self.hook.parent.mkdir(mode=0o700)
        self.heard = folder / "heard"

    def put(self, text: str = "", mode: int = 0o700) -> None:
        self.hook.write_text(f"#!/bin/sh\n{text or f'cat >> {self.heard}'}\n")
        self.hook.chmod(mode)

    def run(self, name: str = "r") -> RunRecord:
        record = self.home.records.run("p", name)
        record.append("header", plan_digest=PLAN.digest, data={"params": {}})
        record.append("asked", step="look", attempt=1, data={"evidence_digest": "e"})
        return record

    def tell(self) -> list[str]:
        return Notifier(self.instance).finish()

    def events(self) -> list[str]:
        lines = self.heard.read_text().splitlines() if self.heard.exists() else []
        return [json.loads(line)["event"] for line in lines]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_every_kind_of_event_is_told_once_whoever_asks(bench: Bench) -> None:
    bench.put()
    record = bench.run()
    assert bench.tell() == [] and bench.events() == ["question_asked"]
    record.append("uncounted", step="look", data={"answer": {}, "message": "no comment"})
    record.append("refused", step="look", data={"message": "late", "reason": "timeout"})
    record.append("refused", step="look", data={"message": "no output"})
    answer = {"by": "ada", "decision": "approved", "comment": "my thoughts"}
    record.append("approval", step="look", data={"answer": answer, "signature": "s"})
    end = {"dag_id": "p", "dag_run_id": "r", "state": "failed", "end_date": _soon(1)}
    bench.ended = [end]
    assert bench.tell() == []
    wanted = ["question_asked", "timed_out", "answered", "run_ended"]
    assert bench.events() == wanted
    assert bench.tell() == [] and bench.events() == wanted
    bench.ended = [end, end | {"dag_run_id": "r~0123456789abcdef-r1"}]
    assert bench.tell() == [] and bench.events() == wanted  # a subject's end is not a run's
    bench.ended = [end | {"end_date": _soon(2)}]  # cleared, and ended again
    assert bench.tell() == [] and bench.events() == [*wanted, "run_ended"]
    assert "my thoughts" not in bench.heard.read_text()


def _soon(seconds: int) -> str:
    at = time.gmtime(time.time() + seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S.000001Z", at)


def test_what_is_being_told_when_the_launcher_dies_is_not_told_again(bench: Bench) -> None:
    slow = bench.folder / "slow"
    slow.touch()
    bench.put(f"cat >> {bench.heard}; if [ -e {slow} ]; then sleep 30; fi")
    record = bench.run()
    notifier = Notifier(bench.instance)
    notifier.look(True)
    _until(lambda: bench.events() == ["question_asked"])
    slow.unlink()
    record.append("refused", step="look", data={"message": "late", "reason": "timeout"})
    assert bench.tell() == [] and bench.events() == ["question_asked", "timed_out"]
    assert notifier._running and notifier._running._process
    notifier._running._process.kill()


def test_what_was_before_the_hook_is_not_told(bench: Bench) -> None:
    bench.run()
    time.sleep(0.02)
    bench.put()
    assert bench.tell() == [] and bench.events() == []


def test_a_run_that_is_about_to_go_back_has_not_ended(bench: Bench) -> None:
    bench.put()
    record = bench.run()
    answer = {"by": "ada", "decision": "rejected"}
    record.append("approval", step="look", data={"answer": answer, "rework": "fetch"})
    bench.ended = [{"dag_id": "p", "dag_run_id": "r", "state": "failed", "end_date": _soon(1)}]
    assert bench.tell() == [] and bench.events() == ["question_asked", "answered"]


def test_the_end_of_a_damaged_run_keeps_no_other_from_being_told(bench: Bench) -> None:
    bench.put()
    record = bench.run()
    record.path.write_bytes(record.path.read_bytes() + b"{nonsense}\n")
    bench.run("r2")
    end = {"dag_id": "p", "dag_run_id": "r", "state": "failed", "end_date": _soon(1)}
    bench.ended = [end, end | {"dag_run_id": "r2", "state": "success", "end_date": _soon(2)}]
    bench.tell()
    assert bench.events().count("run_ended") == 2


def test_a_failure_of_the_hook_is_a_note(bench: Bench) -> None:
    bench.put("echo first >&2; echo no mail server >&2; exit 3")
    bench.run()
    assert bench.tell() == ["the hook notify failed (exit code 3): no mail server"]
    bench.put("exit 0")
    bench.hook.write_bytes(b"\0not a program")
    bench.run("r2")
    (note,) = bench.tell()
    assert note.startswith("the hook notify could not be started: Exec format error")


def test_a_hook_that_hangs_is_ended_and_nobody_waits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "HOOK_SECONDS", 1.0)
    pid = bench.folder / "pid"
    bench.put(f"sleep 60 & echo $! > {pid}; wait")
    bench.run()
    notifier, begun = Notifier(bench.instance), time.monotonic()
    assert notifier.look(True) == [] and notifier.look(True) == []
    assert time.monotonic() - begun < 0.9
    _until(lambda: pid.exists() and pid.read_text().strip())
    said: list[str] = []
    _until(lambda: said.extend(notifier.look(False)) or said)
    assert said == ["the hook notify was ended: it took over 1 s"]
    _until(lambda: not _alive(int(pid.read_text())))


def test_airflows_silence_keeps_no_answer_from_being_told(bench: Bench) -> None:
    def silent(since: str) -> list[dict[str, Any]]:
        raise AirflowUnavailable("no")

    bench.instance.client.ended = silent
    bench.put()
    bench.run()
    assert bench.tell() == [] and bench.events() == ["question_asked"]


def test_a_damaged_record_or_mark_keeps_nothing_else_from_being_told(bench: Bench) -> None:
    bench.put()
    record = bench.run()
    record.path.write_bytes(record.path.read_bytes() + b"{nonsense}\n")
    (bench.home.path / "airflow" / "told.json").write_text('{"p/r": "yesterday"}')
    bench.run("r2")
    assert bench.tell() == [] and bench.events() == ["question_asked"]


@pytest.mark.parametrize(
    ("mode", "folder", "why"),
    [
        (0o600, 0o700, "not executable"),
        (0o720, 0o700, "others may write to"),
        (0o702, 0o700, "others may write to"),
        (0o700, 0o777, "others may write to"),
        (0o755, 0o755, ""),
    ],
)
def test_only_a_program_that_nobody_else_can_change_is_run(
    bench: Bench, mode: int, folder: int, why: str
) -> None:
    bench.put(mode=mode)
    bench.hook.parent.chmod(folder)
    bench.run()
    notifier = Notifier(bench.instance)
    notes = [*notifier.finish(), *notifier.finish()]
    if why:
        assert len(notes) == 1 and why in notes[0] and bench.events() == []
    else:
        assert notes == [] and bench.events() == ["question_asked"]


def test_a_link_is_no_hook(bench: Bench) -> None:
    program = bench.folder / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    bench.hook.symlink_to(program)
    assert "must be no link" in unusable(bench.hook)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_hook_of_another_user_is_not_run(bench: Bench) -> None:
    bench.put()
    os.chown(bench.hook, 12345, -1)
    assert "belongs to another user" in unusable(bench.hook)


def test_the_hook_gets_no_secret_of_the_instance(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROCTOR_DATABASE", "postgresql://hunter2")
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "hunter2")
    bench.put(f"env > {bench.heard}; cat >> {bench.heard}")
    bench.run()
    assert bench.tell() == []
    assert "hunter2" not in bench.heard.read_text() and "PATH=" in bench.heard.read_text()


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _until(condition: Any) -> None:
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)
