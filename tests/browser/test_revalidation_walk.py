"""An operator whose accepted result is looked after: by the clock, then when the model changes.

`proctor up` as a user starts it, a mail server and a web server that keep what arrives, and a
person who answers both questions in Airflow's UI.
"""

from __future__ import annotations

import email
import email.policy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import onnx
import pytest
import yaml
from airflow_ui import Visitor
from onnx import numpy_helper
from playwright.sync_api import Browser, expect

from notify_kit import Mail, Web, mail_server, web_server
from proctor.airflow.answers import KEEP
from proctor.records.book import Book, current, open_findings
from proctor.records.store import RunRecord
from proctor.runtime.artifacts import LocalArtifacts
from proctor.site import sources
from proctor.site.client import AirflowClient
from proctor.site.home import Home
from proctor.site.instance import client_of, new_login_link, told_of
from proctor.site.settings import user_name
from proctor_steps.embedded import digits

NAME = "revalidation"
MINUTES = 60.0
# Where its screenshots go, for a person to look at; nowhere unless named.
PICTURES = os.environ.get("PROCTOR_PICTURES")


@dataclass
class Watched:
    """A home on which `proctor up` runs, and what left it."""

    home: Home
    model: Path
    mail: Mail
    web: Web

    @property
    def client(self) -> AirflowClient:
        return client_of(self.home)

    @property
    def url(self) -> str:
        return str(told_of(self.home)["url"])

    def says(self, **when: Any) -> None:
        """When the pipeline starts by itself, and with what."""
        params = {
            "scenarios": ["SingleStream"],
            "performance_seconds": 5,
            # Whether this machine is quiet is not what is tested.
            "watch_machine": False,
            "model_uri": f"file://{self.model}",
        }
        smtp = {"host": "127.0.0.1", "port": self.mail.port, "security": "none"}
        smtp |= {"from": "proctor@example.org", "to": ["ada@example.org"]}
        profile = {
            "roots": [str(self.model.parent)],
            "schedules": {NAME: {**when, "params": params}},
            "notify": {"smtp": smtp, "http": {"url": f"{self.web.url}/events"}},
        }
        (self.home.path / "site.yaml").write_text(yaml.safe_dump(profile))

    def runs(self, by: str) -> list[RunRecord]:
        """Runs that something started, oldest first."""
        found = [r for r in self.home.records.runs() if r.pipeline == NAME]
        return [r for r in found if _header(r)["started_by"]["by"] == by]

    def state(self, record: RunRecord) -> str | None:
        return self.client.run_state(NAME, record.run)

    def asks(self, by: str, gate: str) -> RunRecord | None:
        """The run that waits at a gate."""
        for record in self.runs(by):
            if record.last("asked", gate) and not record.last("approval", gate):
                return record
        return None

    def ended_after(self, first: RunRecord) -> RunRecord | None:
        """The run that the clock started next, once it has ended well."""
        later = [r for r in self.runs("clock") if r.run > first.run]
        return later[0] if later and self.state(later[0]) == "success" else None

    def mails(self) -> list[Any]:
        bodies = [e.content for e in self.mail.envelopes if isinstance(e.content, bytes)]
        return [email.message_from_bytes(b, policy=email.policy.default) for b in bodies]

    def told(self, event: str) -> list[dict[str, Any]]:
        """What was posted of one kind."""
        return [e for post in self.web.posts if (e := json.loads(post.body))["event"] == event]


def _header(record: RunRecord) -> dict[str, Any]:
    return dict(record.header().data)


def verdicts(home: Home, record: RunRecord) -> list[str]:
    """What each look of a run came to, in their order."""
    store, lines = LocalArtifacts(home.path), record.lines()
    found = [x for x in lines if x.kind == "result" and x.step.startswith("judge")]
    uris = [line.data["outputs"]["verdict"]["uri"] for line in found]  # type: ignore[index,call-overload]
    return [json.loads(store.read(str(uri), "verdict.json"))["state"] for uri in uris]


@contextmanager
def proctor_up(home: Home) -> Iterator[None]:
    """``proctor up`` in a process of its own, until it is interrupted."""
    words = ["up", "--home", str(home.path), "--runtime", "process"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "PROCTOR"))}
    with (home.path.parent / "up.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from proctor.cli import main; main()", *words],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=clean,
            cwd=home.path.parent,
        )
        try:
            yield
            process.terminate()
            process.wait(90)
        finally:
            process.kill()


