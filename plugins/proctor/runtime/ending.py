"""The end of an attempt, told by the kernel: nobody has to ask the engine again and again.

Where this host shows the attempt's process (not where the engine is in a virtual machine or on
another host), a pidfd of it becomes readable when it ends, whoever's child it is.
"""

from __future__ import annotations

import os
import select

from proctor.runtime.base import EngineError, Handle, Runtime


class End:
    """The end of one process, as a descriptor to wait on; closed when nobody holds it any more."""

    def __init__(self, pid: int) -> None:
        self._descriptor = os.pidfd_open(pid)

    def fileno(self) -> int:
        """Readable once the process has ended."""
        return self._descriptor

    def wait(self, seconds: float) -> bool:
        """Wait for the end, at most so long; whether it came."""
        waiting = select.poll()
        waiting.register(self, select.POLLIN)
        return bool(waiting.poll(max(0.0, seconds) * 1000))

    def close(self) -> None:
        """Wait no more."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            self.close()


def end_of(runtime: Runtime, handle: Handle) -> End | None:
    """The end of an attempt; ``None`` where only its engine can tell, or it has ended."""
    try:
        pid = runtime.pid(handle)
        if pid is None:
            return None
        end = End(pid)
        # A number is used again: it must still be the attempt's, now that it can change no more.
        return end if runtime.pid(handle) == pid else None
    except (OSError, AttributeError, EngineError):
        return None  # an old kernel, another system, an engine that does not answer now
