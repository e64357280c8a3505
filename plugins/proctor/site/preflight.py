"""What can be known before a site's run begins, in words for somebody who is no expert.

Each check looks at one thing and tells it as a finding. None changes anything.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from rich.filesize import decimal

from proctor.plan.model import Plan
from proctor.runtime.host import own_image

State = Literal["good", "unknown", "bad"]

# What the services, their logs and the records need beside the data.
_OVERHEAD_BYTES = 2 * 10**9
# A prepared dataset may be as large as the raw one, and so may what lies between.
_TIMES = 2
_SHOWN = 5  # paths in one finding
_CLOCK_SECONDS = 60
# Where systemd and chrony tell that the clock is kept right.
_SYNCHRONISED = (Path("/run/systemd/timesync/synchronized"), Path("/run/chrony/chronyd.pid"))
# File systems that are in memory, or on another machine: a database there is slow or is lost.
_UNFIT = {"tmpfs": "in memory", "nfs": "on another machine", "nfs4": "on another machine"}


@dataclass(frozen=True)
class Finding:
    """What one check found. ``remedy``: what to do, where something is to be done."""

    what: str
    state: State
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Wanted:
    """What is about to be run. ``bound``: mounts by name; ``images``: those that the plan needs,
    ``local``: what the site runs for them; ``reader``: uid and gid that steps read as."""

    plan: Plan
    output: Path
    bound: Mapping[str, Path]
    images: frozenset[str]
    local: Mapping[str, str]
    reader: tuple[int, int]
    looked: Callable[[str], None] = field(default=lambda what: None)


@dataclass
class Measured:
    """What lies below a mount. ``unreadable``: paths that a step could not read."""

    files: int = 0
    bytes: int = 0
    unreadable: list[str] = field(default_factory=list)


def look(wanted: Wanted) -> Iterator[Finding]:
    """Every finding, in the order in which a person would mend things."""
    wanted.looked("the data")
    measured = {name: measure(path, wanted.reader) for name, path in sorted(wanted.bound.items())}
    for name, found in measured.items():
        yield _readable(name, wanted.bound[name], found)
    yield _output(wanted.output)
    yield _space(wanted.output, sum(found.bytes for found in measured.values()))
    yield _memory(wanted.plan)
    wanted.looked("the container engine")
    yield from _engine(wanted)
    yield _port()
    yield _clock()


def measure(path: Path, reader: tuple[int, int]) -> Measured:
    """Files and bytes below a path, and what ``reader`` (uid, gid) cannot read. Follows no link."""
    found = Measured()
    pending = [path]
    while pending:
        here = pending.pop()
        try:
            status = here.lstat()
        except OSError:
            found.unreadable.append(str(here))
            continue
        is_folder = stat.S_ISDIR(status.st_mode)
        if not may_read(status, reader, enter=is_folder):
            found.unreadable.append(str(here))
        if is_folder:
            try:
                pending += list(here.iterdir())
            except OSError:
                found.unreadable.append(str(here))
        elif stat.S_ISREG(status.st_mode):
            found.files += 1
            found.bytes += status.st_size
    return found


def may_read(status: os.stat_result, reader: tuple[int, int], *, enter: bool) -> bool:
    """Whether a user may read a file or list and enter a folder, by its permission bits."""
    uid, gid = reader
    shift = 6 if status.st_uid == uid else 3 if status.st_gid == gid else 0
    wanted = (stat.S_IROTH | stat.S_IXOTH) if enter else stat.S_IROTH
    return stat.S_ISLNK(status.st_mode) or (status.st_mode >> shift) & wanted == wanted


def _readable(name: str, path: Path, found: Measured) -> Finding:
    what = f"{name}: {path}"
    if found.unreadable:
        shown = ", ".join(sorted(found.unreadable)[:_SHOWN])
        more = len(found.unreadable) - _SHOWN
        shown += f" and {more} more" if more > 0 else ""
        remedy = f"give everybody the right to read it: chmod -R a+rX {path}"
        message = f"{len(found.unreadable)} of its files and folders cannot be read by the steps"
        return Finding(what, "bad", f"{message}: {shown}", remedy)
    if not found.files:
        return Finding(what, "bad", "it holds no file", "name the folder that holds the data")
    return Finding(what, "good", f"{found.files:,} files, {decimal(found.bytes)}")


def _output(output: Path) -> Finding:
    what = f"output: {output}"
    place = _existing(output)
    if not os.access(place, os.W_OK | os.X_OK):
        remedy = (
            f"choose a folder of your own, or have somebody give you the right to write {place}"
        )
        return Finding(what, "bad", "it cannot be written to", remedy)
    kind = _file_system(place)
    if kind in _UNFIT:
        message = f"it is {_UNFIT[kind]} ({kind})"
        return Finding(what, "bad", message, "choose a folder on a disk of this machine")
    return Finding(what, "good", "it can be written to")


def _space(output: Path, data: int) -> Finding:
    needed = _TIMES * data + _OVERHEAD_BYTES
    free = shutil.disk_usage(_existing(output)).free
    why = f"the data twice, and {decimal(_OVERHEAD_BYTES)}"
    text = f"{decimal(free)} are free, {decimal(needed)} needed ({why})"
    if free < needed:
        remedy = "make room there, or choose an output folder on a larger disk"
        return Finding("disk", "bad", text, remedy)
    return Finding("disk", "good", text)


def _memory(plan: Plan) -> Finding:
    """A step's limit is no need: one that is wider than the machine is told, and stops nothing."""
    most = max((step.resources.memory for step in plan.steps if step.image), default=0)
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    text = f"{decimal(have)}; a step may take {decimal(most)}, Airflow takes about {decimal(10**9)}"
    if have < most + 10**9:
        remedy = "if steps end as out of memory, use a machine with more of it"
        return Finding("memory", "unknown", text, remedy)
    return Finding("memory", "good", text)


