"""Tells whose failure it is: the data's, the step's, the engine's, or somebody else ended it.

Only the last two are worth another try. What a container wrote is read with care: it may be
missing, huge, malformed, or a link to a file of the host.
"""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from proctor.runtime.base import Failure, FailureKind, State
from proctor_steps.contract import (
    PROGRESS_FILE,
    RESULT_FILE,
    Progress,
    Result,
    tree_digest,
)

RESULT_LIMIT = 4 * 1024 * 1024
PROGRESS_LIMIT = 64 * 1024
# Signals with which the kernel ends a process for what the process itself did.
_CRASHES = {
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGILL,
    signal.SIGFPE,
    signal.SIGABRT,
    signal.SIGSYS,
    signal.SIGTRAP,
}


@dataclass(frozen=True)
class BadResult:
    """A ``result.json`` that cannot be used, and why."""

    problem: str


def read_result(folder: Path) -> Result | BadResult | None:
    """``result.json`` of a step's folder; ``None`` where there is none."""
    try:
        data = _read_plain(folder / RESULT_FILE, RESULT_LIMIT)
        return Result.model_validate_json(data)
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return BadResult(f"{where + ': ' if where else ''}{first['msg']}")
    except (OSError, ValueError) as error:
        return BadResult(str(error))


def read_progress(folder: Path) -> Progress | None:
    """``progress.json`` of a step's folder, or ``None``: it is only a heartbeat."""
    try:
        return Progress.model_validate_json(_read_plain(folder / PROGRESS_FILE, PROGRESS_LIMIT))
    except (OSError, ValueError):
        return None


def check_outputs(result: Result, expected: Sequence[str], places: dict[str, Path]) -> list[str]:
    """What is wrong with the outputs of a result that says ``ok``; empty where nothing is."""
    told = {output.name: output for output in result.outputs}
    problems = [f"output {n!r} is not in its result" for n in expected if n not in told]
    problems += [f"output {n!r} was not asked for" for n in told if n not in expected]
    for name in expected:
        if name not in told:
            continue
        try:
            found, _ = tree_digest(places[name])
        except (OSError, ValueError) as error:
            problems.append(f"output {name!r}: {error}")
            continue
        if found != told[name].sha256:
            problems.append(
                f"output {name!r} has digest {found[:12]}, its result says "
                f"{told[name].sha256[:12]}: it was changed after the step had written its result"
            )
    return problems


def classify(
    state: State,
    result: Result | BadResult | None,
    *,
    cancelled: bool = False,
    deadline_passed: bool = False,
    log_tail: Sequence[str] = (),
    foreign: bool = False,
) -> Failure | None:
    """Why an ended attempt failed; ``None`` where it exited with 0 and its result says ``ok``.

    ``cancelled`` and ``deadline_passed``: somebody asked for its end, or its time was over. A step
    that had succeeded before the request reached it has still succeeded. ``foreign``: its image
    knows no result, so its exit code is its word. That does not count where it was told to end,
    which many programs answer with 0, or where the kernel killed a part of it for its memory.
    """
    if state.phase == "running":
        raise ValueError("a running attempt cannot be judged; stop it or wait for its end")
    if state.exit_code == 0 and isinstance(result, Result) and result.status == "ok":
        return None
    silent = foreign and result is None
    if (
        silent
        and state.exit_code == 0
        and not (cancelled or deadline_passed or state.out_of_memory)
    ):
        return None
    if state.out_of_memory:
        return _failure("out_of_memory", _OUT_OF_MEMORY, result)
    if deadline_passed:
        return _failure("deadline", "it was stopped at its deadline; raise `deadline`", None)
    if cancelled:
        return _failure("cancelled", "it was stopped on request", None)
    if state.phase == "gone":
        return _failure("engine", _LOST, None)
    if state.signal is not None:
        return _by_signal(state.signal, log_tail)
    if silent:
        ended = f"it ended with exit code {state.exit_code}"
        return _failure("step", f"{ended}{last_words(log_tail)}", None)
    return _by_result(state, result, log_tail)


def how_it_ended(state: State) -> str:
    """How what was to run on (a service) has ended, in words."""
    if state.out_of_memory:
        return _OUT_OF_MEMORY
    if state.phase == "gone":
        return _LOST
    if state.signal is not None:
        return _by_signal(state.signal, ()).message
    return f"it ended with exit code {state.exit_code}"


_LOST = "it was lost: the engine or this machine was restarted, or it was removed from outside"
_OUT_OF_MEMORY = "it needed more memory than it was allowed; raise `resources.memory`"


def _by_signal(number: int, log_tail: Sequence[str]) -> Failure:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number in _CRASHES:
        return _failure("step", f"it crashed with {name}{_last_words(log_tail)}", None)
    return _failure("killed", f"it was killed by {name} from outside", None)


def _by_result(state: State, result: Result | BadResult | None, log_tail: Sequence[str]) -> Failure:
    ended = f"it ended with exit code {state.exit_code}"
    if isinstance(result, BadResult):
        return _failure("step", f"{ended} and its result.json is unusable: {result.problem}", None)
    if result is None:
        return _failure("step", f"{ended} and wrote no result.json{_last_words(log_tail)}", None)
    if result.status == "ok":
        return _failure("step", f"its result says ok, but {ended}{_last_words(log_tail)}", None)
    kind: FailureKind = "data" if result.status == "data_error" else "step"
    return _failure(kind, result.message or ended, None)


def _failure(kind: FailureKind, message: str, result: Result | BadResult | None) -> Failure:
    told = result.message if isinstance(result, Result) else ""
    return Failure(kind=kind, message=f"{message} ({told})" if told else message)


def last_words(log_tail: Sequence[str], lines: int = 5) -> str:
    """The end of a log, to be put behind a message; "" where it says nothing."""
    said = [line.strip()[:500] for line in log_tail if line.strip()][-lines:]
    return f"; its last lines: {' | '.join(said)}" if said else ""


def _last_words(log_tail: Sequence[str]) -> str:
    last = next((line.strip() for line in reversed(log_tail) if line.strip()), "")
    return f"; its last line: {last[:500]}" if last else ""


def _read_plain(path: Path, limit: int) -> bytes:
    """A plain file's bytes, neither through a link nor beyond ``limit``."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path.name} is no plain file ({error.strerror})") from error
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError(f"{path.name} is no plain file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{path.name} is larger than {limit} bytes")
    return data
