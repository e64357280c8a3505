"""One fact of a system description with its source, and how the kernel's small files are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

_LONGEST = 4 << 20  # bytes; /proc/cpuinfo of a thousand processors has about two million


@dataclass(frozen=True)
class Fact:
    """What is known, and from where, in words for a person."""

    value: JsonValue
    source: str


def read(path: Path) -> str:
    """A file of /proc or /sys; "" where it is absent, or may not be read."""
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST).decode("utf-8", errors="replace")
    except OSError:
        return ""


def readable(text: str) -> str:
    """What firmware calls a thing, without what makers leave in where they should have said it."""
    empty = {"to be filled by o.e.m.", "default string", "not specified", "system product name"}
    return "" if text.lower() in empty else text


def size(amount: int, base: int) -> str:
    """Bytes in the unit that suits them: ``base`` 1000 for disks (GB), 1024 for memory (GiB)."""
    units = ("GB", "TB") if base == 1000 else ("GiB", "TiB")
    giga = amount / base**3
    if giga < base:
        return f"{giga:.0f} {units[0]}" if giga >= 100 else f"{giga:.1f} {units[0]}"
    return f"{giga / base:.1f} {units[1]}"
