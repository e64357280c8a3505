"""Which steps are done behind a conditional ``next``: asked, decided, recorded. No Airflow here."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proctor.airflow import subjects
from proctor.airflow.attempts import StepRun
from proctor.airflow.evidence import StepRefused, StepSkipped, output_of, was_skipped
from proctor.airflow.recorded import LastAttempt
from proctor.plan.model import Condition, Decision, FilesTest, PlanStep, Source, ValueTest
from proctor.records.store import RunRecord
from proctor.runtime.artifacts import AttemptName, LocalArtifacts
from proctor.runtime.base import Handle, Outcome, RequestRefused
from proctor_steps.contract import write_atomically

# A subject that is sent back this often goes round in circles.
MOST_ROUNDS = 100
_LARGEST_JSON = 16 * 1024 * 1024
_POLL_SECONDS = 0.1
_LONGEST_WORDS = 500  # of what a function prints


@dataclass(frozen=True)
class Made:
    """What was decided: the steps that are done next, and the condition that held ("": none)."""

    targets: tuple[str, ...]
    condition: str = ""


@dataclass(frozen=True)
class Look:
    """One look at the conditions: the decision, or why there is none yet, in words."""

    made: Made | None
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class DecisionRun(StepRun):
    """A decision in its run."""

    @property
    def decision(self) -> Decision:
        """What the plan says of it."""
        assert self.step.decision is not None  # noqa: S101 - the compiler gives every one its own
        return self.step.decision

    def begin(self) -> Made | None:
        """Record that it is to be made; what was decided, where that stands already."""
        last = self._last_attempt()
        if last.number and (last.generation == self.generation or self._kept_in_round(last)):
            return self._recorded(self._last_attempt())
        data = {"status": "running", "generation": self.generation}
        self._append("attempt", attempt=last.number + 1, data=data)
        return None

    def look(self) -> Look:
        """Ask the conditions in their order; the first that holds counts."""
        words: list[str] = []
        asked = self._ask_functions() if self.step.image else {}
        for branch in self.decision.branches:
            if branch.condition is None:
                return Look(Made(branch.targets), tuple(words))
            holds, why = asked.get(branch.condition.function) or self._holds(branch.condition)
            words.append(f"{branch.condition.id}: {why}")
            if holds:
                return Look(Made(branch.targets, branch.condition.id), tuple(words))
        return Look(None, tuple(words))

    def _ask_functions(self) -> dict[str, tuple[bool, str]]:
        """What the workflow's functions answer, asked in one container that leaves nothing.

        Raises:
            StepRefused: a function is missing, or failed; or the container did.
        """
        # No two looks have one number, and none is an attempt of the record's.
        request, _ = self._request(time.time_ns() // 1_000_000)
        try:
            handle = self.runtime.start(request)
        except RequestRefused as error:
            raise StepRefused(str(error)) from error
        try:
            outcome, said = self._ended(handle)
        finally:
            self.runtime.remove(handle)
            name = AttemptName(handle.pipeline, handle.run, handle.step, handle.attempt)
            LocalArtifacts(self.home.path).forget(name)
        if outcome.failure:
            raise StepRefused(outcome.failure.message)
        metrics = outcome.result.metrics if outcome.result else {}
        holds = metrics.get("holds")
        words = " | ".join(said)[:_LONGEST_WORDS] or "it holds not"
        told = holds if isinstance(holds, dict) else {}
        return {name: (bool(held), "it holds" if held else words) for name, held in told.items()}

    def _ended(self, handle: Handle) -> tuple[Outcome, tuple[str, ...]]:
        give_up = time.monotonic() + self.step.deadline_seconds
        while self.runtime.poll(handle).phase == "running":
            if time.monotonic() > give_up:
                self.runtime.stop(handle)
                raise StepRefused(f"no answer within {self.step.deadline_seconds:g} s; stopped")
            time.sleep(_POLL_SECONDS)
        return self.runtime.collect(handle), self.runtime.tail(handle)

    def end(self, made: Made) -> None:
        """Record the decision."""
        self._record(made, {})

    def _record(self, made: Made, more: dict[str, Any]) -> None:
        last = self._last_attempt()
        told = {"targets": list(made.targets), "condition": made.condition, **more}
        self._append("result", attempt=last.number, data={"state": "succeeded", **told})
        self._append("attempt", attempt=last.number, data={"status": "finished"})
        self.refresh_summary()

    def tell(self, seen: Look | None) -> None:
        """Note what is waited for, for whoever shows it; nothing where it is decided."""
        path = self.record.waits_at(self.step.id)
        if seen is None or seen.made is not None:
            path.unlink(missing_ok=True)
            return
        told = {"step": self.step.id, "title": self.step.label, "words": list(seen.words)}
        write_atomically(path, json.dumps(told, ensure_ascii=False).encode())

    def way_back(self, made: Made) -> str:
        """The step with which the subject begins another round; "" where it goes on."""
        return next((target for target in made.targets if target in self.decision.back), "")

    def _recorded(self, last: LastAttempt) -> Made | None:
        line = self._result_line(last.number)
        if line is None or last.status != "finished":
            return None
        return made_of(line.data)

    def _holds(self, condition: Condition) -> tuple[bool, str]:
        try:
            if condition.files:
                return files_hold(self._root(condition.files.of), condition.files)
            if condition.value:
                return value_holds(self._root(condition.value.of), condition.value)
        except StepRefused as refused:
            return False, str(refused)
        raise StepRefused(f"the condition {condition.id!r} asks nothing that can be answered here")

    def _root(self, of: Source) -> Path:
        step = self.plan.step(of.step)
        partition, store = step.partition, LocalArtifacts(self.home.path)
        if any(output.shared for output in step.outputs if output.name == of.output):
            return store.shared(self.record.pipeline, self.record.run, of.output)
        record = self.record if partition else self.record.whole
        uri = output_of(record, of.step, of.output).uri
        return store.path(uri)


def waiting(record: RunRecord) -> list[dict[str, Any]]:
    """What is waited for in a run, of all its subjects: subject, step, title and words."""
    found = []
    for part in (record, *record.subjects()):
        for path in sorted(part.own.glob(part.waits_at("*").name)):
            try:
                found.append({"subject": part.partition, **json.loads(path.read_bytes())})
            except (OSError, ValueError):
                continue  # it is being decided just now
    return sorted(found, key=lambda each: (str(each["subject"]), str(each["step"])))


def made_of(data: dict[str, Any]) -> Made:
    """A decision as its ``result`` line has it."""
    targets = data.get("targets")
    names = tuple(map(str, targets)) if isinstance(targets, list) else ()
    return Made(names, str(data.get("condition") or ""))


def files_hold(root: Path, test: FilesTest) -> tuple[bool, str]:
    """Whether as many files match as are wanted; and in words what was found."""
    matched = [p for p in sorted(root.glob(test.glob)) if p.is_file() and not p.is_symlink()]
    empty = [path for path in matched if path.stat().st_size == 0]
    count = len(matched) - len(empty)
    most = count if test.at_most is None else test.at_most
    wanted = (
        f"at least {test.at_least}"
        if test.at_most is None
        else (str(test.at_least) if test.at_least == most else f"{test.at_least} to {most}")
    )
    words = f"{count} files match {test.glob!r}, wanted {wanted}"
    if empty:
        names = ", ".join(path.name for path in empty[:5])
        words += f"; {len(empty)} are empty ({names})"
    return test.at_least <= count <= most, words


def value_holds(root: Path, test: ValueTest) -> tuple[bool, str]:
    """Whether a value is as wanted; and in words what it is."""
    path = root / test.file
    name = f"{test.key or 'the value'} in {test.file}"
    try:
        if not path.resolve().is_relative_to(root.resolve()):
            return False, f"{test.file} leads out of the output"
        if path.stat().st_size > _LARGEST_JSON:
            return False, f"{test.file} is larger than {_LARGEST_JSON >> 20} MiB"
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return False, f"there is no {test.file}"
    except (OSError, ValueError, RecursionError) as error:
        return False, f"{test.file} is no JSON file: {error}"
    for part in filter(None, test.key.split(".")):
        try:
            found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, ValueError, TypeError):
            return False, f"{test.file} has no {test.key!r}"
    shown = json.dumps(found, ensure_ascii=False)[:80]
    wanted = list(_unmet(found, test))
    return not wanted, f"{name} is {shown}" + (f", wanted {', '.join(wanted)}" if wanted else "")


def _unmet(found: Any, test: ValueTest) -> Iterator[str]:
    if "equals" in test.model_fields_set and test.equals is not None and found != test.equals:
        yield json.dumps(test.equals, ensure_ascii=False)
    number = isinstance(found, int | float) and not isinstance(found, bool)
    if test.at_least is not None and not (number and found >= test.at_least):
        yield f"at least {test.at_least:g}"
    if test.at_most is not None and not (number and found <= test.at_most):
        yield f"at most {test.at_most:g}"


def check_chosen(run: StepRun) -> None:
    """What was decided before a step leads to it.

    Raises:
        StepSkipped: it does not; that is recorded.
    """
    step, part = run.step, {each.id: each for each in run.plan.part(run.step.partition).steps}
    mine = subjects.round_of(run.generation)
    if mine and not (step.leads_back_to or step.decision):
        newest = subjects.rounds(run.record, step.partition)[-1].number
        if mine < newest:
            # A task that comes late: what it would do is the later round's, and so is the record.
            raise StepSkipped(f"round {newest} of {run.record.partition} has begun")
    before = [part[id] for id in part[step.id].upstream]
    # A target with a matrix is every cell of it.
    asked = [each for each in before if each.decision and step.step in _targets(each.decision)]
    if asked:
        decided = [made for each in asked if (made := _newest(run.record, each))]
        if any(step.step in made.targets for made in decided):
            return
        leads = ", ".join(" and ".join(made.targets) for made in decided) or "nowhere"
        _skip(run, f"{' and '.join(each.id for each in asked)} leads to {leads}")
        return
    for each in before:
        if each.kind == "review" and (made := _newest(run.record, each)) and made.targets:
            _skip(run, f"{each.id} sent it back to {' and '.join(made.targets)}")
    over = [each for each in before if was_skipped(run.record, each.id)]
    read = {source.step for item in step.inputs for source in item.sources if not item.fan_in}
    if over and (len(over) == len(before) or read & {each.id for each in over}):
        _skip(run, f"{over[0].id} was left out")


def _targets(decision: Decision) -> set[str]:
    return {target for branch in decision.branches for target in branch.targets}


def _newest(record: RunRecord, decision: PlanStep) -> Made | None:
    """What was decided last; nothing where the step was left out since, after a rejection."""
    line = None if was_skipped(record, decision.id) else record.last("result", decision.id)
    return made_of(line.data) if line else None


def _skip(run: StepRun, message: str) -> None:
    run.record.append(
        "skipped", step=run.step.id, plan_digest=run.plan.digest, data={"message": message}
    )
    raise StepSkipped(message)


def next_round(run: StepRun, start: str, reason: str) -> subjects.Round:
    """The round that begins at a step, recorded once for its reason.

    Raises:
        StepRefused: the subject has gone round too often.
    """
    known = subjects.rounds(run.record, run.step.partition)
    for each in known:
        if each.reason == reason:
            return each
    if len(known) >= MOST_ROUNDS:
        raise StepRefused(
            f"{run.record.partition} was sent back {len(known) - 1} times; mend the condition that "
            "sends it, or clear a step by hand"
        )
    return subjects.begin_round(run.record, run.plan, run.step.partition, start, reason)
