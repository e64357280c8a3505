"""Results, Review and Record inside Airflow: by mouse and by keyboard, light and dark, with axe."""

from __future__ import annotations

import csv
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from airflow_site import Site, Started
from airflow_ui import PATIENCE_MS, Scheme, Visitor
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, FrameLocator, Page, expect
from test_gate import GATED, show

from proctor.runtime.fake import FakeRuntime
from proctor.site.home import Home
from proctor.site.instance import Instance, running
from results_kit import full_home, plan_of, write_run

RUNS = 30
QUESTION = "May these figures leave the house?"
# Where screenshots go, for a person to look at; nowhere unless named.
PICTURES = os.environ.get("PROCTOR_PICTURES")


@pytest.fixture(scope="module")
def instance(chromium: str) -> Iterator[Instance]:
    """Airflow over a home with runs, one of them damaged; steps run on the fake runtime."""
    folder = Path(tempfile.mkdtemp(prefix="proctor-pages-"))
    folder.chmod(0o711)
    home = Home(folder / "home")
    home.create()
    full_home(home.path, RUNS)
    damaged = write_run(home, plan_of("digits"), "2026-11-02T080000", number=7)
    damaged.path.write_bytes(damaged.path.read_bytes().replace(b'"kind":"result"', b'"kind":1', 1))
    expect.set_options(timeout=PATIENCE_MS)
    try:
        with running(home, "fake", sys.stderr) as started:
            yield started
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def gated(instance: Instance) -> Started:
    """A run that waits for an answer."""
    folder = instance.home.path.parent / "specs"
    folder.mkdir()
    site = Site(instance, folder, FakeRuntime(instance.home.path))
    show(site, "<h1>evidence</h1>")
    run = site.start("gated", GATED.format(name="gated", more="", question=QUESTION))
    asks = lambda: instance.patiently(run.tasks).get("approve") == "awaiting_input"  # noqa: E731
    run.until(asks, 180)
    return run


def own(visitor: Visitor, name: str) -> FrameLocator:
    """A page of ours in Airflow's navigation."""
    visitor.page.goto(visitor.url)
    visitor.page.get_by_role("link", name=name, exact=True).click()
    return visitor.page.frame_locator(f"iframe[title={name}]")


def picture(page: Page, name: str) -> None:
    if PICTURES:
        page.wait_for_timeout(1500)
        page.screenshot(path=str(Path(PICTURES) / f"{name}.png"))


def test_results_are_in_the_navigation_and_paged(visitor: Visitor) -> None:
    frame = own(visitor, "Results")
    expect(frame.get_by_text(f"{RUNS + 1} of {RUNS + 1} runs")).to_be_visible()
    expect(frame.get_by_text("The record cannot be read.")).to_be_visible()
    picture(visitor.page, "results")
    frame.get_by_role("link", name="Older runs").click()
    expect(frame.get_by_text("Page 2 of 2")).to_be_visible()
    visitor.page.reload()  # Airflow keeps the place in its own address
    expect(frame.get_by_text("Page 2 of 2")).to_be_visible()


def test_runs_are_filtered_and_compared_with_the_keyboard_alone(visitor: Visitor) -> None:
    frame, keys = own(visitor, "Results"), visitor.page.keyboard
    frame.get_by_label("Pipeline").focus()
    keys.type("yolo")
    for _ in range(5):
        keys.press("Tab")
    expect(frame.get_by_role("button", name="Show")).to_be_focused()
    keys.press("Enter")
    expect(frame.get_by_text(f"{RUNS // 2} of {RUNS + 1} runs")).to_be_visible()
    first, second = (frame.get_by_role("checkbox").nth(n) for n in (0, 1))
    first.focus()
    keys.press("Space")
    for _ in range(13):  # past the first run's links, scenarios and rules
        if second.evaluate("box => box === document.activeElement"):
            break
        keys.press("Tab")
    expect(second).to_be_focused()
    keys.press("Space")
    keys.press("Enter")
    expect(frame.get_by_role("heading", name="Two runs side by side")).to_be_visible()
    expect(frame.get_by_role("row", name=re.compile("samples per second.*%, "))).to_have_count(2)
    expect(frame.get_by_role("heading", name="Measuring yolo · Offline")).to_be_visible()
    picture(visitor.page, "compare")


def test_rules_missed_are_explained_where_they_are_named(visitor: Visitor) -> None:
    frame = own(visitor, "Results")
    rule = frame.get_by_text("min duration").first
    words = frame.get_by_text("the round's min_duration").first
    expect(words).to_be_hidden()
    rule.focus()
    visitor.page.keyboard.press("Enter")
    expect(words).to_be_visible()


def test_what_is_shown_is_downloaded_as_csv(visitor: Visitor) -> None:
    frame = own(visitor, "Results")
    frame.get_by_label("Scenario").select_option("Offline")
    frame.get_by_role("button", name="Show").click()
    expect(frame.get_by_role("link", name="All runs")).to_be_visible()
    with visitor.page.expect_download() as saved:
        frame.get_by_role("link", name="Download as CSV").click()
    with saved.value.path().open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == RUNS
    assert {row["scenario"] for row in rows} == {"Offline"}


