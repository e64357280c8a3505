"""A run's subjects: their names, the part of the run that is a subject's, and its rounds.

Each subject is one run of a DAG of its own for each stretch of steps, so that it is watched,
cleared and restarted alone. What it did stands in its own record. Knows nothing of Airflow.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from proctor.airflow.evidence import StepRefused, output_of
from proctor.plan.model import FanIn, Plan, PlanStep
from proctor.records.store import RunRecord, subject_key
from proctor.runtime.artifacts import ArtifactError, LocalArtifacts
from proctor.site.home import Home
from proctor_steps.contract import SUBJECTS_FILE

LONGEST_NAME = 200
MOST_SUBJECTS = 10_000
# The end is for people, who see runs by their ids.
_ROUND = re.compile(r"(?P<run>.+~[0-9a-f]{16})-r(?P<round>[1-9][0-9]*)(?:[.].*)?")
_STRETCH = re.compile(r"[.]subjects-[0-9]+\Z")
# A round counts for more than any number of times that a task is cleared in it.
_GENERATIONS = 10_000


def dag_id(plan: Plan, partition: str) -> str:
    """The DAG of a stretch of steps."""
    return f"{plan.pipeline}.{partition}"


def run_id(part: RunRecord, round: int) -> str:
    """Airflow's run of a subject's round; the subject's name at its end, as far as it can be."""
    return f"{part.run}-r{round}.{_readable(part.partition)}"


def pipeline_of(dag_id: str) -> str:
    """The pipeline that a DAG belongs to, of which it may be a stretch."""
    return _STRETCH.sub("", dag_id)


def parse_run_id(text: str) -> tuple[str, int]:
    """The recorded run that a run of Airflow's belongs to, and its round; 0 outside stretches."""
    found = _ROUND.fullmatch(text)
    return (found["run"], int(found["round"])) if found else (text, 0)


def generation(round: int, max_tries: int) -> int:
    """Grows when a round begins and when a person clears a task; not when Airflow retries."""
    return round * _GENERATIONS + max_tries


def round_of(generation: int) -> int:
    """The round of a generation."""
    return generation // _GENERATIONS


def folder_name(subject: str) -> str:
    """A subject as the name of one folder: itself where it can be, else readable and unique."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}", subject):
        return subject
    return f"{_readable(subject)}-{subject_key(subject)}"


def _readable(subject: str) -> str:
    plain = unicodedata.normalize("NFKD", subject).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", plain).strip("._")[:40] or "subject"


def listed(home: Home, record: RunRecord, plan: Plan) -> list[str]:
    """The run's subjects, in the order of their names.

    Raises:
        StepRefused: the list is not there, or holds what cannot be a subject; it names each.
    """
    uri = output_of(record.whole, plan.subjects, "subjects").uri
    try:
        found = json.loads(LocalArtifacts(home.path).read(uri, SUBJECTS_FILE))
    except (ArtifactError, ValueError, OSError) as error:
        message = f"{plan.subjects} left no list of subjects in {SUBJECTS_FILE}: {error}"
        raise StepRefused(message) from error
    problems = problems_of(found)
    if problems:
        raise StepRefused(f"the list of subjects cannot be used: {'; '.join(problems[:10])}")
    return sorted(found)


def problems_of(found: Any) -> list[str]:
    """What is wrong with a list of subjects, in words."""
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        return ["it must be a JSON list of texts"]
    if not found:
        return ["it is empty: there is no subject"]
    if len(found) > MOST_SUBJECTS:
        return [f"it has {len(found):,} subjects, more than {MOST_SUBJECTS:,}"]
    seen: set[str] = set()
    problems = []
    for each in found:
        parts = PurePosixPath(each).parts
        if not each.strip() or len(each) > LONGEST_NAME:
            problems.append(f"{each[:60]!r}: a name has 1 to {LONGEST_NAME} characters")
        elif each.startswith("/") or ".." in parts or not each.isprintable():
            problems.append(f"{each[:60]!r}: no absolute path, '..' or unprintable character")
        elif each in seen:
            problems.append(f"{each[:60]!r} is there twice")
        seen.add(each)
    return problems


def begin(part: RunRecord, plan: Plan) -> None:
    """Begin a subject's record; harmless where it has begun."""
    if part.exists():
        return
    whole = part.whole.header().data
    data: dict[str, Any] = {"pipeline": plan.pipeline, "subject": part.partition}
    data |= {key: whole[key] for key in ("params", "runtime", "public_key") if key in whole}
    part.append("header", plan_digest=plan.digest, data=data)


@dataclass(frozen=True)
class Round:
    """One way of a subject through a stretch; see :class:`~proctor.records.model.Line`."""

    number: int = 1
    start: str = ""
    reason: str = ""


def rounds(part: RunRecord, partition: str) -> list[Round]:
    """All rounds of a subject in a stretch, the first included."""
    found = [Round()]
    for line in part.lines():
        if line.kind == "round" and line.step == partition:
            told = line.data
            number = int(str(told["round"]))
            found.append(Round(number, str(told.get("start", "")), str(told.get("reason", ""))))
    return found


def begin_round(part: RunRecord, plan: Plan, partition: str, start: str, reason: str) -> Round:
    """Record that a subject goes through a stretch anew."""
    new = Round(rounds(part, partition)[-1].number + 1, start, reason)
    data = {"round": new.number, "start": start, "reason": reason}
    part.append("round", step=partition, plan_digest=plan.digest, data=data)
    return new


def begin_again(part: RunRecord, plan: Plan, partition: str, attempt: int, state: str) -> None:
    """A stretch is done again: a subject that is through, or failed, goes over it once more.

    What is as it was is not run again. One that is under way goes on with what it began with.
    ``attempt``: of the stretch; each has a subject begin again once. ``state``: Airflow's.
    """
    if state not in ("success", "failed"):
        return
    reason = f"attempt {attempt} of {partition}"
    if all(each.reason != reason for each in rounds(part, partition)):
        begin_round(part, plan, partition, "", reason)


def runs_anew(plan: Plan, step: PlanStep, start: str) -> bool:
    """Whether a step stands at the start of a round, or behind it in its stretch."""
    behind = {start}
    for each in plan.part(step.partition).steps:  # upstream steps come first
        if behind & set(each.upstream):
            behind.add(each.id)
    return step.id in behind


@dataclass(frozen=True)
class Stand:
    """How far the subjects of a stretch are; each list holds subjects' names."""

    succeeded: tuple[str, ...]
    failed: tuple[str, ...]
    under_way: tuple[str, ...]

    def may_go_on(self, policy: FanIn) -> bool:
        """Whether enough are done for what follows."""
        if self.under_way:
            return False
        if policy.at_least is not None:
            return len(self.succeeded) >= policy.at_least
        if policy.policy == "any_done":
            return bool(self.succeeded)
        return not self.failed


def stand(
    record: RunRecord, subjects: Sequence[str], states: Mapping[str, tuple[int, str]]
) -> Stand:
    """``states``: recorded run -> newest round and Airflow's state of it."""
    groups: dict[str, list[str]] = {"success": [], "failed": [], "": []}
    for subject in subjects:
        _, state = states.get(record.subject(subject).run, (0, ""))
        groups.get(state, groups[""]).append(subject)
    return Stand(*(tuple(groups[state]) for state in ("success", "failed", "")))
