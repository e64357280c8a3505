"""Makes the pictures of the documentation from a real run: screenshots.py FOLDER. Run by hand."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path

from airflow_ui import (
    COMMENT,
    DEMO,
    VIEWPORT,
    Visitor,
    browser,
    demo_instance,
    titled,
    until,
    wait_for_end,
    wait_for_gate,
)
from playwright.sync_api import Browser, FloatRect, FrameLocator, Page, expect
from rich.console import Console

from proctor.plan.compile import load_plan
from proctor.plan.params import check_params
from proctor.records.store import RunRecord
from proctor.records.summary import summarise
from proctor.site.home import Home
from proctor.site.instance import Instance
from proctor.site.runs import View, WatchedRun, new_run_id
from proctor.site.terminal import ProgressView, results_table

MAX_BYTES = 400_000
CHROMIUM = "/usr/bin/chromium"
# The terminal's picture shows a moment in this step.
SHOWN = "performance.Server"


def main(folder: Path) -> None:
    """Run the demo once, with a person at it, and take its pictures on the way."""
    folder.mkdir(parents=True, exist_ok=True)
    with demo_instance() as instance, browser(CHROMIUM) as chromium:
        visitor = Visitor.of(chromium, instance).log_in(instance)
        trigger_form(visitor, folder / "trigger-form.png")
        # Paths are shown as they are where Proctor runs in the folder it was started in.
        console = Console(record=True, width=112, force_terminal=True, file=io.StringIO())
        with contextlib.chdir(instance.home.path.parent):
            record = start(instance, console)
        pictures_at_the_gate(chromium, visitor, instance, record.run, folder)
        visitor.approve(record.run, COMMENT)
        wait_for_end(instance, record.run)
        report = visitor.see_report(record.run)
        expect(report.get_by_role("heading", level=1)).to_be_visible()
        take(visitor.page, folder / "report.png")
        own_pages(visitor, instance, record.run, folder)
        with contextlib.chdir(instance.home.path.parent):
            results_table(console, summarise(instance.home.records, record), record)
    # Without rich's fonts, which it would fetch from elsewhere.
    drawn = re.sub(
        r"@font-face \{.*?\}\s*", "", console.export_svg(title="proctor run demo"), flags=re.S
    )
    (folder / "terminal.svg").write_text(drawn)


def trigger_form(visitor: Visitor, path: Path) -> None:
    """The form, where it offers choices."""
    scenarios = titled(visitor.open_trigger_form(), "Scenarios")
    visitor.page.set_viewport_size({"width": VIEWPORT["width"], "height": 1000})
    scenarios.evaluate("element => element.scrollIntoView({block: 'center'})")
    take(visitor.page, path, height=1000)


def start(instance: Instance, console: Console) -> RunRecord:
    """Start the demo as ``proctor run`` does; keep what the terminal shows halfway."""
    plan = load_plan(DEMO)
    home = Home(Path(instance.home.path.name))
    record = home.records.run("demo", new_run_id())
    WatchedRun(instance, plan, record).start(check_params(plan, {}), DEMO, {})
    progress = ProgressView(console, plan, record, home)

    def halfway() -> bool:
        view = View("running", instance.client.task_states("demo", record.run))
        state = str(view.tasks[SHOWN]["state"])
        if " 4 s of at least" not in progress._progress(plan.step(SHOWN), state):
            return False
        console.print(progress._table(view))
        return True

    until(halfway, 150, f"the middle of {SHOWN}")
    return record


def pictures_at_the_gate(
    chromium: Browser, visitor: Visitor, instance: Instance, run: str, folder: Path
) -> None:
    """The graph, the question and the evidence of a run that waits."""
    wait_for_gate(instance, run, 300)
    sharp = Visitor.of(chromium, instance, scale=2).log_in(instance)
    graph(sharp, run, folder / "dag-graph.png")
    sharp.page.context.close()
    visitor.see_gate(run)
    take(visitor.page, folder / "gate.png", height=1080)
    _, report = visitor.see_evidence(run)
    look_at(report, "Latency")
    take(visitor.page, folder / "evidence.png", height=1080)


def own_pages(visitor: Visitor, instance: Instance, first: str, folder: Path) -> None:
    """Results, comparison and Review, with a second run that waits for its answer."""
    second = visitor.trigger(4)
    wait_for_gate(instance, second, 300)
    page = visitor.page
    frame = see_own(visitor, "results", "Results")
    take(page, folder / "results.png")
    for run in (first, second):
        frame.get_by_label(f"Compare demo/{run}").check()
    frame.get_by_role("button", name="Compare two runs").click()
    expect(frame.get_by_role("heading", name="Two runs side by side")).to_be_visible()
    take(page, folder / "comparison.png")
    see_own(visitor, "review", "1 waiting for a person")
    take(page, folder / "review.png", height=520)


def see_own(visitor: Visitor, route: str, heading: str) -> FrameLocator:
    """A page of ours in Airflow's navigation."""
    visitor.page.goto(f"{visitor.url}/plugin/proctor-{route}")
    frame = visitor.page.frame_locator(f"iframe[title={route.capitalize()}]")
    expect(frame.get_by_role("heading", name=heading)).to_be_visible()
    return frame


def graph(visitor: Visitor, run: str, path: Path) -> None:
    """The graph alone: all of its width, and no more height than it has."""
    page = visitor.page
    visitor.see_run(run)
    page.get_by_label("Show Graph").click()
    page.get_by_label("Collapse Details Panel").click()
    page.get_by_label("Fit View").click()
    page.wait_for_timeout(2000)  # it glides into place
    boxes = [n.bounding_box() for n in page.locator(".react-flow__node").all()]
    tops = [box["y"] for box in boxes if box]
    bottoms = [box["y"] + box["height"] for box in boxes if box]
    top, width = min(tops) - 40, VIEWPORT["width"]
    clip: FloatRect = {"x": 110, "y": top, "width": width - 150, "height": max(bottoms) + 40 - top}
    page.screenshot(path=path, clip=clip)
    check_size(path)


def look_at(report: FrameLocator, heading: str) -> None:
    """Scroll so that a part of the report is in sight."""
    part = report.get_by_role("heading", name=heading, exact=True)
    part.evaluate("element => element.scrollIntoView({block: 'start'})")


def take(page: Page, path: Path, height: int = VIEWPORT["height"]) -> None:
    """The window, in a height that shows what matters."""
    page.set_viewport_size({"width": VIEWPORT["width"], "height": height})
    page.wait_for_timeout(1500)  # what fades in has come
    page.screenshot(path=path)
    page.set_viewport_size(VIEWPORT)
    check_size(path)


def check_size(path: Path) -> None:
    """A README is no place for large files."""
    size = path.stat().st_size
    print(f"{path}: {size / 1000:.0f} kB")
    assert size < MAX_BYTES, f"{path} has {size} bytes"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
