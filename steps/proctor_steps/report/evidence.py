"""What a report or a package is made from, read from the outputs of the stages before it.

The models name the figures that are printed and let the rest pass, so that a stage may tell more
than is shown. Every file that is absent or does not fit is told, all at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError

from proctor_steps.compliance.verdict import FILE as COMPLIANCE_FILE
from proctor_steps.compliance.verdict import Verification
from proctor_steps.policy.answer import FILE as USAGE_FILE
from proctor_steps.report.read import Read
from proctor_steps.report.tuning import Tuned
from proctor_steps.report.usage import Usage
from proctor_steps.stage import DataError, StepIO


class Metric(Read):
    """The figure that a scenario is judged by."""

    name: str
    value: float | None = None
    unit: str = ""


class Percentile(Read):
    """The percentile that counts in a scenario, for example ``p90``."""

    name: str
    value_ns: float | None = None


class Rule(Read):
    """One rule of the round, as the run met it or not (``None``: could not be judged)."""

    rule: str
    met: bool | None = None
    required: JsonValue = None
    found: JsonValue = None
    message: str = ""


class Settings(Read):
    """LoadGen's settings as asked for and as they took effect."""

    requested: dict[str, JsonValue] = Field(default_factory=dict)
    effective: dict[str, JsonValue] = Field(default_factory=dict)


class LeftOut(Read):
    """A run that was made again, as the machine was disturbed; its figure does not count."""

    logs: str = ""
    metric: Metric | None = None
    disturbed: tuple[str, ...] = ()


class Run(Read):
    """One LoadGen run (``run.json``). ``disturbed``: ``None`` where nobody looked."""

    scenario: str
    benchmark: str = ""
    mode: str = ""
    valid: bool | None = None
    samples: int | None = None
    queries: int | None = None
    duration_s: float | None = None
    metric: Metric | None = None
    latency_ns: dict[str, float | None] = Field(default_factory=dict)
    percentile: Percentile | None = None
    settings: Settings = Settings()
    rules: tuple[Rule, ...] = ()
    official: bool | None = None
    scenario_in_round: bool | None = None
    round: str = ""
    loadgen_version: str = ""
    sut: dict[str, JsonValue] = Field(default_factory=dict)
    errors: tuple[JsonValue, ...] = ()
    disturbed: tuple[str, ...] | None = None
    left_out: tuple[LeftOut, ...] = ()


class ClassScore(Read):
    """Average precision of one category, 0..1 (-1 or ``None``: nothing of it in the data)."""

    category: int
    name: str = ""
    ap: float | None = None
    ap50: float | None = None
    boxes_gt: int | None = None


class Score(Read):
    """The accuracy of one scenario (``accuracy.json``); ``value`` and ``target`` are 0..1."""

    metric: str
    benchmark: str = ""
    value: float | None = None
    unit: str = ""
    samples: int | None = None
    expected_samples: int | None = None
    map50: float | None = None
    per_class: tuple[ClassScore, ...] = ()
    entries: int | None = None
    duplicates: int | None = None
    target: float | None = None
    met: bool | None = None


class Box(Read):
    """A box in pixels (x, y, width, height); ``score`` is absent in the ground truth.

    A crowd (``iscrowd``) is a region of many things that nobody told apart: not to be found, and
    a box inside it is neither right nor wrong.
    """

    bbox: tuple[float, float, float, float]
    category: int
    score: float | None = None
    iscrowd: int = 0


class Example(Read):
    """One picture with what was found on it and what is on it."""

    file_name: str
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    detections: tuple[Box, ...] = ()
    ground_truth: tuple[Box, ...] = ()


R = TypeVar("R", bound=BaseModel)


@dataclass
class Evidence:
    """Everything that was found, by scenario. ``problems``: what is absent or unreadable.

    ``compliance``: what was verified, by scenario and test.

    ``measured_in``: the attempts of another run whose figures were taken over.
    """

    performance: dict[str, Run] = field(default_factory=dict)
    logs: dict[str, Path] = field(default_factory=dict)
    accuracy_runs: dict[str, Run] = field(default_factory=dict)
    accuracy_logs: dict[str, Path] = field(default_factory=dict)
    scores: dict[str, Score] = field(default_factory=dict)
    score_folders: dict[str, Path] = field(default_factory=dict)
    tunings: dict[str, Tuned] = field(default_factory=dict)
    measured_in: dict[str, str] = field(default_factory=dict)
    raw_runs: dict[str, Any] = field(default_factory=dict)
    raw_scores: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    dataset_folder: Path | None = None
    usage: Usage | None = None
    model: dict[str, Any] = field(default_factory=dict)
    model_folder: Path | None = None
    problems: list[str] = field(default_factory=list)
    compliance: dict[tuple[str, str], Verification] = field(default_factory=dict)
    compliance_folders: dict[tuple[str, str], Path] = field(default_factory=dict)

    def strangers(self, benchmark: str) -> list[tuple[str, str]]:
        """Runs and scores of another benchmark: ``(scenario, "the score is of digits")``."""
        told = []
        for what, parts in (
            ("performance run", self.performance),
            ("accuracy run", self.accuracy_runs),
            ("score", self.scores),
        ):
            for scenario, part in parts.items():
                if benchmark and part.benchmark not in ("", benchmark):
                    told.append((scenario, f"the {what} is of {part.benchmark}, not {benchmark}"))
        for (scenario, test), verified in self.compliance.items():
            if benchmark and verified.benchmark != benchmark:
                told.append((scenario, f"{test} is of {verified.benchmark}, not {benchmark}"))
        return told

    def scenarios(self) -> list[str]:
        """All scenarios that anything is known of, in MLPerf's order."""
        known = {**self.performance, **self.scores, **self.accuracy_runs}
        order = ("SingleStream", "MultiStream", "Server", "Offline")
        rest = sorted(set(known) - set(order))
        return [name for name in order if name in known] + rest


