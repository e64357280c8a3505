"""``submission package``: the tree that MLCommons takes in (as of v6.0 and v6.1), and its archive.

::

    <division>/<submitter>/
        src/<benchmark>/...                   the code that ran
        systems/<system>.json                 what it ran on
        documentation/...                     approvals, calibration, provenance
        results/<system>/<benchmark>/<scenario>/
            measurements.json  user.conf  README.md
            performance/run_1/mlperf_log_{summary,detail}.txt
            accuracy/mlperf_log_{summary,detail}.txt  accuracy.txt  mlperf_log_accuracy.json (cut)
            TESTxx/...                        compliance tests, as they were verified
            performance/{power,ranging}/...  performance/run_1/spl.txt   where power was measured

The package is made whatever the results are worth; what they miss stands in the README of each
scenario and in the findings. Whether it may be made at all is the approval's business.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue, field_validator

import proctor_steps
from proctor_steps import contract, rounds
from proctor_steps.report import verdict
from proctor_steps.report.evidence import Evidence, gather
from proctor_steps.stage import DataError, Stage, StageParams, StepError, StepIO
from proctor_steps.submission import (
    archive,
    compliance,
    documents,
    inferred,
    power,
    provenance,
    ran_on,
    summary,
    system,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_LOGS = ("mlperf_log_summary.txt", "mlperf_log_detail.txt")
_ACCURACY_LOG = "mlperf_log_accuracy.json"


class Params(StageParams):
    """Who submits what."""

    submitter: str = Field(description="the organisation, as a folder name without blanks")
    division: Literal["closed", "open", "network"] = Field(
        default="open", description="closed, open or network"
    )
    system_name: str = Field(description="the system, as a folder name without blanks")
    benchmark: str = Field(description="benchmark, for example yolo")
    round: str = Field(default="v6.1", description="MLPerf round")
    submit_as: str = Field(
        default="",
        description="official name of the result, for example yolo-99; default: the best whose "
        "target is reached",
    )
    inferred: dict[Literal["MultiStream", "Offline"], Literal["SingleStream", "MultiStream"]] = (
        Field(
            default_factory=dict,
            description="scenarios that are inferred, each with the measured one (edge systems)",
        )
    )
    system: dict[str, JsonValue] = Field(
        default_factory=dict, description="fields of the system's description that are known"
    )
    system_uri: str = Field(
        default="",
        description="file:///… of a JSON file with such fields, which count before those of "
        "`system`; `proctor submission system --out` makes one to fill in",
    )
    measurements: dict[str, str] = Field(
        default_factory=dict,
        description="fields of measurements.json: retraining, weight_data_types, ...",
    )
    calibration: str = Field(default="", description="how the weights were calibrated")
    upload_uri: str = Field(
        default="",
        description="s3://bucket/prefix that the package is meant for: written to upload.json, "
        "by which a pipeline decides whether to ask for an upload; empty: none",
    )

    @field_validator("upload_uri")
    @classmethod
    def _store(cls, value: str) -> str:
        if value and not value.startswith("s3://"):
            raise ValueError("packages are uploaded to s3://bucket/prefix and nowhere else")
        return value

    @field_validator("submitter", "system_name", "benchmark")
    @classmethod
    def _folder_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(
                "becomes a folder's name: letters, digits and _ . + - are allowed, and the first "
                "must be a letter or digit"
            )
        return value


def run(params: Params, io: StepIO) -> None:
    """Check what is there, write the tree, pack it."""
    found = gather(io, runs_input="accuracy_logs", scores_input="scores")
    strangers = found.strangers(params.benchmark)
    if strangers:
        lines = "\n".join(f"  {scenario}: {text}" for scenario, text in strangers)
        raise DataError(f"these results do not belong into one package:\n{lines}")
    scenarios = _complete(params, found, io)
    asked = verdict.Asked(params.division, tuple(params.inferred))
    judged = verdict.judge(found, params.benchmark, params.round, asked)
    out = io.output("package")
    root = out / "tree" / params.division / params.submitter
    name = _benchmark_folder(params, found, scenarios, io)
    results = root / "results" / params.system_name / name
    described = _system(params, found, io)
    _json(root / "systems" / f"{params.system_name}.json", described)
    _, missing = documents.measurements(params.measurements, found.model)
    if missing:
        text = f"nothing is known of {', '.join(missing)}; give it in the parameter `measurements`"
        io.find("measurements", "warning", text, "measurements.json")
    hashes = {}
    measured = power.sessions(io.inputs("power"), scenarios)
    for scenario in scenarios:
        folder = results / scenario
        hashes[scenario] = _scenario(folder, scenario, params, found, io)
        watts = power.add(folder, scenario, measured, found.logs[scenario], io)
        text = documents.scenario_readme(
            scenario, params.model_dump(), found, judged, io.contract, hashes[scenario], watts
        )
        _text(folder / "README.md", text)
        compliance.add(folder, scenario, found)
    inferred.add(results, params.inferred)
    compliance.tell_missing(scenarios, params.benchmark, params.round, params.division, found, io)
    _documentation(root / "documentation", f"{params.system_name}, {name}", params, found, io)
    provenance.write(out / "tree", results, scenarios, found, io)
    _source(root / "src" / name, io.contract)
    _tell(judged, io)
    for misfit in archive.survey(out / "tree")[1]:
        io.find("submission_file", "error", f"{misfit.what}; {misfit.advice}", misfit.path)
    archive.files_of(out / "tree")
    summary.write(out, out / "tree", params.round)
    if params.upload_uri:
        _json(out / "upload.json", {"uri": params.upload_uri})
    _pack(out, [*scenarios, *params.inferred], hashes, name, io)


def _complete(params: Params, found: Evidence, io: StepIO) -> list[str]:
    """The scenarios that have all files; one that has not is left out and told.

    Raises:
        DataError: no scenario is complete.
    """
    rules = rounds.load(params.round).benchmark(params.benchmark)
    complete, told = [], []
    for scenario in found.scenarios():
        missing = _missing(scenario, found)
        # Any combination of scenarios is permitted in the open division.
        if rules is not None and params.division != "open" and not rules.has(scenario):
            missing.append(f"{params.benchmark} has no such scenario in {params.round}")
        if missing:
            told.append(f"{scenario} is left out: {'; '.join(missing)}")
        else:
            complete.append(scenario)
    if not complete:
        lines = "\n".join(f"  {line}" for line in told or found.problems or ["no scenario was run"])
        raise DataError(f"there is nothing to package:\n{lines}")
    for line in told:
        io.find("incomplete_scenario", "error", line, "package")
    return complete


def _missing(scenario: str, found: Evidence) -> list[str]:
    folders = {
        "performance log": (found.logs.get(scenario), (*_LOGS, "user.conf")),
        "accuracy log": (found.accuracy_logs.get(scenario), (*_LOGS, _ACCURACY_LOG)),
        "score": (found.score_folders.get(scenario), ("accuracy.txt",)),
    }
    missing = []
    for what, (folder, names) in folders.items():
        if folder is None:
            missing.append(f"no {what}")
            continue
        for name in names:
            path = folder / name
            if not path.is_file() or path.stat().st_size == 0:
                missing.append(f"{name} of the {what} is missing or empty")
    return missing


def _benchmark_folder(params: Params, found: Evidence, scenarios: list[str], io: StepIO) -> str:
    """The round's name for the accuracy that was reached: ``yolo-99`` or ``yolo-95``."""
    round_ = rounds.load(params.round)
    rules = round_.benchmark(params.benchmark)
    if params.submit_as and (rules is None or params.submit_as not in rules.accuracy):
        names = ", ".join(rules.accuracy) if rules else "none"
        raise StepError(
            f"{params.benchmark} is not submitted as {params.submit_as!r} in {params.round}; "
            f"its names: {names}"
        )
    if rules is None:
        text = (
            f"{params.benchmark} is no benchmark of {params.round}: MLCommons takes no such result"
        )
        io.find("benchmark_in_round", "warning", text, "package")
        return params.benchmark
    metric = found.scores[scenarios[0]].metric
    targets = round_.targets(params.benchmark, metric)
    reached = min(found.scores[scenario].value or 0.0 for scenario in scenarios)
    if params.submit_as:
        targets = {name: target for name, target in targets.items() if name == params.submit_as}
    met = [name for name, target in targets.items() if reached >= target]
    if not met:
        text = f"accuracy {verdict.percent(reached)} reaches none of the targets {targets}"
        io.find("accuracy_target", "warning", text, "package")
    if params.submit_as:
        return params.submit_as
    return met[-1] if met else next(iter(targets), params.benchmark)


