"""``http://`` and ``https://``: one file per URL, resumed by Range with If-Range."""

from __future__ import annotations

import hashlib
import logging
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, urlsplit

import httpx

from proctor_steps.stage import DataError, StepError, StepFailure
from proctor_steps.transport.base import Have, Reply, Stale, Transient, Version, redact

# httpx writes whole URLs, queries included, to its log at INFO.
logging.getLogger("httpx").setLevel(logging.WARNING)

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 10
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_STRONG_AFTER = timedelta(seconds=60)
_LONGEST_WAIT = 60.0
_WRONG_TIME = (9, 10)  # OpenSSL: a certificate that is not yet, or no longer, valid


class HttpSource:
    """One URL; it is its own only file.

    Args:
        timeout: seconds without a byte after which the connection counts as broken.
    """

    kind = "http"
    single = True
    size = None

    def __init__(self, uri: str, timeout: float) -> None:
        self.where = redact(uri)
        try:
            urlsplit(uri)  # stricter than httpx about brackets in the host
            self._url = httpx.URL(uri)
        except (httpx.InvalidURL, ValueError):
            # The library's text may quote the part of the URI that holds the password.
            raise DataError(f"{self.where} is not a valid URL; check the URI") from None
        if not self._url.host:
            raise DataError(f"{self.where} names no host; write http(s)://host/path")
        last = unquote(self._url.path).rsplit("/", 1)[-1]
        self.name = re.sub(r"[^\w.+@-]", "_", last).lstrip(".") or "download"
        # Not the user and password: they open the same file, and have no place in a cache's names.
        identity = str(self._url.copy_with(userinfo=b"", fragment=None))
        self.key = hashlib.sha256(identity.encode()).hexdigest()
        self._client = httpx.Client(timeout=httpx.Timeout(timeout, connect=min(timeout, 30.0)))

    def files(self) -> list[HttpSource]:
        """The one file."""
        return [self]

    def close(self) -> None:
        """Let the connections go."""
        self._client.close()

    @contextmanager
    def open(self, have: Have) -> Iterator[Reply]:
        """Ask for the file; see :class:`proctor_steps.transport.base.RemoteFile`."""
        response = self._follow(_headers(have))
        try:
            yield self._reply(response, have)
        finally:
            response.close()

    def seen(self) -> str:
        """What tells the file's version, without the file; "" where the server tells nothing.

        By HEAD, and where that is refused (a link signed for GET alone), by a GET that is dropped.

        Raises:
            Transient, StepFailure: as :meth:`open`.
        """
        response = self._follow(_headers(Have()), "HEAD")
        if response.status_code >= 400 and response.status_code not in _PASSING:
            response.close()
            response = self._follow(_headers(Have()), "GET")
        try:
            if response.status_code != 200:
                raise self._refused(response)
            return _told(response.headers)
        finally:
            response.close()

    def _follow(self, headers: dict[str, str], method: str = "GET") -> httpx.Response:
        """Send, following redirects by hand: one that leaves TLS or HTTP is refused."""
        url = self._url
        for _ in range(_MOST_REDIRECTS):
            response = self._send(url, headers, method)
            if response.status_code not in _REDIRECTS:
                return response
            location = response.headers.get("Location", "")
            response.close()
            url = self._target(url, location)
        raise DataError(f"{self.where} redirects more than {_MOST_REDIRECTS} times; check the URI")

    def _target(self, url: httpx.URL, location: str) -> httpx.URL:
        try:
            urlsplit(location)
            target = url.join(location)
        except (httpx.InvalidURL, ValueError):
            target = httpx.URL("")
        shown = f"{self.where} redirects to {redact(str(target))!r}"
        if not location or target.scheme not in ("http", "https") or not target.host:
            raise DataError(f"{shown}, which is no http address; check the URI")
        if url.scheme == "https" and target.scheme == "http":
            raise DataError(
                f"{shown}, from https to plain http: refused, as anyone on the way could change "
                "the files. Give the https address of the final place"
            )
        return target

    def _send(self, url: httpx.URL, headers: dict[str, str], method: str) -> httpx.Response:
        request = self._client.build_request(method, url, headers=headers)
        try:
            return self._client.send(request, stream=True, follow_redirects=False)
        except httpx.TransportError as error:
            raise self._failure(error) from error

    def _failure(self, error: httpx.TransportError) -> Transient | StepFailure:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                if cause.verify_code in _WRONG_TIME:
                    return StepError(
                        f"{self.where}: the server's certificate does not hold now "
                        f"({cause.verify_message}); by this machine's clock it is "
                        f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}: set it right, or ask "
                        "for a new certificate"
                    )
                return StepError(
                    f"{self.where}: the server's certificate is not trusted "
                    f"({cause.verify_message}); if it is your own authority's, name its file in "
                    "SSL_CERT_FILE"
                )
            cause = cause.__cause__ or cause.__context__
        return Transient(f"{type(error).__name__}: {error}".rstrip(": "))

    def _reply(self, response: httpx.Response, have: Have) -> Reply:
        status = response.status_code
        if status == 304 and have.complete:
            return Reply(have.version, have.bytes, iter(()), unchanged=True)
        if status == 416:
            raise Stale("the server has no such range; starting again")
        if status == 206:
            return self._partial(response, have)
        if status == 200:
            version = _version(response.headers, _length(response.headers))
            return Reply(version, 0, self._chunks(response))
        raise self._refused(response)

    def _partial(self, response: httpx.Response, have: Have) -> Reply:
        """Check that the part is the one that was asked for, and of the version that is here."""
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or not have.bytes or int(match[1]) != have.bytes:
            raise Stale("the server sent another range than it was asked for; starting again")
        size = None if match[3] == "*" else int(match[3])
        etag = response.headers.get("ETag", have.version.etag)
        known = have.version.size
        if etag != have.version.etag or (known is not None and size not in (None, known)):
            raise Stale("the file changed on the server; starting again")
        return Reply(have.version, have.bytes, self._chunks(response))

    def _chunks(self, response: httpx.Response) -> Iterator[bytes]:
        """The bytes as sent and as they come.

        Some servers mark a .tar.gz as ``Content-Encoding: gzip``; it is the file itself that is
        wanted, so nothing is decoded. Nothing is gathered into larger pieces either: what was
        gathered when a connection breaks would be lost.
        """
        try:
            yield from response.iter_raw()
        except httpx.TransportError as error:
            raise self._failure(error) from error

    def _refused(self, response: httpx.Response) -> Transient | StepFailure:
        status = response.status_code
        text = f"the server answered {status} {response.reason_phrase}".rstrip()
        if status in _PASSING:
            return Transient(text, _retry_after(response.headers))
        if status in (401, 403, 407):
            return DataError(
                f"{self.where}: {text}: no permission to read it. Check the credentials, or "
                "whether a signed link has expired"
            )
        return DataError(f"{self.where}: {text}; check that the URI is spelt right and still there")


