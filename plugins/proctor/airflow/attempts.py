"""One step of one run, from "may it start?" to its recorded result. Knows nothing of Airflow.

The order of writes is what makes a crash harmless at every point: an attempt is recorded before
its container is started, its result before the container is removed. Whoever comes back reads the
record, takes up what runs, and never starts a second container beside the first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proctor.airflow import past, reuse
from proctor.airflow.evidence import StepRefused, StepSkipped
from proctor.airflow.provenance import refresh_provenance
from proctor.airflow.recorded import REPORT_FILE, LastAttempt, Recorded
from proctor.airflow.reuse import Choice, Earlier
from proctor.airflow.services import ServiceRun
from proctor.airflow.subjects import Stand, round_of, rounds, runs_anew
from proctor.plan.model import selected
from proctor.records.model import Line
from proctor.records.store import RecordError
from proctor.records.summary import SUMMARY_FILE
from proctor.runtime import hoststate
from proctor.runtime.artifacts import LocalArtifacts
from proctor.runtime.base import EngineError, Failure, Handle, Outcome, RequestRefused, StartRequest
from proctor.runtime.deadline import by_uptime, uptime
from proctor_steps.contract import digest, write_atomically
from proctor_steps.lineage import PROVENANCE

# What lies in a run's folder and is no step's to overwrite.
_OWN_NAMES = ("record", "shared", "subjects", SUMMARY_FILE, REPORT_FILE, PROVENANCE)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepRun(Recorded):
    """A step in its run."""

    @property
    def attempts(self) -> int:
        """How often it was tried in its run, in all rounds."""
        return self._last_attempt().number

    def check_plan(self) -> None:
        """The plan is the one the run began with.

        Raises:
            StepRefused: the spec was edited since.
        """
        header = self.record.header()
        if header.data.get("runtime", self.runtime.name) != self.runtime.name:
            raise StepRefused(
                f"this run began with the runtime {header.data['runtime']!r}, and its steps may "
                f"not be mixed with those of {self.runtime.name!r}; start Proctor with "
                f"--runtime {header.data['runtime']}, or start a new run"
            )
        began_with = header.plan_digest
        if began_with != self.plan.digest:
            raise StepRefused(
                "the spec changed since this run began; start a new run "
                f"(the run's plan is {began_with[:12]}, the spec's is now {self.plan.digest[:12]})"
            )

    def check_selected(self) -> None:
        """The run's parameters ask for this step.

        Raises:
            StepSkipped: they do not.
        """
        params = self.record.params()
        if not selected(self.step, params):
            left_out = " and ".join(f"{s.value!r} is not in {s.param}" for s in self.step.select)
            self._append("skipped", data={"message": left_out})
            raise StepSkipped(left_out)

    def take_up_or_start(self) -> Handle | Outcome:
        """The attempt under way, or a new one; an outcome where it has already succeeded.

        Raises:
            StepRefused: an approval is missing, a source is not allowed, the image is not here.
            EngineError: the engine does not answer.
        """
        last = self._last_attempt()
        if not last.number:
            return self._take_over_or_start()
        if last.generation != self.generation:
            if kept := self._kept_in_round(last):
                return kept
            # Somebody cleared the task: what an earlier attempt did, or still does, is not wanted.
            self.end_attempt()
        elif done := self._success_of(last):
            return done
        elif last.status == "running":
            found = self._find(last)
            if found is None:
                # It may be half started, or just about to be. The same number starts only once.
                return self._start(last.number)
            if not self._is_gone(found):
                return found
        else:
            self.end_attempt()
        return self._start(last.number + 1)

    def choice(self) -> Choice:
        """Whether an earlier run has done what the first attempt in this run would do.

        Raises:
            StepRefused: an approval is missing, a source is not allowed, the image is not here.
            EngineError: the engine does not answer.
        """
        wish = reuse.wish_of(self.record)
        if why := reuse.always_runs(self.step, wish):
            return Choice(why)
        return reuse.choose(self.home, self.step, wish, self._request(1), self.hashes)

    def _take_over_or_start(self) -> Handle | Outcome:
        choice = self.choice()
        if choice.earlier and choice.asked:
            return self._take_over(choice.earlier, choice.asked[1])
        _log.info("it runs: %s", choice.why)
        return self._start(1, choice.asked)

    def _kept_in_round(self, last: LastAttempt) -> Outcome | None:
        """In a later round of a subject, what the round does not ask to be done anew."""
        number = round_of(self.generation)
        if number < 2 or round_of(last.generation) >= number:
            return None
        line = self._result_line(last.number)
        if line is None or line.data.get("state") != "succeeded":
            return None
        known = {each.number: each for each in rounds(self.record, self.step.partition)}
        start = known[number].start if number in known else ""
        if start:
            keep = not runs_anew(self.plan, self.step, start)
        else:
            keep = self.step.reuse != "never" and digest(self._request(1)[1]) == line.identity
        if not keep:
            return None
        _log.info("not run again in round %d: attempt %d stays", number, last.number)
        data = {"status": "finished", "generation": self.generation}
        self._append("attempt", attempt=last.number, data=data)
        outcome = outcome_of(line)
        self._publish(outcome)
        return outcome

    def _take_over(self, earlier: Earlier, parts: Mapping[str, Any]) -> Outcome:
        _log.info("not run: %s had the same command, image, parameters and inputs", earlier.of)
        identity = digest(parts)
        taken: dict[str, Any] = {"reused_from": earlier.of}
        if self.step.reuse == "within_run" or _timed(earlier.line):
            taken["measurement"] = True
        begun = {"status": "finished", "generation": self.generation, "identity_parts": parts}
        begun |= taken | ({"host": earlier.host} if earlier.host else {})
        # Of a result that was itself taken over, the one that was run counts.
        data = taken | earlier.line.data
        # The result first: cut short in between, there was no attempt, and it is taken over again.
        line = self._append("result", attempt=1, identity=identity, data=data)
        self._append("attempt", attempt=1, identity=identity, data=begun)
        outcome = outcome_of(line)
        self._publish(outcome)
        self.refresh_summary()
        return outcome

    def _is_gone(self, handle: Handle) -> bool:
        """An engine that does not answer has not lost it: whoever waits for it has patience."""
        try:
            return self.runtime.poll(handle).phase == "gone"
        except EngineError:
            return False

    def finish(self, handle: Handle, failure: Failure | None = None) -> Outcome:
        """Collect an ended attempt and record its result, then remove what it left behind.

        ``failure``: why it was ended, where that is known better than its exit tells (deadline).
        """
        known = self._result_line(handle.attempt)
        outcome = self._collected(handle, failure) if known is None else outcome_of(known)
        self._append("attempt", attempt=handle.attempt, data={"status": "finished"})
        if outcome.failure is None:
            self._publish(outcome)
        self.runtime.remove(handle)
        self.refresh_summary()
        return outcome

    def collect_ended(self) -> bool:
        """Collect an attempt that has ended and that no task has come to; whether there was one.

        Raises:
            EngineError, OSError: it cannot be collected now; it stays for the next who looks.
        """
        last = self._last_attempt()
        found = self._find(last) if last.status == "running" else None
        if found is None or self.runtime.poll(found).phase != "exited":
            return False
        self.finish(found)
        return True

    def _collected(self, handle: Handle, failure: Failure | None) -> Outcome:
        outcome = self.runtime.collect(handle)
        if failure is not None:
            outcome = Outcome(failure=failure, result=outcome.result)
        outcome = self._with_services_ends(outcome)
        line = self._append(
            "result",
            attempt=handle.attempt,
            identity=self._identity_of(handle),
            data=self._beside(handle.attempt, _result_data(outcome, handle)),
        )
        if outcome.failure is None and self.step.reuse == "across_runs":
            reuse.remember(self.home, self.record, line)
        return outcome

    def begin_subjects(self) -> tuple[int, bool]:
        """Of a stretch: the attempt that is under way, and whether it goes over earlier ones."""
        last = self._last_attempt()
        if not last.number or last.generation != self.generation:
            last = LastAttempt(last.number + 1)
            data = {"status": "running", "generation": self.generation}
            self._append("attempt", attempt=last.number, data=data)
        return last.number, last.number > 1

    def end_subjects(self, found: Stand) -> None:
        """Of a stretch: record which subjects are done, and which are left out."""
        last = self._last_attempt()
        names = {"succeeded": list(found.succeeded), "left_out": list(found.failed)}
        data = {"state": "succeeded", **names}
        self._append("result", attempt=last.number, data=data)
        self._append("attempt", attempt=last.number, data={"status": "finished"})
        self.refresh_summary()

    def refuse(self, message: str) -> None:
        """Record that the step would not start."""
        self._append("refused", data={"message": message})
        self.refresh_summary()

    def _start(
        self, attempt: int, asked: tuple[StartRequest, dict[str, Any]] | None = None
    ) -> Handle:
        """``asked``: what the runtime is asked for, where that is known already."""
        if self.step.history:
            past.keep(self.home, self.record, self.step, attempt)
        request, parts = asked or self._request(attempt, self._services_up())
        identity = digest(parts)
        begun: dict[str, Any] = {"status": "running", "generation": self.generation}
        begun["uptime"] = since = self._begun_at(attempt)
        if self.step.shares:
            begun["shares"] = True  # what an attempt before this one left is still there
        data = begun | {"identity_parts": parts} | self._host_state()
        self._append("attempt", attempt=attempt, identity=identity, data=data)
        try:
            handle = self.runtime.start(request)
        except RequestRefused as error:
            self._append("attempt", attempt=attempt, data={"status": "finished"})
            raise StepRefused(str(error)) from error
        handle = by_uptime(handle, request.deadline_seconds, since)
        begun["handle"] = handle.model_dump(mode="json")
        self._append("attempt", attempt=attempt, identity=identity, data=begun)
        self.refresh_summary()
        return handle

    def _begun_at(self, attempt: int) -> float:
        """The host's uptime when an attempt was first recorded: now, where it is a new one."""
        wanted = ("attempt", self.step.id, attempt)
        for line in self.record.lines():
            if (line.kind, line.step, line.attempt) == wanted and "uptime" in line.data:
                return float(str(line.data["uptime"]))
        return uptime()

    def _host_state(self) -> dict[str, Any]:
        """What the host was doing beside a measurement: read before its start and after its end."""
        return {"host": hoststate.state(self.runtime)} if self.step.exclusive else {}

    def _beside(self, attempt: int, told: dict[str, Any]) -> dict[str, Any]:
        """A result with what the host was doing, and other containers told as a disturbance."""
        after = self._host_state()
        if not after:
            return told
        wanted = ("attempt", self.step.id, attempt)
        before: Any = next(
            (
                line.data["host"]
                for line in reversed(self.record.lines())
                if (line.kind, line.step, line.attempt) == wanted and "host" in line.data
            ),
            {},
        )
        own = len(self.step.services)
        return hoststate.with_containers(told, before, after["host"], own) | after

    def _services(self) -> list[ServiceRun]:
        planned = [self.plan.service(name) for name in self.step.services]
        return [ServiceRun(self.home, self.plan, s, self.record, self.runtime) for s in planned]

    def _services_up(self) -> dict[str, Handle]:
        """Every service of the step, alive and ready."""
        services = self._services()
        if self.step.required_approvals:
            for service in services:
                # What a gate has not seen does not come in by way of a service either.
                list(self._inputs(service.step.inputs))
        return {service.step.id: service.ensure() for service in services}

    def _with_services_ends(self, outcome: Outcome) -> Outcome:
        """A failure says so where a service of the step has ended meanwhile: that may be why."""
        if outcome.failure is None:
            return outcome
        ends = [words for service in self._services() if (words := service.how_it_ended())]
        message = "; ".join([outcome.failure.message, *ends])
        failure = outcome.failure.model_copy(update={"message": message})
        return outcome.model_copy(update={"failure": failure})

    def _success_of(self, last: LastAttempt) -> Outcome | None:
        """The recorded result of an attempt whose end Airflow was never told."""
        line = self._result_line(last.number)
        if line is None or line.data.get("state") != "succeeded":
            return None
        outcome = outcome_of(line)
        if last.status == "running":
            self._append("attempt", attempt=last.number, data={"status": "finished"})
        self._publish(outcome)
        if found := self._find(last):
            self.runtime.remove(found)
        self.refresh_summary()
        return outcome

    def _result_line(self, attempt: int) -> Line | None:
        """The recorded result of an attempt, where it is the step's newest."""
        line = self.record.last("result", self.step.id)
        return line if line and line.attempt == attempt else None

    def _publish(self, outcome: Outcome) -> None:
        """Copy what the spec publishes into the run's folder."""
        store = LocalArtifacts(self.home.path)
        for pattern in self.step.publish:
            output, _, files = pattern.partition("/")
            root = store.path(outcome.outputs[output])
            for found in sorted(root.glob(files or "*")):
                if found.is_file() and found.name not in _OWN_NAMES:
                    write_atomically(self.record.folder / found.name, found.read_bytes())
        if self.step.publish:
            self._tell_provenance()

    def _tell_provenance(self) -> None:
        """Beside what is published; a subject's damaged record does not end the whole run."""
        try:
            refresh_provenance(self.home, self.record)
        except RecordError as error:
            _log.warning("no provenance is written beside what is published: %s", error)


