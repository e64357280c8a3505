"""Judges an ended attempt and publishes what it left. The same for every runtime."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from proctor.runtime.artifacts import LocalArtifacts
from proctor.runtime.attempt import Attempt, now, stamp
from proctor.runtime.base import Failure, Handle, Outcome, State
from proctor.runtime.failure import BadResult, check_outputs, classify, read_result
from proctor_steps.contract import Output, Result, tree_digest

STOP_FILE = "stop.json"
# A waiter's clock may ring a little before the deadline as the handle spells it.
_SLACK = timedelta(seconds=1)


def note_stop(attempt: Attempt, grace_seconds: float, why: str = "") -> None:
    """Note that somebody asks for an attempt's end, before it is ended. The first asker counts.

    ``why``: what the step did to be ended; then that is its failure.
    """
    with contextlib.suppress(OSError):  # on a full disk the end matters more than its note
        if attempt.folder.is_dir() and attempt.read(STOP_FILE) is None:
            noted = {"at": stamp(now()), "grace_seconds": grace_seconds, "why": why}
            attempt.write(STOP_FILE, noted)


def settle(
    attempt: Attempt,
    store: LocalArtifacts,
    handle: Handle,
    state: State,
    *,
    log_tail: Sequence[str] = (),
    deadline_passed: bool = False,
    foreign: bool = False,
) -> Outcome:
    """The outcome of an ended attempt, kept in its folder so that asking again gives the same.

    ``foreign``: its image need not write a result; what is in its outputs is looked at here.
    """
    known = attempt.outcome()
    if known is not None:
        return known
    result = read_result(attempt.step_dir)
    cancelled, late = _stopped(attempt, handle)
    failure = classify(
        state,
        result,
        cancelled=cancelled,
        deadline_passed=deadline_passed or late,
        log_tail=log_tail,
        foreign=foreign,
    )
    if failure is not None and (why := (attempt.read(STOP_FILE) or {}).get("why")):
        failure = Failure(kind="step", message=why)
    outcome = _outcome(attempt, store, handle, failure, result)
    if outcome.failure is not None:
        store.discard(attempt.name)  # it goes nowhere, and may be what fills the disk
    attempt.discard_secrets()
    if attempt.folder.is_dir():
        attempt.write("outcome.json", outcome.model_dump(mode="json"))
    return outcome


def _outcome(
    attempt: Attempt,
    store: LocalArtifacts,
    handle: Handle,
    failure: Failure | None,
    result: Result | BadResult | None,
) -> Outcome:
    told = _without_shared(result, handle) if isinstance(result, Result) else None
    names = [output.name for output in handle.outputs if not output.shared]
    if failure is None:
        places = {name: store.staged(attempt.name, name) for name in names}
        found, problems = (told, check_outputs(told, names, places)) if told else _found(places)
        if not problems:
            return Outcome(result=found, outputs=store.publish(attempt.name, names))
        failure = Failure(kind="step", message="; ".join(problems))
    return Outcome(failure=failure, result=told)


def _without_shared(result: Result, handle: Handle) -> Result:
    """What steps share changes behind the step: its digest of that says nothing."""
    shared = {output.name for output in handle.outputs if output.shared}
    own = tuple(output for output in result.outputs if output.name not in shared)
    return result.model_copy(update={"outputs": own})


def _found(places: Mapping[str, Path]) -> tuple[Result, list[str]]:
    """The result of an image that writes none: its outputs as they are, and what is wrong."""
    outputs, problems = [], []
    for name, place in places.items():
        try:
            sha256, size = tree_digest(place)
        except (OSError, ValueError) as error:
            problems.append(f"output {name!r}: {error}")
            continue
        kind = "inode/directory" if place.is_dir() else "application/octet-stream"
        outputs.append(Output(name=name, media_type=kind, sha256=sha256, bytes=size))
    return Result(status="ok", outputs=tuple(outputs)), problems


def _stopped(attempt: Attempt, handle: Handle) -> tuple[bool, bool]:
    """Whether it was asked to end, and whether that was because its time was over."""
    asked = attempt.read(STOP_FILE)
    if asked is None:
        return False, False
    if not handle.deadline_at:
        return True, False
    at = datetime.fromisoformat(asked["at"])
    return True, at >= datetime.fromisoformat(handle.deadline_at) - _SLACK
