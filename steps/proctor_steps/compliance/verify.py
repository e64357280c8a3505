"""The stage ``compliance verify``: a test's verdict, and the files that are handed in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from proctor_steps import rounds
from proctor_steps.compliance import answers, audit, entropy, files, speed, stated, tokens
from proctor_steps.compliance.audit import TestName
from proctor_steps.compliance.verdict import (
    FILE,
    Case,
    Check,
    CheckName,
    Verification,
    overall,
    tried,
)
from proctor_steps.loadgen import log, rules
from proctor_steps.loadgen.log import LoadgenRun
from proctor_steps.rounds import LoadgenScenario
from proctor_steps.stage import DataError, Stage, StageParams, StepError, StepIO

_CHECKS: Mapping[str, Mapping[CheckName, Callable[[Case], Check]]] = {
    "TEST01": {"accuracy": answers.same, "performance": speed.same},
    "TEST04": {"performance": speed.not_faster},
    "TEST06": {"accuracy": tokens.consistent},
    "TEST07": {"accuracy": stated.high_enough},
    "TEST08": {"accuracy": entropy.same},
    "TEST09": {"output_length": tokens.long_enough},
}
# What the reference's scripts take a payload's numbers for where nobody says.
_TYPES = {"TEST01": "byte", "TEST06": "int32"}
_MOST_PERCENT = 1.0
_MOST_PERCENT_999 = 0.1


class Params(StageParams):
    """Parameters of the stage."""

    benchmark: str = Field(description="the benchmark, for example yolo")
    test: TestName = Field(description="the test, for example TEST01")
    scenario: LoadgenScenario | Literal[""] = Field(
        default="", description="the scenario that the logs must be of; default: what they say"
    )
    round: str = Field(default="v6.1", description="MLPerf round whose rules are checked")
    dtype: Literal["", "byte", "float32", "int16", "int32", "int64"] = Field(
        default="",
        description="TEST01, TEST06: type of a payload's numbers; "
        "default: byte and int32, as in the reference",
    )
    eos_token_id: int = Field(default=2, description="TEST06: the token that ends an answer")
    score_pattern: str = Field(
        default=r"'exact_match':\s*([\d.]+)",
        description="TEST07: regular expression that finds the score in accuracy.txt",
    )
    delta_percent: float | None = Field(
        default=None,
        gt=0,
        description="TEST01: most that the score of answers that are not deterministic may differ; "
        "default: 1, or 0.1 where the benchmark's accuracy is 99.9 %",
    )

    @field_validator("score_pattern")
    @classmethod
    def _finds_one_thing(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        if not groups:
            raise ValueError("must have a group, which is the score: for example 'f1': ([0-9.]+)")
        return value


def run(params: Params, io: StepIO) -> None:
    """Verify, write the output ``compliance``. Logs that allow no verdict are a verdict, too."""
    logs = io.input("logs")
    found = verify(params, logs, {n: _optional(io, n) for n in _OPTIONAL})
    out = io.output("compliance")
    files.write(out / params.test, found, logs)
    (out / FILE).write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    figures: dict[str, Any] = {}
    for check in found.checks:
        io.say(f"{found.scenario} {found.test} {check.name}: {check.verdict}: {check.reason}")
        figures[check.name] = {"verdict": check.verdict, **check.figures}
    for finding in found.findings():
        io.find(finding.rule, finding.severity, finding.message, finding.where)
    io.metrics["compliance"] = {
        "test": found.test,
        "scenario": found.scenario,
        "verdict": found.verdict,
        "official": found.official,
        "checks": figures,
    }


def verify(params: Params, logs: Path, others: Mapping[str, Path | None]) -> Verification:
    """The verdict on the logs of a test's run.

    ``others``: folders to compare with, by the stage's names of its inputs; ``None`` where absent.
    """
    round_ = rounds.load(params.round)
    try:
        judged = rules.judge(logs, round_, params.benchmark, {}, params.test)
        if judged.mode != "performance":
            raise DataError(f"{params.test} is a run in performance mode; these logs are not")
        if params.scenario not in ("", judged.scenario):
            raise DataError(f"the logs are of {judged.scenario}, not of {params.scenario}")
        detail = log.read(logs)
    except DataError as error:
        return _unverifiable(params, str(error))
    case = Case(
        test=params.test,
        benchmark=params.benchmark,
        round=round_,
        model=audit.model_of(round_, params.benchmark),
        detail=detail,
        logs=logs,
        dtype=_dtype(params),
        eos_token_id=params.eos_token_id,
        score_pattern=params.score_pattern,
        delta_percent=params.delta_percent or _most_percent(params.benchmark),
        **others,
    )
    checks = tuple(tried(name, partial(made, case)) for name, made in _CHECKS[params.test].items())
    return _verification(params, judged, checks)


def _verification(params: Params, judged: LoadgenRun, checks: tuple[Check, ...]) -> Verification:
    verdict = overall(checks)
    doubtful = any(doubt.severity != "info" for check in checks for doubt in check.doubts)
    return Verification(
        benchmark=params.benchmark,
        round=params.round,
        test=params.test,
        scenario=judged.scenario,
        verdict=verdict,
        official=verdict == "pass" and judged.official and not doubtful,
        checks=checks,
        metric=judged.metric,
        duration_s=judged.duration_s,
        rules=judged.rules,
    )


def _unverifiable(params: Params, reason: str) -> Verification:
    def refuse() -> Check:
        raise DataError(reason)

    return Verification(
        benchmark=params.benchmark,
        round=params.round,
        test=params.test,
        scenario=params.scenario,
        verdict="cannot be verified",
        official=False,
        checks=tuple(tried(name, refuse) for name in _CHECKS[params.test]),
        metric=None,
        duration_s=None,
        rules=(),
    )


def _dtype(params: Params) -> str:
    kind = params.dtype or _TYPES.get(params.test, "byte")
    known = {"TEST01": answers.TYPES, "TEST06": tokens.TYPES}.get(params.test)
    if known is not None and kind not in known:
        raise StepError(f"{params.test} knows no dtype {kind}; known: {', '.join(known)}")
    return kind


def _most_percent(benchmark: str) -> float:
    """As the official checker has it: by the submission's name."""
    return _MOST_PERCENT_999 if "99.9" in benchmark else _MOST_PERCENT


def _optional(io: StepIO, name: str) -> Path | None:
    return io.input(name) if io.inputs(name) else None


_OPTIONAL = {
    "performance": "for TEST01 and TEST04: logs of the performance run (optional)",
    "accuracy": "for TEST01 and TEST08: logs of the accuracy run (optional)",
    "dataset": "for TEST01: the dataset, to score answers that are not deterministic (optional)",
    "score": "for TEST07: accuracy.txt, what the benchmark's scorer printed (optional)",
}
STAGE = Stage(
    "compliance verify",
    "Verify the logs of a compliance test's run.",
    Params,
    run,
    inputs={"logs": "logs of the test's run", **_OPTIONAL},
    outputs={"compliance": "compliance.json, and TESTxx/ as the official checker wants it"},
)