def outcome_of(line: Line) -> Outcome:
    """The outcome that a ``result`` line tells of."""
    data = line.data
    if data.get("state") != "succeeded":
        told = {"kind": data.get("kind"), "message": data.get("message")}
        return Outcome(failure=Failure.model_validate(told))
    outputs = data.get("outputs")
    entries = outputs.items() if isinstance(outputs, dict) else ()
    return Outcome(outputs={k: str(v["uri"]) for k, v in entries if isinstance(v, dict)})


def _timed(line: Line) -> bool:
    """Whether a result is of a performance run: its figures are those of a certain time."""
    metrics = line.data.get("metrics")
    run = metrics.get("loadgen") if isinstance(metrics, dict) else None
    return isinstance(run, dict) and run.get("mode") == "performance"


def _result_data(outcome: Outcome, handle: Handle) -> dict[str, Any]:
    result, failure = outcome.result, outcome.failure
    data: dict[str, Any] = {
        "state": "failed" if failure else "succeeded",
        "image": handle.image,
        "image_digest": handle.image_digest,
        "started_at": handle.started_at,
    }
    if handle.local_image:
        data["local_image"] = handle.local_image
    if failure:
        data |= {"kind": failure.kind, "message": failure.message}
    if result:
        data |= result.model_dump(mode="json", include={"metrics", "findings", "versions"})
        known = {o.name: o for o in result.outputs}
        data["outputs"] = {
            name: {"uri": uri, **known[name].model_dump(mode="json", exclude={"name"})}
            for name, uri in outcome.outputs.items()
            if name in known
        }
    return data
