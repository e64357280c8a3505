"""Who is told by mail, in Slack or over HTTP of what happens: ``notify`` of a site's profile."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from proctor.federation.addresses import is_loopback
from proctor.federation.profile import HostPath, ProfileModel
from proctor.spec.document import Document
from proctor.spec.errors import Problem
from proctor.spec.forms import Text

EVENTS = ("question_asked", "answered", "timed_out", "run_ended")
_MAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,190}")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}|[0-9A-Fa-f:]{2,39}")
_PORTS = {"tls": 465, "starttls": 587, "none": 25}


def _event(text: str) -> str:
    if text not in EVENTS:
        raise ValueError(f"{text!r} is no event|write {', '.join(EVENTS[:-1])} or {EVENTS[-1]}")
    return text


def _mail(text: str) -> str:
    if not _MAIL.fullmatch(text):
        raise ValueError(f"{text!r} is no mail address|write it as ada@example.org")
    return text


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise ValueError(f"{text!r} is no machine's name|write it as mail.example.org")
    return text


def web_problem(url: str) -> str:
    """What is wrong with an address that events are posted to; "" if nothing."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "this is no address|write it as https://ops.example.org/proctor"
    if "@" in parts.netloc:
        return "an address holds no name or password|a token has a file of its own"
    if not host or parts.fragment or any(c.isspace() or not c.isprintable() for c in url):
        return "this is no address|write it as https://ops.example.org/proctor"
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        return "this is not https|what is told leaves over https only; write https://..."
    return ""


def _web(text: str) -> str:
    if problem := web_problem(text):
        raise ValueError(problem)
    return text


def _some(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError("this list is empty|name one at least")
    return tuple(dict.fromkeys(names))


Event = Annotated[Text, AfterValidator(_event)]
MailAddress = Annotated[Text, AfterValidator(_mail)]


class Smtp(ProfileModel):
    """A mail server. ``password_file``: the password of ``user``, mode 0600.

    ``security``: ``tls`` from the first byte, ``starttls``, or ``none``. ``port`` 0: the usual one.
    """

    host: Annotated[Text, AfterValidator(_host)]
    sender: MailAddress = Field(alias="from")
    to: Annotated[tuple[MailAddress, ...], AfterValidator(_some), Field(max_length=20)]
    security: Literal["tls", "starttls", "none"] = "starttls"
    port: int = Field(0, ge=0, le=65535)
    user: Text = ""
    password_file: HostPath | None = None

    @property
    def at(self) -> int:
        """The port in effect."""
        return self.port or _PORTS[self.security]


class Slack(ProfileModel):
    """An incoming webhook. Its address is its secret: ``webhook_file`` holds it, mode 0600."""

    webhook_file: HostPath


class Http(ProfileModel):
    """An address that each event is posted to as JSON.

    ``token_file``: a bearer's token, mode 0600. ``ca_file``: certificates of who vouches for the
    server, where that is nobody whom this machine trusts anyway.
    """

    url: Annotated[Text, AfterValidator(_web)]
    token_file: HostPath | None = None
    ca_file: HostPath | None = None


class Notify(ProfileModel):
    """The channels. ``events``: what is told; all of it by default."""

    events: Annotated[tuple[Event, ...], AfterValidator(_some)] = EVENTS
    smtp: Smtp | None = None
    slack: Slack | None = None
    http: Http | None = None


def misfits(read: Document, data: Mapping[str, Any]) -> Iterator[Problem]:
    """What is well written and does not go together."""
    notify = data.get("notify")
    if not isinstance(notify, dict):
        return
    if not any(notify.get(name) is not None for name in ("smtp", "slack", "http")):
        message, remedy = "nobody is told of anything", "name smtp, slack or http"
        yield Problem(read.where_key(("notify",)), message, remedy)
    smtp = notify.get("smtp")
    if not isinstance(smtp, dict):
        return
    user, password = smtp.get("user"), smtp.get("password_file")
    if bool(user) != bool(password):
        given = "user" if user else "password_file"
        message = "of user and password_file, each needs the other"
        yield Problem(read.where_key(("notify", "smtp", given)), message, "give both, or none")
    if password and smtp.get("security") == "none" and not is_loopback(str(smtp.get("host"))):
        where = read.where(("notify", "smtp", "security"))
        message = "the password would leave this machine for everybody on the way to read"
        yield Problem(where, message, "write tls or starttls")
