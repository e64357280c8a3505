"""Messages on their way out: written down first, then sent, by a thread for each channel.

A message is a file for each who is told it, ``notify/<id>.<who>.json`` in the home. Before a try it
is renamed to ``.begun``: whether one that a launcher left so has arrived is not known, so it is not
sent again. What failed is tried again after :data:`PAUSES`, also by the next launcher, and then
given up. ``notify/log`` has a line for each try.
"""

from __future__ import annotations

import heapq
import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proctor.records.store import now
from proctor.site.messages import Message, message_of
from proctor.site.senders import Target, words_of
from proctor_steps.contract import write_atomically

# Between the tries of one message, in seconds; after as many it is given up.
PAUSES = (5.0, 30.0, 120.0, 600.0, 1800.0)
LOG_FILE = "log"


@dataclass
class Lane:
    """One channel's thread. It takes the files that it was handed, and no others."""

    folder: Path
    targets: dict[str, Target]
    say: Callable[[str], None]
    _due: list[tuple[float, str]] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stopping: bool = False
    _thread: threading.Thread | None = None
    _failing: dict[str, str] = field(default_factory=dict)

    def hand(self, file: str, pause: float = 0.0) -> None:
        """Send the message of a file, after a pause; starts the thread at the first time."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + pause, file))
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="notify", daemon=True)
            self._thread.start()

    def finish(self, give_up: float) -> None:
        """Send what is due, until a moment of the monotonic clock; the rest keeps."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(max(0.0, give_up - time.monotonic()))

    def _run(self) -> None:
        while (file := self._next()) is not None:
            try:
                self._try(file)
            except Exception as error:  # this thread must not end; the words hold no secret
                self.say(f"a message could not be sent: {words_of(error)}")

    def _next(self) -> str | None:
        with self._changed:
            while True:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._due)[1]
                if self._stopping:
                    return None
                self._changed.wait(wait)

    def _try(self, file: str) -> None:
        path = self.folder / file
        kept = json.loads(path.read_bytes())
        target, tries = self.targets[target_of(file)], int(kept["tries"]) + 1
        message = message_of(kept["event"], kept["id"])
        begun = path.with_suffix(".begun")
        path.rename(begun)
        if not (problem := _told(target, message)):
            begun.unlink()
            self._log(target, message, "told")
            if self._failing.pop(target.name, ""):
                self.say(f"{target.words} is told again")
            return
        last = tries > len(PAUSES)
        self._log(target, message, f"{'given up' if last else f'try {tries} failed'}: {problem}")
        if last:
            begun.unlink()
            self.say(f"{target.words} was not told, after {tries} tries: {_about(message)}")
            return
        write_atomically(begun, json.dumps({**kept, "tries": tries}).encode())
        begun.rename(path)
        if self._failing.get(target.name) != problem:
            self._failing[target.name] = problem
            self.say(f"{target.words} is not told yet: {problem}")
        self.hand(file, PAUSES[tries - 1])

    def _log(self, target: Target, message: Message, words: str) -> None:
        log(self.folder, f"{target.words}: {_about(message)}: {words}")


@dataclass
class Outgoing:
    """Everything that is on its way out of a home."""

    folder: Path
    targets: Iterable[Target]
    _lanes: dict[str, Lane] = field(default_factory=dict)
    _said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        by_channel: dict[str, dict[str, Target]] = {}
        for target in self.targets:
            by_channel.setdefault(target.channel, {})[target.name] = target
        for each in by_channel.values():
            lane = Lane(self.folder, each, self._said.append)
            self._lanes |= dict.fromkeys(each, lane)

    def write(self, content: dict[str, Any], event_id: str) -> list[str]:
        """Write an event down for everybody; the files, to be handed over. Twice is as once."""
        id = message_of(content, event_id).id
        kept = json.dumps({"id": event_id, "tries": 0, "event": content}).encode()
        files = [f"{id}.{name}.json" for name in self._lanes]
        for file in files:
            write_atomically(self.folder / file, kept)
        return files

    def hand(self, files: Iterable[str]) -> None:
        """Have files sent."""
        for file in files:
            self._lanes[target_of(file)].hand(file)

    def take_up(self) -> None:
        """Go on with what an earlier launcher left."""
        for begun in sorted(self.folder.glob("*.begun")):
            begun.unlink()
            who = target_of(begun.name)
            self._tell(f"whether a message to {who} arrived is not known; it is not sent again")
        for path in sorted(self.folder.glob("*.json"), key=lambda each: each.stat().st_mtime_ns):
            if target_of(path.name) in self._lanes:
                self.hand([path.name])
            else:
                path.unlink()
                self._tell(f"{target_of(path.name)} is told no more; a message was dropped")

    def notes(self) -> list[str]:
        """What there is to tell since the last call."""
        said = self._said[:]
        del self._said[: len(said)]
        return said

    def finish(self, seconds: float) -> list[str]:
        """Send what is due, for at most some seconds; what then waits is for the next launcher."""
        give_up = time.monotonic() + seconds
        for lane in {id(each): each for each in self._lanes.values()}.values():
            lane.finish(give_up)
        if waits := len(list(self.folder.glob("*.json"))):
            what = "1 message waits" if waits == 1 else f"{waits} messages wait"
            self._said.append(f"{what} to be sent; the next start goes on with that")
        return self.notes()

    def _tell(self, words: str) -> None:
        self._said.append(words)
        log(self.folder, words)


def target_of(file: str) -> str:
    """Whom a message's file is for."""
    return file.split(".")[1]


def log(folder: Path, words: str) -> None:
    """Add a line to the log."""
    with (folder / LOG_FILE).open("a") as out:
        out.write(f"{now()} {words}\n")


def _told(target: Target, message: Message) -> str:
    """Send a message; what went wrong, "" where nothing did."""
    try:
        target.send(message)
    except Exception as error:  # whatever a library raises; only its kind is told
        return words_of(error)
    return ""


def _about(message: Message) -> str:
    content = message.content
    gate = f" {content['gate']}" if content["gate"] else ""
    return f"{content['event']} {content['pipeline']}/{content['run']}{gate}"
