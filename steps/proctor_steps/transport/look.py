"""What a source is now, without fetching it: for whoever watches sources.

``python -m proctor_steps.transport.look`` reads a :class:`Wanted` from its standard input and
prints a :class:`Seen`. A process of its own keeps the libraries out of the one that asks, and one
that hangs can be ended.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from proctor_steps import trouble
from proctor_steps.contract import digest, file_sha256
from proctor_steps.stage import StepFailure
from proctor_steps.transport.base import Transient, redact
from proctor_steps.transport.local import local_path, tree_files
from proctor_steps.transport.obtain import remote_source


class Wanted(BaseModel):
    """A source as the fetching stages name it. ``secret``: the path of the file with credentials.

    ``timeout``: seconds without a byte after which the source counts as out of reach.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    s3_endpoint: str = ""
    s3_region: str = "us-east-1"
    secret: str = ""
    timeout: float = 30.0


class Seen(BaseModel):
    """``version``: the same text as long as the source is the same. ``trouble``: why there is none.

    ``where``: the source as it may be shown, without credentials.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    where: str = ""
    version: str = ""
    trouble: str = ""


def look(wanted: Wanted) -> Seen:
    """Ask the source once; whatever is wrong is told, never raised."""
    where = redact(wanted.uri)
    try:
        version = _version(wanted)
    except StepFailure as error:
        return Seen(where=where, trouble=str(error))
    except Transient as error:
        return Seen(where=where, trouble=f"{where} is out of reach: {error.reason}")
    except OSError as error:
        told = trouble.explain(error, {}) or f"{type(error).__name__}: {error.strerror}"
        return Seen(where=where, trouble=f"{where}: {told}")
    if not version:
        message = "the server tells neither ETag nor Last-Modified, so no change can be seen"
        return Seen(where=where, trouble=f"{where}: {message}")
    return Seen(where=where, version=version)


def _version(wanted: Wanted) -> str:
    if wanted.uri.startswith("embedded:"):
        return f"sha256 {_shipped(local_path(wanted.uri))}"
    secret = Path(wanted.secret) if wanted.secret else None
    source = remote_source(
        wanted.uri,
        endpoint=wanted.s3_endpoint,
        region=wanted.s3_region,
        secret=secret,
        timeout=wanted.timeout,
    )
    try:
        return source.seen()
    finally:
        source.close()


def _shipped(root: Path) -> str:
    """Digest of what the package ships, less what the interpreter leaves beside it."""
    if root.is_file():
        return file_sha256(root)
    files = [(name, path) for name, path in tree_files(root) if "__pycache__" not in name.parts]
    return digest([[str(name), file_sha256(path)] for name, path in files])


def main() -> None:
    """Answer the one question on standard input."""
    try:
        seen = look(Wanted.model_validate_json(sys.stdin.read()))
    except ValidationError:  # its text would repeat the question, credentials included
        seen = Seen(trouble="the question was not understood")
    sys.stdout.write(seen.model_dump_json())


if __name__ == "__main__":
    main()
