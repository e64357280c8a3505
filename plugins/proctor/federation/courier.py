"""Brings the outbox to the coordinator, from a thread of its own: the launcher never waits."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from proctor.federation.outbox import Outbox, OutboxDamaged
from proctor.federation.sender import Behind, Busy, NotSent, Refused, Sender
from proctor_steps.trouble import explain

FIRST_PAUSE = 2.0
LONGEST_PAUSE = 300.0  # where it cannot be reached, or refuses until somebody does something


@dataclass
class Courier:
    """Sends what waits, in order, each until the coordinator has it.

    What it knows is on disk: one that is killed anywhere sends at most one report a second time,
    under the same number and with the same bytes, and the coordinator takes it once.
    ``may_send`` is asked before each.
    """

    outbox: Outbox
    sender: Sender
    may_send: Callable[[], bool] = lambda: True
    _wake: threading.Event = field(default_factory=threading.Event)
    _stopping: bool = False
    _thread: threading.Thread | None = None
    _said: list[str] = field(default_factory=list)
    _told: str = ""
    _pause: float = 0.0

    def wake(self) -> None:
        """There may be something to send; starts at the first time."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="reports", daemon=True)
            self._thread.start()
        if not self._pause:
            self._wake.set()

    def finish(self, seconds: float) -> None:
        """Send what waits for at most some seconds; what then waits is for the next launcher."""
        if self._thread is None:
            return
        give_up = time.monotonic() + seconds
        self._stopping = True
        self._wake.set()
        self._thread.join(max(0.0, give_up - time.monotonic()))

    def notes(self) -> list[str]:
        """What there is to tell since the last call."""
        said, self._said = self._said, []
        return said

    def _run(self) -> None:
        while True:
            try:
                self._send_all()
                self._pause = 0.0
            except NotSent as error:
                self._slow_down(error)
            except (OutboxDamaged, OSError) as error:
                told = explain(error, {}) if isinstance(error, OSError) else str(error)
                self._slow_down(Refused(told or str(error)))
            except Exception as error:  # this thread must not end; what it says may hold a secret
                self._slow_down(Refused(f"sending failed ({type(error).__name__})"))
            # What was written down just before the end is looked for once more.
            if self._stopping and not self._wake.is_set():
                return
            self._wake.wait(self._pause or None)
            self._wake.clear()

    def _send_all(self) -> None:
        for number in self.outbox.unsent():
            if not self.may_send():
                return
            report = self.outbox.report(number)  # what somebody changed does not leave
            try:
                self.sender.send(self.outbox.body(number), report.sequence)
            except Behind as error:
                if error.expected not in self.outbox.numbers():
                    raise
                self.outbox.was_sent(error.expected - 1)
                raise Busy(str(error)) from None
            self.outbox.was_sent(number)
            if self._told:
                self._said.append("the coordinator takes reports again")
                self._told = ""
            self._pause = 0.0

    def _slow_down(self, error: NotSent) -> None:
        grown = min(LONGEST_PAUSE, 2 * self._pause or FIRST_PAUSE)
        pause = LONGEST_PAUSE if isinstance(error, Refused) else grown
        # Sites that lost the same coordinator need not come back in the same moment.
        self._pause = max(error.after, pause * random.uniform(0.7, 1.0))  # noqa: S311
        if str(error) != self._told and not isinstance(error, Busy):
            self._told = str(error)
            self._said.append(f"reports wait: {error}")
