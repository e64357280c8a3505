"""Files into an S3-compatible store: in parts, tried again, continued where one broke off.

A large file goes up in parts. The store keeps the parts of an unfinished upload, so whoever comes
next, in this step or a later one, asks it which it has, compares them by MD5 and sends the others:
nothing is sent twice and no object is there by half. What the store then holds is read back and
compared by sha256, as an ETag is no digest of a file that came in parts.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from proctor_steps.stage import DataError, StepFailure
from proctor_steps.transport import s3
from proctor_steps.transport.base import CHUNK, Transient
from proctor_steps.transport.download import Retries, retry

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART = 8 << 20  # bytes; S3 wants 5 MiB at least
_MOST_PARTS = 9_000  # S3 allows 10,000

T = TypeVar("T")


@dataclass(frozen=True)
class Stored:
    """What the store holds under a key, read back from it."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class _Piece:
    """One part of a file: its number from 1 on, its first byte, its length."""

    number: int
    start: int
    bytes: int


class S3Target:
    """A prefix of a bucket to write below.

    Args:
        uri: ``s3://bucket/prefix``, with or without a slash at its end; or ``s3://bucket``.
        secret: file with the credentials, as :class:`proctor_steps.transport.s3.S3Source` reads it.
        timeout: seconds without a byte after which a connection counts as broken.
        say: writes a line of the step's log.

    Every method raises :class:`~proctor_steps.stage.StepFailure`, in words for a person.
    """

    def __init__(
        self,
        uri: str,
        *,
        endpoint: str,
        region: str,
        secret: Path | None,
        timeout: float,
        retries: Retries,
        say: Callable[[str], None],
    ) -> None:
        if not uri.startswith("s3://"):
            raise DataError("an upload goes to s3://bucket/prefix; other places are not written to")
        self.bucket, prefix = s3.split(uri if uri.count("/") > 2 else f"{uri}/")
        self.prefix = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        self.client = s3.connect(endpoint, region, secret, timeout)
        self._signed = secret is not None
        self._retries, self._say = retries, say

    def where(self, name: str = "") -> str:
        """The address of a file below the prefix, for messages."""
        return f"s3://{self.bucket}/{self.prefix}{name}"

    def close(self) -> None:
        """Let the connections go."""
        self.client.close()

    def read(self, name: str) -> Stored | None:
        """Digest and size of what the store holds, byte for byte; ``None`` where it has nothing."""
        return self._tried(name, lambda: self._read(self.prefix + name))

    def put(self, name: str, path: Path, gained: Callable[[int], None]) -> None:
        """Bring a file to the store; ``gained(n)`` hears of every ``n`` bytes that are there."""
        key, size = self.prefix + name, path.stat().st_size
        if size <= PART:
            self._tried(name, lambda: self._put(key, path.read_bytes()))
            gained(size)
            return
        upload, there = self._tried(name, lambda: self._begun(key))
        done: list[CompletedPartTypeDef] = []
        with path.open("rb") as file:
            for piece in _pieces(size):
                file.seek(piece.start)
                data = file.read(piece.bytes)
                etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
                if there.get(piece.number) != (etag, len(data)):
                    etag = self._tried(name, self._sending(key, upload, piece.number, data))
                done.append({"PartNumber": piece.number, "ETag": etag})
                gained(len(data))
        self._tried(name, lambda: self._complete(key, upload, done, size))

    def _put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data, ContentMD5=_md5(data))

    def _begun(self, key: str) -> tuple[str, dict[int, tuple[str, int]]]:
        """The newest unfinished upload of the key with its parts, else a new one."""
        try:
            pages = self.client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket, Prefix=key
            )
            found = [u for page in pages for u in page.get("Uploads", ()) if u["Key"] == key]
        except ClientError as error:
            if s3.status_of(error) not in (403, 405, 501):
                raise
            found = []  # not every store, and not every permission, lets one list them
        if not found:
            made = self.client.create_multipart_upload(Bucket=self.bucket, Key=key)
            return made["UploadId"], {}
        upload = max(found, key=lambda entry: entry["Initiated"])["UploadId"]
        parts = self.client.get_paginator("list_parts").paginate(
            Bucket=self.bucket, Key=key, UploadId=upload
        )
        there = {
            part["PartNumber"]: (part["ETag"], part["Size"])
            for page in parts
            for part in page.get("Parts", ())
        }
        self._say(f"going on with an upload that has {len(there)} parts already")
        return upload, there

    def _sending(self, key: str, upload: str, number: int, data: bytes) -> Callable[[], str]:
        def send() -> str:
            answer = self.client.upload_part(
                Bucket=self.bucket,
                Key=key,
                UploadId=upload,
                PartNumber=number,
                Body=data,
                ContentMD5=_md5(data),
            )
            return answer["ETag"]

        return send

    def _complete(
        self, key: str, upload: str, parts: list[CompletedPartTypeDef], size: int
    ) -> None:
        try:
            self.client.complete_multipart_upload(
                Bucket=self.bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
            )
        except ClientError as error:
            if s3.code_of(error) != "NoSuchUpload" or self._size(key) != size:
                raise  # else the answer of an earlier try was lost, not its work

    def _size(self, key: str) -> int | None:
        try:
            return int(self.client.head_object(Bucket=self.bucket, Key=key)["ContentLength"])
        except ClientError as error:
            if s3.status_of(error) == 404:
                return None
            raise

    def _read(self, key: str) -> Stored | None:
        if self._size(key) is None:
            return None
        digest, size = hashlib.sha256(), 0
        body = self.client.get_object(Bucket=self.bucket, Key=key)["Body"]
        try:
            for chunk in body.iter_chunks(CHUNK):
                digest.update(chunk)
                size += len(chunk)
        finally:
            body.close()
        return Stored(digest.hexdigest(), size)

    def _tried(self, name: str, call: Callable[[], T]) -> T:
        """Call until the store answers, as often as ``retries`` allows."""

        def attempt() -> T:
            try:
                return call()
            except (ClientError, BotoCoreError) as error:
                raise self._failure(error, self.where(name)) from error

        return retry(attempt, self.where(name), self._retries, self._say)

    def _failure(self, error: Exception, where: str) -> Transient | StepFailure:
        if isinstance(error, ParamValidationError):
            return DataError(f"{where}: not a valid bucket or key name; check the URI")
        if passing := s3.passing(error, where):
            return passing
        status, code = s3.status_of(error), s3.code_of(error)
        text = f"{where}: the store answered {status} {code}".rstrip()
        if code == "NoSuchBucket" or status == 404:
            return DataError(f"{text}: no such bucket; make it, or check the URI")
        if status in (401, 403):
            how = "the secret 's3' grants no access" if self._signed else "no secret 's3' was given"
            return DataError(f"{text}: no permission to write and read it ({how})")
        return DataError(f"{text}; check s3_region, s3_endpoint and the URI")


def _pieces(size: int) -> list[_Piece]:
    length = max(PART, -(-size // _MOST_PARTS))
    return [
        _Piece(number, start, min(length, size - start))
        for number, start in enumerate(range(0, size, length), 1)
    ]


def _md5(data: bytes) -> str:
    """What the store compares the body with before it takes it (S3's Content-MD5)."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
