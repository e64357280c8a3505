"""Mail, Slack and HTTP: what arrives, byte for byte, once, and what cannot happen to a run."""

from __future__ import annotations

import email
import email.policy
import json
import shutil
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from test_site_notify import Bench, _soon

from coordinator_kit import certificates
from notify_kit import PASSWORD, USER, Mail, Web, mail_server, web_server
from proctor.plan.model import Gate, Plan, PlanStep
from proctor.site import messenger, outgoing
from proctor.site.channels import Notify
from proctor.site.home import PROFILE_FILE
from proctor.site.messenger import Messenger
from proctor.site.outgoing import Outgoing, log, target_of
from proctor.site.senders import Target, targets
from proctor.site.upkeep import Upkeep
from trend_kit import finding

QUESTION = "Ship <b>{{ 7 * 7 }}</b> & go?"
GATE = PlanStep(
    id="look", step="look", kind="approval", gate=Gate(question=QUESTION, approvers=("ada", "bob"))
)
PLAN = Plan(pipeline="p", steps=(GATE,))
SLACK_SECRET = "T000/B000/hunter2slack"


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(outgoing, "PAUSES", (0.05, 0.05, 0.05))


@pytest.fixture
def mail() -> Iterator[Mail]:
    with mail_server() as server:
        yield server


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as server:
        yield server


