"""``submission upload``: the approved package to an S3-compatible store, proved by its digest.

Below the prefix there are then ``submission.tar.gz`` and ``SHA256SUMS``, in the form that
``sha256sum --check`` reads. What is there already with the same bytes is not sent again; other
bytes are never overwritten, unless ``replace`` says so. Last of all, both are read back from the
store and compared.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from pydantic import Field, JsonValue

from proctor_steps import contract
from proctor_steps.stage import DataError, Stage, StageParams, StepError, StepIO
from proctor_steps.submission.documents import one_line
from proctor_steps.transport.base import redact
from proctor_steps.transport.download import Retries
from proctor_steps.transport.s3_upload import S3Target, Stored

PACKAGE = "submission.tar.gz"
SUMS = "SHA256SUMS"


class Params(StageParams):
    """Where to."""

    uri: str = Field(description="s3://bucket/prefix; the package gets its name below it")
    s3_endpoint: str = Field(default="", description="address of an S3 store other than AWS")
    s3_region: str = Field(default="us-east-1", description="region of the bucket")
    replace: bool = Field(
        default=False, description="overwrite another package that is there under this name"
    )
    retries: int = Field(default=5, ge=1, description="attempts in a row that bring nothing")
    timeout: float = Field(default=60.0, gt=0, description="seconds without a byte")


def run(params: Params, io: StepIO) -> None:
    """Upload the package and its digest, read both back, write the receipt."""
    package = io.input("package") / PACKAGE
    if not package.is_file():
        raise DataError(f"{PACKAGE} is not in the package; give the output of submission package")
    if not any(a.decision == "approved" for a in io.contract.approvals):
        io.find("not_approved", "warning", "nobody approved this upload", redact(params.uri))
    target = S3Target(
        params.uri,
        endpoint=params.s3_endpoint,
        region=params.s3_region,
        secret=io.optional("secret", "s3"),
        timeout=params.timeout,
        retries=Retries(params.retries),
        say=io.say,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="upload-") as scratch:
            sums = Path(scratch) / SUMS
            sums.write_text(f"{contract.file_sha256(package)}  {PACKAGE}\n")
            uploaded = _send(target, {PACKAGE: package, SUMS: sums}, params.replace, io)
    finally:
        target.close()
    receipt: dict[str, JsonValue] = {
        "uri": target.where(),
        "objects": uploaded,
        "approvals": [approval.model_dump() for approval in io.contract.approvals],
    }
    text = json.dumps(receipt, indent=2, ensure_ascii=False) + "\n"
    (io.output("receipt") / "upload.json").write_text(text, encoding="utf-8")
    io.metrics["upload"] = receipt


def _send(target: S3Target, files: dict[str, Path], replace: bool, io: StepIO) -> list[JsonValue]:
    """Send what is not there yet; nothing is sent while anything stands in the way."""
    local = {
        name: Stored(contract.file_sha256(path), path.stat().st_size)
        for name, path in files.items()
    }
    there = {name: target.read(name) for name in files}
    other = [name for name, stored in there.items() if stored and stored != local[name]]
    if other and not replace:
        named = ", ".join(target.where(name) for name in other)
        raise DataError(
            f"the store holds another package there already ({named}); give another upload URI, "
            "or set `replace` to overwrite it"
        )
    total, done = sum(stored.bytes for stored in local.values()), 0

    def gained(count: int) -> None:
        nonlocal done
        done += count
        io.progress(done, total, "bytes", "uploading")

    for name, path in files.items():
        if there[name] != local[name]:
            target.put(name, path, gained)
    return [_proved(target, name, local[name], there[name], io) for name in files]


def _proved(
    target: S3Target, name: str, local: Stored, before: Stored | None, io: StepIO
) -> JsonValue:
    """What the store holds now is what was sent: read back and compared."""
    here = before == local
    stored = before if here else target.read(name)
    where = one_line(target.where(name))
    if stored != local:
        found = f"{stored.bytes:,} bytes, sha256 {stored.sha256}" if stored else "nothing"
        raise StepError(
            f"{where}: the store holds {found}, and not the {local.bytes:,} bytes, sha256 "
            f"{local.sha256}, that were sent. Do not submit it: find out who changes objects on "
            "their way or in the store, remove this one, and start again"
        )
    how = "was there already" if here else "uploaded"
    io.say(f"{where}: {how}, {local.bytes:,} bytes, sha256 {local.sha256}, read back")
    return {
        "name": name,
        "where": target.where(name),
        "bytes": local.bytes,
        "sha256": local.sha256,
        "was_there": here,
    }


STAGE = Stage(
    "submission upload",
    "Upload the package to an S3-compatible store and prove what is there by its digest.",
    Params,
    run,
    inputs={
        "package": "output of submission package",
        "report": "the validator's report that was approved (optional)",
    },
    outputs={"receipt": "upload.json: what is where, with its digest"},
)