@pytest.fixture
def watched() -> Iterator[Watched]:
    folder = Path(tempfile.mkdtemp(prefix="proctor-revalidation-"))
    folder.chmod(0o711)
    model = folder / "models" / "detector.onnx"
    model.parent.mkdir()
    shutil.copy(Path(digits.__file__).with_name("detector.onnx"), model)
    home = Home(folder / ".proctor")
    home.create()
    try:
        with mail_server() as mail, web_server() as web:
            found = Watched(home, model, mail, web)
            found.says(cron="* * * * *")
            with proctor_up(home):
                yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition, looking seldom: what looks takes from what is measured meanwhile."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"{what} did not come within {seconds:g} s"
        time.sleep(4)


def worse(model: Path) -> None:
    """Another model in the same place: the same layers, every weight a bit beside itself."""
    loaded, noise = onnx.load(model), np.random.default_rng(7)
    for tensor in loaded.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype == np.float32 and weights.ndim > 1:
            moved = weights + noise.normal(0, 0.1 * weights.std(), weights.shape)
            tensor.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), tensor.name))
    written = model.with_suffix(".new")
    onnx.save(loaded, written)
    written.rename(model)


def picture(visitor: Visitor, name: str) -> None:
    if PICTURES:
        visitor.page.wait_for_timeout(1500)
        visitor.page.screenshot(path=str(Path(PICTURES) / f"revalidation-{name}.png"))


def answer(visitor: Visitor, link: str, option: str, comment: str, name: str) -> None:
    """Follow a mail's link, look at the evidence, answer."""
    page = visitor.page
    page.goto(link)
    expect(page.get_by_role("button", name=option)).to_be_visible()
    page.get_by_text("I have looked at the evidence").click()
    expect(page.get_by_label("I have looked at the evidence")).to_be_checked()
    page.locator("[name=element_comment]").fill(comment)
    picture(visitor, f"{name}-gate")
    with page.expect_response(lambda response: response.request.method == "PATCH") as answered:
        page.get_by_role("button", name=option).click()
    assert answered.value.ok, answered.value.text()
    page.goto("about:blank")  # a page that asks Airflow how it goes disturbs what is measured


def evidence(visitor: Visitor, run: RunRecord, gate: str) -> Any:
    """The gate's Evidence tab; the page of the verdict within it."""
    visitor.page.goto(f"{visitor.url}/dags/{NAME}/runs/{run.run}/tasks/{gate}")
    visitor.page.get_by_role("link", name="Evidence").click()
    return (
        visitor.page.frame_locator("iframe[title=Evidence]").locator("iframe").first.content_frame
    )


def question_mail(watched: Watched, number: int) -> Any:
    """The mail of the question that was asked as number so many, and its link."""

    def asked() -> list[Any]:
        return [m for m in watched.mails() if "waits for a person" in m["Subject"]]

    until(lambda: len(asked()) > number, 3 * MINUTES, "the mail")
    until(lambda: len(watched.told("question_asked")) > number, 3 * MINUTES, "the call")
    page = asked()[number].get_body(("html",)).get_content()
    (link,) = re.findall(r'href="([^"]*)"', page)
    assert watched.told("question_asked")[number]["link"] == link
    return asked()[number], page, link


