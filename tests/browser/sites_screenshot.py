"""Makes the documentation's pictures of the page Sites: sites_screenshot.py FOLDER. Run by hand.

The coordinator is a real one; what its three sites report is made up. It needs `tests` in
PYTHONPATH.
"""

from __future__ import annotations

import sys
from pathlib import Path

from airflow_ui import VIEWPORT, browser
from playwright.sync_api import Browser, expect

from committee_kit import Committee, Member, committee_running, has, member

CHROMIUM = "/usr/bin/chromium"
PREP = """
pipeline: prep
title: Preparation of scans
partition_def: {from: fetch.o}
steps:
  - {id: fetch, title: Read, image: proctor/steps, command: selfcheck act, outputs: {o: directory}}
  - {id: convert, title: Convert, image: proctor/steps, command: selfcheck act,
     outputs: {o: directory}, partition: true, after: fetch}
  - {id: look, title: Review, partition: true, inputs: {scans: convert.o},
     outputs: {done: directory}, review: {instructions: Look at each scan.}}
  - {id: check, title: Check, after: look, approval: {question: "Good enough?",
     evidence: [fetch.o]}}
"""
# Of each site: subjects; how many are converted; failed; reviewed; being reviewed.
SITES = {
    "hospital-a": (12, 12, 0, 7, 5),
    "hospital-b": (40, 21, 2, 0, 0),
    "hospital-c": (8, 8, 0, 8, 0),
}


def main(folder: Path) -> None:
    """Start a coordinator, let the sites report, and take the pictures."""
    with committee_running(PREP) as committee, browser(CHROMIUM) as chromium:
        for name, numbers in SITES.items():
            report(member(committee, name), *numbers)
        take(committee, chromium, "light", folder / "sites.png")
        take(committee, chromium, "dark", folder / "sites-dark.png")


def report(site: Member, subjects: int, done: int, failed: int, seen: int, asked: int) -> None:
    """Have a site report on so many subjects."""
    digest = site.record.header().plan_digest
    has(site.record, "fetch", "succeeded")
    for number in range(subjects):
        part = site.record.subject(f"subject {number}")
        part.append("header", plan_digest=digest, data={"subject": f"subject {number}"})
        if number < done + failed:
            has(part, "convert", "succeeded" if number < done else "failed")
        if number < seen:
            has(part, "look", "succeeded")
        elif number < seen + asked:
            part.append("attempt", step="look", attempt=1, data={"status": "running"})
            part.waits_at("look").write_text("{}")
    if seen == subjects:
        has(site.record, "subjects-1", "succeeded")
        site.record.append("asked", step="check", attempt=1, data={"evidence_digest": "e"})
    site.send()


def take(committee: Committee, chromium: Browser, scheme: str, path: Path) -> None:
    """The page in Airflow's navigation, as a person comes to it."""
    size = {"width": VIEWPORT["width"], "height": 620}
    page = chromium.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(committee.instance.login_link())
    page.wait_for_url(f"{committee.instance.url}/")
    page.goto(f"{committee.instance.url}/plugin/proctor-sites")
    inside = page.frame_locator("iframe")
    expect(inside.get_by_role("row", name="hospital-a")).to_be_visible(timeout=30_000)
    page.screenshot(path=path)
    page.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
