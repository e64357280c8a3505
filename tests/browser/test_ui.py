"""What a person sees and does: log in, start a run, look at the evidence, approve, read on."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from airflow_ui import COMMENT, Scheme, Visitor, record_of, titled
from playwright.sync_api import Browser, Locator, expect

from proctor.records.summary import summarise
from proctor.site.instance import Instance
from proctor.site.settings import user_name


def pixels(seen: Locator) -> list[int]:
    """Grey values of what the browser painted there, darkest first."""
    import cv2
    import numpy as np

    seen.scroll_into_view_if_needed()
    image = cv2.imdecode(np.frombuffer(seen.screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return sorted(int(value) for value in image.ravel())


def test_the_login_link_logs_in_once_and_says_so_the_second_time(
    visitor: Visitor, instance: Instance, chromium_browser: Browser
) -> None:
    expect(visitor.page.get_by_role("heading", name="Welcome")).to_be_visible()
    second = Visitor.of(chromium_browser, instance).page
    second.goto(visitor.link)
    expect(second.get_by_role("status")).to_contain_text("This link was used already")
    assert not urlsplit(second.url).fragment
    second.goto(instance.url)
    expect(second.get_by_role("heading", name="Welcome")).to_have_count(0)
    second.context.close()


def test_the_form_shows_every_parameter_and_can_be_sent_as_it_is(visitor: Visitor) -> None:
    dialog = visitor.open_trigger_form()
    for param in visitor.plan.params:
        expect(titled(dialog, param.title)).to_be_visible()
        if param.help:
            expect(dialog.get_by_text(param.help, exact=True).first).to_be_visible()
    expect(dialog.get_by_role("button", name="Trigger", exact=True)).to_be_enabled()


def test_scenarios_are_picked_from_a_list(visitor: Visitor) -> None:
    dialog = visitor.open_trigger_form()
    dialog.get_by_label("Remove Server").click()
    dialog.locator("#element_scenarios").get_by_role("combobox").click()
    visitor.page.get_by_role("option", name="Server", exact=True).click()
    expect(dialog.get_by_label("Remove Server")).to_be_visible()
    dialog.get_by_label("Remove Server").click()
    expect(dialog.get_by_role("button", name="Trigger", exact=True)).to_be_enabled()


def test_a_missing_image_address_keeps_the_form_from_being_sent(visitor: Visitor) -> None:
    dialog = visitor.open_trigger_form()
    dialog.locator("#element_images_uri").fill("")
    dialog.locator("#element_images_uri").press("Tab")
    expect(dialog.get_by_role("button", name="Trigger", exact=True)).to_be_disabled()


def test_the_graph_shows_the_pipeline(visitor: Visitor) -> None:
    visitor.see_graph()
    for step in visitor.plan.steps:
        node = visitor.page.get_by_test_id(f"rf__node-{step.step}")
        title = step.label.replace(step.cell, "").strip(" ,") if step.cell else step.label
        expect(node).to_contain_text(title)


def test_the_gate_asks_its_question_with_the_figures(visitor: Visitor, at_gate: str) -> None:
    page = visitor.page
    page.goto(visitor.url)
    page.get_by_text("Required Actions").click()
    page.get_by_role("link", name="approve", exact=True).last.click()
    expect(page.get_by_text("May these results go into a submission package?")).to_be_visible()
    row = page.get_by_role("row", name=re.compile("SingleStream.* ms .*min duration"))
    expect(row.first).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("Offline mAP 0.8.* 72 of 72"))).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("Server"))).to_have_count(0)


def test_the_gates_link_opens_the_evidence_in_a_page_of_its_own(
    visitor: Visitor, at_gate: str
) -> None:
    visitor.see_gate(at_gate)
    with visitor.page.expect_popup() as opened:
        visitor.page.get_by_role("link", name="Open the evidence page").click()
    report = opened.value.frame_locator("iframe")
    expect(report.get_by_role("heading", name="Handwritten digits")).to_be_visible()
    opened.value.close()


def test_the_evidence_is_shown_inside_airflow(
    visitor: Visitor, instance: Instance, at_gate: str
) -> None:
    ours, report = visitor.see_evidence(at_gate)
    asked = record_of(instance, at_gate).last("asked", "approve")
    assert asked is not None
    expect(ours.locator("code").first).to_have_text(str(asked.data["evidence_digest"])[:16])
    expect(report.get_by_text("This is not a valid MLPerf result")).to_be_visible()
    chart = report.get_by_role("img", name=re.compile("^Latency of .* queries")).first
    picture = report.locator("svg.picture").first
    for drawn in (chart, picture):
        values = pixels(drawn)
        assert values[-1] - values[0] > 100, "nothing is drawn there"
    ours.get_by_role("link", name="Show evidence: report.html alone").click()
    expect(ours.get_by_role("heading", name="Handwritten digits")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_our_pages_are_readable_in_both_schemes(
    scheme: Scheme, instance: Instance, chromium_browser: Browser, at_gate: str
) -> None:
    person = Visitor.of(chromium_browser, instance, scheme).log_in(instance)
    ours, report = person.see_evidence(at_gate)
    for heading in (ours.locator("h1"), report.locator("h1")):
        values = pixels(heading)
        background = values[len(values) // 2]
        assert values[-1] - values[0] > 150
        assert background < 80 if scheme == "dark" else background > 170
    person.page.context.close()


def test_before_the_report_its_tab_leads_to_the_evidence(visitor: Visitor, at_gate: str) -> None:
    tab = visitor.see_report(at_gate)
    expect(tab.get_by_role("heading", name="No report yet")).to_be_visible()
    tab.get_by_role("link", name="Evidence at the gate approve").click()
    expect(tab.get_by_role("heading", name="May these results go")).to_be_visible()


def test_a_rejection_without_a_comment_is_refused_and_the_form_stays(
    instance: Instance, chromium_browser: Browser, at_gate: str
) -> None:
    person = Visitor.of(chromium_browser, instance).log_in(instance)
    person.see_gate(at_gate)
    page = person.page
    page.get_by_role("button", name="Reject").click()
    expect(page.get_by_text("Response failed")).to_be_visible()
    expect(page.get_by_text("without one, such an answer does not count")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_be_enabled()
    line = record_of(instance, at_gate).last("uncounted", "approve")
    assert line is not None
    ours, _ = person.see_evidence(at_gate)
    expect(ours.get_by_role("row", name=re.compile("does not count.*not signed"))).to_be_visible()
    page.context.close()


def test_an_approval_in_the_ui_is_recorded_as_a_review(instance: Instance, approved: str) -> None:
    record = record_of(instance, approved)
    (approval,) = summarise(instance.home.records, record)["approvals"]
    assert approval["decision"] == "approved"
    assert approval["answered_via"] == "ui"
    assert approval["evidence_reviewed"] is True
    assert approval["comment"] == COMMENT
    assert approval["by"].lower() == user_name().lower()
    assert (record.folder / "submission.tar.gz").is_file()


def test_the_answer_stands_on_the_evidence_page(visitor: Visitor, approved: str) -> None:
    ours, _ = visitor.see_evidence(approved)
    expect(ours.get_by_role("row", name=re.compile(f"approved.*{COMMENT}"))).to_be_visible()


def test_the_runs_report_tab_shows_the_report_and_who_approved(
    visitor: Visitor, instance: Instance, approved: str
) -> None:
    report = visitor.see_report(approved)
    expect(report.get_by_role("heading", name="Handwritten digits")).to_be_visible()
    expect(report.get_by_text(COMMENT)).to_be_visible()
    published = Path(record_of(instance, approved).folder / "report.html").read_text()
    assert COMMENT in published


def test_nothing_was_asked_of_another_machine_and_nothing_was_refused(
    visitor: Visitor, approved: str
) -> None:
    web = [url for url in visitor.requested if not url.startswith(("data:", "blob:"))]
    assert len(web) > 50
    assert {urlsplit(url).hostname for url in web} == {"127.0.0.1"}
    assert not visitor.complaints
