"""``submission preflight``: what can be known before anything is measured.

Hours of measurement are lost where the package then lacks a field, or the dataset is not whole.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, JsonValue

from proctor_steps import benchmarks, rounds
from proctor_steps.benchmarks import BenchmarkName
from proctor_steps.model.fetch import MODEL_FILE
from proctor_steps.stage import DataError, Stage, StageParams, StepIO
from proctor_steps.submission import documents, machine, ran_on, system


class Params(StageParams):
    """What is to be submitted."""

    benchmark: BenchmarkName = Field(description="the benchmark that will be run")
    submit_as: str = Field(description="the official name of the result, for example yolo-99")
    round: str = Field(default="v6.1", description="MLPerf round")
    measurements: dict[str, str] = Field(
        default_factory=dict,
        description="fields of measurements.json: retraining, weight_data_types, ...",
    )
    submitter: str = Field(
        default="", description="the package's; with it the system's description is looked at, too"
    )
    division: str = Field(default="closed", description="the package's")
    system_name: str = Field(default="system", description="the package's")
    system: dict[str, JsonValue] = Field(
        default_factory=dict, description="as in `submission package`"
    )
    system_uri: str = Field(default="", description="as in `submission package`")
    stop: bool = Field(
        default=True, description="fail where a rule is missed, so that nothing is run in vain"
    )


def run(params: Params, io: StepIO) -> None:
    """Find everything that stands in the way; with ``stop``, end there.

    Raises:
        DataError: with everything that was found.
    """
    looked = (
        _dataset(params, io.input("dataset")),
        _fields(params, io.input("model")),
        _system(params) if params.submitter else (),
    )
    for rule, text in itertools.chain(*looked):
        io.find(rule, "warning", text, "preflight")
    found = [finding.message for finding in io.findings]
    if found and params.stop:
        lines = "\n".join(f"  {line}" for line in found)
        raise DataError(f"the result could not be submitted, and nothing is measured:\n{lines}")
    io.say("nothing stands in the way that can be known before the runs" if not found else "")


def _dataset(params: Params, dataset: Path) -> Iterator[tuple[str, str]]:
    round_ = rounds.load(params.round)
    rules = rounds.find(round_, params.submit_as)
    if params.submit_as not in rules.accuracy:
        names = " or ".join(rules.accuracy)
        yield "benchmark_in_round", f"{params.submit_as} is submitted as {names}: say which"
    if rules is not round_.benchmark(params.benchmark):
        text = f"{params.submit_as} is no result of the benchmark {params.benchmark}"
        yield "benchmark_in_round", text
    found, wanted = benchmarks.get(params.benchmark).samples(dataset), rules.dataset_samples.value
    if wanted is not None and found != wanted:
        text = f"the dataset has {found} samples, the round asks for {wanted}"
        yield "dataset_size", text


def _fields(params: Params, model: Path) -> Iterator[tuple[str, str]]:
    try:
        about = json.loads((model / MODEL_FILE).read_bytes())
        if not isinstance(about, dict):
            raise ValueError("no mapping")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{MODEL_FILE} of the model is missing or not readable ({error}); give the output of "
            "model fetch"
        ) from error
    _, missing = documents.measurements(params.measurements, about)
    if missing:
        text = f"nothing is known of {', '.join(missing)}; give it in the parameter `measurements`"
        yield "measurements", text


def _system(params: Params) -> Iterator[tuple[str, str]]:
    """What the system's description would lack, or say wrongly, were the runs over."""
    rule = "system_description"
    stated = system.stated_of(params.system, params.system_uri)
    package = ran_on.said_by_package(
        params.submitter, params.division, params.system_name, params.benchmark, params.round
    )
    if wrong := system.others(stated, package):
        yield rule, wrong
    # What only the runs tell.
    known = package | dict.fromkeys(("framework", "other_software_stack"), "not known yet")
    facts = machine.discover().facts
    if not any(map(machine.is_accelerator, facts)):
        facts |= system.no_accelerators("this machine shows none")
    for problem in system.describe(stated, known, facts).problems:
        yield rule, f"the system's description: {problem}; {system.GIVE_IT}"


STAGE = Stage(
    "submission preflight",
    "Check what can be known before anything is measured.",
    Params,
    run,
    inputs={"dataset": "the dataset that will be measured", "model": "the model"},
)