def _system(params: Params, found: Evidence, io: StepIO) -> dict[str, JsonValue]:
    stated = system.stated_of(params.system, params.system_uri)
    package = ran_on.said_by_package(
        params.submitter, params.division, params.system_name, params.benchmark, params.round
    )
    return ran_on.describe(stated, package, found, io)


def _scenario(folder: Path, scenario: str, params: Params, found: Evidence, io: StepIO) -> str:
    """Write one scenario's files but its README; the sha256 of the whole accuracy log."""
    performance, accuracy = folder / "performance" / "run_1", folder / "accuracy"
    performance.mkdir(parents=True)
    accuracy.mkdir(parents=True)
    for name in _LOGS:
        shutil.copyfile(found.logs[scenario] / name, performance / name)
        shutil.copyfile(found.accuracy_logs[scenario] / name, accuracy / name)
    shutil.copyfile(found.logs[scenario] / "user.conf", folder / "user.conf")
    whole = found.accuracy_logs[scenario] / _ACCURACY_LOG
    sha256 = archive.truncate_accuracy_log(whole, accuracy / _ACCURACY_LOG)
    score = (found.score_folders[scenario] / "accuracy.txt").read_text(encoding="utf-8")
    # The official script appends to the scorer's output, and so an empty line stands between.
    _text(accuracy / "accuracy.txt", f"{score}\nhash={sha256}\n")
    measured, _ = documents.measurements(params.measurements, found.model)
    _json(folder / "measurements.json", measured)
    return sha256


