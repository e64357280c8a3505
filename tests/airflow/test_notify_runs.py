"""A real run at a real gate: the mail and the HTTP call that arrive, and what they ask for."""

from __future__ import annotations

import email
import email.policy
import json
import re
import time
from collections.abc import Iterator

import pytest
from airflow_site import Site
from test_gate import answer, at_the_gate

from notify_kit import Mail, Web, mail_server, web_server
from proctor.site.home import PROFILE_FILE
from proctor.site.messenger import Messenger


@pytest.fixture
def told(site: Site) -> Iterator[tuple[Mail, Web, Messenger]]:
    """Servers that the profile names while a test runs, and what a launcher has for them."""
    profile = site.instance.home.path / PROFILE_FILE
    before = profile.read_text()
    with mail_server() as mail, web_server() as web:
        smtp = {"host": "127.0.0.1", "port": mail.port, "security": "none"}
        smtp |= {"from": "proctor@example.org", "to": ["ada@example.org"]}
        notify = {"smtp": smtp, "http": {"url": f"{web.url}/events"}}
        profile.write_text(f"{before}notify: {json.dumps(notify)}\n")
        time.sleep(0.05)
        yield mail, web, Messenger(site.instance)
    profile.write_text(before)


def test_people_are_told_who_is_asked_and_how_it_ended(
    site: Site, told: tuple[Mail, Web, Messenger]
) -> None:
    mail, web, messenger = told
    run = at_the_gate(site, "told", question="May this leave?")
    messenger.look(True)
    run.until(lambda: mail.envelopes and web.posts)
    (envelope,) = mail.envelopes
    assert isinstance(envelope.content, bytes)
    message = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert message["Subject"] == "Proctor: told waits for a person (approve)"
    page = message.get_body(("html",)).get_content()  # type: ignore[attr-defined]
    assert "Question: May this leave?" in page
    (link,) = re.findall(r'href="([^"]*)"', page)
    asked = json.loads(web.posts[0].body)
    assert asked["event"] == "question_asked" and asked["link"] == link
    assert link == (
        f"{site.instance.url}/dags/told/runs/{run.record.run}/tasks/approve/required_actions"
    )
    answer(run, "Approve")
    assert run.ended() == "success"
    # The launcher ends here; the next one tells the rest.
    assert Messenger(site.instance).finish() == []
    said = [json.loads(post.body)["subject"] for post in web.posts]
    assert said[1].endswith(" approved (approve)") and said[2] == "Proctor: told has succeeded"
    assert len(mail.envelopes) == len(web.posts) == 3
    assert Messenger(site.instance).finish() == [] and len(web.posts) == 3
