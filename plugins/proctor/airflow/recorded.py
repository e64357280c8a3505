"""What a step and a service of a run have in common: attempts, written down before they are made.

Whoever comes back reads the record, takes up what runs, and never starts a second container beside
the first. Knows nothing of Airflow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from pydantic import JsonValue

from proctor.airflow import past
from proctor.airflow.evidence import (
    Left,
    StepRefused,
    approvals_for,
    covered,
    gathered,
    output_of,
    was_skipped,
)
from proctor.airflow.provenance import provenance
from proctor.airflow.reuse import source_versions
from proctor.airflow.subjects import folder_name
from proctor.plan.identity import identity_parts
from proctor.plan.model import Input, Plan, PlanStep, Source, resolve, selected
from proctor.records.model import Line
from proctor.records.store import RecordError, RunRecord
from proctor.records.summary import SUMMARY_FILE, medperf_report, summarise
from proctor.runtime.artifacts import LocalArtifacts
from proctor.runtime.base import (
    Handle,
    HostSource,
    InputSource,
    OutputTarget,
    RequestRefused,
    Runtime,
    StartRequest,
)
from proctor.runtime.hashes import FileHashes
from proctor.runtime.host import own_image
from proctor.site import mounts
from proctor.site.home import Home, HomeError, SourceRefused
from proctor_steps.contract import digest, write_atomically

REPORT_FILE = "report.yaml"  # MedPerf's
# Of an attempt with such a status something may be left: `running` is wanted, `cancelled` is to be
# ended, and `finished` once nothing of it is there any more.
_OPEN = ("running", "cancelled")


@dataclass(frozen=True)
class LastAttempt:
    """The newest attempt of a step as its record tells; number 0 where there was none."""

    number: int = 0
    status: str = ""
    handle: Handle | None = None
    generation: int = 0


@dataclass(frozen=True)
class Recorded:
    """A step or a service in its run.

    ``generation`` grows when a person clears the task, and stays the same when Airflow tries it
    again by itself: it tells "do it anew" from "go on".
    """

    home: Home
    plan: Plan
    step: PlanStep
    record: RunRecord
    runtime: Runtime
    generation: int = 0

    def cancel(self, handle: Handle) -> None:
        """A person ended it: record so, then stop and remove it; the next start is a new attempt.

        In this order, as one that was stopped and not recorded would be taken for a failure. Cut
        short in between, it is still `cancelled`, and whoever looks next ends it.
        """
        dumped = handle.model_dump(mode="json")
        self._append(
            "attempt", attempt=handle.attempt, data={"status": "cancelled", "handle": dumped}
        )
        self._clear_away(handle)

    def _clear_away(self, handle: Handle) -> None:
        self.runtime.stop(handle)
        self.runtime.remove(handle)
        self._append("attempt", attempt=handle.attempt, data={"status": "finished"})
        self.refresh_summary()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that may need it: when all of them are over, nobody does."""
        return (self.step.id,)

    @property
    def name(self) -> str:
        """Pipeline, run and step, for messages."""
        return f"{self.record.pipeline}/{self.record.run}/{self.step.id}"

    def unended(self) -> LastAttempt | None:
        """The attempt of which, by the record, something may be left."""
        last = self._last_attempt()
        return last if last.status in _OPEN else None

    def end_attempt(self, number: int | None = None) -> bool:
        """Cancel the attempt of which something may be left (the one of that number), if any.

        Raises:
            EngineError: the engine does not answer; to be tried again.
        """
        last = self.unended()
        if last is None or number not in (None, last.number):
            return False
        found = last.handle or self._half_started(last)
        if found is None:
            for status in ("cancelled", "finished"):
                self._append("attempt", attempt=last.number, data={"status": status})
            self.refresh_summary()
        elif last.status == "running":
            self.cancel(found)
        else:
            self._clear_away(found)
        return found is not None

    def follows(self, handle: Handle) -> bool:
        """Whether this attempt is the one that the record says is running."""
        last = self._last_attempt()
        return last.status == "running" and last.number == handle.attempt

    def refresh_summary(self) -> None:
        """Write ``summary.json`` anew from the record."""
        refresh_summary(self.home, self.record)

    def _request(
        self, attempt: int, services: Mapping[str, Handle] | None = None
    ) -> tuple[StartRequest, dict[str, JsonValue]]:
        """What the runtime is asked for, and what makes it the same as another.

        ``services``: those that are up.
        """
        step, params = self.step, self.record.values()
        resolved = resolve(dict(step.params), params)
        assert isinstance(resolved, dict)  # noqa: S101 - a mapping resolves to a mapping
        image = str(resolve(step.image, params))
        inputs = list(self._inputs(step.inputs))
        try:
            local = self.home.images().get(image, "")
            trust = self.home.trust()
            if why := trust.refuses(self.plan, step, image, local) if trust else "":
                raise StepRefused(why)
            image_identity = self.runtime.identity(image, local)
            resolved, sources = self._sources(resolved)
        except (RequestRefused, SourceRefused, HomeError) as error:
            raise StepRefused(str(error)) from error
        history, past_digest = self._history(attempt)
        request = StartRequest(
            pipeline=self.record.pipeline,
            run=self.record.run,
            step=step.id,
            partition=self.record.partition,
            attempt=attempt,
            image=image,
            local_image=local,
            command=self._command(image, params),
            params=resolved,
            inputs=tuple(source for source, _ in inputs),
            outputs=tuple(
                OutputTarget(name=o.name, mount_path=o.mount_path, type=o.type, shared=o.shared)
                for o in step.outputs
            ),
            sources=tuple(sources),
            cache=step.cache,
            # A secret that the site does not have is not handed over; the step says if it needs it.
            secrets=tuple(name for name in step.secrets if self.home.has_secret(name)),
            history=history,
            approvals=approvals_for(self.home, self.record.whole, self.plan, self.step),
            lineage=self._lineage(),
            network=step.network,
            services={name: handle.url for name, handle in (services or {}).items()},
            exclusive=step.exclusive,
            resources=step.resources,
            deadline_seconds=step.deadline_seconds,
            seed=step.seed,
        )
        parts = self._identity(request, image_identity, inputs, services or {}, past_digest)
        return request, parts

    def _history(self, attempt: int) -> tuple[str, str]:
        """Where what was measured before is written for an attempt, and its sha256."""
        if not self.step.history:
            return "", ""
        told = past.told(self.home, self.record, self.step, attempt)
        path = past.place(self.record, self.step.id, attempt)
        return str(path.resolve()), hashlib.sha256(told).hexdigest()

    def _lineage(self) -> dict[str, JsonValue]:
        """What a step behind a gate is told of the run; of hundreds of subjects, none is."""
        if not self.step.required_approvals or self.step.partition:
            return {}
        try:
            return provenance(self.home, self.record)
        except RecordError as error:
            raise StepRefused(str(error)) from error

    def parts(self) -> dict[str, JsonValue]:
        """What would make a first attempt the same as another.

        Raises:
            StepRefused: an input or an approval is missing, or the image is not here.
        """
        return self._request(1)[1]

    def _command(self, image: str, params: Mapping[str, JsonValue]) -> tuple[str, ...]:
        """The step's; an image that knows no contract is told the subject as MedPerf tells it."""
        words = tuple(str(resolve(word, params)) for word in self.step.command)
        subject = self.record.partition
        if not subject or own_image(image) is not None:
            return words
        return (*words, self.step.subject_option, subject)

    def _identity(
        self,
        request: StartRequest,
        image: str,
        inputs: list[tuple[InputSource, str]],
        services: Mapping[str, Handle],
        history: str,
    ) -> dict[str, JsonValue]:
        measures = self.step.exclusive or self.step.reuse == "within_run"
        return identity_parts(
            self.step,
            command=request.command,
            image_identity=image,
            params=request.params,
            input_digests={f"{s.name}/{s.cell}": sha256 for s, sha256 in inputs},
            host_fingerprint=self.runtime.fingerprint() if measures else None,
            source_versions=self._source_versions(request),
            measured_in={f"{s.name}/{s.cell}": s.measured_in for s, _ in inputs if s.measured_in},
            approvals=[digest(a.model_dump(mode="json")) for a in request.approvals],
            services={name: self._identity_of(handle) for name, handle in services.items()},
            partition=self.record.partition,
            history=history,
        )

    @property
    def hashes(self) -> FileHashes:
        """sha256 of files of this home and of its sources, read once."""
        return FileHashes(self.home.path)

    def _source_versions(self, request: StartRequest) -> dict[str, str] | None:
        try:
            return source_versions(request, self.hashes)
        except (ValueError, OSError):
            return None  # the step itself says what is wrong with its source

    def _inputs(self, inputs: tuple[Input, ...]) -> Iterator[tuple[InputSource, str]]:
        """Those that the run has, with their digests; members that were skipped are left out."""
        params = self.record.params()
        for wanted in inputs:
            if wanted.bound:
                yield self._bound(wanted)
            if wanted.shared:
                yield self._shared(wanted), "shared"
            for source in wanted.sources:
                if not selected(self.plan.step(source.step), params):
                    continue
                if wanted.shared:
                    continue
                for subject, record in self._records_of(source):
                    if was_skipped(record, source.step):
                        continue
                    left = output_of(record, source.step, source.output)
                    if self.step.required_approvals:
                        self._check_approved(source, left.uri, left.sha256)
                    if wanted.per_subject:
                        place = LocalArtifacts(self.home.path).path(left.uri)
                        whole = InputSource(
                            name=wanted.name, uri=left.uri, mount_path=wanted.mount_path
                        )
                        yield self._own_part(whole, place, f"{source.step}.{source.output}")
                    else:
                        yield _input_source(wanted, source.cell, left, subject), left.sha256

    def _records_of(self, source: Source) -> Iterator[tuple[str, RunRecord]]:
        """Where an output is recorded; for one of each subject, with the subject's name."""
        partition = self.plan.step(source.step).partition
        if not partition:
            yield "", self.record.whole
        elif self.step.partition:
            yield "", self.record
        else:
            for subject in gathered(self.record, partition):
                yield subject, self.record.subject(subject)

    def _own_part(self, whole: InputSource, root: Path, name: str) -> tuple[InputSource, str]:
        """Of an input, the subject's own folder or file, by the digest of just that."""
        subject = self.record.partition
        place = root / subject
        try:
            if not place.resolve().is_relative_to(root.resolve()):
                raise ValueError("it leads out of it")
            sha256 = self.hashes.content(place)
        except (ValueError, OSError) as error:
            raise StepRefused(f"{name} has no folder or file {subject!r}: {error}") from error
        seen = f"{whole.mount_path}/{place.name}" if place.is_file() else whole.mount_path
        own = {"below": subject, "mount_path": seen, "sha256": sha256}
        return whole.model_copy(update=own), sha256

    def _shared(self, wanted: Input) -> InputSource:
        """A directory that steps share, once those that it is named after are done."""
        for source in wanted.sources:
            self._check_covered(source)
            for subject, record in self._records_of(source):
                line = record.last("result", source.step)
                good = line is not None and line.data.get("state") == "succeeded"
                if not (good or was_skipped(record, source.step)):
                    who = f" of {subject}" if subject else ""
                    raise StepRefused(
                        f"step {source.step!r}{who} has not succeeded in this run, and this one "
                        "works on what it leaves; clear it and let it run"
                    )
        return InputSource(
            name=wanted.name,
            shared=wanted.shared,
            type=wanted.type,
            mount_path=wanted.mount_path,
        )

    def _bound(self, wanted: Input) -> tuple[InputSource, str]:
        """What the site binds to a logical mount, with its digest; the same in the whole run."""
        name = wanted.bound
        try:
            path = mounts.bind(self.home, {name: wanted}, mounts.kept(self.record))[name]
        except (SourceRefused, HomeError) as error:
            raise StepRefused(str(error)) from error
        began_with = self.record.whole.header().data.get("mounts")
        before = began_with.get(name) if isinstance(began_with, dict) else None
        if before not in (None, str(path)):
            raise StepRefused(
                f"{name}: the site binds {path} to it, and this run began with {before}; start a "
                "new run, or bind what it began with"
            )
        source = InputSource(name=wanted.name, host_path=str(path), mount_path=wanted.mount_path)
        if wanted.per_subject:
            return self._own_part(source, path, name)
        try:
            sha256 = self.hashes.content(path)
        except (OSError, ValueError) as error:
            raise StepRefused(f"{name}: {path} cannot be read: {error}") from error
        return source.model_copy(update={"sha256": sha256}), sha256

    def _sources(
        self, resolved: dict[str, JsonValue]
    ) -> tuple[dict[str, JsonValue], list[HostSource]]:
        """The step's ``file://`` parameters, if the site allows them, and their real paths.

        Only values of ``uri`` parameters count: a text that merely looks like one is refused, as
        a step without a container would follow it.
        """
        given = self.record.params()
        uris = {given.get(param.name) for param in self.plan.params if param.type == "uri"}
        sources = []
        for name, value in resolved.items():
            if not (isinstance(value, str) and value[:5].lower() == "file:"):
                continue
            if value not in uris:
                raise StepRefused(
                    f"{name}: this names a file of this machine; only a parameter of type uri may"
                )
            path = self.home.source(value, self.record.whole)
            mount = f"/proctor/source/{name}/{path.name}"
            sources.append(HostSource(param=name, host_path=str(path), mount_path=mount))
        return resolved | {s.param: f"file://{quote(s.host_path)}" for s in sources}, sources

    def _check_approved(self, source: Source, uri: str, sha256: str) -> None:
        """What stands behind a gate reads just what the answer is bound to, byte for byte."""
        self._check_covered(source)
        if not LocalArtifacts(self.home.path).verify(uri, sha256):
            raise StepRefused(
                f"{source.step}.{source.output} is not what the step left: its bytes have changed. "
                f"Clear {source.step!r} and answer at the gate again"
            )

    def _check_covered(self, source: Source) -> None:
        if self.step.required_approvals and not covered(self.plan, self.step, source.step):
            raise StepRefused(
                f"step {self.step.id!r} stands behind an approval and reads "
                f"{source.step}.{source.output}, which no gate has seen; name {source.step!r} in "
                "the gate's `after` or evidence"
            )

    def _last_attempt(self) -> LastAttempt:
        lines = [x for x in self.record.lines() if x.step == self.step.id and x.kind == "attempt"]
        if not lines:
            return LastAttempt(generation=self.generation)
        # A cancellation may be written after the attempt that replaced it has begun.
        number = max(line.attempt for line in lines)
        data: dict[str, Any] = {}
        for line in lines:
            if line.attempt == number:
                data |= line.data
        handle = Handle.model_validate(data["handle"]) if data.get("handle") else None
        return LastAttempt(number, str(data["status"]), handle, data.get("generation", 0))

    def _find(self, last: LastAttempt) -> Handle | None:
        """Also where a crash came between the start and the line that was to name it."""
        run = self.record
        return last.handle or self.runtime.find(run.pipeline, run.run, self.step.id, last.number)

    def _half_started(self, last: LastAttempt) -> Handle | None:
        """What a start that was cut short has left, were it only a container never started."""
        mine = (self.record.pipeline, self.record.run, self.step.id, last.number)
        known = self.runtime.ours()
        return next((h for h in known if (h.pipeline, h.run, h.step, h.attempt) == mine), None)

    def _identity_of(self, handle: Handle) -> str:
        """As it was recorded when the attempt began."""
        lines = self.record.lines()
        return next(
            (
                x.identity
                for x in reversed(lines)
                if x.step == handle.step and x.attempt == handle.attempt and x.identity
            ),
            "",
        )

    def _append(
        self, kind: Any, *, attempt: int = 0, identity: str = "", data: Mapping[str, Any] | None
    ) -> Line:
        return self.record.append(
            kind,
            step=self.step.id,
            attempt=attempt,
            identity=identity,
            plan_digest=self.plan.digest,
            data=data,
        )