def _documentation(folder: Path, of: str, params: Params, found: Evidence, io: StepIO) -> None:
    given = io.contract.approvals
    _json(folder / "approvals.json", [approval.model_dump() for approval in given])
    _text(folder / "README.md", documents.about_text(of, given, found.measured_in))
    calibration = documents.calibration_text(of, params.calibration, found.model)
    _text(folder / "calibration.md", calibration)


def _source(folder: Path, made: contract.Contract) -> None:
    """The code that measured: this package, without what it ships to try it with."""
    home = Path(proctor_steps.__file__).parent
    for path in sorted([*home.rglob("*.py"), *home.rglob("*.yaml")]):
        relative = path.relative_to(home)
        if "embedded" not in relative.parts:
            target = folder / "proctor_steps" / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    _text(folder / "README.md", documents.source_readme(made.pipeline, proctor_steps.__version__))


def _tell(judged: verdict.Verdict, io: StepIO) -> None:
    if not judged.valid:
        io.find("not_a_valid_result", "warning", judged.headline, "package")
    if not any(a.decision == "approved" for a in io.contract.approvals):
        io.find("not_approved", "warning", "nobody approved these results", "documentation")
    elif not any(a.evidence_reviewed for a in io.contract.approvals):
        text = "the approval was answered without review of the evidence (cli-yes)"
        io.find("not_reviewed", "warning", text, "documentation")


def _pack(out: Path, scenarios: list[str], hashes: dict[str, str], name: str, io: StepIO) -> None:
    target = out / "submission.tar.gz"
    count = archive.pack(out / "tree", target)
    figures: dict[str, Any] = {
        "benchmark": name,
        "scenarios": scenarios,
        "files": count,
        "bytes": target.stat().st_size,
        "sha256": contract.file_sha256(target),
        "accuracy_log_sha256": hashes,
    }
    io.metrics["package"] = figures
    io.say(f"{target.name}: {count} files, {figures['bytes']:,} bytes, sha256 {figures['sha256']}")


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _json(path: Path, value: Any) -> None:
    _text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


STAGE = Stage(
    "submission package",
    "Make the submission tree and its archive.",
    Params,
    run,
    inputs={
        "accuracy_logs": "logs of the accuracy runs, one cell a scenario",
        "scores": "the scores, one cell a scenario",
        "performance": "logs of the performance runs, one cell a scenario",
        "model": "the model",
        "dataset": "the filtered dataset",
        "compliance": "compliance tests that were verified, one cell each (optional)",
        "power": "sessions of MLPerf's power workflow, one cell a scenario, or one folder with a "
        "folder for each (optional)",
    },
    outputs={"package": "tree/, submission.tar.gz, and the results as results.html and .csv"},
)