class Site(Bench):
    """A home whose profile names channels, with a run at its gate."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.home.records.save_plan(PLAN)

    def secret(self, name: str, text: str, mode: int = 0o600) -> Path:
        path = self.folder / name
        path.write_text(f"{text}\n")
        path.chmod(mode)
        return path

    def wants(self, notify: dict[str, Any]) -> None:
        (self.home.path / PROFILE_FILE).write_text(json.dumps({"notify": notify}))
        time.sleep(0.02)

    def asks(self, name: str = "r") -> Any:
        record = self.home.records.run("p", name)
        record.append("header", plan_digest=PLAN.digest, data={"params": {}})
        record.append("asked", step="look", attempt=1, data={"evidence_digest": "e"})
        return record

    def send(self) -> list[str]:
        return Messenger(self.instance).finish()

    def logged(self) -> list[str]:
        path = self.home.path / "notify" / outgoing.LOG_FILE
        return [line.partition(" ")[2] for line in path.read_text().splitlines()]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def smtp(mail: Mail, *to: str, **more: Any) -> dict[str, Any]:
    to = to or ("ada@example.org",)
    address = {"host": "127.0.0.1", "port": mail.port, "security": "none"}
    return {**address, "from": "proctor@example.org", "to": list(to), **more}


def parsed(content: bytes | str | None) -> EmailMessage:
    assert isinstance(content, bytes)
    return email.message_from_bytes(content, policy=email.policy.default)  # type: ignore[return-value]


def until(condition: Callable[[], Any]) -> None:
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_a_mail_says_what_waits_for_whom(site: Site, mail: Mail) -> None:
    site.wants({"smtp": smtp(mail, "ada@example.org", "bob@example.org")})
    site.asks()
    assert site.send() == []
    assert sorted(e.rcpt_tos for e in mail.envelopes) == [["ada@example.org"], ["bob@example.org"]]
    assert {e.mail_from for e in mail.envelopes} == {"proctor@example.org"}
    told = parsed(mail.envelopes[0].content)
    assert told["Subject"] == "Proctor: p waits for ada or bob (look)"
    assert told["From"] == "proctor@example.org" and told["Auto-Submitted"] == "auto-generated"
    (part,) = told.iter_parts()
    assert isinstance(part, EmailMessage) and part.get_content_type() == "text/html"
    link = "http://127.0.0.1:8080/dags/p/runs/r/tasks/look/required_actions"
    assert part.get_content().strip() == (
        "<p>The run r of p waits for a person at the gate look.</p>"
        "<p>Question: Ship &lt;b&gt;{{ 7 * 7 }}&lt;/b&gt; &amp; go?</p>"
        "<p>May answer: ada, bob.</p>"
        "<p>Answer here, on the machine that runs it, after a login:</p>"
        f'<p><a href="{link}">{link}</a></p>'
    )
    one, other = (parsed(e.content)["Message-ID"] for e in mail.envelopes)
    assert one == other and one.endswith("@example.org>")
    assert site.logged()[0].endswith(": question_asked p/r look: told")


def test_every_kind_of_event_has_its_words(site: Site, web: Web) -> None:
    site.wants({"http": {"url": f"{web.url}/hook"}})
    record = site.asks()
    record.append("refused", step="look", data={"message": "late", "reason": "timeout"})
    answer = {"by": "ada", "decision": "rejected", "comment": "patient 7 moved"}
    record.append("approval", step="look", data={"answer": answer, "signature": "s"})
    end = {"dag_id": "p", "dag_run_id": "r", "state": "failed", "end_date": _soon(1)}
    site.ended = [end]
    assert site.send() == []
    assert [json.loads(post.body)["subject"] for post in web.posts] == [
        "Proctor: p waits for ada or bob (look)",
        "Proctor: p has failed: nobody answered in time (look)",
        "Proctor: p: ada rejected (look)",
        "Proctor: p has failed",
    ]
    assert not any(b"patient" in post.body for post in web.posts)
    site.ended = [end | {"end_date": _soon(2), "state": "success"}]
    assert site.send() == []
    told = json.loads(web.posts[-1].body)
    assert told["subject"] == "Proctor: p has succeeded"
    assert told["text"] == (
        "The run r of p has succeeded.\nMore is here, on the machine that runs it, after a login:\n"
        "http://127.0.0.1:8080/dags/p/runs/r"
    )


def test_a_drift_is_named_and_what_made_it_is_not(site: Site, web: Web) -> None:
    site.wants({"http": {"url": web.url}})
    record = site.home.records.run("p", "r")
    record.append("header", plan_digest=PLAN.digest, data={"params": {}})
    for found in ([finding(figure="accuracy")], [finding()]):
        drift = {"state": "drifted", "findings": found}
        data = {"state": "succeeded", "metrics": {"drift": drift}}
        record.append("result", step="judge", attempt=1, data=data)
    record.append("asked", step="look", attempt=1, data={"evidence_digest": "e"})
    answer = {"by": "bob", "decision": "kept", "comment": "the fan"}
    record.append("approval", step="look", data={"answer": answer, "signature": "s"})
    assert site.send() == []
    asked, answered = (json.loads(post.body) for post in web.posts)
    assert asked["subject"] == "Proctor: p has drifted and waits for ada or bob (look)"
    assert "\nFinding: digits Offline: latency p99 +12.3 % (worse)\nMay answer" in asked["text"]
    assert asked["findings"] == ["digits Offline: latency p99 +12.3 % (worse)"]
    assert answered["subject"] == "Proctor: p: bob kept the old baseline (look)"
    assert not any(b"patients" in post.body for post in web.posts)


def test_http_gets_the_event_with_a_token_and_a_key(site: Site, web: Web) -> None:
    token = site.secret("token", "hunter2-token")
    site.wants({"http": {"url": f"{web.url}/hook?a=b", "token_file": str(token)}})
    site.asks()
    assert site.send() == []
    (post,) = web.posts
    assert post.path == "/hook?a=b" and post.headers["Content-Type"] == "application/json"
    assert post.headers["Authorization"] == "Bearer hunter2-token"
    told = json.loads(post.body)
    assert post.headers["Idempotency-Key"] == told["id"]
    assert (told["format"], told["event"]) == ("proctor.event/1", "question_asked")
    assert told["question"] == QUESTION and told["approvers"] == ["ada", "bob"]


def test_slack_gets_text_that_calls_nobody(site: Site, web: Web) -> None:
    webhook = site.secret("slack", f"{web.url}/services/{SLACK_SECRET}")
    site.wants({"slack": {"webhook_file": str(webhook)}})
    site.asks()
    assert site.send() == []
    (post,) = web.posts
    assert post.path == f"/services/{SLACK_SECRET}"
    told = json.loads(post.body)
    assert told == {"text": told["text"], "unfurl_links": False}
    assert told["text"].startswith("*Proctor: p waits for ada or bob (look)*\nThe run r of p")
    assert "Ship &lt;b&gt;{{ 7 * 7 }}&lt;/b&gt; &amp; go?" in told["text"]


def test_events_that_are_not_wanted_are_not_told(site: Site, web: Web) -> None:
    site.wants({"events": ["run_ended"], "http": {"url": web.url}})
    site.asks()
    assert site.send() == [] and web.posts == []
    site.wants({"http": {"url": web.url}})  # what was before the profile changed is not told
    assert site.send() == [] and web.posts == []


def test_what_a_server_takes_later_is_tried_again(site: Site, mail: Mail, web: Web) -> None:
    mail.busy, web.codes = 2, [503, 500, 200]
    site.wants({"smtp": smtp(mail), "http": {"url": web.url}})
    site.asks()
    sender = Messenger(site.instance)
    sender.look(True)
    until(lambda: mail.envelopes and len(web.posts) == 3)
    said = sender.finish()
    assert sorted(said) == [
        "mail to ada@example.org is not told yet: the server answers 451",
        "mail to ada@example.org is told again",
        "the address of `http` is not told yet: the server answers 500",
        "the address of `http` is not told yet: the server answers 503",
        "the address of `http` is told again",
    ]
    assert len({post.headers["Idempotency-Key"] for post in web.posts}) == 1
    assert len(mail.envelopes) == 1 and site.send() == [] and len(web.posts) == 3
    tries = [line for line in site.logged() if line.startswith("mail")]
    assert [line.rpartition("r look: ")[2] for line in tries] == [
        "try 1 failed: the server answers 451",
        "try 2 failed: the server answers 451",
        "told",
    ]


def test_it_is_given_up_after_so_many_tries(site: Site, web: Web) -> None:
    web.codes = [500]
    site.wants({"http": {"url": web.url}})
    site.asks()
    sender = Messenger(site.instance)
    sender.look(True)
    given_up = "the address of `http` was not told, after 4 tries: question_asked p/r look"
    said: list[str] = []
    until(lambda: said.extend(sender.look(False)) or given_up in said)
    assert len(web.posts) == 4
    assert sender.finish() == site.send() == [] and len(web.posts) == 4
    assert site.logged()[-1].endswith("look: given up: the server answers 500")


def test_tries_count_over_restarts_and_what_waits_is_told_by_the_next_launcher(
    site: Site, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "PAUSES", (600.0, 600.0))
    web.codes = [503, 503, 200]
    site.wants({"http": {"url": web.url}})
    site.asks()
    waits = "1 message waits to be sent; the next start goes on with that"
    for tries in (1, 2):
        failed = "the address of `http` is not told yet: the server answers 503"
        assert site.send() == [failed, waits] and len(web.posts) == tries
    assert site.send() == [] and len(web.posts) == 3
    assert [line.rpartition(": ")[2] for line in site.logged()][-1] == "told"


def test_a_recipient_who_is_refused_keeps_the_mail_from_nobody_else(site: Site, mail: Mail) -> None:
    mail.refuse = {"ada@example.org"}
    site.wants({"smtp": smtp(mail, "ada@example.org", "bob@example.org")})
    site.asks()
    sender = Messenger(site.instance)
    sender.look(True)
    said: list[str] = []
    until(lambda: said.extend(sender.look(False)) or len(said) == 2)
    assert (
        said[0] == "mail to ada@example.org is not told yet: the server refuses the address (550)"
    )
    assert said[1].startswith("mail to ada@example.org was not told, after 4 tries")
    assert [e.rcpt_tos for e in mail.envelopes] == [["bob@example.org"]]


@pytest.mark.parametrize("at", ["written", "marked", "begun", "taken"])
def test_a_launcher_that_dies_anywhere_neither_forgets_nor_tells_twice(
    site: Site, web: Web, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    class Died(BaseException):
        pass

    def die(*args: Any) -> Any:
        raise Died

    site.wants({"http": {"url": web.url}})
    site.asks()
    with monkeypatch.context() as patch:
        if at == "written":
            patch.setattr("proctor.site.events.write_atomically", die)
        elif at == "marked":
            patch.setattr(Outgoing, "take_up", die)
        else:
            # The thread ends as the process would: nothing of it is tidied up.
            patch.setattr(threading, "excepthook", lambda args: None)
            real = outgoing._told

            def told(target: Target, message: Any) -> str:
                if at == "taken":
                    real(target, message)
                raise Died

            patch.setattr(outgoing, "_told", told)
            patch.setattr(messenger, "FINISH_SECONDS", 5.0)
        try:
            Messenger(site.instance).finish()
        except Died:
            assert at in ("written", "marked")
    before = len(web.posts)
    said = site.send()
    unknown = "whether a message to http arrived is not known; it is not sent again"
    assert (said, before) == {
        "written": ([], 0),
        "marked": ([], 0),
        "begun": ([unknown], 0),
        "taken": ([unknown], 1),
    }[at]
    assert len(web.posts) == (0 if at == "begun" else 1)
    assert site.send() == [] and len(web.posts) == (0 if at == "begun" else 1)


def test_nobody_waits_for_a_server_that_does_not_answer(
    site: Site, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    real = outgoing._told

    def slow(target: Target, message: Any) -> str:
        free.wait(20)
        return real(target, message)

    monkeypatch.setattr(outgoing, "_told", slow)
    monkeypatch.setattr(messenger, "FINISH_SECONDS", 0.2)
    site.wants({"http": {"url": web.url}})
    site.asks()
    sender, begun = Messenger(site.instance), time.monotonic()
    assert sender.look(True) == [] and sender.look(True) == []
    assert time.monotonic() - begun < 10 and web.posts == []
    assert sender.finish() == []
    free.set()
    until(lambda: len(web.posts) == 1)


def test_no_secret_is_in_a_note_a_log_or_a_page(
    site: Site, web: Web, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    web.codes = [403]
    token = site.secret("token", "hunter2-token")
    webhook = site.secret("slack", f"{web.url}/services/{SLACK_SECRET}")
    closed = site.secret("closed", f"http://127.0.0.1:1/services/{SLACK_SECRET}")
    for slack in (webhook, closed):
        site.wants(
            {
                "slack": {"webhook_file": str(slack)},
                "http": {"url": f"{web.url}/hook", "token_file": str(token)},
            }
        )
        site.asks(slack.name)
        sender, said = Messenger(site.instance), list[str]()
        sender.look(True)
        until(lambda: said.extend(sender.look(False)) or str(said).count("after 4 tries") == 2)  # noqa: B023
        assert any(note.startswith("Slack is not told yet: ") for note in said)
        assert "hunter2" not in str(said + sender.finish())
    assert "Slack is not told yet: Connection refused" in said
    everything = [p.read_text() for p in (site.home.path / "notify").iterdir()]
    out, err = capfd.readouterr()
    assert "hunter2" not in "".join([*everything, out, err, caplog.text])
    assert out == err == ""


@pytest.mark.parametrize(
    ("name", "mode", "text", "words"),
    [
        ("token", 0o644, "hunter2", "others may read the token in"),
        ("token", 0o600, "", "is empty; put the token into it"),
        ("webhook_file", 0o640, "hunter2", "others may read the webhook's address in"),
        ("webhook_file", 0o600, "http://hooks.example.org/hunter2", "this is not https"),
    ],
)
def test_a_secret_must_be_its_owners_alone(
    site: Site, web: Web, name: str, mode: int, text: str, words: str
) -> None:
    path = str(site.secret("kept", text, mode))
    slack = {"slack": {"webhook_file": path}}
    http = {"http": {"url": web.url, "token_file": path}}
    site.wants(slack if name == "webhook_file" else http)
    site.asks()
    note, waits = site.send()
    assert words in note and "hunter2" not in note and "waits" in waits
    assert web.posts == []


def test_a_server_that_sends_on_elsewhere_is_not_followed(site: Site, web: Web) -> None:
    web.codes = [302]
    site.wants({"http": {"url": f"{web.url}/hook"}})
    site.asks()
    assert site.send()[0].endswith("the server sends on to another address; give that one")
    assert {post.path for post in web.posts} == {"/hook"}


def test_starttls_and_a_password(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="proctor-mail-", dir=tmp_path))
    made = certificates(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.certificate, made.key)
    right, wrong = site.secret("right", PASSWORD), site.secret("wrong", "hunter2-wrong")
    with mail_server(context) as mail:
        account = {"security": "starttls", "user": USER}
        site.wants({"smtp": smtp(mail, **account, password_file=str(right))})
        site.asks("untrusted")
        assert "certificate verify failed" in site.send()[0] and mail.logins == []
        shutil.rmtree(site.home.path / "notify")
        monkeypatch.setenv("SSL_CERT_FILE", str(made.ca))
        site.asks("trusted")
        assert site.send() == []
        assert (mail.logins, len(mail.envelopes)) == ([(USER, PASSWORD)], 1)
        site.wants({"smtp": smtp(mail, **account, password_file=str(wrong))})
        site.asks("wrong")
        assert site.send()[0].endswith("is not told yet: the server answers 535")
    assert len(mail.envelopes) == 1


def test_https_with_an_authority_of_ones_own(site: Site, tmp_path: Path) -> None:
    made = certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.certificate, made.key)
    with web_server(context) as web:
        site.wants({"http": {"url": web.url}})
        site.asks("untrusted")
        assert "certificate verify failed" in site.send()[0] and web.posts == []
        shutil.rmtree(site.home.path / "notify")
        site.wants({"http": {"url": web.url, "ca_file": str(made.ca)}})
        site.asks("trusted")
        assert site.send() == [] and len(web.posts) == 1


def test_a_message_for_somebody_whom_the_profile_names_no_more_is_dropped(
    site: Site, web: Web
) -> None:
    web.codes = [500]
    site.wants({"http": {"url": web.url}})
    site.asks()
    site.send()
    site.wants({"slack": {"webhook_file": str(site.secret("slack", web.url))}})
    assert site.send() == ["http is told no more; a message was dropped"]
    assert site.send() == []


def test_without_channels_nothing_is_written(site: Site) -> None:
    site.asks()
    assert site.send() == [] and not (site.home.path / "notify").exists()


def test_the_launcher_has_it_told(site: Site, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put()  # the hook hears of it as well
    site.wants({"http": {"url": web.url}})
    site.asks()
    site.instance.runtime = "fake"
    monkeypatch.setattr("proctor.site.reaper.Reaper.look", lambda self, changed: [])
    monkeypatch.setattr("proctor.site.room.Room.look", lambda self: [])
    keeping = Upkeep(site.instance)
    keeping.look(True)
    assert keeping.finish() == []
    assert len(web.posts) == 1 and site.events() == ["question_asked"]


def test_two_recipients_whose_names_are_alike_are_two() -> None:
    to = ["jo.smith@example.org", "jo-smith@example.org"]
    found = Notify.model_validate({"smtp": {"host": "localhost", "from": "a@b.org", "to": to}})
    assert len({target.name for target in targets(found)}) == 2


def test_files_are_named_for_whom_they_are(tmp_path: Path) -> None:
    assert target_of("0123.smtp-ada_example_org.json") == "smtp-ada_example_org"
    log(tmp_path, "words")
    assert (tmp_path / outgoing.LOG_FILE).read_text().endswith(" words\n")
