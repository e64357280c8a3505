"""Sources that are watched: which they are, what they were at the last look, and one look more.

Marks are kept in ``schedules/<pipeline>/sources.json`` of the home, so that a change is noticed
across restarts, once. A source that cannot be reached is trouble that is told, and no change.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pydantic import JsonValue

from proctor.plan.model import PlanStep, resolve, selected
from proctor.runtime.hashes import FileHashes
from proctor.site.home import Home, HomeError, SourceRefused, others_environment
from proctor.site.schedules import FOLDER, Scheduled, folder, made_folder, now_text
from proctor.spec.forms import of_a_day
from proctor_steps.contract import digest, write_atomically

_FILE = "sources.json"
LOOK_SECONDS = 120.0  # for one source; the transport gives up on a silent one before that
_LOOKER = "proctor_steps.transport.look"


@dataclass(frozen=True)
class Source:
    """A source under the name that the schedule gives it; ``secret``: the path of its file."""

    name: str
    uri: str
    endpoint: str = ""
    region: str = ""
    secret: str = ""

    @property
    def of(self) -> str:
        """Tells one place from another, without showing it."""
        return digest([self.uri, self.endpoint, self.region])


@dataclass(frozen=True)
class Mark:
    """What a source was. ``of``: which place it was. ``at``: when it was last looked at well.

    ``trouble``: why it could not be at the last look, ``since`` when.
    """

    of: str
    where: str = ""
    version: str = ""
    at: str = ""
    trouble: str = ""
    since: str = ""


@dataclass(frozen=True)
class Look:
    """One look at all sources: marks before anybody is told of a change, and after."""

    untold: dict[str, Mark]
    told: dict[str, Mark]
    changes: tuple[dict[str, str], ...]

    @property
    def troubles(self) -> dict[str, str]:
        """What is in trouble, and why."""
        return {name: mark.trouble for name, mark in self.told.items() if mark.trouble}


def watched(home: Home, scheduled: Scheduled) -> list[Source]:
    """The sources that a schedule watches, in its order, each once.

    A step whose source is another one each day reads none of them.
    """
    params, found = scheduled.params, dict[str, Source]()
    steps = [
        step
        for step in scheduled.plan.steps
        if "uri" in step.params and selected(step, params) and not of_a_day(step.params["uri"])
    ]
    for name in scheduled.schedule.assets:
        if name in params:
            uri = str(params[name] or "")
            reader = next((s for s in steps if resolve(s.params["uri"], params) == uri), None)
            found[name] = _source(home, name, uri, reader, params)
            continue
        for step in steps:
            if step.step == name:
                uri = str(resolve(step.params["uri"], params))
                found[step.id] = _source(home, step.id, uri, step, params)
    return list(found.values())


def _source(
    home: Home, name: str, uri: str, step: PlanStep | None, params: Mapping[str, JsonValue]
) -> Source:
    if step is None:
        return Source(name, uri)
    endpoint, region = (
        str(resolve(step.params.get(key, ""), params)) for key in ("s3_endpoint", "s3_region")
    )
    known = "s3" in step.secrets and home.has_secret("s3")
    return Source(name, uri, endpoint, region, str(home.path / "secrets" / "s3") if known else "")


def look(home: Home, pipeline: str, sources: list[Source]) -> Look:
    """Look at every source once. The first look at a place sets its mark and is no change."""
    before, untold, told = marks(home, pipeline), dict[str, Mark](), dict[str, Mark]()
    changes = []
    for source in sources:
        old = before.get(source.name, Mark(source.of))
        old = old if old.of == source.of else Mark(source.of)
        new = told[source.name] = _seen(home, source, old)
        changed = bool(old.version) and new.version != old.version
        untold[source.name] = replace(new, version=old.version, at=old.at) if changed else new
        if changed:
            changes.append({"name": source.name, "was": old.version, "is": new.version})
    return Look(untold, told, tuple(changes))


def _seen(home: Home, source: Source, old: Mark) -> Mark:
    now = now_text()
    where, version, trouble = _ask(home, source)
    if trouble:
        since = old.since if old.trouble else now
        return replace(old, where=where or old.where, trouble=trouble, since=since)
    return Mark(source.of, where, version, now)


def _ask(home: Home, source: Source) -> tuple[str, str, str]:
    """Where a source is, as it may be shown, its version, and why there is none."""
    if not source.uri:
        return "", "", "it has no value in scheduled runs, so nothing is watched"
    if not source.uri.startswith("file:"):
        return _ask_afar(source)
    try:
        return source.uri, f"sha256 {FileHashes(home.path).content(home.watched(source.uri))}", ""
    except (SourceRefused, HomeError, ValueError) as error:
        return source.uri, "", str(error)
    except OSError as error:
        return source.uri, "", f"{source.uri} cannot be read: {error.strerror}"


def _ask_afar(source: Source) -> tuple[str, str, str]:
    """By a process of its own, which has the libraries; the question goes where nobody lists it."""
    wanted = {"uri": source.uri, "secret": source.secret, "s3_endpoint": source.endpoint}
    wanted |= {"s3_region": source.region} if source.region else {}
    try:
        done = subprocess.run(
            [sys.executable, "-m", _LOOKER],
            input=json.dumps(wanted).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a traceback could hold the URI
            env=others_environment(),
            timeout=LOOK_SECONDS,
            check=True,
        )
        told: dict[str, Any] = json.loads(done.stdout)
        return str(told["where"]), str(told["version"]), str(told["trouble"])
    except subprocess.TimeoutExpired:
        return "", "", f"it gave no answer within {LOOK_SECONDS:g} s"
    except (subprocess.CalledProcessError, OSError, ValueError, KeyError, TypeError) as error:
        return "", "", f"the look at it failed ({type(error).__name__})"


@dataclass
class Troubles:
    """Tells the launcher's terminal, once each, which sources cannot be looked at."""

    home: Home
    _told: dict[tuple[str, str], str] = field(default_factory=dict)

    def look(self, due: bool) -> list[str]:
        """What is new, in lines."""
        if not due:
            return []
        now: dict[tuple[str, str], str] = {}
        for path in sorted((self.home.path / FOLDER).glob(f"*/{_FILE}")):
            pipeline = path.parent.name
            for name, mark in marks(self.home, pipeline).items():
                if mark.trouble:
                    now[pipeline, name] = mark.trouble
        fresh = [key for key in now if self._told.get(key) != now[key]]
        self._told = now
        return [
            f"{pipeline} cannot watch {name}: {now[pipeline, name]}" for pipeline, name in fresh
        ]


def marks(home: Home, pipeline: str) -> dict[str, Mark]:
    """What is known of a pipeline's sources; nothing where the file is not there or damaged.

    Without a mark, the next look sets one and starts nothing.
    """
    try:
        kept = json.loads((folder(home, pipeline) / _FILE).read_text())
        return {str(name): Mark(**mark) for name, mark in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def keep(home: Home, pipeline: str, marks: Mapping[str, Mark]) -> None:
    """Keep what is known of a pipeline's sources; those that are watched no more are forgotten."""
    text = json.dumps({n: asdict(mark) for n, mark in marks.items()}, indent=1) + "\n"
    write_atomically(made_folder(home, pipeline) / _FILE, text.encode())
