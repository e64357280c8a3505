"""Accepted results: who may make one, what becomes of it, and that a changed book is found."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from history_kit import PLAN, Run, loadgen, plan_of
from proctor.airflow import past
from proctor.airflow.answers import (
    ACCEPT,
    APPROVE,
    KEEP,
    REJECT,
    RUN_AGAIN,
    answer_of,
    given,
    options,
    unattended,
    why_uncounted,
)
from proctor.airflow.baselines import answered, before, rows, tell_runs, told
from proctor.airflow.question import earlier_answer
from proctor.airflow.recorded import refresh_summary
from proctor.cli import app
from proctor.plan.compile import compile
from proctor.plan.model import Gate
from proctor.records import chain
from proctor.records.approvals import (
    ApprovalInvalid,
    SigningKey,
    record_answer,
    valid_answer,
)
from proctor.records.baselines import candidates, line_digest, settle, why_not
from proctor.records.book import Accepted, Answered, Book, Entry, Identity, current, ever
from proctor.records.book import open_findings as still_open
from proctor.records.measured import CACHE_FILE, Found, measured
from proctor.records.model import Line
from proctor.records.store import RecordError, RunRecord
from proctor.records.summary import SUMMARY_FILE, summarise
from proctor.site.gc import remove_run
from proctor.site.home import Home
from proctor.site.verify import verify
from proctor.spec.load import parse_pipeline
from proctor_steps.contract import Approval
from proctor_steps.history import Figure, Measured

OFFLINE = Identity("digits", "Offline", "bench-1", "openvino", "float32")
SERVER = Identity("digits", "Server", "bench-1", "openvino", "float32")
GATE = Gate(question="Is it true?", baseline=True, keep=True, rework="performance")
GATED = plan_of("p", GATE)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.create()
    return made


@pytest.fixture
def book(home: Home) -> Book:
    return Book(home.path)


def result(value: float = 100.0, of: str = "p/r/performance/1") -> Measured:
    figure = Figure(name="throughput", value=value, unit="samples/s", better="higher")
    return Measured(of=of, at="2026-11-01T08:00:00+00:00", valid=True, figures=(figure,))


def put(book: Book, *identities: Identity, value: float = 100.0) -> Entry:
    accepted = [Accepted(identity=each, measured=result(value)) for each in identities]
    return book.add("set", by="ada", why="looks right", accepted=accepted)


def answer_line(digest: str = "1" * 64, via: str = "ui") -> Answered:
    return Answered(pipeline="p", run="r", gate="gate", line=digest, via=via)


# --- the book ------------------------------------------------------------------------------------


def test_what_was_accepted_is_the_baseline_until_something_else_is(book: Book) -> None:
    assert book.entries() == []
    put(book, OFFLINE, SERVER)
    put(book, OFFLINE, value=120)
    known = current(book.entries())
    assert [each.measured.figures[0].value for each in known.values()] == [120, 100]
    assert [each.measured.figures[0].value for each in ever(book.entries(), OFFLINE)] == [100, 120]
    book.add("retired", by="ada", why="machine sold", identities=[OFFLINE])
    assert list(current(book.entries())) == [SERVER]
    assert len(ever(book.entries(), OFFLINE)) == 2  # it stays in the book


def test_one_answer_is_written_once_however_often_it_comes(book: Book) -> None:
    accepted = [Accepted(identity=OFFLINE, measured=result())]
    first = book.add("set", by="ada", accepted=accepted, answer=answer_line())
    again = book.add("set", by="ada", accepted=accepted, answer=answer_line())
    assert again == first
    assert len(book.entries()) == 1
    book.add("set", by="ada", accepted=accepted, answer=answer_line("2" * 64))
    assert len(book.entries()) == 2


def test_a_finding_is_open_until_a_person_or_a_later_baseline_settles_it(book: Book) -> None:
    put(book, OFFLINE, SERVER)
    first = book.add("opened", by="ada", why="odd", identities=[OFFLINE, SERVER])
    second = book.add("opened", by="bob", why="again", identities=[OFFLINE])
    assert [e.id for e, _ in still_open(book.entries())] == [first.id, second.id]
    put(book, OFFLINE)
    assert [(e.id, left) for e, left in still_open(book.entries())] == [(first.id, (SERVER,))]
    book.add("closed", by="ada", why="the fan was broken", closes=first.id)
    assert still_open(book.entries()) == []


def changed(book: Book, old: bytes, new: bytes) -> None:
    raw = book.path.read_bytes()
    assert old in raw
    book.path.write_bytes(raw.replace(old, new, 1))


def resealed(book: Book, number: int, **change: Any) -> None:
    """Edit a line and mend the chain behind it, as somebody would who knows its form."""
    lines = [json.loads(raw) for raw in chain.raw_lines(book.path)]
    lines[number - 1] |= change
    made: list[bytes] = []
    for line in lines:
        line["prev_digest"] = chain.follows(made[-1] if made else b"")
        made.append(json.dumps(line).encode())
    book.path.write_bytes(b"".join(raw + b"\n" for raw in made))


def test_a_figure_that_was_changed_is_found(book: Book) -> None:
    put(book, OFFLINE)
    changed(book, b'"value":100', b'"value":900')
    with pytest.raises(RecordError, match=r"lines\.jsonl:1: it is not signed with this site's key"):
        book.entries()


def test_an_entry_with_a_mended_chain_is_found(book: Book) -> None:
    put(book, OFFLINE)
    put(book, SERVER)
    resealed(book, 1, by="mallory")
    with pytest.raises(RecordError, match=r":1: it is not signed"):
        book.entries()


@pytest.mark.parametrize("gone", [0, 1])
def test_an_entry_that_was_taken_out_is_found(book: Book, gone: int) -> None:
    for _ in range(3):
        put(book, OFFLINE)
    lines = book.path.read_bytes().splitlines(keepends=True)
    book.path.write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
    with pytest.raises(RecordError, match="does not follow the line before it"):
        book.entries()


def test_an_entry_of_another_site_is_none_here(book: Book, tmp_path: Path) -> None:
    other = Book(tmp_path / "other")
    put(other, OFFLINE)
    book.path.parent.mkdir(parents=True)
    SigningKey(tmp_path / "home").public()
    book.path.write_bytes(other.path.read_bytes())
    with pytest.raises(RecordError, match="not signed"):
        book.entries()


def test_without_the_key_nothing_tells_who_signed(book: Book, home: Home) -> None:
    put(book, OFFLINE)
    (home.path / "keys" / "approvals.key").unlink()
    with pytest.raises(RecordError, match="key is gone"):
        book.entries()
    assert not (home.path / "keys" / "approvals.key").exists()  # reading makes no other one


@pytest.mark.parametrize("line", [b"{}\n", b"not json\n", b"\n"])
def test_a_line_that_is_none_is_named_and_nothing_is_written_behind_it(
    book: Book, line: bytes
) -> None:
    put(book, OFFLINE)
    with book.path.open("ab") as file:
        file.write(line)
    with pytest.raises(RecordError, match=r"lines\.jsonl:2: no entry"):
        put(book, SERVER)
    assert book.path.read_bytes().endswith(line)


def test_a_line_that_a_crash_cut_short_is_dropped(book: Book) -> None:
    put(book, OFFLINE)
    with book.path.open("ab") as file:
        file.write(b'{"format":"proctor.base')
    assert len(book.entries()) == 1
    put(book, SERVER)
    assert len(current(book.entries())) == 2


def test_a_baseline_outlives_its_run(home: Home, book: Book) -> None:
    record = Run(home).performed().write()
    book.add("set", by="ada", accepted=candidates(home.records, record).accepted)
    remove_run(record)
    (kept,) = current(book.entries()).values()
    assert kept.measured.figures[0].value == 100
    assert kept.measured.made_by["host"]["kernel"] == "6.8.0"


# --- what may become one -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "taken_over", "why"),
    [
        ({}, False, ""),
        ({"disturbed": None}, False, ""),  # nobody looked: that is no mark against it
        ({"disturbed": ("load 3.1", "hot")}, False, "the machine was disturbed: load 3.1; hot"),
        ({"valid": False}, False, "LoadGen calls it INVALID"),
        ({"valid": None}, False, "no performance run"),
        ({}, True, "taken over from p/r/performance/1"),
    ],
)
def test_only_a_quiet_valid_own_measurement_may(
    change: dict[str, Any], taken_over: bool, why: str
) -> None:
    measured = result().model_copy(update={"disturbed": (), **change})
    found = Found(step="s", identity=OFFLINE, measured=measured, taken_over=taken_over)
    assert why in why_not(found)
    assert bool(why) == bool(why_not(found))


def test_the_newest_good_result_of_an_identity_is_chosen(home: Home) -> None:
    run = Run(home).performed(100).performed(101, "performance-2")
    found = candidates(home.records, run.write())
    assert [each.measured.of for each in found.accepted] == ["p/r/performance-2/1"]
    run = Run(home, "second").performed(100).performed(60, "performance-2", disturbed=["load 4"])
    found = candidates(home.records, run.write())
    assert [each.measured.of for each in found.accepted] == ["p/second/performance/1"]
    assert found.refused == ()
    run = Run(home, "third").performed(100, valid=False)
    found = candidates(home.records, run.write())
    assert found.accepted == ()
    assert [why for _, why in found.refused] == ["LoadGen calls it INVALID"]


def test_only_what_the_named_steps_measured(home: Home) -> None:
    record = Run(home).performed(100).performed(101, "performance-2").write()
    found = candidates(home.records, record, ["performance"])
    assert [each.measured.of for each in found.accepted] == ["p/r/performance/1"]
    assert candidates(home.records, record, []).identities == ()


def test_what_is_kept_beside_a_record_makes_no_baseline(home: Home) -> None:
    record = Run(home).performed(100).write()
    measured(home.records, record)
    cache = record.own / CACHE_FILE
    cache.write_bytes(cache.read_bytes().replace(b"100.0", b"900.0"))
    (found,) = candidates(home.records, record).accepted
    assert found.measured.figures[0].value == 100


def test_a_record_that_was_edited_makes_none(home: Home) -> None:
    record = Run(home).performed(100).write()
    record.path.write_bytes(record.path.read_bytes().replace(b'"value":100', b'"value":900', 1))
    with pytest.raises(RecordError, match="does not follow"):
        candidates(home.records, record)


# --- answers at a gate ---------------------------------------------------------------------------


def answer(
    home: Home, record: RunRecord, decision: str, via: str = "ui", comment: str = "because"
) -> Line:
    """Given at the gate, as its task records it."""
    said = Approval.model_validate(
        {
            "gate": "gate", "decision": decision, "by": "ada", "at": "2026-11-01T09:00:00+00:00",
            "answered_via": via, "evidence_reviewed": True, "evidence_digest": "e" * 64,
            "comment": comment,
        }
    )  # fmt: skip
    more = {"baselines": told(before(home, record, GATED, GATED.step("gate")))}
    return record_answer(
        record, SigningKey(home.path), said, attempt=1, plan_digest=GATED.digest, more=more
    )


def gated(home: Home, run: str = "r", **performed: Any) -> RunRecord:
    return Run(home, run, GATED).scored().performed(**performed).write()


def carried_out(home: Home, record: RunRecord, line: Line) -> list[str]:
    return list(answered(home, record, GATED, line))


def test_an_approval_makes_what_stands_behind_it_the_baseline_once(home: Home, book: Book) -> None:
    record = gated(home)
    line = answer(home, record, "approved")
    assert carried_out(home, record, line) == [f"baseline of {OFFLINE}: p/r/performance/1"]
    carried_out(home, record, line)  # the task was killed, and comes again
    (entry,) = book.entries()
    assert (entry.by, entry.why) == ("ada", "because")
    assert entry.answer == answer_line(line_digest(line))
    raw = record.path.read_bytes().splitlines()[line.seq - 1]
    assert line_digest(line) == hashlib.sha256(raw).hexdigest()


def test_an_answer_that_keeps_the_old_opens_a_finding(home: Home, book: Book) -> None:
    record = gated(home)
    (words,) = carried_out(home, record, answer(home, record, "kept"))
    (entry,) = book.entries()
    assert words == f"finding {entry.id} is open: {OFFLINE}"
    assert (entry.kind, entry.identities) == ("opened", (OFFLINE,))
    assert current(book.entries()) == {}


@pytest.mark.parametrize(
    ("decision", "via", "performed"),
    [
        ("rejected", "ui", {}),
        ("approved", "cli-yes", {}),
        ("approved", "ui", {"valid": False}),
        ("approved", "ui", {"disturbed": ["load 3"]}),
    ],
)
def test_other_answers_make_none(
    home: Home, book: Book, decision: str, via: str, performed: dict[str, Any]
) -> None:
    record = gated(home, **performed)
    words = carried_out(home, record, answer(home, record, decision, via))
    assert book.entries() == []
    assert bool(words) == (decision == "approved")  # and it says why


def test_unattended_a_finding_is_left_open_for_a_person(home: Home, book: Book) -> None:
    record = gated(home)
    carried_out(home, record, answer(home, record, "kept", via="cli-yes"))
    (entry,) = book.entries()
    assert entry.answer and entry.answer.via == "cli-yes"


def test_what_a_gate_has_not_seen_is_no_part_of_the_answer(home: Home) -> None:
    plan = plan_of("p", GATE)
    steps = tuple(
        each.model_copy(update={"upstream": ("performance", "score")})
        if each.id == "judge"
        else each
        for each in plan.steps
    )
    plan = plan.model_copy(update={"steps": steps})
    assert "performance-2" not in plan.ancestors("gate")
    record = Run(home, plan=plan).performed(100).performed(50, "performance-2").write()
    found = before(home, record, plan, plan.step("gate"))
    assert [each.measured.of for each in found.accepted] == ["p/r/performance/1"]


def test_the_question_tells_what_an_approval_would_do(home: Home, book: Book) -> None:
    put(book, OFFLINE, value=120)
    record = gated(home)
    (row,) = rows(home, before(home, record, GATED, GATED.step("gate")))
    figures = "throughput 100.0 samples/s, accuracy 0.5400"
    assert row == (str(OFFLINE), figures, "throughput 120.0 samples/s", "becomes the baseline")
    record = gated(home, "second", disturbed=["load 3"])
    (row,) = rows(home, before(home, record, GATED, GATED.step("gate")))
    assert row[3] == "no baseline: the machine was disturbed: load 3"


def test_a_book_that_was_changed_lets_no_answer_through(home: Home, book: Book) -> None:
    put(book, OFFLINE)
    changed(book, b'"value":100', b'"value":900')
    record = gated(home)
    with pytest.raises(RecordError, match="baselines were changed"):
        carried_out(home, record, answer(home, record, "approved"))


# --- three answers -------------------------------------------------------------------------------

PLAIN, BASE = Gate(question="?"), Gate(question="?", baseline=True)


def test_the_answers_of_a_gate() -> None:
    assert options(PLAIN) == options(BASE) == {APPROVE: "approved", REJECT: "rejected"}
    assert options(GATE) == {ACCEPT: "approved", KEEP: "kept", RUN_AGAIN: "rejected"}
    assert list(options(GATE.model_copy(update={"rework": ""}))) == [ACCEPT, KEEP, REJECT]
    assert (unattended(PLAIN), unattended(BASE), unattended(GATE)) == (APPROVE, APPROVE, KEEP)


def event(chosen: str, comment: str = "") -> dict[str, Any]:
    return {
        "chosen_options": [chosen],
        "params_input": {"comment": comment},
        "responded_by_user": {"name": "ada"},
        "responded_at": datetime(2026, 11, 1, tzinfo=UTC),
    }


@pytest.mark.parametrize(
    ("chosen", "comment", "gate", "why"),
    [
        (ACCEPT, "", GATE, ""),
        (KEEP, "odd", GATE, ""),
        (RUN_AGAIN, "noisy", GATE, ""),
        (KEEP, " ", GATE, "ada kept the old baseline without a comment that says why"),
        (RUN_AGAIN, "", GATE, "ada rejected without a comment that says why"),
        (APPROVE, "", GATE, "it is neither an approval nor a rejection"),
        (KEEP, "odd", PLAIN, "it is neither an approval nor a rejection"),
    ],
)
def test_which_answers_count(chosen: str, comment: str, gate: Gate, why: str) -> None:
    said = answer_of(event(chosen, comment), "gate", gate) | {"evidence_digest": "e"}
    assert why_uncounted(gate, said, "e") == why


def test_a_kept_baseline_lets_the_run_go_on_while_the_evidence_is_the_same(home: Home) -> None:
    record = gated(home)
    key = SigningKey(home.path).public()
    answer(home, record, "kept")
    assert valid_answer(record, "gate", "e" * 64, key).decision == "kept"
    with pytest.raises(ApprovalInvalid, match="has changed since ada answered"):
        valid_answer(record, "gate", "f" * 64, key)
    lines = record.path.read_bytes()
    record.path.write_bytes(lines.replace(b'"decision":"kept"', b'"decision":"approved"', 1))
    with pytest.raises(ApprovalInvalid, match="not signed"):
        valid_answer(record, "gate", "e" * 64, key)


def test_people_read_that_it_was_kept(home: Home) -> None:
    record = gated(home)
    answer(home, record, "kept", comment="the fan is loud")
    (shown,) = given(home, record)
    # This record has no judge's output any more, so that the answer is voided, as any would be.
    assert shown.verdict.startswith("kept the old baseline; voided")
    assert not shown.counts
    words = earlier_answer(record, "gate", "e" * 64)
    assert words == "ada kept the old baseline in view of this evidence before: the fan is loud"


def test_a_summary_tells_what_is_open_until_it_is_closed(home: Home, book: Book) -> None:
    record = gated(home)
    assert summarise(home.records, record)["open_findings"] == []
    carried_out(home, record, answer(home, record, "kept", comment="the fan is loud"))
    summary = json.loads((record.folder / SUMMARY_FILE).read_text())
    (finding,) = summary["open_findings"]
    assert (finding["gate"], finding["by"], finding["comment"]) == (
        "gate",
        "ada",
        "the fan is loud",
    )
    assert finding["identities"][0]["scenario"] == "Offline"
    gate = next(each for each in summary["steps"] if each["id"] == "gate")
    assert (gate["state"], gate["message"]) == (
        "succeeded",
        "ada kept the old baseline: the fan is loud",
    )
    later = gated(home, "later")
    carried_out(home, later, answer(home, later, "approved"))
    assert json.loads((record.folder / SUMMARY_FILE).read_text())["open_findings"] == []


def test_a_summary_says_so_where_the_book_cannot_be_read(home: Home, book: Book) -> None:
    record = gated(home)
    carried_out(home, record, answer(home, record, "kept"))
    changed(book, b'"by":"ada"', b'"by":"bob"')
    (finding,) = summarise(home.records, record)["open_findings"]
    assert "baselines were changed" in finding["problem"]


def test_a_damaged_run_does_not_keep_others_from_being_told(home: Home, book: Book) -> None:
    first, second = gated(home), gated(home, "second")
    for record in (first, second):
        carried_out(home, record, answer(home, record, "kept"))
    first.path.write_bytes(b"{}\n" + first.path.read_bytes())
    (second.folder / SUMMARY_FILE).unlink()
    tell_runs(home, book)
    assert (second.folder / SUMMARY_FILE).exists()


# --- what is told of them ------------------------------------------------------------------------


def test_a_step_is_told_the_baseline(home: Home, book: Book) -> None:
    put(book, OFFLINE, value=120)
    record = Run(home).performed().write()
    told_ = json.loads(past.told(home, record, PLAN.step("judge"), 1))
    assert told_["series"][0]["baseline"]["figures"][0]["value"] == 120
    changed(book, b'"value":120', b'"value":900')
    with pytest.raises(RecordError, match="baselines were changed"):
        past.told(home, record, PLAN.step("judge"), 1)


def bad(home: Home, record: RunRecord) -> list[str]:
    found = [each for each in verify(home, record) if each.what == "baseline"]
    return [each.message for each in found if each.state == "bad"]


def test_verify_finds_an_answer_that_was_never_carried_out(home: Home, book: Book) -> None:
    record = gated(home)
    line = answer(home, record, "approved")
    assert bad(home, record) == [
        "the answer was never carried out; clear the gate and answer it again"
    ]
    carried_out(home, record, line)
    assert bad(home, record) == []
    assert [x.state for x in verify(home, record) if x.what == "baseline"] == ["good"]
    changed(book, b'"by":"ada"', b'"by":"bob"')
    assert "baselines were changed" in bad(home, record)[0]


def test_verify_finds_a_book_that_accepts_other_results(home: Home, book: Book) -> None:
    record = gated(home)
    line = answer(home, record, "approved")
    other = Accepted(identity=OFFLINE, measured=result(of="p/other/performance/1"))
    book.add("set", by="ada", accepted=[other], answer=answer_line(line_digest(line)))
    assert bad(home, record) == ["the book accepts other results than the answer"]


def test_verify_asks_for_no_entry_where_an_answer_leaves_none(home: Home) -> None:
    for run, decision, via in (("a", "rejected", "ui"), ("b", "approved", "cli-yes")):
        record = gated(home, run)
        answer(home, record, decision, via)
        assert bad(home, record) == []


# --- by hand -------------------------------------------------------------------------------------


def call(home: Home, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["baseline", *words, "--home", str(home.path)])
    assert done.exit_code == code, done.output
    return done.output


def test_a_baseline_is_set_shown_and_retired_by_hand(home: Home, book: Book) -> None:
    assert "no baselines" in call(home, "list")
    Run(home, "first").scored().performed().write()
    said = call(home, "set", "first", "--why", "the first of this machine")
    assert said == f"baseline of {OFFLINE}: p/first/performance/1\n"
    Run(home, "second", hours=1).performed(120).write()
    call(home, "set", "second", "--why", "new cooling")
    listed = json.loads(call(home, "list", "--json"))
    (only,) = listed["baselines"]
    assert only["identity"]["scenario"] == "Offline"
    assert only["measured"]["of"] == "p/second/performance/1"
    assert only["why"] == "new cooling"
    assert only["id"] in call(home, "list")
    shown = json.loads(call(home, "show", only["id"][:6], "--json"))
    assert [each["measured"]["of"] for each in shown["before"]] == ["p/first/performance/1"]
    assert shown["run"] == "set by hand"
    words = call(home, "show", only["id"])
    for word in ("throughput 120.0 samples/s", "new cooling", "6.8.0", "by hand", "quiet"):
        assert word in words
    assert "has no baseline any more" in call(home, "retire", only["id"], "--why", "sold")
    assert "no baselines" in call(home, "list")
    assert "is not the baseline" in call(home, "retire", only["id"], "--why", "sold", code=2)
    assert [e.kind for e in book.entries()] == ["set", "set", "retired"]
    assert "no baseline 'zzz'" in call(home, "show", "zzz", code=2)


def test_what_may_not_is_refused_with_the_reason_and_the_rest_is_set(home: Home) -> None:
    run = Run(home).performed(100).performed(90, "performance-2", scenario="Server", valid=False)
    run.write()
    said = call(home, "set", "r", "--why", "x", code=1)
    assert f"baseline of {OFFLINE}" in said
    assert f"no baseline of {SERVER}: p/r/performance-2/1: LoadGen calls it INVALID" in said
    assert "measured nothing in judge" in call(
        home, "set", "r", "--step", "judge", "--why", "x", code=2
    )
    assert "--why is empty" in call(home, "set", "r", "--why", " ", code=2)
    assert "there is no run" in call(home, "set", "none", "--why", "x", code=2)


def test_a_finding_is_shown_and_closed_by_hand(home: Home, book: Book) -> None:
    base = gated(home, "base")
    carried_out(home, base, answer(home, base, "approved"))
    record = gated(home)
    carried_out(home, record, answer(home, record, "kept", comment="the [fan] is loud"))
    told_ = json.loads(call(home, "list", "--json"))
    (finding,) = told_["open_findings"]
    assert (finding["run"], finding["comment"]) == ("p/r", "the [fan] is loud")
    name = told_["baselines"][0]["id"]
    words = call(home, "show", name)
    assert finding["id"] in words
    assert "the [fan] is loud" in words
    assert "p/base holds the answer" in words
    assert json.loads(call(home, "show", name, "--json"))["open_findings"] == [finding]
    assert "no open finding 'zz'" in call(home, "close", "zz", "--why", "x", code=2)
    refresh_summary(home, record)
    call(home, "close", finding["id"][:5], "--why", "a new fan")
    assert json.loads(call(home, "list", "--json"))["open_findings"] == []
    assert json.loads((record.folder / SUMMARY_FILE).read_text())["open_findings"] == []
    remove_run(base)
    assert "p/base is not here any more" in call(home, "show", name)


def test_a_record_that_lost_the_answer_is_told(home: Home) -> None:
    record = gated(home)
    carried_out(home, record, answer(home, record, "approved"))
    lines = record.path.read_bytes().splitlines(keepends=True)
    record.path.write_bytes(b"".join(lines[:-1]))
    name = json.loads(call(home, "list", "--json"))["baselines"][0]["id"]
    assert "DOES NOT HOLD" in call(home, "show", name)


def test_a_changed_book_ends_a_command_in_words(home: Home, book: Book) -> None:
    put(book, OFFLINE)
    changed(book, b'"value":100', b'"value":900')
    done = CliRunner().invoke(app, ["baseline", "list", "--home", str(home.path)])
    assert isinstance(done.exception, RecordError)  # main() says it as one sentence


# --- specs ---------------------------------------------------------------------------------------


def test_a_spec_makes_such_a_gate() -> None:
    spec = """\
pipeline: p
steps:
  - {id: performance, image: a/b, command: x, outputs: {logs: directory}}
  - id: gate
    approval:
      evidence: [performance.logs]
      baseline: true
      keep: true
      on_reject: {rework: performance}
"""
    gate = compile(parse_pipeline(spec, "p.yaml")).step("gate").gate
    assert gate is not None
    assert (gate.baseline, gate.keep, gate.rework) == (True, True, "performance")


def test_settling_needs_an_answer_of_a_gate(home: Home, book: Book) -> None:
    record = gated(home)
    found = candidates(home.records, record)
    line = answer(home, record, "approved")
    entry = settle(book, record, line, found)
    assert entry is not None
    assert loadgen()["metric"]["value"] == entry.accepted[0].measured.figures[0].value
