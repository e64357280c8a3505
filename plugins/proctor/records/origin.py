"""Where a run came from: versions of the orchestrator, and the revision of its spec's file."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

from proctor_steps.contract import file_sha256

_PACKAGES = ("proctor", "apache-airflow", "docker", "pydantic", "mlcommons-loadgen")
_GIT_SECONDS = 10.0


def versions() -> dict[str, str]:
    """Python's version and those of the packages that plan and start steps."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def spec_origin(path: Path) -> dict[str, str | bool]:
    """sha256 of a spec's file and, where git keeps it, its commit.

    ``dirty``: the file differs from that commit, or is not in it. What cannot be told is left out.
    """
    found: dict[str, str | bool] = {"name": path.name}
    try:
        found["sha256"] = file_sha256(path)
    except OSError:
        return found
    commit = _git(path, "rev-parse", "--verify", "HEAD")
    changed = _git(path, "status", "--porcelain", "--ignored", "--", path.name)
    if commit and changed is not None:
        found |= {"git_commit": commit, "dirty": bool(changed)}
    return found


def _git(path: Path, *words: str) -> str | None:
    """What git says of a file's folder; ``None`` where there is no git, or no repository."""
    # No program that a repository's own settings name is started.
    safe = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
    try:
        done = subprocess.run(
            ["git", *safe, "-C", str(path.parent), *words],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
