"""Logical mounts: what a spec calls ``data_path``, and where that is on this machine.

``proctor run --mount NAME=PATH`` binds one for its run, and is kept in the run's own folder; else
``mounts`` of the site's profile does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from proctor.plan.model import Input
from proctor.records.store import RunRecord
from proctor.site.home import PROFILE_FILE, Home, SourceRefused
from proctor_steps.contract import write_atomically

_FILE = "mounts.json"


def keep(record: RunRecord, given: Mapping[str, str]) -> None:
    """Bind logical mounts for a run, and only for it."""
    record.whole.own.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dict(given), sort_keys=True)
    write_atomically(record.whole.own / _FILE, text.encode())


def kept(record: RunRecord) -> dict[str, str]:
    """What was bound for this run when it was started."""
    path = record.whole.own / _FILE
    return dict(json.loads(path.read_bytes())) if path.is_file() else {}


def bind(home: Home, wanted: Mapping[str, Input], given: Mapping[str, str]) -> dict[str, Path]:
    """The real path of every wanted mount. ``given``: those bound for the run.

    Raises:
        SourceRefused: every mount that is not bound, or not to what can be mounted for it.
    """
    profile = home.profile().mounts
    bound, problems = {}, []
    for name, mount in sorted(wanted.items()):
        try:
            bound[name] = _path(home, mount, given.get(name) or profile.get(name, ""))
        except SourceRefused as problem:
            problems.append(f"{name}: {problem}; {_remedy(home, mount)}")
    if problems:
        raise SourceRefused("\n".join(problems))
    return bound


def _path(home: Home, mount: Input, text: str) -> Path:
    if not text:
        raise SourceRefused(f"this site binds no {mount.type} to the mount")
    try:
        real = Path(text).resolve()
        home.keep_out(real)
    except (OSError, RuntimeError) as error:  # links in a circle
        raise SourceRefused(f"{text} cannot be followed ({error})") from error
    if not real.exists():
        raise SourceRefused(f"it is bound to {text}, which is not there")
    if not (real.is_dir() if mount.type == "directory" else real.is_file()):
        raise SourceRefused(f"it is bound to {text}, which is no {mount.type}")
    return real


def _remedy(home: Home, mount: Input) -> str:
    place = f"/path/to/the/{mount.type}"
    return (
        f"give --mount {mount.bound}={place} to `proctor run`, or write `{mount.bound}: {place}` "
        f"below `mounts:` in {home.path / PROFILE_FILE}"
    )
