"""From a URI to files in an output folder: what the fetching stages share."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from pydantic import Field, JsonValue, field_validator

from proctor_steps import contract, trouble
from proctor_steps.stage import DataError, StageParams, StepError, StepIO
from proctor_steps.transport import archive
from proctor_steps.transport.base import RemoteFile, RemoteSource, redact
from proctor_steps.transport.download import (
    Arrival,
    Downloader,
    Retries,
    Store,
    retry,
    wrong_digest,
)
from proctor_steps.transport.local import copy_file, local_path, tree_files

WORK = ".fetching"  # below the output, while there is something to be done and no cache
_AT_ONCE = 8
_HTML = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)


class FetchParams(StageParams):
    """Parameters of every stage that fetches. The URI is checked where it is used: an error of
    the parameters themselves would print it, credentials included."""

    uri: str = Field(
        description="file:///path (file or folder), http(s)://…, s3://bucket/key, "
        "s3://bucket/prefix/ or embedded:NAME; archives are unpacked"
    )
    sha256: str = Field(
        default="",
        description="the file's or archive's digest; of a folder or prefix, its tree digest "
        "(metrics.source.sha256 of an earlier fetch); empty: not checked",
    )
    s3_endpoint: str = Field(default="", description="address of an S3 store other than AWS")
    s3_region: str = Field(default="us-east-1", description="region of the bucket")
    retries: int = Field(default=5, ge=1, description="attempts in a row that bring nothing")
    timeout: float = Field(default=60.0, gt=0, description="seconds without a byte")

    @field_validator("sha256")
    @classmethod
    def _digest(cls, text: str) -> str:
        text = text.strip().lower().removeprefix("sha256:")
        if text and not re.fullmatch(r"[0-9a-f]{64}", text):
            raise ValueError("a sha256 has 64 hexadecimal digits")
        return text


@dataclass(frozen=True)
class Item:
    """One file of a source, whole and on this machine. ``movable``: no one else needs it there."""

    name: PurePosixPath
    path: Path
    sha256: str
    bytes: int
    movable: bool = False


@dataclass(frozen=True)
class Origin:
    """The resolved version of a source, for ``metrics.source``."""

    kind: str
    where: str
    single: bool
    etag: str = ""

    def metrics(self, items: Sequence[Item]) -> dict[str, JsonValue]:
        """What identifies the source's content: digest, size, ETag, listing."""
        listing = _tree_digest(items)
        return {
            "kind": self.kind,
            "uri": self.where,
            "sha256": items[0].sha256 if self.single else listing,
            "bytes": sum(item.bytes for item in items),
            "files": len(items),
            "etag": self.etag,
            "listing": "" if self.single else listing,
        }


def _tree_digest(items: Sequence[Item]) -> str:
    """What :func:`proctor_steps.contract.tree_digest` says of the folder that they make."""
    return contract.digest([[str(i.name), i.sha256] for i in sorted(items, key=lambda i: i.name)])


def obtain(
    params: FetchParams,
    out: Path,
    io: StepIO,
    keep_packed: Callable[[Path], bool] = lambda path: False,
) -> None:
    """Bring what the URI names into ``out``, checked and unpacked; fill ``metrics.source``.

    Args:
        keep_packed: of a file that is an archive, whether it is wanted as it is.

    Raises:
        DataError: the source or its content is wrong.
        StepError: the network, the disk or the credentials are.
    """
    left = sorted(p.name for p in out.iterdir() if p.name != WORK)
    if left:
        raise StepError(f"the output folder is not empty ({', '.join(left[:5])}); give a new one")
    try:
        scheme = params.uri.partition(":")[0].lower()
        if scheme in ("file", "embedded"):
            _from_here(params, scheme, out, io, keep_packed)
        else:
            _from_afar(params, scheme, out, io, keep_packed)
        shutil.rmtree(out / WORK, ignore_errors=True)
    except OSError as error:
        told = trouble.explain(error, io.places())
        raise StepError(told or f"cannot read or write: {error}; check the disk") from error


def _from_here(
    params: FetchParams, scheme: str, out: Path, io: StepIO, keep_packed: Callable[[Path], bool]
) -> None:
    path = local_path(params.uri)
    single = path.is_file()
    named = [(PurePosixPath(path.name), path)] if single else tree_files(path)
    meter = Meter(io, sum(p.stat().st_size for _, p in named), "reading")
    items = []
    for name, file in named:
        size = file.stat().st_size
        items.append(Item(name, file, contract.file_sha256(file), size))
        meter.gained(size)
    _finish(params, Origin(scheme, params.uri, single), items, out, io, keep_packed)


def _from_afar(
    params: FetchParams, scheme: str, out: Path, io: StepIO, keep_packed: Callable[[Path], bool]
) -> None:
    cache = next((Path(m.path) for m in io.contract.mounts if m.kind == "cache"), None)
    retries = Retries(attempts=params.retries)
    with _opened(params, scheme, io) as source:
        io.say(f"fetching {source.where}")
        files = retry(source.files, source.where, retries, io.say)
        store = Store(cache / "downloads" if cache else out / WORK)
        meter = Meter(io, sum(file.size or 0 for file in files), "fetching")
        downloader = Downloader(
            store, retries, meter.gained, meter.expects, meter.say, params.timeout
        )
        arrivals = _get_all(downloader, files, params.sha256 if source.single else "")
        items = [
            _item(file, arrival, store, movable=cache is None)
            for file, arrival in zip(files, arrivals, strict=True)
        ]
        reused = sum(arrival.reused for arrival in arrivals)
        if reused:
            io.say(f"{source.where}: {reused} of {len(files)} file(s) were here already, unchanged")
        etag = arrivals[0].file.version.etag if source.single else ""
        origin = Origin(source.kind, source.where, source.single, etag)
    _finish(params, origin, items, out, io, keep_packed)


