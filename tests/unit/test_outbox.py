"""The outbox: nothing is lost and nothing doubled, at whatever byte its writer is killed."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crash_points import dies_at
from proctor.federation import outbox as module
from proctor.federation.outbox import Outbox, OutboxDamaged
from proctor.federation.report import REPORT_FORMAT, SiteReport, read_report, step_report

EFFECTS = [(module.os, name) for name in ("open", "fdopen", "fsync", "replace", "close")]


def report(done: int = 0, updated: str = "2026-11-26T07:00Z", plan: str = "a" * 64) -> SiteReport:
    return SiteReport(
        format=REPORT_FORMAT,
        version="0.1.0",
        sequence=1,
        plan=plan,
        run=1,
        state="running",
        started="2026-11-26T07:00Z",
        updated=updated,
        steps=(step_report("prep", {"succeeded": done, "pending": 1000 - done}, 0),),
    )


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    made = Outbox(tmp_path / "reports")
    made.create()
    return made


def test_reports_are_numbered_and_only_their_owner_can_read_them(outbox: Outbox) -> None:
    assert stat.S_IMODE(outbox.folder.stat().st_mode) == 0o700
    for done in (1, 2, 3):
        outbox.add(report(done), "prep/r1")
    assert outbox.numbers() == outbox.unsent() == [1, 2, 3]
    for path in outbox.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert read_report(outbox.body(2)).sequence == 2


def test_what_says_the_same_is_not_written_again_but_a_beat_is(outbox: Outbox) -> None:
    assert outbox.add(report(1), "prep/r1")
    assert outbox.add(report(1, "2026-11-26T08:00Z"), "prep/r1") is None
    assert outbox.add(report(1), "prep/r2")
    assert outbox.add(report(1, "2026-11-26T08:00Z"), "prep/r1") is None
    beat = outbox.beat("2026-11-26T08:00Z")
    assert beat and (beat.sequence, beat.run) == (3, 2) and beat.updated == "2026-11-26T08:00Z"
    assert beat.says_the_same(outbox.report(2)) and outbox.age() < 60


def test_a_run_has_a_number_that_says_nothing_and_keeps_it(outbox: Outbox) -> None:
    names = ["prep/2026-secret", "prep/b", "prep/2026-secret", "other/c"]
    plans = ["a" * 64, "a" * 64, "a" * 64, "b" * 64]
    made = [
        outbox.add(report(n, plan=p), name)
        for n, (name, p) in enumerate(zip(names, plans, strict=True))
    ]
    assert [each.run for each in made if each] == [1, 2, 1, 1]
    assert all(b"secret" not in outbox.body(number) for number in outbox.numbers())


def test_what_was_sent_is_kept_for_a_while(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    for done in range(10):
        outbox.add(report(done), "prep/r1")
    assert len(outbox.numbers()) == 10  # none has arrived
    outbox.was_sent(8)
    outbox.add(report(11), "prep/r1")
    assert outbox.numbers() == [5, 6, 7, 8, 9, 10, 11]
    assert outbox.unsent() == [9, 10, 11]


def test_a_report_that_was_changed_does_not_leave(outbox: Outbox) -> None:
    outbox.add(report(1), "prep/r1")
    path = outbox.folder / "000000001.json"
    path.write_bytes(path.read_bytes().replace(b'"prep"', b'"my name"'))
    with pytest.raises(OutboxDamaged, match=r"000000001.json was changed \(steps.0.id"):
        outbox.report(1)
    path.write_bytes(report(1).model_copy(update={"sequence": 7}).body())
    with pytest.raises(OutboxDamaged, match="it has number 7"):
        outbox.report(1)
    (outbox.folder / "sent.json").write_text("{")
    with pytest.raises(OutboxDamaged, match=r"sent.json cannot be read"):
        outbox.unsent()


def test_killed_before_or_behind_each_of_its_acts_it_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    points = 0
    while True:
        made = Outbox(tmp_path / f"at-{points}")
        made.create()
        made.add(report(1), "prep/r1")
        made.was_sent(1)
        died = dies_at(points + 1, EFFECTS, lambda made=made: made.add(report(2), "prep/r2"))
        # Whoever comes next has the old ones whole, and writes what is missing, once.
        again = Outbox(made.folder)
        again.create()
        again.add(report(2), "prep/r2")
        assert again.numbers() == [1, 2] and again.unsent() == [2], points
        kept = [again.report(number) for number in (1, 2)]
        assert [(each.run, each.steps[0].counts.succeeded) for each in kept] == [(1, 1), (2, 2)]
        if not died:
            break
        points += 1
    assert points > 20


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2].split(":")
from test_outbox import Outbox, report
outbox = Outbox(Path(sys.argv[1]))
outbox.create()
last = outbox.newest()
for done in range(last.steps[0].counts.succeeded + 1 if last else 1, 1000):
    outbox.add(report(done), "prep/r1")
    print(done, flush=True)
"""


def test_killed_again_and_again_in_the_middle_of_writing(tmp_path: Path) -> None:
    folder, known = tmp_path / "reports", 0
    for pause in (0.01, 0.03, 0.002, 0.05):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, folder, ":".join(p for p in sys.path if p)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout
        known = int(writer.stdout.readline())  # it is at it
        time.sleep(pause)
        os.kill(writer.pid, signal.SIGKILL)
        known = max([known, *map(int, writer.stdout.read().split())])
        writer.wait()
        outbox = Outbox(folder)
        numbers = outbox.numbers()
        # Numbers and what they tell are the same here: each once, in order, none missing.
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= known
        for number in numbers:
            assert outbox.report(number).steps[0].counts.succeeded == number
    assert known > 4
    assert json.loads((folder / "runs.json").read_text()) == {
        "prep/r1": {"plan": "a" * 64, "run": 1}
    }