def gather(io: StepIO, runs_input: str = "runs", scores_input: str = "accuracy") -> Evidence:
    """Read all inputs of the step.

    Raises:
        DataError: files that are there but do not fit, all of them in one message.
    """
    found = Evidence()
    wrong: list[str] = []
    _runs(io, "performance", found, wrong)
    _runs(io, runs_input, found, wrong)
    for cell, folder in sorted(io.inputs(scores_input).items()):
        raw = _json(folder / "accuracy.json", found, wrong)
        score = _fit(Score, raw, folder / "accuracy.json", wrong)
        scenario = cell or str((raw or {}).get("scenario") or "accuracy")
        if score is not None:
            found.scores[scenario], found.score_folders[scenario] = score, folder
            found.raw_scores[scenario] = raw
    _compliance(io, found, wrong)
    for _, folder in sorted(io.inputs("tuning").items()):
        raw = _json(folder / "tuning.json", found, wrong)
        tuned = _fit(Tuned, raw, folder / "tuning.json", wrong)
        if tuned is not None and tuned.ended != "off":
            found.tunings[tuned.scenario] = tuned
    found.dataset_folder, found.dataset = _folder(io, "dataset", "dataset.json", found, wrong)
    found.usage = _usage(found.dataset_folder, found, wrong)
    found.model_folder, found.model = _folder(io, "model", "model.json", found, wrong)
    if wrong:
        raise DataError("the evidence cannot be read:\n" + "\n".join(f"  {line}" for line in wrong))
    return found


def _runs(io: StepIO, name: str, found: Evidence, wrong: list[str]) -> None:
    elsewhere = io.measured_in(name)
    for cell, folder in sorted(io.inputs(name).items()):
        raw = _json(folder / "run.json", found, wrong)
        run = _fit(Run, raw, folder / "run.json", wrong)
        if run is None:
            continue
        if cell in elsewhere:
            known = found.measured_in.get(run.scenario)
            told = dict.fromkeys(filter(None, (known, elsewhere[cell])))
            found.measured_in[run.scenario] = ", ".join(told)
        if run.mode == "accuracy":
            found.accuracy_runs[run.scenario], found.accuracy_logs[run.scenario] = run, folder
        else:
            found.performance[run.scenario], found.logs[run.scenario] = run, folder
            found.raw_runs[run.scenario] = raw


def _compliance(io: StepIO, found: Evidence, wrong: list[str]) -> None:
    for _, folder in sorted(io.inputs("compliance").items()):
        path = folder / COMPLIANCE_FILE
        verified = _fit(Verification, _json(path, found, wrong), path, wrong)
        if verified is not None:
            key = verified.scenario, verified.test
            found.compliance[key], found.compliance_folders[key] = verified, folder


def _usage(dataset: Path | None, found: Evidence, wrong: list[str]) -> Usage | None:
    """Of a dataset that was made for a stated purpose."""
    path = dataset / USAGE_FILE if dataset else None
    if path is None or not path.is_file():
        return None
    return _fit(Usage, _json(path, found, wrong), path, wrong)


def _folder(
    io: StepIO, name: str, file: str, found: Evidence, wrong: list[str]
) -> tuple[Path | None, dict[str, Any]]:
    folders = io.inputs(name)
    if not folders:
        found.problems.append(f"no {name} was given")
        return None, {}
    folder = next(iter(folders.values()))
    return folder, _json(folder / file, found, wrong) or {}


def _json(path: Path, found: Evidence, wrong: list[str]) -> dict[str, Any] | None:
    if not path.is_file():
        found.problems.append(f"{path.parent.name}/{path.name} is missing")
        return None
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        wrong.append(f"{path}: not JSON ({error})")
        return None
    if not isinstance(value, dict):
        wrong.append(f"{path}: holds a {type(value).__name__}, not an object")
        return None
    return value


def _fit(model: type[R], raw: dict[str, Any] | None, path: Path, wrong: list[str]) -> R | None:
    if raw is None:
        return None
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        for e in error.errors():
            place = ".".join(str(part) for part in e["loc"])
            wrong.append(f"{path}: {place}: {e['msg']}")
        return None


def examples(found: Evidence, limit: int) -> list[Example]:
    """The pictures of the first scenario that has some (all scenarios see the same pictures).

    Raises:
        DataError: examples.json is there but does not fit.
    """
    for scenario in found.scenarios():
        folder = found.score_folders.get(scenario)
        if folder is None or not (folder / "examples.json").is_file():
            continue
        try:
            raw = json.loads((folder / "examples.json").read_bytes())
            entries = raw.get("examples", []) if isinstance(raw, dict) else raw
            return TypeAdapter(list[Example]).validate_python(entries)[:limit]
        except (ValueError, RecursionError) as error:
            raise DataError(f"{folder / 'examples.json'} does not fit: {error}") from error
    return []
