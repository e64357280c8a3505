"""What a record tells people: how the run began, its parameters, every attempt with its outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from proctor.records.model import Line

SHORT = 12  # digits of a digest that people read
_OF_ATTEMPTS = ("attempt", "result", "skipped", "refused")


@dataclass(frozen=True)
class Output:
    """An output that an attempt left; ``sha256`` in full, ``size`` in bytes or ``None``."""

    name: str
    sha256: str
    size: int | None


@dataclass(frozen=True)
class Tried:
    """One attempt of a step or service; ``attempt`` is 0 where it was skipped or refused.

    ``state``: ``running``, ``succeeded``, ``failed``, ``cancelled``, ``skipped``, ``refused`` or
    ``taken over``. ``message``: why it failed, where it was taken over from, what was decided.
    ``began``: as the record spells times; "" where it never ran. ``seconds``: from its start to its
    result, where it ran itself. ``image``: the digest. ``shares``: it worked in directories that
    other steps work in, too.
    """

    step: str
    attempt: int
    state: str
    message: str = ""
    began: str = ""
    seconds: float | None = None
    image: str = ""
    identity: str = ""
    shares: bool = False
    outputs: tuple[Output, ...] = ()


def about(header: Line) -> Iterator[tuple[str, str]]:
    """What a run began with, as pairs of a word and a text."""
    data = header.data
    yield "began", header.at
    if started := _started_by(data.get("started_by")):
        yield "started by", started
    yield "host", header.host
    yield "plan", header.plan_digest
    spec = data.get("spec")
    if isinstance(spec, dict):
        commit = str(spec.get("git_commit") or "")
        changed = ", changed since" if spec.get("dirty") else ""
        known = f", git {commit[:SHORT]}{changed}" if commit else ""
        yield "spec", f"{spec.get('name')}, sha256 {str(spec.get('sha256'))[:SHORT]}{known}"
    yield "runtime", str(data.get("runtime"))
    bound = data.get("mounts")
    if isinstance(bound, dict) and bound:
        yield "mounts", ", ".join(f"{name} = {path}" for name, path in bound.items())
    reuse = data.get("reuse")
    if isinstance(reuse, dict) and reuse.get("fresh"):
        yield "reuse", "--fresh: nothing is taken over"
    elif isinstance(reuse, dict) and reuse.get("measurements"):
        yield "reuse", f"what {reuse['measurements']} measured may be taken over"
    versions = data.get("versions")
    if isinstance(versions, dict):
        yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items())
    yield "public key", str(data.get("public_key"))


def _started_by(told: JsonValue) -> str:
    """What started a run, in words; "" where that is not known."""
    if not isinstance(told, dict):
        return ""
    match told.get("by"):
        case "clock" | "backfill" as by:
            return f"the {by}, for {told.get('tick')}"
        case "sources":
            changed = told.get("changed")
            each = [c for c in changed if isinstance(c, dict)] if isinstance(changed, list) else []
            return "a change of " + "; ".join(
                f"{c.get('name')} from {c.get('was')} to {c.get('is')}" for c in each
            )
        case "assets":
            assets = told.get("assets")
            return "events of " + ", ".join(map(str, assets if isinstance(assets, list) else ()))
    return str(told.get("name") or "")


def parameters(header: Line) -> list[tuple[str, str, bool]]:
    """Name, value and whether it was given, of every parameter in effect."""
    given, params = header.data.get("given"), header.data.get("params")
    return [
        (name, "" if value is None else str(value), isinstance(given, dict) and name in given)
        for name, value in sorted((params if isinstance(params, dict) else {}).items())
    ]


def attempts(lines: Iterable[Line]) -> list[Tried]:
    """Every attempt, in the order in which they began."""
    found: dict[tuple[str, int], list[Line]] = {}
    for line in lines:
        if line.kind in _OF_ATTEMPTS:
            found.setdefault((line.step, line.attempt), []).append(line)
    return [_tried(step, number, of_it) for (step, number), of_it in found.items()]


def _tried(step: str, number: int, lines: list[Line]) -> Tried:
    state, message, result = "running", "", None
    for line in lines:
        if line.kind == "attempt" and line.data.get("status") == "cancelled":
            state = "cancelled"
        elif line.kind == "result":
            (state, message), result = _came_to(line), line
        elif line.kind in ("skipped", "refused"):
            state, message = line.kind, str(line.data.get("message"))
    own = result is not None and not result.data.get("reused_from")
    return Tried(
        step=step,
        attempt=number,
        state=state,
        message=message,
        began=lines[0].at if lines[0].kind == "attempt" else "",
        seconds=_seconds(result) if own and result else None,
        image=str(result.data.get("image_digest") or "") if result else "",
        identity=next((line.identity for line in lines if line.identity), ""),
        shares=any(bool(line.data.get("shares")) for line in lines),
        outputs=tuple(_outputs(result)) if result else (),
    )


def _came_to(line: Line) -> tuple[str, str]:
    if earlier := line.data.get("reused_from"):
        return "taken over", f"from {earlier}"
    state = str(line.data.get("state"))
    if kind := line.data.get("kind"):
        return state, f"({kind}): {line.data.get('message')}"
    return state, str(line.data.get("condition") or "")


def _outputs(line: Line) -> Iterator[Output]:
    outputs = line.data.get("outputs")
    for name, entry in (outputs if isinstance(outputs, dict) else {}).items():
        if isinstance(entry, dict):
            size = entry.get("bytes")
            yield Output(name, str(entry.get("sha256")), size if isinstance(size, int) else None)


def _seconds(line: Line) -> float | None:
    try:
        began = datetime.fromisoformat(str(line.data.get("started_at")))
        return (datetime.fromisoformat(line.at) - began).total_seconds()
    except (ValueError, TypeError):
        return None
