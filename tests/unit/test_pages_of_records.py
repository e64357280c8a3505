"""Our pages over generated records: what they show, to whom, and where a record is damaged."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import get_user
from fastapi.testclient import TestClient
from httpx import Response
from rich.console import Console

from proctor.plan.model import Plan, PlanStep
from proctor.records import results
from proctor.records.comparison import compare
from proctor.records.results import Results
from proctor.records.store import RunRecord
from proctor.records.summary import summarise
from proctor.site.home import HOME_VARIABLE, Home
from proctor.site.terminal import results_table
from proctor.ui import review, rights
from proctor.ui.app import make_app
from proctor.ui.pages import since
from proctor.ui.results import PAGE_RUNS
from results_kit import BEGAN, SCENARIOS, Lines, full_home, loadgen, plan_of, write_run
from trend_kit import measured_run

HTML = {"accept": "text/html"}


class Pages:
    """Our pages, with a user who may see some DAGs only."""

    def __init__(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self.hidden, self.answers = home, set[str](), True
        self.under_way: list[tuple[str, str]] = []
        monkeypatch.setenv(HOME_VARIABLE, str(home.path))
        monkeypatch.setattr(rights, "_authorized", self._authorized)
        monkeypatch.setattr(review, "under_way", lambda: self.under_way)
        app = make_app()
        user = SimpleAuthManagerUser(username="ada", role="user")
        app.dependency_overrides[get_user] = lambda: user
        self._client = TestClient(app, raise_server_exceptions=False)

    def _authorized(self, user: Any, dag_id: str, method: str, entity: Any) -> bool:
        return dag_id not in self.hidden and (method == "GET" or self.answers)

    def get(self, path: str, status: int = 200) -> Response:
        found = self._client.get(path, headers=HTML)
        assert found.status_code == status, found.text
        return found

    def text(self, path: str, status: int = 200) -> str:
        """What a person reads."""
        return text_of(self.get(path, status).text)


def text_of(page: str) -> str:
    words = re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", page, flags=re.S)
    return " ".join(html.unescape(words).split())


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pages:
    return Pages(Home(tmp_path), monkeypatch)


@pytest.fixture
def plan() -> Plan:
    return plan_of("digits")


def test_nothing_yet_says_how_to_begin(pages: Pages) -> None:
    assert "proctor run demo" in pages.text("/results")
    assert "No run under way waits for a person" in pages.text("/review")
    assert list(csv.reader(io.StringIO(pages.get("/results.csv").text)))[1:] == []


def test_a_run_is_shown_with_its_figures_rules_and_accuracy(pages: Pages, plan: Plan) -> None:
    write_run(pages.home, plan, "one", missed=("min_duration", "seed_qsl"))
    text = pages.text("/results")
    assert "1 of 1 runs" in text
    assert "Offline over time digits 640.0 samples/s result samples per second" in text
    assert "missed · LoadGen: VALID min duration, seed qsl the round's min_duration" in text
    assert "mAP 0.5361 target 0.5368, missed" in text
    assert "5.00 ms 6.00 ms 7.00 ms" in text
    assert 'href="/proctor/record/digits/one"' in pages.get("/results").text


def test_a_run_that_meets_every_rule_says_so(pages: Pages, plan: Plan) -> None:
    write_run(pages.home, plan, "one", missed=())
    assert "met · LoadGen: VALID" in pages.text("/results")
    assert "No run is like that" in pages.text("/results?rules=missed")


def test_runs_are_paged_newest_first(pages: Pages) -> None:
    full_home(pages.home.path, PAGE_RUNS + 3)
    first, second = pages.text("/results"), pages.text("/results?page=2")
    assert f"2026-11-01T{PAGE_RUNS + 2:06d}" in first and "Page 1 of 2" in first
    assert "2026-11-01T000000" in second and "Older runs" not in second
    assert pages.text("/results?page=999") == second
    assert "page: Input should be" in pages.text("/results?page=x", 422)


@pytest.mark.parametrize(
    ("query", "runs", "rows"),
    [
        ("pipeline=digits", 2, 8),
        ("benchmark=yolo", 2, 8),
        ("scenario=Offline", 4, 4),
        ("scenario=Offline&pipeline=yolo", 2, 2),
        ("state=running", 4, 16),
        ("state=failed", 0, 0),
        ("rules=met", 0, 0),
    ],
)
def test_filters(pages: Pages, query: str, runs: int, rows: int) -> None:
    full_home(pages.home.path, 4)
    assert pages.get(f"/results?{query}").text.count('type="checkbox"') == runs
    found = list(csv.DictReader(io.StringIO(pages.get(f"/results.csv?{query}").text)))
    assert len(found) == rows
    assert len(pages.get(f"/results.json?{query}").json()["results"]) == rows


def test_what_a_step_wrote_is_neither_markup_nor_a_formula(pages: Pages, plan: Plan) -> None:
    name = "=HYPERLINK(1)<script>"
    write_run(pages.home, plan, "one", benchmark=name)
    assert "<script>" not in pages.get("/results").text.replace("<script src=", "")
    (row, *_) = csv.DictReader(io.StringIO(pages.get("/results.csv").text))
    assert row["benchmark"] == f"'{name}"


def test_figures_of_no_known_shape_take_nothing_down(pages: Pages, plan: Plan) -> None:
    record = pages.home.records.run("digits", "odd")
    pages.home.records.save_plan(plan)
    lines = Lines(record, plan.digest, BEGAN)
    lines.add("header", data={"params": {}})
    odd = {"scenario": "Offline", "mode": "performance", "metric": {"value": "fast"}, "rules": 7}
    lines.result("performance.Offline", "logs", {"loadgen": odd | {"latency_ns": [1]}})
    lines.result(
        "score.Offline", "score", {"accuracy": {"metric": "mAP", "value": True, "step": 7}}
    )
    lines.write()
    text = pages.text("/results")
    assert "1 of 1 runs" in text and "no target set" in text
    summary = summarise(pages.home.records, record)
    assert [row["step"] for row in summary["accuracy"]] == ["score.Offline"]
    results_table(Console(file=io.StringIO()), summary, record)
    measured_run(pages.home, 1)  # so that there is a list of kinds
    assert "Results over time" in pages.text("/results/trend")


def test_a_figure_from_a_disturbed_machine_is_marked(pages: Pages, plan: Plan) -> None:
    reason = "others took <1.00> of 2 processors"
    for run, disturbed in (("calm", []), ("loud", [reason])):
        record = pages.home.records.run("digits", run)
        pages.home.records.save_plan(plan)
        lines = Lines(record, plan.digest, BEGAN)
        lines.add("header", data={"params": {}})
        figures = loadgen("digits", "Offline", 0, ()) | {"disturbed": disturbed}
        lines.result("performance.Offline", "logs", {"loadgen": figures})
        lines.write()
    text = pages.text("/results")
    assert text.count("disturbed machine") == 1
    assert reason in text
    found = {row["run"]: row["disturbed"] for row in pages.get("/results.json").json()["results"]}
    assert found == {"calm": "", "loud": reason}
    compared = pages.text("/compare?run=digits/calm&run=digits/loud")
    assert f"Machine quiet not quiet: {reason}" in compared


def test_who_may_not_see_a_dag_sees_nothing_of_its_runs(pages: Pages) -> None:
    full_home(pages.home.path, 4)
    pages.hidden = {"yolo"}
    assert "yolo" not in pages.get("/results").text
    assert {row["pipeline"] for row in pages.get("/results.json").json()["results"]} == {"digits"}
    for path in (
        "/record/yolo/2026-11-01T000001",
        "/record/yolo.subjects-1/2026-11-01T000001",
        "/record/yolo/2026-11-01T000001/approve",
        "/file/yolo/2026-11-01T000001/summary.json",
        "/review/yolo/2026-11-01T000001",
        "/report/yolo/2026-11-01T000001",
        "/evidence/yolo/2026-11-01T000001/approve",
        "/compare?run=digits/2026-11-01T000000&run=yolo/2026-11-01T000001",
    ):
        assert "You may not see yolo" in pages.text(path, 403), path


def test_nobody_gets_in_without_a_login(pages: Pages) -> None:
    app = make_app()
    client = TestClient(app)
    for path in ("/results", "/results.csv", "/results.json", "/review", "/compare", "/record/a/b"):
        assert client.get(path, headers=HTML).status_code == 401, path


def test_pages_run_no_foreign_script_and_load_nothing_from_elsewhere(
    pages: Pages, plan: Plan
) -> None:
    write_run(pages.home, plan, "one", asked=True)
    for path in ("/results", "/review", "/record/digits/one", "/evidence/digits/one/approve"):
        sent = pages.get(path)
        policy = sent.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert sent.headers["x-content-type-options"] == "nosniff"
        assert sent.headers["cache-control"] == "no-store"
        assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", sent.text)
        assert not re.findall(r" (?:style|on\w+)=", sent.text)
    for name in ("pages.css", "pages.js"):
        assert "http" not in pages.get(f"/static/{name}").text


def test_a_damaged_record_shows_as_such_and_hides_no_other(pages: Pages, plan: Plan) -> None:
    write_run(pages.home, plan, "good", asked=True)
    bad = write_run(pages.home, plan, "bad", number=1)
    raw = bad.path.read_bytes().split(b"\n")
    raw[4] = b"{"
    bad.path.write_bytes(b"\n".join(raw))
    pages.under_way = [("digits", "good"), ("digits", "bad")]
    text = pages.text("/results")
    assert "digits good" in text and f"{bad.path}:5: no record line" in text
    assert "1 waiting for a person digits/bad: the record cannot be read" in pages.text("/review")
    for path in (
        "/record/digits/bad",
        "/evidence/digits/bad/approve",
        "/compare?run=digits/good&run=digits/bad",
    ):
        assert f"This record cannot be read {bad.path}:5" in pages.text(path), path
    assert "The record cannot be read" not in pages.text("/results?scenario=Offline")


def test_a_lost_summary_or_plan_is_no_lost_page(pages: Pages, plan: Plan) -> None:
    record = write_run(pages.home, plan, "one")
    (record.folder / "summary.json").write_text("{")
    assert "640.0 samples/s" in pages.text("/results")
    next((pages.home.path / "plans").iterdir()).unlink()
    (record.folder / "summary.json").unlink()
    assert "The record cannot be read. plan" in pages.text("/results")


def test_only_what_changed_is_read_again(
    pages: Pages, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [write_run(pages.home, plan, f"r{n}", number=n) for n in range(5)]
    read: list[str] = []
    real: Callable[..., Any] = results.read
    monkeypatch.setattr(
        results, "read", lambda store, record: read.append(record.run) or real(store, record)
    )
    known = Results(pages.home.path)
    assert len(known.of(["digits"])) == 5 and len(read) == 5
    known.of(["digits"])
    assert len(read) == 5
    records[2].append("refused", step="approve", data={"message": "no"})
    found = {each.run: each.state for each in known.of(["digits"])}
    assert read[5:] == ["r2"] and found["r2"] == "failed"
    for path in sorted(records[0].folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert len(known.of(["digits"])) == 4


def test_two_runs_side_by_side(pages: Pages, plan: Plan) -> None:
    write_run(pages.home, plan, "a", number=0)
    write_run(pages.home, plan, "b", number=1, scenarios=("Offline",), missed=())
    text = pages.text("/compare?run=digits/a&run=digits/b")
    assert "result samples per second 640.0 samples/s 581.8 samples/s -9.1%, worse" in text
    assert "latency p99 7.00 ms 7.70 ms +10.0%, worse" in text
    assert "Rules missed min duration none" in text
    assert "mAP 0.5361 0.5371 +0.2%" in text and "+0.2%, better" not in text
    assert "threads 0 1" in text and "min_duration_ms 8000 8001" in text
    assert "early stopping latency ss 6.00 ms –" in text
    assert "The same in both: Run" in text


def test_a_comparison_names_what_made_a_step_another(tmp_path: Path, plan: Plan) -> None:
    home = Home(tmp_path)
    a, b = (write_run(home, plan, name) for name in "ab")
    line = b.lines()[1]
    parts = {"image": "sha256:" + "2" * 64, "params": {"step": line.step}}
    b.append("attempt", step=line.step, attempt=2, data={"identity_parts": parts})
    (steps,) = [g for g in compare(home.records, a, b).made_by if g.title == "Steps"]
    (pair,) = steps.pairs
    assert pair.name == line.step and pair.change.startswith("the image was 111111111111, is 2222")


def test_a_comparison_of_other_pipelines_pairs_scenarios(tmp_path: Path) -> None:
    home = Home(tmp_path)
    a = write_run(home, plan_of("p"), "a")
    b = write_run(home, plan_of("q"), "b", number=1)
    assert len(compare(home.records, a, b).figures) == len(SCENARIOS)


@pytest.mark.parametrize("query", ["", "?run=digits/a", "?run=a/b&run=c/d&run=e/f"])
def test_not_two_runs_are_not_compared(pages: Pages, query: str) -> None:
    assert "Tick exactly two runs" in pages.text(f"/compare{query}", 400)


def test_a_run_that_is_not_there(pages: Pages) -> None:
    assert "There is no run digits/a" in pages.text("/compare?run=digits/a&run=digits/b", 404)
    assert "has no record" in pages.text("/record/digits/a", 404)
    assert "is no pipeline or run id" in pages.text("/record/digits/a%20b", 404)
    assert "No evidence here" in pages.text("/evidence/digits/a/approve")


def test_a_record_tells_attempts_outputs_and_answers(pages: Pages, plan: Plan) -> None:
    record = write_run(pages.home, plan, "one", asked=True)
    record.append("attempt", step="evidence", attempt=2, data={"status": "running"})
    failed = {"state": "failed", "kind": "data", "message": "a.png is empty"}
    record.append("result", step="evidence", attempt=2, data=failed)
    answer = {"by": "ada", "decision": "rejected", "comment": "", "answered_via": "ui"}
    message = "ada rejected without a comment that says why"
    record.append(
        "uncounted", step="approve", attempt=1, data={"answer": answer, "message": message}
    )
    text = pages.text("/record/digits/one")
    assert "performance.Offline 1 succeeded 2026-11-01 08:00:11 UTC 9.0 s 111111111111" in text
    assert "→ logs 1,234 bytes sha256" in text
    assert "evidence 2 failed (data): a.png is empty" in text
    assert f"rejected; does not count: {message} ada" in text
    assert "threads 0 yes" in text and "1d1d1d1d1d1d" in text
    assert f"The last answer did not count: {message}" in text
    step = pages.text("/record/digits/one/evidence")
    assert "evidence 2 failed" in step and "performance.Offline" not in step
    assert "none that makes attempts" in pages.text("/record/digits/one/approve")


def test_a_subjects_record(pages: Pages, plan: Plan) -> None:
    whole = write_run(pages.home, plan, "one")
    part = whole.subject("A01/x")
    part.append("header", plan_digest=plan.digest, data={"subject": "A01/x"})
    text = pages.text(f"/record/digits.subjects-1/{part.run}-r1.A01_x")
    assert "Subject A01/x of digits/one" in text and "Nothing has begun yet" in text


def test_files_of_a_run_are_saved_and_no_others(pages: Pages, plan: Plan, tmp_path: Path) -> None:
    record = write_run(pages.home, plan, "one")
    (record.folder / "submission.tar.gz").write_bytes(b"package")
    (record.folder / "link").symlink_to("/etc/hostname")
    (record.folder / "folder").mkdir()
    package = pages.get("/file/digits/one/submission.tar.gz")
    assert package.content == b"package"
    assert package.headers["content-disposition"].startswith("attachment")
    assert pages.get("/file/digits/one/record.jsonl").content == record.path.read_bytes()
    for name in ("link", "folder", "record", "..%2Fone%2Fsummary.json", ".hidden", "none"):
        pages.get(f"/file/digits/one/{name}", 404)
    assert "submission.tar.gz" in pages.text("/results")


def test_review_shows_what_waits_and_who_may_answer(pages: Pages) -> None:
    mine, others = plan_of("digits"), plan_of("yolo", ("bob",))
    write_run(pages.home, others, "late", number=5, asked=True)
    write_run(pages.home, mine, "early", asked=True)
    write_run(pages.home, mine, "over", asked=True)  # Airflow's run of it has ended
    write_run(pages.home, mine, "busy")
    pages.under_way = [
        ("yolo", "late"),
        ("digits", "early"),
        ("digits", "busy"),
        ("other", "manual__2026"),
        ("other", "no/name"),
    ]
    text = pages.text("/review")
    assert "2 waiting for a person" in text
    assert text.index("digits/early") < text.index("yolo/late")
    assert "whoever may answer questions of this pipeline. You may." in text
    assert "May answer: bob. You may only look." in text
    page = pages.get("/review").text
    assert "/dags/digits/runs/early/tasks/approve/required_actions" in page
    assert "/proctor/evidence/yolo/late/approve" in page
    pages.hidden = {"yolo"}
    assert "1 waiting for a person" in pages.text("/review")
    pages.answers = False
    assert "You may only look." in pages.text("/review/digits/early")


def test_review_shows_files_that_a_person_finishes(pages: Pages, plan: Plan) -> None:
    record: RunRecord = write_run(pages.home, plan, "one")
    told = '{"step": "evidence", "title": "Look", "words": ["a.nii: outstanding", "b.nii: empty"]}'
    (record.own / "waiting-evidence.json").write_text(told)
    pages.under_way = [("digits", "one")]
    text = pages.text("/review")
    assert "1 waiting for a person Look" in text and "a.nii: outstanding b.nii: empty" in text
    assert "a.nii: outstanding" in pages.text("/record/digits/one")


def test_review_of_many_subjects_is_one_card(pages: Pages) -> None:
    plan = plan_of("digits")
    work = PlanStep(id="correct", step="correct", kind="review", partition="subjects-1")
    plan = plan.model_copy(update={"steps": (*plan.steps, work)})
    record = write_run(pages.home, plan, "one")
    for number in range(review.SHOWN + 3):
        part = record.subject(f"S{number:03d}/a b")
        part.append("header", plan_digest=plan.digest)
        part.append("attempt", step="correct", attempt=1, data={"status": "running"})
        told = f'{{"step": "correct", "title": "Correct", "words": ["{number}.nii: outstanding"]}}'
        (part.own / "waiting-correct.json").write_text(told)
    pages.under_way = [("digits", "one"), ("digits.subjects-1", f"{part.run}-r1.S052_a_b")]
    text = pages.text("/review")
    assert f"{review.SHOWN + 3} waiting for a person Correct" in text and "And 3 more." in text
    assert "S000/a b 0.nii: outstanding" in text
    key = record.subject("S000/a b").run
    assert f"/dags/digits.subjects-1/runs/{quote(key, safe='')}-r1.S000_a_b/tasks/correct" in (
        pages.get("/review").text
    )


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        (timedelta(seconds=-5), "less than a minute"),
        (timedelta(minutes=5), "5 min"),
        (timedelta(hours=3, minutes=7), "3 h 7 min"),
        (timedelta(days=4), "4 days"),
    ],
)
def test_how_long_something_waits(ago: timedelta, words: str) -> None:
    assert since((datetime.now(UTC) - ago).isoformat()) == words


@pytest.mark.parametrize("at", ["", "no time", "2020-01-01"])
def test_what_is_no_time_of_a_record_is_not_told(at: str) -> None:
    assert since(at) == ""
