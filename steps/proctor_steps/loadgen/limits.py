"""What the kernel allows this process: processors, CPU quota and memory of its control groups.

They belong into the record of a measurement: a quota stops all threads for the rest of a period of
100 ms, which no average shows and every tail does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

Unknown = Literal["unknown"]
_Number = TypeVar("_Number", int, float)
_PROC = Path("/proc/self")
# cgroup v1 writes the largest multiple of a page where there is no limit.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True)
class Limits:
    """Processors as the kernel lists them; processors' worth of quota; bytes of memory.

    ``None`` is no limit, ``unknown`` what could not be read.
    """

    cgroup: int | Unknown
    cpuset: str
    cpu_quota: float | Unknown | None
    memory_bytes: int | Unknown | None


def read(proc: Path = _PROC) -> Limits:
    """The limits of the process that ``proc`` describes, the tightest of all groups it is in."""
    groups = _Groups(proc)
    return Limits(
        groups.version,
        groups.cpuset() or _allowed(proc),
        _tightest([_quota(text) for text in groups.cpu()]),
        _tightest([_bytes(text) for text in groups.memory()]),
    )


def peak_rss(proc: Path = _PROC) -> int | Unknown:
    """Most bytes that this process ever had in memory (its parent's are not in it)."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", _text(proc / "status") or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else "unknown"


class _Groups:
    """The folders of a process's control groups, whether of version 1, 2 or both."""

    def __init__(self, proc: Path) -> None:
        lines = [line.split(":", 2) for line in (_text(proc / "cgroup") or "").splitlines()]
        paths = {name: path for _, names, path in lines for name in names.split(",")}
        self._folders = {
            name: (mount, _below(paths[name], root, mount))
            for name, root, mount in _mounts(proc)
            if name in paths
        }
        self.version: int | Unknown = "unknown"
        if self._folders:
            self.version = 1 if "cpu" in self._folders else 2

    def cpuset(self) -> str | None:
        """Of the nearest group that says."""
        names = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")
        found = (text for name in names for text in self._read("cpuset", name) if text)
        return next(found, None)

    def cpu(self) -> Iterator[str]:
        """``quota period`` of each group, in version 2's form."""
        if "cpu" not in self._folders:
            yield from self._read("", "cpu.max")
            return
        quotas = self._read("cpu", "cpu.cfs_quota_us")
        periods = self._read("cpu", "cpu.cfs_period_us")
        for quota, period in zip(quotas, periods, strict=True):
            yield f"{quota} {period}"

    def memory(self) -> Iterator[str]:
        """Limit of each group."""
        if "memory" in self._folders:
            return self._read("memory", "memory.limit_in_bytes")
        return self._read("", "memory.max")

    def _read(self, controller: str, file: str) -> Iterator[str]:
        """A file of the group and of those above it, as far as they can be seen."""
        found = self._folders.get(controller) or self._folders.get("")
        if found is None:
            return
        mount, folder = found
        for group in (folder, *folder.parents):
            text = _text(group / file)
            if text is not None:
                yield text.strip()
            if group == mount:
                return


def _mounts(proc: Path) -> Iterator[tuple[str, str, Path]]:
    """Controller (``""`` for version 2), root and mount point."""
    for line in (_text(proc / "mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or not kind or kind[0] not in ("cgroup", "cgroup2"):
            continue
        names = [""] if kind[0] == "cgroup2" else kind[-1].split(",")
        for name in names:
            yield name, fields[3], Path(fields[4])


def _below(path: str, root: str, mount: Path) -> Path:
    """The group's folder. Inside a container the mount begins at the container's own group."""
    inside = PurePosixPath(path)
    if not inside.is_relative_to(root) or ".." in inside.parts:
        return mount
    return mount / inside.relative_to(root)


def _quota(text: str) -> float | Unknown | None:
    match text.split():
        case ["max" | "-1", *_]:
            return None
        case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period):
            return int(quota) / int(period)
    return "unknown"


def _bytes(text: str) -> int | Unknown | None:
    if text == "max" or (text.isdecimal() and int(text) >= _NO_LIMIT):
        return None
    return int(text) if text.isdecimal() else "unknown"


def _tightest(found: Iterable[_Number | Unknown | None]) -> _Number | Unknown | None:
    known = list(found)
    numbers = [value for value in known if value is not None and value != "unknown"]
    if numbers:
        return min(numbers)
    return None if known and "unknown" not in known else "unknown"


def _allowed(proc: Path) -> str:
    found = re.search(r"^Cpus_allowed_list:\s+(\S+)$", _text(proc / "status") or "", re.MULTILINE)
    return found[1] if found else "unknown"


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
