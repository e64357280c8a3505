"""The page Sites in a browser, over a real database: it follows, stops when hidden, says errors."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import uvicorn
from airflow.api_fastapi.core_api.security import get_user
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI, HTTPException, Request, Response
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import Engine, text

from coordinator_kit import engine_on, fresh_tables
from proctor.federation import inbox, register
from proctor.federation.intake import Intake
from proctor.federation.plans import KnownPlan
from proctor.federation.report import REPORT_FORMAT, SiteReport, step_report
from proctor.ui import app as own_pages
from proctor.ui import sites as page

PLAN = KnownPlan("prep", "Tumour preparation", (("convert", "Convert"), ("look", "Review")))
SCRIPT = "<script>document.title = 'taken'</script>"


@dataclass
class Committee:
    """The page as a server of its own; ``status``: what it answers to data, 0: what there is."""

    engine: Engine
    url: str = ""
    status: int = 0
    asked: list[str] = field(default_factory=list)

    def hears(self, site: str, sequence: int, done: int, **more: Any) -> None:
        steps = (
            step_report("convert", {"succeeded": done, "failed": 1, "pending": 11 - done}, 0),
            step_report("look", {"pending": 12}, more.pop("person", 0)),
        )
        settings: dict[str, Any] = {"plan": "a" * 64, "run": 1, "state": "running"} | more
        made = SiteReport(
            format=REPORT_FORMAT,
            version="0.1.0",
            sequence=sequence,
            started="2026-11-26T07:00Z",
            updated="2026-11-26T07:00Z",
            steps=steps,
            **settings,
        )
        with self.engine.begin() as database:
            known = {each.name: each for each in register.sites(database)}
            if site not in known:
                register.add_site(database, site)
                known = {each.name: each for each in register.sites(database)}
            number = list(known).index(site) + 1
            query = "SELECT number FROM proctor_site_token WHERE site_id = :id"
            token = database.scalar(text(query), {"id": known[site].id}) or number
            inbox.take(database, register.Bearer(known[site].id, site, token), made.body(), made)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    folder = Path(tempfile.mkdtemp(prefix="proctor-page-"))
    folder.chmod(0o711)
    with engine_on(folder) as (engine, url):
        fresh_tables(engine, url)
        yield engine
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def committee(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Committee]:
    with engine.begin() as database:
        database.execute(text("TRUNCATE proctor_site CASCADE"))
    made = Committee(engine)
    plans = {"a" * 64: PLAN}
    monkeypatch.setattr(page, "engine", lambda: engine)
    monkeypatch.setattr(page, "plans", lambda: plans)
    monkeypatch.setattr(page, "make_intake", lambda: Intake(engine.begin, plans.get))
    below, app = FastAPI(), FastAPI()
    page.add_sites(below)
    below.mount("/static", own_pages.static())

    def user(request: Request) -> None:
        made.asked.append(request.url.path)
        if made.status:
            raise HTTPException(made.status)

    below.dependency_overrides[get_user] = user
    app.mount("/proctor", below)
    app.get("/favicon.ico")(lambda: Response(status_code=204))
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    made.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/proctor/sites"
    yield made
    server.should_exit = True
    thread.join()


@dataclass
class Seen:
    """A page, and what went wrong in it or left for elsewhere."""

    page: Page
    problems: list[str] = field(default_factory=list)


@pytest.fixture
def seen(chromium_browser: Browser, committee: Committee) -> Iterator[Seen]:
    context = chromium_browser.new_context()
    found = Seen(context.new_page())
    found.page.on("pageerror", lambda error: found.problems.append(str(error)))
    host = committee.url.partition("/proctor")[0]
    found.page.on(
        "request",
        lambda sent: None if sent.url.startswith(host) else found.problems.append(sent.url),
    )
    yield found
    context.close()
    assert found.problems == []


def test_without_sites_it_says_how_to_add_one(committee: Committee, seen: Seen) -> None:
    seen.page.goto(committee.url)
    expect(seen.page.get_by_text("No sites yet.")).to_be_visible()
    expect(seen.page.get_by_text("proctor coordinator add-site NAME")).to_be_visible()


def test_it_follows_and_shows_each_sites_steps(committee: Committee, seen: Seen) -> None:
    committee.hears("hospital-a", 1, done=3)
    committee.hears("hospital-b", 1, done=11, person=4)
    committee.hears("hospital-c", 1, done=0, plan="b" * 64, state="waiting", person=1)
    with committee.engine.begin() as database:
        register.add_site(database, "hospital-d")
        register.revoke(database, "hospital-b")
    seen.page.goto(committee.url)
    table = seen.page.get_by_role("region", name="Sites of Tumour preparation")
    row = table.get_by_role("row", name="hospital-a")
    expect(row).to_contain_text("25 % 3/12")
    expect(row).to_contain_text("1 failed")
    expect(table.get_by_role("row", name="hospital-b")).to_contain_text("4 for a person")
    expect(seen.page.get_by_text("4 sites, 2 waiting for a person")).to_be_visible()
    expect(seen.page.get_by_text("Not heard of yet: hospital-d")).to_be_visible()
    expect(seen.page.get_by_text("Revoked: hospital-b")).to_be_visible()
    expect(seen.page.get_by_text("no spec here has it")).to_be_visible()
    committee.hears("hospital-a", 2, done=11)
    expect(row).to_contain_text("91.7 % 11/12", timeout=15_000)


def test_a_site_that_goes_on_and_was_long_not_heard_of_is_marked(
    committee: Committee, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "STALE_SECONDS", -1)
    committee.hears("hospital-a", 1, done=3)
    committee.hears("hospital-b", 1, done=3, state="failed")
    seen.page.goto(committee.url)
    expect(seen.page.get_by_text("2 sites, none waiting for a person, 1 not heard")).to_be_visible()
    row = seen.page.get_by_role("row", name="hospital-b")
    expect(row).to_contain_text("failed")
    expect(row).not_to_contain_text("not heard of for long")


def test_a_sites_history_by_keyboard_and_back(committee: Committee, seen: Seen) -> None:
    for sequence in (1, 2, 3):
        committee.hears("hospital-a", sequence, done=sequence)
    seen.page.goto(committee.url)
    expect(seen.page.get_by_role("link", name="hospital-a")).to_be_visible()
    seen.page.keyboard.press("Tab")  # the table, as it may be wider than the page
    seen.page.keyboard.press("Tab")
    seen.page.keyboard.press("Enter")
    expect(seen.page.get_by_role("heading", name="Site hospital-a")).to_be_visible()
    rows = seen.page.get_by_role("row")
    expect(rows).to_have_count(4)
    expect(rows.nth(1)).to_contain_text("Tumour preparation")
    seen.page.get_by_role("link", name="All sites").click()
    expect(seen.page.get_by_role("heading", name="Sites")).to_be_visible()
    seen.page.goto(f"{committee.url}?site=nobody")
    expect(seen.page.get_by_role("status")).to_have_text("There is no site nobody.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    scheme: Literal["light", "dark"], committee: Committee, seen: Seen
) -> None:
    committee.hears("hospital-a", 1, done=3)
    committee.hears("hospital-b", 1, done=11, person=4, state="failed")
    seen.page.emulate_media(color_scheme=scheme)
    for address, name in ((committee.url, "hospital-b"), (f"{committee.url}?site=hospital-a", "1")):
        seen.page.goto(address)
        expect(seen.page.get_by_role("row", name=name).first).to_be_visible()
        found = Axe().run(seen.page).response["violations"]
        assert [(each["id"], each["impact"]) for each in found] == []


@pytest.mark.parametrize(
    ("status", "words"),
    [(500, "answers with an error (500)"), (401, "not logged in any more"), (403, "not logged in")],
)
def test_an_error_is_said_and_what_was_seen_stays(
    committee: Committee, seen: Seen, status: int, words: str
) -> None:
    committee.hears("hospital-a", 1, done=3)
    seen.page.goto(committee.url)
    expect(seen.page.get_by_role("row", name="hospital-a")).to_be_visible()
    committee.status = status
    expect(seen.page.get_by_role("status")).to_contain_text(words, timeout=15_000)
    expect(seen.page.get_by_role("row", name="hospital-a")).to_be_visible()
    committee.status = 0
    expect(seen.page.locator("#told")).to_have_text("", timeout=15_000)


def test_nobody_is_asked_while_the_page_is_hidden(committee: Committee, seen: Seen) -> None:
    seen.page.goto(committee.url)
    expect(seen.page.get_by_text("No sites yet.")).to_be_visible()
    # What a browser does when another tab is shown.
    hide = """value => {
        Object.defineProperty(document, "hidden", {value, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    seen.page.evaluate(hide, True)
    time.sleep(0.5)
    before = len(committee.asked)
    time.sleep(7)
    assert len(committee.asked) == before
    seen.page.evaluate(hide, False)
    time.sleep(1)
    assert len(committee.asked) == before + 1


def test_a_title_of_a_spec_is_text(
    committee: Committee, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = KnownPlan("prep", SCRIPT, (("convert", SCRIPT),))
    monkeypatch.setattr(page, "plans", lambda: {"a" * 64: strange})
    committee.hears("hospital-a", 1, done=3)
    seen.page.goto(committee.url)
    expect(seen.page.get_by_role("columnheader", name=SCRIPT)).to_be_visible()
    assert seen.page.title() == "Sites"