def test_an_accepted_result_is_measured_again_until_it_drifts(
    watched: Watched, chromium_browser: Browser
) -> None:
    until(lambda: bool(_told(watched)), 3 * MINUTES, "the instance")
    visitor = Visitor.of(chromium_browser, watched)
    visitor.page.goto(new_login_link(watched.home, user_name()))
    visitor.page.wait_for_url(f"{visitor.url}/")
    visitor.page.goto("about:blank")

    # By the clock: nothing was accepted yet, and a person is asked.
    until(lambda: watched.asks("clock", "accept") is not None, 10 * MINUTES, "the first question")
    first = watched.asks("clock", "accept")
    assert first is not None
    assert verdicts(watched.home, first)[-1] == "no_baseline"
    mail, _, link = question_mail(watched, 0)
    assert mail["Subject"] == "Proctor: revalidation waits for a person (accept)"
    assert first.run in unquote(link)
    answer(visitor, link, "Approve", "as it was handed in", "1-accept")
    until(lambda: watched.state(first) == "success", 3 * MINUTES, "the end")
    ((identity, baseline),) = current(Book(watched.home.path).entries()).items()
    assert identity.scenario == "SingleStream"

    # By the clock again. Where this machine is a fifth slower or faster by then, a person is asked.
    answered: list[str] = []

    def wait(done: Callable[[], bool], what: str) -> None:
        while not done():
            until(lambda: done() or bool(watched.asks("clock", "decide")), 10 * MINUTES, what)
            if asking := watched.asks("clock", "decide"):
                answered.append(asking.run)
                _, _, link = question_mail(watched, len(answered))
                answer(visitor, link, KEEP, "this machine is as fast as it likes", "noise")
                until(lambda: watched.state(asking) == "success", 3 * MINUTES, "its end")

    wait(lambda: bool(watched.ended_after(first)), "the second run")
    second = watched.ended_after(first)
    assert second is not None
    assert verdicts(watched.home, second)[-1] in ("steady", "drifted")

    # From here on only the file counts, and what runs comes to its end.
    watched.says(assets=["model_uri"], every="10s")
    until(lambda: _next_tick(watched) is None, 2 * MINUTES, "the new schedule")
    wait(lambda: all(watched.state(r) == "success" for r in watched.runs("clock")), "quiet")
    until(lambda: bool(_mark(watched)), 3 * MINUTES, "the first look at the model")
    before = _mark(watched)
    assert watched.runs("sources") == []
    worse(watched.model)
    until(lambda: watched.asks("sources", "decide") is not None, 10 * MINUTES, "the alarm")
    drifted = watched.asks("sources", "decide")
    assert drifted is not None
    changed = {"name": "model_uri", "was": before, "is": _mark(watched)}
    assert _header(drifted)["started_by"] == {"by": "sources", "changed": [changed]}
    assert verdicts(watched.home, drifted)[-1] == "drifted"
    mail, page, link = question_mail(watched, len(answered) + 1)
    assert "revalidation has drifted and waits for a person (decide)" in mail["Subject"]
    assert "accuracy" in page
    (told,) = [e for e in watched.told("question_asked") if e["link"] == link]
    assert any("accuracy" in finding for finding in told["findings"]), told["findings"]
    shown = evidence(visitor, drifted, "decide")
    expect(shown.get_by_role("region", name=re.compile("What differs")).first).to_be_visible()
    expect(shown.get_by_role("row", name=re.compile("accuracy run: model")).first).to_be_visible()
    picture(visitor, "2-evidence")
    if PICTURES:
        (Path(PICTURES) / "revalidation-mail.html").write_text(page)
    answer(visitor, link, KEEP, "the model was replaced by mistake", "3-decide")
    until(lambda: watched.state(drifted) == "success", 3 * MINUTES, "the end")

    # The old baseline stays, a finding is open, and the trend tells all of it.
    entries = Book(watched.home.path).entries()
    assert current(entries)[identity].measured == baseline.measured
    assert len(open_findings(entries)) == len(answered) + 1
    until(lambda: len(watched.told("run_ended")) >= 3, 3 * MINUTES, "the last call")
    visitor.page.goto(f"{visitor.url}/plugin/proctor-results")
    frame = visitor.page.frame_locator("iframe[title=Results]")
    frame.get_by_role("link", name="Results over time", exact=True).click()
    expect(frame.get_by_role("heading", name="digits · SingleStream over time")).to_be_visible()
    frame.get_by_label("Figure").select_option("accuracy")
    frame.get_by_role("button", name="Show").click()
    expect(frame.get_by_text("the model was replaced by mistake").first).to_be_visible()
    picture(visitor, "4-trend")


def _told(watched: Watched) -> dict[str, Any]:
    try:
        return told_of(watched.home)
    except LookupError:
        return {}


def _next_tick(watched: Watched) -> Any:
    return watched.client.dag(NAME)["next_dagrun_run_after"]


def _mark(watched: Watched) -> str:
    return sources.marks(watched.home, NAME).get("model_uri", sources.Mark("")).version
