"""Hashing 2 GB of files the first time, again, and one after the other without what was kept.

2,000 files of half a megabyte to one and a half. The first time, they are read in parallel; the
second, only their times are looked at.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import Bench, interval, ratio
from proctor.runtime.hashes import FILE_NAME, FileHashes
from proctor_steps.contract import tree_digest

FILES = 2000
MEGABYTE = 1_000_000


def measure(bench: Bench) -> None:
    """Seconds of each, in turn, on one folder."""
    bench.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="proctor-hashing-", dir=bench.out) as name:
        root, home = Path(name) / "data", Path(name) / "home"
        home.mkdir()
        size = _write(root)
        bench.say(f"{FILES} files, {size / 1e9:.2f} GB")
        # A file that changed a moment ago is hashed and not kept.
        time.sleep(3)
        found: set[str] = set()

        def timed(digest: Callable[[], str]) -> float:
            begun = time.perf_counter()
            found.add(digest())
            return time.perf_counter() - begun

        def first() -> float:
            (home / FILE_NAME).unlink(missing_ok=True)
            return timed(lambda: FileHashes(home).tree(root))

        times = bench.interleave(
            {
                "first": first,
                "again": lambda: timed(lambda: FileHashes(home).tree(root)),
                "plain": lambda: timed(lambda: tree_digest(root)[0]),
            }
        )
    bench.row("digests found", f"{len(found)}", "one", len(found) == 1)
    bench.row("the first time, s", interval(times["first"]))
    again = interval(times["again"])
    bench.row("again, s", again, "at most 1 s", again.median <= 1)
    bench.row("one file after the other, s", interval(times["plain"]))
    bench.row("first / one after the other", ratio(times["first"], times["plain"]))


def _write(root: Path) -> int:
    size = 0
    for number in range(FILES):
        path = root / f"{number % 20:02}" / f"{number:04}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = os.urandom(MEGABYTE // 2 + number * MEGABYTE // FILES)
        path.write_bytes(data)
        size += len(data)
    return size
