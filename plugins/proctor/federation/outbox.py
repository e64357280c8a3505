"""Reports on their way: written down before they are sent, in order, whatever is killed when.

::

    reports/<digest>/    0700, in the home; a folder for each coordinator
      000000001.json     a report, byte for byte as it is sent
      runs.json          which number stands for which run; stays here
      sent.json          the last report that the coordinator has
      begun.json         since when runs are reported
      consent.json       what a person agreed to (site/reporting.py)

A report that is in the folder under its name is whole. The newest that were sent are kept, so that
anybody can see what left.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from proctor.federation.report import BadReport, SiteReport, read_report
from proctor.records.store import now

KEPT = 2000  # reports that were sent
_NAME = re.compile(r"[0-9]{9,}\.json")


class OutboxDamaged(Exception):
    """A file of the outbox is not as it was left; the message names it."""


@dataclass(frozen=True)
class Outbox:
    """A home's reports to one coordinator. One writer at a time: the launcher."""

    folder: Path

    def create(self) -> None:
        """Make the folder, and write down since when; harmless where that has been done."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.parent.chmod(0o700)
        self.folder.chmod(0o700)
        if not (self.folder / "begun.json").exists():
            self.write("begun.json", json.dumps({"at": now()}).encode())

    @cached_property
    def begun(self) -> str:
        """Since when runs are reported, as records spell times."""
        return str(self._read("begun.json").get("at", now()))

    def add(self, report: SiteReport, run: str) -> SiteReport | None:
        """Keep a report under the next number; ``None`` where the last of its run says the same.

        ``run``: the run's name, which stays here.

        Raises:
            OutboxDamaged: what is there cannot be read.
        """
        numbered = self.numbered(report, run)
        last = self.last_of(numbered) if run in self._read("runs.json") else None
        if last is not None and last.says_the_same(numbered):
            return None
        self._remember(numbered, run)
        self.write(f"{numbered.sequence:09}.json", numbered.body())
        self._prune()
        return numbered

    def beat(self, updated: str) -> SiteReport | None:
        """Keep the newest report once more, with the time of now; ``None`` where there is none."""
        newest = self.newest()
        if newest is None:
            return None
        again = newest.model_copy(update={"sequence": self._following(), "updated": updated})
        self.write(f"{again.sequence:09}.json", again.body())
        self._prune()
        return again

    def age(self) -> float:
        """Seconds since the newest report was written; infinite where there is none."""
        numbers = self.numbers()
        return time.time() - self._path(numbers[-1]).stat().st_mtime if numbers else math.inf

    def numbered(self, report: SiteReport, run: str) -> SiteReport:
        """A report with the numbers that it would be kept under now."""
        runs = self._read("runs.json")
        known = runs.get(run)
        if known is None:
            of_plan = [each["run"] for each in runs.values() if each["plan"] == report.plan]
            known = {"run": max(of_plan, default=0) + 1}
        return report.model_copy(update={"run": known["run"], "sequence": self._following()})

    def last_of(self, report: SiteReport) -> SiteReport | None:
        """The newest report here of the same run."""
        for number in reversed(self.numbers()):
            kept = self.report(number)
            if (kept.plan, kept.run) == (report.plan, report.run):
                return kept
        return None

    def newest(self) -> SiteReport | None:
        """The newest report here."""
        numbers = self.numbers()
        return self.report(numbers[-1]) if numbers else None

    def numbers(self) -> list[int]:
        """The numbers of the reports that are here, in order."""
        names = [path.name for path in self.folder.glob("*.json")]
        return sorted(int(name[:-5]) for name in names if _NAME.fullmatch(name))

    def body(self, number: int) -> bytes:
        """A report's bytes."""
        return self._path(number).read_bytes()

    def report(self, number: int) -> SiteReport:
        """A report.

        Raises:
            OutboxDamaged: somebody changed it.
        """
        try:
            kept = read_report(self.body(number))
            problem = "" if kept.sequence == number else f"it has number {kept.sequence}"
        except BadReport as error:
            problem = str(error)
        if problem:
            raise OutboxDamaged(
                f"{self._path(number)} was changed ({problem}), so it is not sent: restore it, or "
                "move it away and ask the committee for a new token"
            )
        return kept

    @property
    def sent(self) -> int:
        """The number of the last report that the coordinator has; 0: none."""
        return int(self._read("sent.json").get("sequence", 0))

    def unsent(self) -> list[int]:
        """The numbers that the coordinator does not have, in order."""
        sent = self.sent
        return [number for number in self.numbers() if number > sent]

    def was_sent(self, number: int) -> None:
        """Write down that the coordinator has a report, and all before it."""
        self.write("sent.json", json.dumps({"sequence": number}).encode())

    def _following(self) -> int:
        return max([self.sent, *self.numbers()]) + 1

    def _remember(self, report: SiteReport, run: str) -> None:
        runs = self._read("runs.json")
        if run not in runs:
            runs[run] = {"plan": report.plan, "run": report.run}
            self.write("runs.json", json.dumps(runs, indent=1).encode())

    def _prune(self) -> None:
        sent = self.sent
        gone = [number for number in self.numbers() if number < sent][:-KEPT]
        for number in gone:
            self._path(number).unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:09}.json"

    def _read(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            found = json.loads(path.read_bytes())
            if isinstance(found, dict):
                return found
        except FileNotFoundError:
            return {}
        except ValueError:
            pass
        raise OutboxDamaged(
            f"{path} cannot be read; restore it, or ask for a new token and move {self.folder} away"
        )

    def write(self, name: str, data: bytes) -> None:
        """Keep a file: under its name the content is whole, and there after a power cut."""
        scratch = self.folder / f".{name}.new"
        scratch.unlink(missing_ok=True)
        handle = os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, self.folder / name)  # noqa: PTH105 - counted by the tests of kills
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