def _item(file: RemoteFile, arrival: Arrival, store: Store, movable: bool) -> Item:
    sha256, size = arrival.file.sha256, arrival.file.bytes
    return Item(PurePosixPath(file.name), store.file(sha256), sha256, size, movable)


@contextmanager
def _opened(params: FetchParams, scheme: str, io: StepIO) -> Iterator[RemoteSource]:
    source = _source(params, scheme, io)
    try:
        yield source
    finally:
        source.close()


def _source(params: FetchParams, scheme: str, io: StepIO) -> RemoteSource:
    library = {"http": "httpx", "https": "httpx", "s3": "boto3"}.get(scheme)
    if library:
        io.versions[library] = version(library)
    return remote_source(
        params.uri,
        endpoint=params.s3_endpoint,
        region=params.s3_region,
        secret=io.optional("secret", "s3"),
        timeout=params.timeout,
    )


def remote_source(
    uri: str, *, endpoint: str, region: str, secret: Path | None, timeout: float
) -> RemoteSource:
    """The transport of a URI; its library is loaded only now.

    Raises:
        DataError: the URI, the address or the region cannot be used.
        StepError: the secret cannot.
    """
    scheme = uri.partition(":")[0].lower()
    if scheme in ("http", "https"):
        from proctor_steps.transport.http import HttpSource

        return HttpSource(uri, timeout)
    if scheme == "s3":
        from proctor_steps.transport.s3 import S3Source

        return S3Source(uri, endpoint=endpoint, region=region, secret=secret, timeout=timeout)
    raise DataError(
        f"{redact(uri)!a}: this kind of URI is not known; write file:///path, http(s)://…, "
        "s3://bucket/key, s3://bucket/prefix/ or embedded:NAME"
    )


def _get_all(downloader: Downloader, files: Sequence[RemoteFile], sha256: str) -> list[Arrival]:
    """Several at once, as small files mostly wait; the first failure stops the rest."""
    if len(files) == 1:
        return [downloader.get(files[0], sha256)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        jobs = [pool.submit(downloader.get, file) for file in files]
        try:
            return [job.result() for job in jobs]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _finish(
    params: FetchParams,
    origin: Origin,
    items: Sequence[Item],
    out: Path,
    io: StepIO,
    keep_packed: Callable[[Path], bool],
) -> None:
    metrics = origin.metrics(items)
    found, size = str(metrics["sha256"]), sum(item.bytes for item in items)
    if params.sha256 and found != params.sha256:
        raise wrong_digest(origin.where, params.sha256, found, size)
    io.metrics["source"] = metrics
    if origin.single:
        _place_single(items[0], origin, out, io, keep_packed)
    else:
        for item in items:
            _place(item, out / item.name)
    io.say(f"{origin.where}: {len(items)} file(s), {size:,} bytes, sha256 {found}")


def _place_single(
    item: Item, origin: Origin, out: Path, io: StepIO, keep_packed: Callable[[Path], bool]
) -> None:
    name = item.name.name
    if origin.kind == "http" and not name.lower().endswith((".html", ".htm")):
        _refuse_page(item, origin)
    packed = archive.SUFFIX.search(name) or ("." not in name and archive.detect(item.path))
    if packed and not keep_packed(item.path):
        where = f"{origin.where} ({name})" if name not in origin.where else origin.where
        count = archive.extract(item.path, out, where, progress=_unpacking(io))
        io.say(f"{origin.where}: unpacked {count:,} files")
    else:
        _place(item, out / name)


def _refuse_page(item: Item, origin: Origin) -> None:
    with item.path.open("rb") as file:
        head = file.read(1024)
    if _HTML.match(head.removeprefix(b"\xef\xbb\xbf")):
        raise DataError(
            f"{origin.where}: the server sent a web page instead of a file (a login, a warning or "
            "a folder's index?); open the address in a browser and take the link of the file itself"
        )


def _place(item: Item, target: Path) -> None:
    """Put a whole file to its place: beside it first, so that it is never there by half."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if item.movable:
        with suppress(OSError):  # another file system, or one without hard links
            target.hardlink_to(item.path)  # not a move: two names may have the same content
            return
    beside = target.with_name(f".{contract.digest(target.name)[:16]}.part")
    try:
        copy_file(item.path, beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _unpacking(io: StepIO) -> Callable[[int, int], None]:
    return lambda done, total: io.progress(done, total, "bytes", "unpacking")


class Meter:
    """The step's progress, fed from several threads."""

    def __init__(self, io: StepIO, total: int, note: str) -> None:
        self._io, self._total, self._note = io, total, note
        self._done = 0
        self._lock = threading.Lock()

    def expects(self, total: int) -> None:
        """A file without a known size turned out to have ``total`` bytes."""
        with self._lock:
            self._total = total

    def gained(self, count: int) -> None:
        """So many bytes more."""
        with self._lock:
            self._done += count
            self._io.progress(self._done, self._total, "bytes", self._note)

    def say(self, text: str) -> None:
        """A line of the log."""
        with self._lock:
            self._io.say(text)
