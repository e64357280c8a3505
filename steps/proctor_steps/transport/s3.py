"""``s3://bucket/key`` and ``s3://bucket/prefix/``: objects of any S3-compatible store."""

from __future__ import annotations

import configparser
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from proctor_steps.contract import digest
from proctor_steps.stage import DataError, StepError, StepFailure
from proctor_steps.transport.base import Have, Reply, Stale, Transient, Version
from proctor_steps.transport.names import Names

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PASSING = ("SlowDown", "RequestTimeout", "InternalError", "Throttling")
_CONNECTIONS = 16
_PIECE = 64 << 10  # bytes; an unfinished piece is lost when the connection breaks


class S3Source:
    """An object, or every object below a prefix that ends with ``/``.

    Args:
        endpoint: address of a store other than AWS; empty for AWS.
        secret: file with the credentials (boto3's shared credentials format); None: unsigned.
        timeout: seconds without a byte after which the connection counts as broken.
    """

    kind = "s3"

    def __init__(
        self, uri: str, *, endpoint: str, region: str, secret: Path | None, timeout: float
    ) -> None:
        self.bucket, self.prefix = split(uri)
        self.where = f"s3://{self.bucket}/{self.prefix}"
        self.single = bool(self.prefix) and not self.prefix.endswith("/")
        self.client = connect(endpoint, region, secret, timeout)
        self.signed = secret is not None
        self.endpoint = endpoint

    def files(self) -> Sequence[S3File]:
        """The object itself, or those below the prefix in the order of their keys."""
        try:
            return [self._object()] if self.single else self._below()
        except (ClientError, BotoCoreError) as error:
            raise self.failure(error, self.where) from error

    def seen(self) -> str:
        """What tells the version: an object's ETag, or the digest of a listing with all ETags.

        Raises:
            Transient, StepFailure: as :meth:`files`.
        """
        listed = [[file.name, file.etag, file.size] for file in self.files()]
        return f"etag {listed[0][1]}" if self.single else f"listing {digest(sorted(listed))}"

    def close(self) -> None:
        """Let the connections go."""
        self.client.close()

    def failure(self, error: Exception, where: str) -> Transient | StepFailure:
        """What an error of boto3 means here."""
        if isinstance(error, ClientError):
            return self._answered(error, where)
        if isinstance(error, ParamValidationError):
            return DataError(f"{where}: not a valid bucket or key name; check the URI")
        return Transient(f"{type(error).__name__}: {error}")

    def version(self, key: str) -> Version:
        """The version that an object has now."""
        head = self.client.head_object(Bucket=self.bucket, Key=key)
        return Version(size=head["ContentLength"], etag=head["ETag"])

    def _object(self) -> S3File:
        name = self.prefix.rsplit("/", 1)[-1]
        Names(self.where).file(name)
        return S3File(self, self.prefix, name, self.version(self.prefix))

    def _below(self) -> list[S3File]:
        names, found = Names(self.where), []
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix
        )
        for page in pages:
            for entry in page.get("Contents", ()):
                key = entry["Key"]
                if key.endswith("/"):  # a folder that some tools mark by an empty object
                    continue
                name = names.file(key.removeprefix(self.prefix))
                version = Version(size=entry["Size"], etag=entry["ETag"])
                found.append(S3File(self, key, str(name), version))
        if not found:
            raise DataError(f"{self.where} holds no objects; check the bucket and the prefix")
        return found

    def _answered(self, error: ClientError, where: str) -> Transient | StepFailure:
        status, code = status_of(error), code_of(error)
        text = f"{where}: the store answered {status} {code}".rstrip()
        if status == 412:
            return Stale("the object changed in the store; starting again")
        if status == 416:
            return Stale("the store has no such range; starting again")
        if transient := passing(error, where):
            return transient
        if status == 404:
            return DataError(f"{text}: no such bucket or object. A prefix has to end with '/'")
        if status in (401, 403):
            how = "the secret 's3' grants no access" if self.signed else "no secret 's3' was given"
            return DataError(f"{text}: no permission to read it ({how}), or it is not there")
        if status in (301, 307, 400):
            return DataError(f"{text}; check s3_region and s3_endpoint")
        return DataError(f"{text}; check the URI")


