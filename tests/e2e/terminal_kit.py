"""A command in a terminal of its own: what a person reads there, and what she types."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class Terminal:
    """Runs a command; ``text`` is all that it has shown."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path):
        self._screen, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 400, 0, 0))
        self.text = ""
        self.process = subprocess.Popen(
            command,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**environment, "TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "400"},
            cwd=folder,
            start_new_session=True,
        )
        os.close(inner)
        threading.Thread(target=self._read, daemon=True).start()

    def shows(self, text: str, seconds: float = 600) -> None:
        """Wait until it does."""
        give_up = time.monotonic() + seconds
        while text not in self.text:
            if self.process.poll() is not None:
                time.sleep(1)  # what it said last
                assert text in self.text, f"ended with {self.process.returncode}:\n{self.text}"
            assert time.monotonic() < give_up, f"{text!r} was never shown:\n{self.text}"
            time.sleep(0.2)

    def types(self, line: str) -> None:
        os.write(self._screen, f"{line}\n".encode())

    def ends(self, seconds: float = 600) -> int:
        """Its exit code, when it has ended."""
        code = self.process.wait(seconds)
        time.sleep(0.5)
        return code

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(self._screen, 65536):
                self.text += data.decode(errors="replace").replace("\r", "")
        os.close(self._screen)
