"""The stage ``accuracy score``: LoadGen's accuracy log against the dataset's ground truth."""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field, ValidationError

from proctor_steps import benchmarks, rounds
from proctor_steps.accuracy import log
from proctor_steps.benchmarks import BenchmarkName
from proctor_steps.benchmarks.base import Score
from proctor_steps.loadgen.log import LoadgenRun
from proctor_steps.packages import installed
from proctor_steps.rounds import BenchmarkRules, Round
from proctor_steps.stage import DataError, Stage, StageParams, StepError, StepIO

# What does not count where there is no target to reach, as in the open division.
_LIFTED = ("accuracy_target", "scenario_in_round")


class Params(StageParams):
    """Parameters of the stage."""

    benchmark: BenchmarkName = Field(description="the benchmark that was run")
    round: str = Field(default="v6.1", description="MLPerf round whose target counts")
    target: str = Field(
        default="",
        description="official name, for example yolo-99, whose target has to be reached; default: "
        "the lowest of the benchmark's, and no more than a finding where it is missed",
    )
    stop: bool = Field(
        default=False,
        description="fail where a rule is missed, so that no long run is made in vain",
    )


def run(params: Params, io: StepIO) -> None:
    """Score, compare with the round's target, write the output ``score``."""
    logs, dataset = io.input("logs"), io.input("dataset")
    benchmark = benchmarks.get(params.benchmark)
    round_ = rounds.load(params.round)
    rules = round_.benchmark(params.benchmark)
    about = _about(io)
    samples = benchmark.samples(dataset)
    io.progress(0, samples, "samples", "reading the accuracy log")
    read = log.read(logs / log.NAME, samples)
    io.progress(len(read.answers), samples, "samples", "scoring")
    io.versions.update(installed("pycocotools", "numpy"))
    scored = benchmark.score(sorted(read.answers.items()), dataset, io.contract.seed)
    figures = {
        "metric": scored.metric,
        "value": scored.value,
        "low": scored.low,
        "high": scored.high,
        "interval_method": scored.interval_method,
        "unit": "fraction",
        "benchmark": params.benchmark,
        "round": params.round,
        "scenario": about.scenario if about else "",
        "samples": len(read.answers),
        "expected_samples": samples,
        "entries": read.entries,
        "duplicates": read.duplicates,
        **_target(scored, params, round_),
    }
    _write(io, scored, figures)
    _tell(io, rules, figures)
    io.metrics["accuracy"] = {k: v for k, v in figures.items() if k != "round"} | {
        "map50": scored.details.get("map50")
    }
    io.progress(samples, samples, "samples", scored.line)
    if params.stop:
        _stop(io, params, about)


def _stop(io: StepIO, params: Params, about: LoadgenRun | None) -> None:
    """End here where something found above, or a rule of the accuracy run, stands in the way.

    Raises:
        DataError: with every such rule.
    """
    missed = {f.rule: f.message for f in io.findings if f.severity != "info"}
    missed = {r.rule: r.message for r in (about.rules if about else ()) if r.met is False} | missed
    if not params.target:
        missed = {rule: message for rule, message in missed.items() if rule not in _LIFTED}
    if missed:
        lines = "\n".join(f"  {line}" for line in missed.values())
        raise DataError(f"a result would not be valid, and nothing more is measured:\n{lines}")


def _about(io: StepIO) -> LoadgenRun | None:
    """The run that wrote the log, where the logs say it; it must have been an accuracy run."""
    path = io.input("logs") / "run.json"
    if not path.is_file():
        return None
    try:
        about = LoadgenRun.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(
            f"run.json beside the log is not what a run writes ({place}: {first['msg']}); give "
            "the whole output of one accuracy run"
        ) from error
    if about.mode != "accuracy":
        raise DataError(f"the logs are of a {about.mode} run; only an accuracy run can be scored")
    return about


def _target(scored: Score, params: Params, round_: Round) -> dict[str, Any]:
    """``target`` is the one asked for, else the lowest: below it there is nothing to submit."""
    wanted = round_.targets(params.benchmark, scored.metric)
    if params.target and params.target not in wanted:
        raise StepError(
            f"round {round_.round} has no {scored.metric} target of {params.benchmark} under the "
            f"name {params.target!r}; known: {', '.join(wanted) or 'none'}"
        )
    if not wanted:
        return {"target": None, "target_of": "", "met": None, "targets": {}}
    name = params.target or next(iter(wanted))
    target = wanted[name]
    return {
        "target": target,
        "target_of": name,
        "met": scored.value >= target,
        "targets": {n: {"target": t, "met": scored.value >= t} for n, t in wanted.items()},
    }


def _tell(io: StepIO, rules: BenchmarkRules | None, figures: dict[str, Any]) -> None:
    io.say(f"{figures['metric']} {figures['value']:.4f} on {figures['samples']} samples")
    if rules is None:
        io.find(
            "accuracy_target",
            "info",
            f"{figures['benchmark']} is no benchmark of round {figures['round']}: there is no "
            "accuracy target to meet",
        )
        return
    if figures["met"] is False:
        io.find(
            "accuracy_target",
            "warning",
            f"{figures['metric']} is {figures['value']:.5f}, the round asks for "
            f"{figures['target']:.5f} ({figures['target_of']})",
            "accuracy.txt",
        )
    whole = rules.dataset_samples.value
    if whole is not None and figures["samples"] != whole:
        io.find(
            "dataset_size",
            "warning",
            f"{figures['samples']} samples were scored, the round's dataset has {whole}",
            "accuracy.json",
        )


def _write(io: StepIO, scored: Score, figures: dict[str, Any]) -> None:
    out = io.output("score")
    (out / "accuracy.txt").write_text(scored.line + "\n", encoding="utf-8")
    for name, content in (
        ("accuracy.json", {**figures, **scored.details}),
        ("examples.json", scored.examples),
    ):
        text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
        (out / name).write_text(text + "\n", encoding="utf-8")


STAGE = Stage(
    "accuracy score",
    "Score LoadGen's accuracy log and compare with the round's target.",
    Params,
    run,
    inputs={"logs": "output of an accuracy run", "dataset": "the dataset that it ran on"},
    outputs={"score": "accuracy.txt, accuracy.json, examples.json"},
)
