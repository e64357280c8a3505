"""Sends a report: outbound, over https, with the site's token, and nothing else of this machine.

What goes over the line is the report and the headers that :data:`HEADERS` lists. The token is in
one header more; no address and no message holds it.
"""

from __future__ import annotations

import json
import re
import ssl
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

import proctor
from proctor.federation.addresses import address_problem, is_loopback
from proctor.federation.private import NotPrivate, read_private

PATH = "/proctor/sites/reports"
TOKEN = re.compile(r"[0-9a-f]{8}[.][A-Za-z0-9_-]{43}")
SECONDS = 20.0  # for each of connecting, writing and reading
HEADERS = {
    "User-Agent": f"proctor/{proctor.__version__}",
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Connection": "close",
}
_LONGEST_ANSWER = 16 * 1024
_LONGEST_WORDS = 300
_LATER = {408, 425, 429, 500, 502, 503, 504}


class NotSent(Exception):
    """A report did not arrive; the message says why. ``after``: seconds that were asked for."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        self.after = after
        super().__init__(message)


class Busy(NotSent):
    """The coordinator takes it a little later: so many came at once, as after an outage."""


class Refused(NotSent):
    """The coordinator does not take it, and will not as long as nobody does something."""


def read_token(path: Path) -> str:
    """The token in a file that only its owner can read.

    Raises:
        Refused: it is not there, open to others, or holds no token; its content is not repeated.
    """
    try:
        text = read_private(path, "token")
    except NotPrivate as error:
        raise Refused(str(error)) from None
    if not TOKEN.fullmatch(text):
        raise Refused(f"{path} holds no token; put the line there that the committee sent")
    return text


class Behind(Refused):
    """The coordinator wants an earlier report first, as one that was restored from a copy does."""

    def __init__(self, message: str, expected: int) -> None:
        self.expected = expected
        super().__init__(message)


@dataclass(frozen=True)
class Sender:
    """Where a site's reports go. ``proxy`` "": what the environment says."""

    url: str
    token_file: Path
    ca_file: Path | None = None
    proxy: str = ""

    @property
    def address(self) -> str:
        """Where reports are posted."""
        return self.url.rstrip("/") + PATH

    def send(self, body: bytes, sequence: int) -> None:
        """Post a report; returns when the coordinator has it.

        Raises:
            Refused, NotSent: it does not have it, as far as is known.
        """
        if problem := address_problem(self.url):
            raise Refused(problem.replace("|", "; "))
        headers = HEADERS | {"Authorization": f"Bearer {read_token(self.token_file)}"}
        try:
            with (
                self._client() as client,
                client.stream("POST", self.address, content=body, headers=headers) as answer,
            ):
                said = _beginning(answer)
        except httpx.HTTPError as error:
            raise NotSent(f"{self.url} cannot be reached: {_words(error)}") from None
        self._judge(answer, said, sequence)

    def _client(self) -> httpx.Client:
        trust, proxy = self._trust(), self._way_out()
        try:
            return httpx.Client(verify=trust, proxy=proxy, trust_env=False, timeout=SECONDS)
        except (ValueError, TypeError, ImportError):
            where = "'proxy' of the profile" if self.proxy else "https_proxy of the environment"
            raise Refused(f"{where} is no http://HOST:PORT, so there is no way out") from None

    def _trust(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_file and str(self.ca_file))
        except (OSError, ssl.SSLError) as error:
            raise Refused(f"{self.ca_file} holds no certificates ({error})") from None

    def _way_out(self) -> str | None:
        host = urlsplit(self.url).hostname or ""
        if is_loopback(host):
            return None
        if self.proxy:
            return self.proxy
        if urllib.request.proxy_bypass(host):
            return None
        known = urllib.request.getproxies_environment()
        return known.get("https") or known.get("all")

    def _judge(self, answer: httpx.Response, said: bytes, sequence: int) -> None:
        try:
            told = json.loads(said)
        except (ValueError, RecursionError):
            told = None
        told = told if isinstance(told, dict) else {}
        code = answer.status_code
        if code == 200 and told.get("ok") is True and told.get("sequence") == sequence:
            return
        why = str(told.get("error") or "")[:_LONGEST_WORDS]
        why = "".join(c if c.isprintable() else " " for c in why) or f"status {code}"
        if code == 200:
            # As a network's own login page does.
            raise NotSent(f"{self.url} answers, but not as a coordinator does")
        if code in _LATER:
            kind = Busy if code == 429 else NotSent
            raise kind(f"{self.url} asks to wait: {why}", _seconds(answer))
        if 300 <= code < 400:
            raise Refused(f"{self.url} sends on to another address; give that one as 'url'")
        message, expected = f"{self.url} does not take the report: {why}", told.get("expected")
        if code == 409 and isinstance(expected, int) and 0 < expected < sequence:
            raise Behind(message, expected)
        raise Refused(message)


def _beginning(answer: httpx.Response) -> bytes:
    said, give_up = b"", time.monotonic() + SECONDS
    for chunk in answer.iter_raw():
        said += chunk
        if len(said) > _LONGEST_ANSWER or time.monotonic() > give_up:
            break
    return said[:_LONGEST_ANSWER]


def _seconds(answer: httpx.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return min(3600.0, float(text)) if re.fullmatch(r"[0-9]{1,6}", text) else 0.0


def _words(error: httpx.HTTPError) -> str:
    return str(error)[:_LONGEST_WORDS] or type(error).__name__