def refresh_summary(home: Home, record: RunRecord) -> None:
    """Write a run's ``summary.json`` anew from its record.

    Not for a single subject: the stretch that waits for all of them does it now and then.
    """
    if record.partition:
        return
    summary = summarise(home.records, record)
    text = json.dumps(summary, indent=1, ensure_ascii=False) + "\n"
    write_atomically(record.folder / SUMMARY_FILE, text.encode())
    plan = home.records.plan(record.header().plan_digest)
    if plan.subjects or any(step.shares for step in plan.steps):
        report = yaml.safe_dump(medperf_report(plan, summary), sort_keys=False)
        write_atomically(record.folder / REPORT_FILE, report.encode())


def _input_source(wanted: Input, cell: str, left: Left, subject: str) -> InputSource:
    """The members of a fan-in lie beside each other; a cell, a subject, or a cell of a subject."""
    cell = cell if wanted.fan_in else ""
    names = [name for name in (folder_name(subject) if subject else "", cell) if name]
    return InputSource(
        name=wanted.name,
        cell="/".join(name for name in (subject, cell) if name),
        uri=left.uri,
        mount_path="/".join([wanted.mount_path, *names]),
        measured_in=left.measured_in,
        sha256=left.sha256,
        fetched=dict(left.fetched),
    )
