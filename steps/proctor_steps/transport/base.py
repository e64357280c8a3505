"""What a remote file is: where it is, which version it has, and how its bytes are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

CHUNK = 1 << 20


class Transient(Exception):
    """It may work when tried again. ``wait``: seconds that the source asked for, 0 where none."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait


class Stale(Transient):
    """What is here belongs to another version of the source: start again from the first byte."""


class Version(BaseModel):
    """What a source says that tells one version of a file from another.

    ``size`` in bytes, None where the source does not say. ``etag`` as given (a weak one starts
    with ``W/``). ``modified`` is an HTTP date, kept only where it is a strong validator by
    RFC 9110 section 8.8.2.2: at least a minute older than the answer that carried it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int | None = None
    etag: str = ""
    modified: str = ""

    @property
    def strong(self) -> str:
        """The validator that holds byte for byte, good for resuming; empty where there is none."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    @property
    def proves_whole(self) -> bool:
        """Whether "unchanged" can be believed of a copy: of one that came without a length, no one
        knows that it is whole."""
        return self.size is not None and bool(self.etag or self.modified)


@dataclass(frozen=True)
class Have:
    """What is here of a file already: nothing, its first ``bytes``, or all of ``version``."""

    version: Version = field(default_factory=Version)
    bytes: int = 0
    complete: bool = False


@dataclass(frozen=True)
class Reply:
    """A source's answer: ``chunks`` from byte ``start`` on, or ``unchanged`` and no chunks."""

    version: Version
    start: int
    chunks: Iterator[bytes]
    unchanged: bool = False


class RemoteFile(Protocol):
    """One file of a source.

    ``name``: relative path it will have; ``where``: for messages, without credentials; ``key``:
    tells it from every other file in the store; ``size``: in bytes, None until it is asked for.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def where(self) -> str: ...  # noqa: D102

    @property
    def key(self) -> str: ...  # noqa: D102

    @property
    def size(self) -> int | None: ...  # noqa: D102

    def open(self, have: Have) -> AbstractContextManager[Reply]:
        """Ask for the file, given what is here.

        Raises:
            Transient: the network or the server failed in a way that may pass; from ``chunks`` too.
            Stale: what is here cannot be continued.
            StepFailure: it will not work by trying again.
        """


class RemoteSource(Protocol):
    """One URI. ``single``: it names one file, not a prefix that holds many."""

    @property
    def kind(self) -> str: ...  # noqa: D102

    @property
    def where(self) -> str: ...  # noqa: D102

    @property
    def single(self) -> bool: ...  # noqa: D102

    def files(self) -> Sequence[RemoteFile]:
        """The files there are, in a stable order; raises like :meth:`RemoteFile.open`."""

    def seen(self) -> str:
        """What tells its version now, without its bytes; "" where the source tells nothing."""

    def close(self) -> None:
        """Let the connections go."""


def redact(uri: str) -> str:
    """A URI as it may be shown: without user, password, query and fragment, where secrets live."""
    scheme, colon, rest = uri.partition(":")
    if not colon:
        return uri.partition("?")[0]
    if not rest.startswith("//"):
        return f"{scheme}:{rest.partition('?')[0]}"
    try:
        parts = urlsplit(uri)
    except ValueError:
        return f"{scheme}://(not a valid URI)"
    host = parts.netloc.rpartition("@")[2]
    shown = f"{parts.scheme}://{host}{parts.path}"
    return f"{shown}?…" if parts.query else shown
