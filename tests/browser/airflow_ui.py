"""A person at Airflow's UI: a real instance that offers the demo, a real browser, the way there."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import quote, unquote

from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    FrameLocator,
    Locator,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

from proctor.airflow.begin import TASK_ID as BEGIN
from proctor.plan.compile import load_plan
from proctor.plan.model import Plan
from proctor.records.store import RunRecord
from proctor.shipped import shipped
from proctor.site.home import Home
from proctor.site.instance import Instance, running
from proctor.site.runs import SETTLE_SECONDS

DEMO = shipped("pipeline_specs") / "demo.yaml"
GATE = "approve"
# A page that asks for another machine gets no answer, on any network.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
PATIENCE_MS = 30_000
VIEWPORT: ViewportSize = {"width": 1400, "height": 900}
# What the tests' person writes to the approval.
COMMENT = "mAP and latencies look right"
Scheme = Literal["light", "dark"]


@contextmanager
def demo_instance() -> Iterator[Instance]:
    """An instance that offers the demo, its steps run as processes."""
    # As root, PostgreSQL runs as another user, which must be able to reach its folder.
    folder = Path(tempfile.mkdtemp(prefix="proctor-browser-"))
    folder.chmod(0o711)
    before = dict(os.environ)
    home = Home(folder / ".proctor")
    home.create()
    home.register("demo", DEMO, {})
    try:
        with running(home, "process", sys.stderr) as instance:
            wanted = {step.id for step in load_plan(DEMO).steps} | {BEGIN}
            until(lambda: instance.client.has_dag("demo", wanted), 90, "the demo's DAG")
            yield instance
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def browser(executable: str) -> Iterator[Browser]:
    """Chromium, without a window."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield chromium
        chromium.close()


class Served(Protocol):
    """An instance, whichever process it runs in."""

    @property
    def url(self) -> str: ...


@dataclass
class Visitor:
    """One person's browser profile, and everything it asked for and complained about."""

    page: Page
    url: str
    plan: Plan
    link: str = ""
    requested: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, browser: Browser, instance: Served, scheme: Scheme = "light", scale: int = 1
    ) -> Visitor:
        """A fresh profile, of a person whose desktop is light or dark; ``scale``: its pixels."""
        context = browser.new_context(
            viewport=VIEWPORT, color_scheme=scheme, device_scale_factor=scale
        )
        context.set_default_timeout(PATIENCE_MS)
        visitor = cls(context.new_page(), instance.url, load_plan(DEMO))
        context.on("request", lambda request: visitor.requested.append(request.url))
        context.on("console", visitor._hear)
        context.on("weberror", lambda error: visitor.complaints.append(str(error.error)))
        return visitor

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def log_in(self, instance: Instance) -> Visitor:
        """Open a one-time link, as the terminal prints it."""
        self.link = instance.login_link()
        self.page.goto(self.link)
        self.page.wait_for_url(f"{self.url}/")
        return self

    def see_dag(self) -> None:
        """Open the demo's page."""
        self.page.goto(f"{self.url}/dags/demo")

    def see_graph(self) -> None:
        """Open the demo's page and turn from the grid to the graph."""
        self.see_dag()
        self.page.get_by_label("Show Graph").click()
        expect(self.page.get_by_test_id(f"rf__node-{GATE}")).to_be_visible()

    def open_trigger_form(self) -> Locator:
        """Open the demo's trigger form; the dialog."""
        self.see_dag()
        self.page.get_by_role("button", name="Trigger").first.click()
        dialog = self.page.get_by_role("dialog")
        expect(titled(dialog, "Scenarios")).to_be_visible()
        return dialog

    def trigger(self, seconds: int, without: tuple[str, ...] = ()) -> str:
        """Fill the form in and send it; the new run's id."""
        dialog = self.open_trigger_form()
        dialog.get_by_role("spinbutton", name="Seconds of a performance run").fill(str(seconds))
        for scenario in without:
            dialog.get_by_label(f"Remove {scenario}").click()
        dialog.get_by_role("button", name="Trigger", exact=True).click()
        self.page.wait_for_url(re.compile("/dags/demo/runs/"))
        return unquote(self.page.url.partition("/runs/")[2].partition("/")[0])

    def see_run(self, run: str, part: str = "") -> None:
        """Open a part of a run's page: ``""``, ``tasks/<task>``, ``plugin/<route>``."""
        self.page.goto(f"{self.url}/dags/demo/runs/{quote(run, safe='')}/{part}")

    def see_gate(self, run: str) -> None:
        """Open the gate's question."""
        self.see_run(run, f"tasks/{GATE}/required_actions")
        expect(self.page.get_by_role("button", name="Approve")).to_be_visible()

    def see_evidence(self, run: str) -> tuple[FrameLocator, FrameLocator]:
        """Open the gate's Evidence tab; our page, and the report within it."""
        self.see_run(run, f"tasks/{GATE}")
        self.page.get_by_role("link", name="Evidence").click()
        ours = self.page.frame_locator("iframe[title=Evidence]")
        report = ours.frame_locator("iframe")
        expect(report.get_by_role("heading", level=1)).to_be_visible()
        return ours, report

    def see_report(self, run: str) -> FrameLocator:
        """Open the run's Report tab."""
        self.see_run(run)
        self.page.get_by_role("link", name="Report", exact=True).click()
        return self.page.frame_locator("iframe[title=Report]")

    def approve(self, run: str, comment: str) -> None:
        """Tick that the evidence was looked at, say why, approve."""
        self.see_gate(run)
        self.page.get_by_text("I have looked at the evidence").click()
        expect(self.page.get_by_label("I have looked at the evidence")).to_be_checked()
        self.page.locator("[name=element_comment]").fill(comment)
        self.page.get_by_role("button", name="Approve").click()


def titled(form: Locator, title: str) -> Locator:
    """A field's title in a form, with or without the star of what must be given."""
    return form.locator("label", has_text=re.compile(rf"^{re.escape(title)}\s*\*?$")).first


def record_of(instance: Instance, run: str) -> RunRecord:
    """The record of a run of the demo."""
    return instance.home.records.run("demo", run)


def wait_for_gate(instance: Instance, run: str, seconds: float = 120) -> None:
    """Until the run waits for a person, who is no faster than Airflow wants."""

    def waits() -> bool:
        instance.supervise()
        states = instance.client.task_states("demo", run)
        failed = [task for task, ti in states.items() if ti["state"] == "failed"]
        assert not failed, f"failed: {failed}"
        return str(states.get(GATE, {}).get("state")) == "awaiting_input"

    until(waits, seconds, "the gate")
    time.sleep(SETTLE_SECONDS)


def wait_for_end(instance: Instance, run: str, seconds: float = 90) -> str:
    """Until the run has ended; how."""
    until(
        lambda: instance.client.run_state("demo", run) in ("success", "failed"), seconds, "its end"
    )
    return str(instance.client.run_state("demo", run))


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise AssertionError(f"{what} did not come within {seconds:g} s")
        time.sleep(0.3)
