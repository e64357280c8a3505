"""Sends a message with Airflow's notifiers, each with a connection made from the site's profile.

``notify`` of a notifier is called, not the notifier itself: that would fill in its fields as
templates, and a question is text. Their own log is off, as it repeats addresses and answers; what
went wrong is told by :func:`words_of`, without anything that may hold a secret.
"""

from __future__ import annotations

import hashlib
import html
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from proctor.federation.addresses import is_loopback
from proctor.federation.private import NotPrivate, read_private
from proctor.site.channels import Http, Notify, Slack, Smtp, web_problem
from proctor.site.messages import Message

SECONDS = 20  # for each of connecting, writing and reading
MAIL, SLACK, HTTP = "smtp", "slack", "http"
_LONGEST_WORDS = 200
_SILENT = logging.getLogger("proctor.silent")
_SILENT.setLevel(logging.CRITICAL + 1)
_SILENT.propagate = False
_STATUS = re.compile(r"(?:Status Code: |^)([1-5][0-9]{2})\b")


@dataclass(frozen=True)
class Target:
    """Somebody who is told. ``name``: for files. ``words``: for people. ``send`` raises whatever
    its library raises."""

    channel: str
    name: str
    words: str
    send: Callable[[Message], None]


def targets(notify: Notify) -> Iterator[Target]:
    """Everybody whom the profile names; each recipient of mail for himself, as a server that
    refuses one takes the mail for the others all the same."""
    smtp, slack, http = notify.smtp, notify.slack, notify.http
    if smtp is not None:
        for to in smtp.to:
            # Two addresses may differ in what a file's name cannot hold.
            short = hashlib.sha256(to.encode()).hexdigest()[:8]
            name = f"{MAIL}-{re.sub('[^A-Za-z0-9]', '_', to)}-{short}"
            yield Target(MAIL, name, f"mail to {to}", _mail(smtp, to))
    if slack is not None:
        yield Target(SLACK, SLACK, "Slack", _slack(slack))
    if http is not None:
        yield Target(HTTP, HTTP, "the address of `http`", _http(http))


def _mail(smtp: Smtp, to: str) -> Callable[[Message], None]:
    def send(message: Message) -> None:
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier

        secret = read_private(Path(smtp.password_file), "password") if smtp.password_file else ""
        settings = {
            "disable_ssl": smtp.security != "tls",
            "disable_tls": smtp.security != "starttls",
            "timeout": SECONDS,
            "retry_limit": 0,
        }
        notifier = SmtpNotifier(
            from_email=smtp.sender,
            to=[to],
            subject=message.subject,
            html_content=_page(message),
            custom_headers={
                "Message-ID": f"<{message.id}@{smtp.sender.partition('@')[2]}>",
                "Auto-Submitted": "auto-generated",
            },
        )
        login = {"login": smtp.user, "password": secret} if secret else {}
        _notify(notifier, "smtp", host=smtp.host, port=smtp.at, extra=settings, **login)

    return send


def _slack(slack: Slack) -> Callable[[Message], None]:
    def send(message: Message) -> None:
        from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

        secret = read_private(Path(slack.webhook_file), "webhook's address")
        if problem := web_problem(secret):
            raise NotPrivate(f"{slack.webhook_file}: {problem.replace('|', '; ')}")
        # Slack reads &, < and > as the beginnings of links and of calls to everybody.
        text = html.escape(f"*{message.subject}*\n{message.text}", quote=False)
        notifier = SlackWebhookNotifier(
            text=text, unfurl_links=False, timeout=SECONDS, retry_handlers=[]
        )
        _notify(notifier, "slackwebhook", password=secret)

    return send


def _http(http: Http) -> Callable[[Message], None]:
    def send(message: Message) -> None:
        from airflow.providers.http.notifications.http import HttpNotifier

        headers = {"Idempotency-Key": message.id}
        if http.token_file:
            headers["Authorization"] = f"Bearer {read_private(Path(http.token_file), 'token')}"
        told = {"id": message.id, "subject": message.subject, "text": message.text}
        options: dict[str, Any] = {"timeout": SECONDS, "max_redirects": 0}
        if http.ca_file:
            options["verify"] = http.ca_file
        if is_loopback(urlsplit(http.url).hostname or ""):
            options["trust_env"] = False  # a proxy's machine is another
        notifier = HttpNotifier(
            json={**message.content, **told}, headers=headers, extra_options=options
        )
        _notify(notifier, "http", host=http.url)

    return send


def _notify(
    notifier: Any, kind: str, *, extra: dict[str, Any] | None = None, **fields: Any
) -> None:
    """Let a notifier tell, over a connection that is in no database and no environment."""
    from airflow.sdk import Connection

    settings = json.dumps(extra) if extra else None
    connection = Connection(conn_id="proctor", conn_type=kind, extra=settings, **fields)
    hook = notifier.hook
    hook.get_connection = lambda conn_id: connection
    notifier._log = hook._log = _SILENT
    if kind == "slackwebhook":
        hook.extra_client_args["logger"] = _SILENT
    notifier.notify({})


def _page(message: Message) -> str:
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in message.lines)
    link = html.escape(message.link)
    return f'{lines}<p><a href="{link}">{link}</a></p>'


def words_of(error: BaseException) -> str:
    """Why a message did not arrive: a server's code, the machine's own words, or the kind of error;
    no address, header or content."""
    if isinstance(error, NotPrivate):
        return str(error)
    code = getattr(error, "smtp_code", None)
    if isinstance(code, int):
        return f"the server answers {code}"
    refused = getattr(error, "recipients", None)
    if isinstance(refused, dict) and refused:
        return f"the server refuses the address ({next(iter(refused.values()))[0]})"
    for each in _chain(error):
        if isinstance(each, OSError) and each.strerror:
            return each.strerror[:_LONGEST_WORDS]
    if found := _STATUS.search(str(error)):
        return f"the server answers {found[1]}"
    return _KINDS.get(type(error).__name__, type(error).__name__)


_KINDS = {
    "TooManyRedirects": "the server sends on to another address; give that one",
    "ConnectTimeout": "it cannot be reached in time",
    "ReadTimeout": "it does not answer in time",
    "TimeoutError": "it does not answer in time",
    "SMTPServerDisconnected": "the server ended the connection",
    "SMTPNotSupportedError": "the server does not offer what `security` or `user` asks for",
    "SSLError": "the server's certificate is none that this machine trusts",
}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it came from."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = (each.__cause__, each.__context__, getattr(each, "reason", None), *each.args)
        waiting += [e for e in inner if isinstance(e, BaseException)]
