"""Watches the LoadGen process: tells progress, and kills it when it hangs or runs out of time."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from proctor_steps.loadgen.pulse import Beat, Phase, Pulse
from proctor_steps.stage import StepError

_POLL_S = 0.1
# After a failure LoadGen is given this long to come to an end.
_GRACE_S = 2.0
_WORDS = {
    Phase.STARTING: "starting",
    Phase.LOADING_MODEL: "loading the model",
    Phase.WARMING_UP: "warming up",
    Phase.CALIBRATING: "calibrating",
    Phase.RUNNING: "running",
    Phase.FINISHED: "finished",
    Phase.FAILED: "failed",
}


def supervise(
    job: Path,
    pulse: Pulse,
    *,
    stall_s: float,
    deadline: float,
    tell: Callable[[Beat, str, float], None],
    observe: Callable[[int, Phase], None] = lambda child, phase: None,
) -> int:
    """Run the job's process to its end; its exit status (negative: killed by that signal).

    Args:
        stall_s: kill it when nothing has moved for so long.
        deadline: kill it at this time (``time.monotonic``).
        tell: called with each reading, the phase in words and the seconds in this phase.
        observe: called with the process's id and its phase as often, and with 0 after its end.

    Raises:
        StepError: it was killed for one of these reasons.
    """
    command = [sys.executable, "-m", "proctor_steps.loadgen.child", str(job)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def told(beat: Beat, words: str, seconds: float) -> None:
        tell(beat, words, seconds)
        observe(process.pid, beat.phase)

    try:
        status = _watch(process, pulse, stall_s, deadline, told)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    observe(0, pulse.read().phase)
    return status


def _watch(
    process: subprocess.Popen[bytes],
    pulse: Pulse,
    stall_s: float,
    deadline: float,
    tell: Callable[[Beat, str, float], None],
) -> int:
    last, moved = pulse.read(), time.monotonic()
    entered = moved
    while True:
        try:
            return process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            now, beat = time.monotonic(), pulse.read()
        if beat.phase != last.phase:
            entered = now
        if beat != last:
            last, moved = beat, now
        tell(beat, _WORDS[beat.phase], now - entered)
        if beat.phase is Phase.FAILED and now - entered > _GRACE_S:
            process.kill()
        elif now - moved > stall_s:
            raise StepError(_hung(beat, now - moved))
        elif now > deadline:
            raise StepError(
                f"the step's deadline came while {_WORDS[beat.phase]}, after {beat.done} samples; "
                "the LoadGen process was stopped; give the step a longer deadline"
            )


def _hung(beat: Beat, seconds: float) -> str:
    return (
        f"nothing moved for {seconds:.0f} s while {_WORDS[beat.phase]} ({beat.done} samples done): "
        "the system under test hangs; the LoadGen process was stopped; if the model really needs "
        "that long for one batch, raise stall_seconds"
    )


def died(status: int) -> str:
    """What to say of a process that ended without an outcome."""
    if status == -signal.SIGKILL:
        return (
            "the LoadGen process was killed from outside (SIGKILL), most often for want of memory; "
            "give the step more (resources.memory)"
        )
    if status < 0:
        name = signal.Signals(-status).name
        return f"the LoadGen process crashed ({name}); its stack stands in the step's log"
    return f"the LoadGen process ended (exit status {status}) without saying why; see the log"
