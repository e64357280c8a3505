"""What a process costs: its wall and CPU seconds and its peak resident memory.

Run as a program, it starts the command from a process of its own that has almost nothing in memory:
Linux counts what the parent had at the fork into the child's ``ru_maxrss``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    """``memory`` in MiB; ``out`` is what the process printed."""

    seconds: float
    cpu: float
    memory: float
    out: str


def cost(
    command: Sequence[str | Path], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Cost:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed; with the end of what it printed.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-S", __file__, *map(str, command)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    *errors, last = done.stderr.splitlines() or [""]
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: " + "\n".join([*errors, last])[-2000:])
    said = json.loads(last)
    return Cost(said["seconds"], said["cpu"], said["memory"], done.stdout)


def _main() -> int:
    start = time.perf_counter()
    pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
    _, status, used = os.wait4(pid, 0)
    seconds = time.perf_counter() - start
    cpu, memory = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu, "memory": memory}), file=sys.stderr)
    return os.waitstatus_to_exitcode(status) and 1


if __name__ == "__main__":
    sys.exit(_main())