def _engine(wanted: Wanted) -> Iterator[Finding]:
    from proctor.runtime.base import EngineError, RequestRefused
    from proctor.runtime.choose import make
    from proctor.runtime.engine import check

    try:
        check()
    except EngineError as error:
        yield Finding(
            "container engine",
            "bad",
            str(error),
            "install Docker (on Debian: apt-get install docker.io), start it, and have yourself "
            "added to the group docker; then log in again",
        )
        return
    yield Finding("container engine", "good", "it answers")
    runtime = make("docker", wanted.output)
    for image in sorted(wanted.images):
        if own_image(image) is not None:
            continue  # built by this installation where it is missing
        try:
            id = runtime.identity(image, wanted.local.get(image, ""))
        except (EngineError, RequestRefused) as error:
            remedy = f"docker pull {image}, or load it from the file that the committee gave you"
            yield Finding(f"image {image}", "bad", str(error), remedy)
        else:
            yield Finding(f"image {image}", "good", f"here, {id.removeprefix('sha256:')[:12]}")


def _port() -> Finding:
    try:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
    except OSError as error:
        remedy = "ask whoever runs this machine to allow programs to listen on 127.0.0.1"
        return Finding("web page", "bad", f"no port can be used here ({error.strerror})", remedy)
    return Finding("web page", "good", "a free port is there; it is open to this machine only")


def _clock() -> Finding:
    now = datetime.now().astimezone()
    told = f"{now:%Y-%m-%d %H:%M} {now.tzname()}"
    if off := _engine_clock_off():
        remedy = "set both to the right time (timedatectl set-ntp true)"
        text = f"it says {told}, and the container engine's is {off:.0f} s away"
        return Finding("clock", "bad", text, remedy)
    if any(path.exists() for path in _SYNCHRONISED):
        return Finding("clock", "good", f"it says {told} and is kept right")
    text = f"it says {told}; nothing here tells whether it is kept right"
    return Finding("clock", "unknown", text, "compare it with another clock")


def _engine_clock_off() -> float:
    """Seconds between this host's clock and the engine's, where they are far apart; else 0."""
    from proctor.runtime.base import EngineError
    from proctor.runtime.engine import clock

    try:
        off = abs(clock() - time.time())
    except EngineError:
        return 0.0
    return off if off > _CLOCK_SECONDS else 0.0


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(each for each in (path, *path.parents) if each.exists())


def _file_system(path: Path) -> str:
    """The kind of file system that a path lies on; "" where this machine does not tell."""
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return ""
    real = path.resolve()
    found = [(Path(fields[1]), fields[2]) for line in lines if len(fields := line.split()) > 2]
    holding = [(mount, kind) for mount, kind in found if real.is_relative_to(mount)]
    return max(holding, key=lambda each: len(each[0].parts), default=(Path("/"), ""))[1]


def bad(findings: Iterable[Finding]) -> list[Finding]:
    """Those that keep a run from beginning."""
    return [each for each in findings if each.state == "bad"]