def _headers(have: Have) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}
    version = have.version
    if have.complete and version.etag:
        headers["If-None-Match"] = version.etag
    elif have.complete and version.modified:
        headers["If-Modified-Since"] = version.modified
    elif have.bytes and version.strong:
        headers["Range"] = f"bytes={have.bytes}-"
        headers["If-Range"] = version.strong
    return headers


def _version(headers: httpx.Headers, size: int | None) -> Version:
    modified = headers.get("Last-Modified", "")
    then, now = _date(modified), _date(headers.get("Date", ""))
    strong = then is not None and now is not None and now - then >= _STRONG_AFTER
    return Version(size=size, etag=headers.get("ETag", ""), modified=modified if strong else "")


def _told(headers: httpx.Headers) -> str:
    """The version as text. Unlike a resumed download's, the date need not be a strong validator:
    it would come and go with its age, and a change that it misses shows at the next one."""
    if etag := headers.get("ETag"):
        return f"etag {etag}"
    if modified := headers.get("Last-Modified"):
        return f"modified {modified}, {headers.get('Content-Length', 'unknown')} bytes"
    return ""


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _length(headers: httpx.Headers) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isdecimal() and "Transfer-Encoding" not in headers else None


def _retry_after(headers: httpx.Headers) -> float:
    text = headers.get("Retry-After", "")
    return min(float(text), _LONGEST_WAIT) if text.isdecimal() else 0.0