def test_a_trend_is_reached_and_its_points_lead_to_their_runs(visitor: Visitor) -> None:
    frame, keys = own(visitor, "Results"), visitor.page.keyboard
    frame.get_by_role("link", name="Results over time", exact=True).click()
    frame.get_by_role("link", name="digits · Offline").click()
    expect(frame.get_by_role("heading", name="digits · Offline over time")).to_be_visible()
    points = frame.locator("svg a.point")
    expect(points).to_have_count(RUNS // 2)
    expect(frame.get_by_role("link", name=re.compile("2026-11-01T000000: 640.0"))).to_be_visible()
    expect(frame.get_by_role("row", name=re.compile("2026-11-01T000000"))).to_be_visible()
    picture(visitor.page, "trend")
    with visitor.page.expect_download() as saved:
        frame.get_by_role("link", name="Download as CSV").click()
    with saved.value.path().open() as file:
        assert len(list(csv.DictReader(file))) == RUNS // 2
    frame.get_by_label("Figure").focus()
    keys.type("latency p99")
    for _ in range(2):
        keys.press("Tab")
    keys.press("Enter")
    expect(frame.get_by_text("Lower is better.")).to_be_visible()
    points.first.focus()
    keys.press("Tab")
    expect(points.nth(1)).to_be_focused()
    keys.press("Enter")
    expect(frame.get_by_text("digits/2026-11-01T000002").first).to_be_visible()


def test_review_leads_to_evidence_and_to_the_question(visitor: Visitor, gated: Started) -> None:
    frame = own(visitor, "Review")
    expect(frame.get_by_role("heading", name="1 waiting for a person")).to_be_visible()
    expect(frame.get_by_role("heading", name=QUESTION)).to_be_visible()
    picture(visitor.page, "review")
    frame.get_by_role("link", name="Evidence").click()
    expect(frame.get_by_text("An answer counts only for exactly this")).to_be_visible()
    frame = own(visitor, "Review")
    frame.get_by_role("link", name="Answer in Airflow").focus()
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_url(re.compile("/tasks/approve/required_actions"))
    expect(visitor.page.get_by_role("button", name="Approve")).to_be_visible()


def test_run_and_task_show_their_record(visitor: Visitor, gated: Started) -> None:
    page = visitor.page
    base = f"{visitor.url}/dags/gated/runs/{quote(gated.record.run, safe='')}"
    page.goto(base)
    page.get_by_role("link", name="Record", exact=True).click()
    frame = page.frame_locator("iframe[title=Record]")
    expect(frame.get_by_role("row", name=re.compile("^evidence 1 succeeded"))).to_be_visible()
    expect(frame.get_by_role("heading", name=QUESTION)).to_be_visible()
    picture(page, "record")
    with page.expect_download() as saved:
        frame.get_by_role("link", name="record.jsonl").click()
    assert saved.value.path().read_bytes() == gated.record.path.read_bytes()
    page.goto(f"{base}/tasks/evidence")
    page.get_by_role("link", name="Record of the step").click()
    step = page.frame_locator("iframe[title='Record of the step']")
    expect(step.get_by_role("row", name=re.compile("report.*sha256"))).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    scheme: Scheme, instance: Instance, chromium_browser: Browser, gated: Started
) -> None:
    person = Visitor.of(chromium_browser, instance, scheme).log_in(instance)
    run = f"gated/{gated.record.run}"
    pages = {
        "results": "results",
        "comparison": "compare?run=digits/2026-11-01T000000&run=yolo/2026-11-01T000001",
        "none": "results?state=none",
        "kinds": "results/trend",
        "trend": "results/trend?benchmark=digits&scenario=Offline",
        "nothing": "results/trend?benchmark=none",
        "review": "review",
        "todo": f"review/{run}",
        "record": f"record/{run}",
        "step": f"record/{run}/evidence",
        "evidence": f"evidence/{run}/approve",
        "no-report": f"report/{run}",
        "damaged": "record/digits/2026-11-02T080000",
        "missing": "record/digits/none",
    }
    found = {}
    for name, address in pages.items():
        person.page.goto(f"{instance.url}/proctor/{address}")
        picture(person.page, f"{name}-{scheme}")
        rules = [(v["id"], v["impact"]) for v in Axe().run(person.page).response["violations"]]
        found |= {name: rules} if rules else {}
    person.page.context.close()
    assert not found


def test_our_pages_are_as_dark_as_airflow(visitor: Visitor) -> None:
    shades = {}
    for theme in ("dark", "light"):
        visitor.page.evaluate(f"localStorage.setItem('theme', '{theme}')")
        heading = own(visitor, "Results").get_by_role("heading", name="Results")
        expect(heading).to_be_visible()
        shades[theme] = heading.evaluate(
            "heading => getComputedStyle(heading.closest('body')).backgroundColor"
        )
        picture(visitor.page, f"results-in-{theme}")
    visitor.page.evaluate("localStorage.removeItem('theme')")
    assert shades == {"dark": "rgb(22, 29, 45)", "light": "rgb(255, 255, 255)"}


def test_a_narrow_window_scrolls_the_table_not_the_page(
    instance: Instance, chromium_browser: Browser
) -> None:
    person = Visitor.of(chromium_browser, instance).log_in(instance)
    person.page.set_viewport_size({"width": 420, "height": 800})
    trend = "results/trend?benchmark=digits&scenario=Offline"
    for name, address in {"results": "results", "review": "review", "trend": trend}.items():
        person.page.goto(f"{instance.url}/proctor/{address}")
        picture(person.page, f"{name}-narrow")
        assert person.page.evaluate("document.documentElement.scrollWidth") <= 420, name
    person.page.context.close()


def test_nothing_was_asked_of_another_machine_and_nothing_was_refused(visitor: Visitor) -> None:
    web = [url for url in visitor.requested if not url.startswith(("data:", "blob:"))]
    assert len(web) > 50
    assert {urlsplit(url).hostname for url in web} == {"127.0.0.1"}
    assert not visitor.complaints
