"""What the roles find in Airflow's UI: an approver answers there, and all else is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from airflow_site import Site, Started
from airflow_ui import PATIENCE_MS, Visitor, browser
from playwright.sync_api import Browser, expect
from rights_table import Stage

from proctor.site.instance import new_login_link

expect.set_options(timeout=PATIENCE_MS)
# Where its screenshots go, for a person to look at; nowhere unless named.
PICTURES = os.environ.get("PROCTOR_PICTURES")


@pytest.fixture(scope="module")
def chromium_browser(chromium: str) -> Iterator[Browser]:
    with browser(chromium) as opened:
        yield opened


def logged_in(opened: Browser, site: Site, name: str) -> Visitor:
    visitor = Visitor.of(opened, site.instance)
    visitor.page.goto(new_login_link(site.instance.home, name))
    visitor.page.wait_for_url(f"{visitor.url}/")
    return visitor


def see(visitor: Visitor, run: Started, part: str = "") -> None:
    run_id = quote(run.record.run, safe="")
    visitor.page.goto(f"{visitor.url}/dags/{run.record.pipeline}/runs/{run_id}/{part}")


def picture(visitor: Visitor, name: str) -> None:
    if PICTURES:
        visitor.page.wait_for_timeout(1500)
        visitor.page.screenshot(path=str(Path(PICTURES) / f"rights-{name}.png"))


def test_an_approver_sees_the_evidence_and_answers(
    site: Site, stage: Stage, chromium_browser: Browser
) -> None:
    run, visitor = stage.gate(), logged_in(chromium_browser, site, "abe")
    see(visitor, run)
    for tab in ("To do", "Report"):
        expect(visitor.page.get_by_role("link", name=tab, exact=True)).to_be_visible()
    see(visitor, run, "tasks/approve")
    visitor.page.get_by_role("link", name="Evidence", exact=True).click()
    ours = visitor.page.frame_locator("iframe[title=Evidence]")
    expect(ours.get_by_role("heading", level=1)).to_have_text("Good enough?")
    picture(visitor, "evidence")
    see(visitor, run, "tasks/approve/required_actions")
    visitor.page.get_by_text("I have looked at the evidence").click()
    picture(visitor, "approver")
    visitor.page.get_by_role("button", name="Approve").click()
    stage.spend_gate()
    assert run.ended() == "success"
    (approval,) = run.summary()["approvals"]
    assert (approval["by"], approval["evidence_reviewed"]) == ("abe", True)


def trigger(visitor: Visitor) -> int:
    """Send the form that starts a run; what Airflow answers."""
    visitor.page.goto(f"{visitor.url}/dags/open")
    visitor.page.get_by_role("button", name="Trigger").first.click()
    dialog = visitor.page.get_by_role("dialog")
    with visitor.page.expect_response(lambda r: r.request.method == "POST") as posted:
        dialog.get_by_role("button", name="Trigger", exact=True).click()
    return posted.value.status


def runs_of(site: Site) -> int:
    return len(list(site.instance.client._pages("/dags/open/dagRuns?", "dag_runs")))


@pytest.mark.parametrize("name", ["vera", "abe"])
def test_who_may_not_start_a_run_is_told_so(
    site: Site, stage: Stage, chromium_browser: Browser, name: str
) -> None:
    before = runs_of(site)
    visitor = logged_in(chromium_browser, site, name)
    assert trigger(visitor) == 403
    expect(visitor.page.get_by_text("403").first).to_be_visible()
    picture(visitor, f"{name}-triggers")
    assert runs_of(site) == before


def test_an_operator_starts_a_run(site: Site, stage: Stage, chromium_browser: Browser) -> None:
    visitor = logged_in(chromium_browser, site, "olaf")
    assert trigger(visitor) == 200
    visitor.page.wait_for_url(re.compile("/dags/open/runs/"))


def test_a_viewer_cannot_answer(site: Site, stage: Stage, chromium_browser: Browser) -> None:
    run, visitor = stage.gate(), logged_in(chromium_browser, site, "vera")
    see(visitor, run, "tasks/approve/required_actions")
    with visitor.page.expect_response(lambda r: r.request.method == "PATCH") as sent:
        visitor.page.get_by_role("button", name="Approve").click()
    assert sent.value.status == 403
    expect(visitor.page.get_by_text("Access Denied").first).to_be_visible()
    picture(visitor, "viewer-answers")
    expect(visitor.page.get_by_role("button", name="Approve")).to_be_enabled()
    assert run.tasks()["approve"] == "awaiting_input"


def test_an_approver_cannot_mark_the_gate(
    site: Site, stage: Stage, chromium_browser: Browser
) -> None:
    run, visitor = stage.gate(), logged_in(chromium_browser, site, "abe")
    see(visitor, run, "tasks/approve")
    visitor.page.get_by_role("button", name="Mark Task Instance as").first.click()
    visitor.page.get_by_role("menuitem", name="success").click()
    dialog = visitor.page.get_by_role("dialog")
    confirm = dialog.get_by_role("button", name="Confirm")
    # The dialog first asks what would be marked, by PATCH, too, and grows with the answer.
    expect(confirm).to_be_enabled()
    picture(visitor, "approver-marks-first")
    with visitor.page.expect_response(
        lambda r: r.request.method == "PATCH" and "dry_run" not in r.url, timeout=2 * PATIENCE_MS
    ) as sent:
        confirm.press("Enter")
    assert sent.value.status == 403
    expect(visitor.page.get_by_text("Access Denied").first).to_be_visible()
    picture(visitor, "approver-marks")
    assert run.tasks()["approve"] == "awaiting_input"
