"""The owner's hook: a program in the home that hears of questions, answers and ends of runs.

``hooks/notify`` is the site owner's and nobody else's: no spec names it, no task and no container
runs it. It hears of what happens after it was put there or changed, of one event at a time, of
each once: that it is about to be told is written down before it is, so that a launcher that is
killed tells it nothing twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from proctor.site.events import Event, Watch, changed
from proctor.site.home import others_environment
from proctor.site.instance import Instance
from proctor.site.processes import end_with_parent

HOOK_SECONDS = 30.0
_LONGEST_NOTE = 300
_TOLD = "told.json"


@dataclass
class Notifier:
    """Call :meth:`look` from the launcher's loop; it never waits for the hook."""

    instance: Instance
    _events: list[Event] = field(default_factory=list)
    _running: _Hook | None = None
    _complained: str = ""
    _watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self._watch = Watch(self.instance, _TOLD)

    def look(self, due: bool) -> list[str]:
        """Tell the hook what it has not heard of; what went wrong with it, in lines.

        ``due``: whether to look for events, or only after the hook that runs.
        """
        said: list[str] = []
        if self._running:
            ended = self._running.ended()
            if ended is None:
                return []
            self._running = None
            said += [f"the hook notify {ended}"] if ended else []
        hook = self.instance.home.path / "hooks" / "notify"
        if not hook.is_symlink() and not hook.exists():
            return said
        if problem := unusable(hook):
            first, self._complained = problem != self._complained, problem
            return said + ([f"{hook} is not run: {problem}"] if first else [])
        if due and not self._events:
            self._events = self._watch.find(changed(hook))
        if self._events:
            event = self._events.pop(0)
            event.mark_told()
            self._running = _Hook(hook, event.content)
        return said

    def finish(self) -> list[str]:
        """Tell the rest; as long as the hook may take, and no longer."""
        give_up, said = time.monotonic() + HOOK_SECONDS, self.look(True)
        while self._running and time.monotonic() < give_up:
            time.sleep(0.1)
            said += self.look(True)
        return said


class _Hook:
    """The hook, running for one event; ended with all its children when it takes too long."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        # Files, not pipes: neither side ever waits for the other.
        self._given: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._given.write(json.dumps(content).encode() + b"\n")
        self._given.seek(0)
        self._give_up = time.monotonic() + HOOK_SECONDS
        self._process: subprocess.Popen[bytes] | None = None
        self._problem = ""
        try:
            self._process = subprocess.Popen(
                [path],
                stdin=self._given,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                cwd=path.parent,
                env=others_environment(),
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        except OSError as error:
            self._problem = f"could not be started: {error.strerror}"

    def ended(self) -> str | None:
        """What went wrong, "" where nothing did; ``None`` while it runs."""
        if self._process is None:
            return self._problem
        code = self._process.poll()
        if code is None and time.monotonic() < self._give_up:
            return None
        if code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            return f"was ended: it took over {HOOK_SECONDS:g} s"
        return f"failed (exit code {code}){self._last_words()}" if code else ""

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read(1 << 16).decode(errors="replace").split("\n")
        words = [line.strip() for line in lines if line.strip()]
        return f": {words[-1][:_LONGEST_NOTE]}" if words else ""


def unusable(hook: Path) -> str:
    """Why a hook is not run; "" where it is its owner's program and nobody else can change it."""
    for path in (hook.parent, hook):
        found = path.lstat()
        kind = stat.S_ISDIR(found.st_mode) if path == hook.parent else stat.S_ISREG(found.st_mode)
        if not kind:
            return (
                f"{path} must be no link, but the {'folder' if path != hook else 'program'} itself"
            )
        if found.st_uid not in (os.geteuid(), 0):
            return f"{path} belongs to another user; make it your own"
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"others may write to {path}; chmod go-w it"
    return "" if os.access(hook, os.X_OK) else "it is not executable; chmod u+x it"