class S3File:
    """One object, in the version that the listing gave."""

    def __init__(self, source: S3Source, object_key: str, name: str, version: Version) -> None:
        self.name = name
        self.where = f"s3://{source.bucket}/{object_key}"
        self.key = hashlib.sha256(f"{source.endpoint}\n{self.where}".encode()).hexdigest()
        self._source, self._object_key, self._version = source, object_key, version

    @property
    def size(self) -> int | None:
        """Bytes, by the listing."""
        return self._version.size

    @property
    def etag(self) -> str:
        """By the listing, too."""
        return self._version.etag

    @contextmanager
    def open(self, have: Have) -> Iterator[Reply]:
        """Ask for the object; see :class:`proctor_steps.transport.base.RemoteFile`."""
        if have.complete and have.version == self._version:
            yield Reply(self._version, have.bytes, iter(()), unchanged=True)
            return
        resumed = not have.complete and have.bytes > 0 and have.version == self._version
        start = have.bytes if resumed else 0
        body = self._get(start)
        try:
            yield Reply(self._version, start, self._chunks(body))
        finally:
            body.close()

    def _get(self, start: int) -> Any:
        """The body from byte ``start`` on; of this very version, or not at all."""
        ranged: dict[str, Any] = {"Range": f"bytes={start}-"} if start else {}
        try:
            answer = self._source.client.get_object(
                Bucket=self._source.bucket,
                Key=self._object_key,
                IfMatch=self._version.etag,
                **ranged,
            )
        except (ClientError, BotoCoreError) as error:
            failure = self._source.failure(error, self.where)
            if isinstance(failure, Stale):
                self._renew()
            raise failure from error
        given = answer.get("ContentRange", "")
        if start and not given.startswith(f"bytes {start}-"):
            raise Stale("the store sent another range than it was asked for; starting again")
        return answer["Body"]

    def _renew(self) -> None:
        try:
            self._version = self._source.version(self._object_key)
        except (ClientError, BotoCoreError) as error:
            raise self._source.failure(error, self.where) from error

    def _chunks(self, body: Any) -> Iterator[bytes]:
        try:
            yield from body.iter_chunks(_PIECE)
        except (ClientError, BotoCoreError) as error:
            raise self._source.failure(error, self.where) from error


def status_of(error: Exception) -> int:
    """The HTTP status that the store answered with; 0 where it answered with none."""
    found = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return int(found)


def code_of(error: Exception) -> str:
    """The store's own name for its error; "" where it gave none (a HEAD has no body for it)."""
    code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
    return "" if code.isdecimal() else code


def passing(error: Exception, where: str) -> Transient | None:
    """A failure that may pass: a broken connection, a store in trouble. ``None``: it will not."""
    if not isinstance(error, ClientError):
        return Transient(f"{type(error).__name__}: {error}")
    status, code = status_of(error), code_of(error)
    if status >= 500 or status == 429 or code in _PASSING:
        return Transient(f"{where}: the store answered {status} {code}".rstrip())
    return None


def connect(endpoint: str, region: str, secret: Path | None, timeout: float) -> S3Client:
    """A client of the store; see :class:`S3Source` for the arguments.

    Raises:
        DataError, StepError: the address, the region or the secret cannot be used.
    """
    return _client(_endpoint(endpoint), region, secret, timeout)


def split(uri: str) -> tuple[str, str]:
    """Bucket and key. Keys are taken as they stand: S3 allows ``?``, ``#`` and ``%`` in them."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    if not bucket or "@" in bucket:
        raise DataError(
            "an s3 URI is s3://bucket/key or s3://bucket/prefix/; credentials do not belong in it "
            "but in the site's secret 's3'"
        )
    return bucket, key


def _endpoint(endpoint: str) -> str | None:
    if not endpoint:
        return None
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good:
        raise DataError("s3_endpoint: write http(s)://host[:port], without credentials")
    return endpoint


def _client(endpoint: str | None, region: str, secret: Path | None, timeout: float) -> S3Client:
    given = _credentials(secret) if secret else {}
    config = Config(
        connect_timeout=min(timeout, 30.0),
        read_timeout=timeout,
        # The store's own retries: the download counts them, with what it gained in between.
        retries={"total_max_attempts": 1},
        max_pool_connections=_CONNECTIONS,
        # Stores other than AWS seldom resolve bucket names as host names, nor know new checksums.
        s3={"addressing_style": "path" if endpoint else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        signature_version=None if secret else UNSIGNED,
    )
    try:
        return boto3.Session().client(
            "s3",
            endpoint_url=endpoint,
            region_name=given.get("region", region),
            aws_access_key_id=given.get("aws_access_key_id"),
            aws_secret_access_key=given.get("aws_secret_access_key"),
            aws_session_token=given.get("aws_session_token"),
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise DataError(f"S3 cannot be used: {error}; check s3_region and s3_endpoint") from error


def _credentials(secret: Path) -> dict[str, str]:
    """The profile ``default`` of a shared credentials file; no word of its content in any error."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(secret.read_text())
        profile = dict(parser["default"])
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError):
        profile = {}
    if not (profile.get("aws_access_key_id") and profile.get("aws_secret_access_key")):
        raise StepError(
            "the secret 's3' cannot be used; it has to be readable and to hold a section [default] "
            "with aws_access_key_id and aws_secret_access_key (and aws_session_token, region)"
        )
    return profile
