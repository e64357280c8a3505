"""Tells the committee how far this site's runs are, where the owner's profile names one.

Nothing does before a person has seen a report and agreed. What was agreed to is kept, and asked
anew when the coordinator, the schema or the pipelines are others. A report is written down only
while the agreement holds, and for that coordinator: so none is ever in line to leave that nobody
agreed to.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from proctor.airflow.evidence import StepRefused
from proctor.airflow.subjects import listed
from proctor.federation.courier import Courier
from proctor.federation.outbox import Outbox, OutboxDamaged
from proctor.federation.profile import CoordinatorAddress
from proctor.federation.report import REPORT_FORMAT, SiteReport, minute
from proctor.federation.sender import Sender
from proctor.federation.tally import Tally
from proctor.records.store import RecordError, RunRecord, now
from proctor.runtime.artifacts import ArtifactError
from proctor.site.home import Home

# A run is looked at this often at most, and without a sign of change only now and then.
LOOK_SECONDS = 5.0
IDLE_SECONDS = 60.0
# Where nothing changes, one report in this time says that the site is there.
BEAT_SECONDS = 15 * 60.0
# A launcher on its way out waits this long for what is not sent yet; it keeps.
FINISH_SECONDS = 10.0
_CONSENT = "consent.json"
# One run's damaged record keeps no other from being reported.
_TROUBLES = (RecordError, ArtifactError, StepRefused, OSError, ValueError)
_Stamp = tuple[tuple[str, int], ...]


def outbox_of(home: Home, to: CoordinatorAddress) -> Outbox:
    """A home's reports to a coordinator."""
    name = hashlib.sha256(to.url.encode()).hexdigest()[:12]
    return Outbox(home.path / "reports" / name)


@dataclass(frozen=True)
class Consent:
    """What a person agreed to: that reports of this form on these pipelines go to that address."""

    home: Home
    to: CoordinatorAddress

    @property
    def given_at(self) -> str:
        """When that was agreed to; "" where it was not, or something is another since."""
        try:
            kept = json.loads(self._path.read_bytes())
            same = (kept["url"], kept["format"]) == (self.to.url, REPORT_FORMAT)
            if same and set(self.to.pipelines) <= set(kept["pipelines"]):
                return str(kept["at"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return ""

    def give(self) -> None:
        """Keep that a person has agreed."""
        outbox = outbox_of(self.home, self.to)
        outbox.create()
        told = {"url": self.to.url, "format": REPORT_FORMAT, "at": now()}
        content = told | {"pipelines": list(self.to.pipelines)}
        outbox.write(_CONSENT, json.dumps(content, indent=1).encode())

    def withdraw(self) -> None:
        """Have nothing more leave."""
        self._path.unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        return outbox_of(self.home, self.to).folder / _CONSENT


@dataclass
class Reporter:
    """Call :meth:`look` from the launcher's loop; it never waits for the coordinator."""

    home: Home
    _to: CoordinatorAddress | None = field(init=False)
    _tally: Tally = field(default_factory=Tally)
    _seen: dict[Path, _Stamp] = field(default_factory=dict)
    _courier: Courier | None = None
    _looked: float = float("-inf")
    _due: bool = True
    _complained: str = ""

    def __post_init__(self) -> None:
        self._to = self.home.profile().coordinator

    def look(self, due: bool) -> list[str]:
        """Write down what has changed, and have it sent; what went wrong with it, in lines.

        ``due``: whether there was a sign of change.
        """
        if self._to is None:
            return []
        self._due |= due
        since = time.monotonic() - self._looked
        if since < (LOOK_SECONDS if self._due else IDLE_SECONDS):
            return self._courier.notes() if self._courier else []
        self._looked, self._due = time.monotonic(), False
        return self._write_and_send(self._to)

    def finish(self) -> list[str]:
        """Write down how it ended, and send what waits, as long as that may take."""
        if self._to is None:
            return []
        said = self._write_and_send(self._to)
        if self._courier:
            self._courier.finish(FINISH_SECONDS)
            said += self._courier.notes()
            if waits := len(outbox_of(self.home, self._to).unsent()):
                what = "1 report waits" if waits == 1 else f"{waits} reports wait"
                said.append(f"{what} for the coordinator; the next start goes on with that")
        return said

    def _write_and_send(self, to: CoordinatorAddress) -> list[str]:
        outbox, consent = outbox_of(self.home, to), Consent(self.home, to)
        try:
            outbox.create()
            if not consent.given_at:
                return self._complain(
                    f"{to.url} is told nothing until you agree; see what it would be with "
                    f"`proctor site report --agree --home {self.home.path}`"
                )
            for record in self.home.records.runs():
                if record.pipeline in to.pipelines:
                    with contextlib.suppress(*_TROUBLES):
                        self._write(outbox, record)
            if outbox.age() > BEAT_SECONDS and not outbox.unsent():
                outbox.beat(minute(datetime.now(UTC)))
        except (OutboxDamaged, OSError) as error:
            return self._complain(f"nothing is reported: {error}")
        if self._courier is None:
            sender = Sender(
                to.url,
                Path(to.token_file),
                Path(to.ca_file) if to.ca_file else None,
                to.proxy,
            )
            self._courier = Courier(outbox, sender, lambda: bool(consent.given_at))
        self._courier.wake()
        return self._complain("") + self._courier.notes()

    def _write(self, outbox: Outbox, record: RunRecord) -> None:
        stamp = tuple(_files(record))
        if self._seen.get(record.path) == stamp:
            return
        since = datetime.fromisoformat(outbox.begun).timestamp()
        if max(Path(name).stat().st_mtime for name, _ in stamp) >= since:
            outbox.add(report_of(self.home, record, self._tally), record.name)
        self._seen[record.path] = stamp

    def _complain(self, words: str) -> list[str]:
        first, self._complained = words != self._complained, words
        return [words] if words and first else []


def _files(record: RunRecord) -> Iterator[tuple[str, int]]:
    """What a report is counted from: records by their sizes, and notes of what is waited for."""
    for each in (record, *record.subjects()):
        yield str(each.path), each.path.stat().st_size
        for note in each.own.glob(each.waits_at("*").name):
            yield str(note), 0


def report_of(home: Home, record: RunRecord, tally: Tally) -> SiteReport:
    """How far a run is now; the outbox gives it its numbers.

    Raises:
        RecordError: the record is damaged.
    """
    plan = home.records.plan(record.header().plan_digest)
    subjects = 0
    if plan.subjects:
        with contextlib.suppress(StepRefused, ArtifactError):  # they are not listed yet
            subjects = len(listed(home, record, plan))
    return tally.report(record, plan, datetime.now(UTC), subjects)
