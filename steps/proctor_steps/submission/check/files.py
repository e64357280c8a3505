"""Reading what may be anything: each reader returns what it found, or why there is nothing."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

_ENDS = 64 * 1024  # bytes at both ends of a file that tell it apart from another
LARGEST_TEXT = 64 * 2**20  # bytes; no file that is read here is as large in any submission

Absence = Literal["", "missing", "empty", "unreadable", "not text", "malformed", "wrong type"]


@dataclass(frozen=True)
class Text:
    """A text file. ``absence``: in a word why there is no content; ``problem``: in words."""

    path: Path
    content: str = ""
    absence: Absence = ""
    problem: str = ""

    @property
    def lines(self) -> list[str]:
        """Its lines, with their ends; nothing but a line feed ends one."""
        return io.StringIO(self.content).readlines()


@dataclass(frozen=True)
class Fields:
    """A JSON file that holds an object; ``line``: where it is malformed."""

    path: Path
    fields: dict[str, Any] | None = None
    absence: Absence = ""
    problem: str = ""
    line: int | None = None


def text(path: Path) -> Text:
    """Read a text file in UTF-8."""
    absence, problem = _kind(path)
    if absence:
        return Text(path, "", absence, problem)
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        return Text(path, "", "not text", f"is not UTF-8 text (byte {error.start})")
    except OSError as error:
        return Text(path, "", "unreadable", f"cannot be read ({error.strerror})")
    return Text(path, content)


def fields(path: Path) -> Fields:
    """Read a JSON object."""
    found = text(path)
    if found.absence:
        return Fields(path, None, found.absence, found.problem)
    try:
        value = json.loads(found.content)
    except json.JSONDecodeError as error:
        problem = f"is no JSON: {error.msg} (column {error.colno})"
        return Fields(path, None, "malformed", problem, error.lineno)
    except (ValueError, RecursionError) as error:
        return Fields(path, None, "malformed", f"is no JSON: {error}")
    if not isinstance(value, dict):
        kind = {list: "a list", str: "text", type(None): "null"}.get(type(value), "a number")
        return Fields(path, None, "wrong type", f"is {kind}, not a JSON object ({{...}})")
    return Fields(path, value)


def _kind(path: Path) -> tuple[Absence, str]:
    try:
        found = path.stat()
    except FileNotFoundError:
        # A link to nothing is told as what it is.
        return "missing", "is a link to nothing" if path.is_symlink() else "is missing"
    except OSError as error:
        return "unreadable", f"cannot be read ({error.strerror})"
    if stat.S_ISDIR(found.st_mode):
        return "unreadable", "is a folder, not a file"
    if not stat.S_ISREG(found.st_mode):
        return "unreadable", "is no regular file"
    if found.st_size == 0:
        return "empty", "is empty"
    if found.st_size > LARGEST_TEXT:
        return "unreadable", f"has {found.st_size:,} bytes, and is not read"
    return "", ""


def exists(path: Path) -> bool:
    """Whether there is such a file or folder, links followed."""
    return os.path.exists(path)  # noqa: PTH110 (Path.exists raises where it may not look)


def size(path: Path) -> int | None:
    """Bytes of a file; ``None`` where there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def names(folder: Path, kind: Literal["files", "folders"]) -> list[str]:
    """What lies in a folder, sorted, links followed; nothing where it cannot be read."""
    wanted = os.path.isdir if kind == "folders" else os.path.isfile
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if _is(entry, wanted, kind))
    except OSError:
        return []


def _is(entry: os.DirEntry[str], wanted: Callable[[str], bool], kind: str) -> bool:
    if entry.is_symlink():  # which may lead to itself
        return wanted(entry.path)
    return entry.is_dir() if kind == "folders" else entry.is_file()


def fingerprint(path: Path) -> str:
    """A short text that two equal files share; empty where there is none to read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            digest = hashlib.blake2b(file.read(_ENDS), digest_size=16)
            file.seek(max(0, size - _ENDS))
            digest.update(file.read(_ENDS))
    except OSError:
        return ""
    return f"{size}-{digest.hexdigest()}" if size else ""
