"""The words of a submission: its READMEs, its calibration statement and ``measurements.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from proctor_steps.contract import Approval, Contract, Finding
from proctor_steps.report import verdict
from proctor_steps.report.charts import duration, significant
from proctor_steps.report.evidence import Evidence, Metric
from proctor_steps.submission.system import MEASUREMENTS

_TYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64"}


def measurements(
    stated: Mapping[str, str], model: Mapping[str, Any]
) -> tuple[dict[str, str], list[str]]:
    """``measurements.json`` and the fields of it that nobody stated and the model does not tell."""
    types = [str(tensor.get("dtype", "")) for tensor in model.get("inputs") or []]
    known = {
        "input_data_types": ", ".join(dict.fromkeys(_TYPES.get(t, t) for t in types if t)),
        "starting_weights_filename": str(model.get("file", "")),
    }
    said = {name: text for name, text in stated.items() if text.strip()}
    fields = {**dict.fromkeys(MEASUREMENTS, ""), **known, **said}
    return fields, [name for name in MEASUREMENTS if not fields[name]]


def scenario_readme(
    scenario: str,
    params: Mapping[str, Any],
    found: Evidence,
    judged: verdict.Verdict,
    made: Contract,
    accuracy_log_sha256: str,
    power: str = "",
) -> str:
    """What this scenario is worth, in words and figures."""
    places = {"", scenario, *(f"{scenario} {test}" for _, test in found.compliance)}
    about = [f for f in judged.findings if f.where in places]
    blocking = [f for f in about if f.severity != "info"]
    lines = [
        f"# {params['benchmark']}, {scenario}",
        "",
        f"{params['submitter']}, {params['division']} division, system {params['system_name']}, "
        f"MLPerf Inference {params['round']}.",
        "",
        *_worth(blocking, any(f.rule == verdict.NO_TARGET for f in about)),
        "",
        *_figures(scenario, found, power),
        "",
        "## Approval",
        "",
        *approval_lines(made.approvals),
        "",
        "## Provenance",
        "",
        *_provenance(found, made, accuracy_log_sha256),
    ]
    return "\n".join(lines) + "\n"


def _worth(blocking: Sequence[Finding], untargeted: bool) -> list[str]:
    if not blocking and untargeted:
        return ["**This is not a valid MLPerf result.** No accuracy target is set for it."]
    if not blocking:
        return ["Every rule that was checked is met."]
    lines = ["**This is not a valid MLPerf result.** It misses these rules:", ""]
    return lines + [
        f"- {verdict.words(f.rule)} (`{one_line(f.rule)}`): {one_line(f.message)}" for f in blocking
    ]


def _figures(scenario: str, found: Evidence, power: str) -> list[str]:
    run, score = found.performance[scenario], found.scores[scenario]
    earlier = found.measured_in.get(scenario)
    loadgen = {True: "VALID", False: "INVALID"}.get(bool(run.valid), "")
    rows = [
        ("LoadGen", loadgen if run.valid is not None else "no verdict"),
        ("Result", _metric(run.metric)),
        *([("Measured in", f"{earlier}; taken over from there")] if earlier else []),
        *([("Machine", f"not quiet: {'; '.join(run.disturbed)}")] if run.disturbed else []),
        ("Queries", f"{run.queries:,}" if run.queries is not None else "unknown"),
        ("Duration", f"{run.duration_s:.1f} s" if run.duration_s is not None else "unknown"),
        (score.metric, verdict.percent(score.value)),
        ("Target", verdict.percent(score.target) if score.target is not None else "none"),
        *([("Power", power)] if power else []),
        ("Samples scored", f"{score.samples} of {score.expected_samples}"),
        ("Compliance tests", _tests(scenario, found)),
    ]
    return ["| | |", "|---|---|", *(f"| {name} | {one_line(text)} |" for name, text in rows)]


def _tests(scenario: str, found: Evidence) -> str:
    verified = {test: v.verdict for (of, test), v in found.compliance.items() if of == scenario}
    return ", ".join(f"{test}: {verdict_}" for test, verdict_ in verified.items()) or "none was run"


def _metric(metric: Metric | None) -> str:
    if metric is None or metric.value is None:
        return "unknown"
    if metric.unit == "ns":
        return f"{duration(metric.value)} ({metric.name})"
    return f"{significant(metric.value)} {metric.unit} ({metric.name})"


def _provenance(found: Evidence, made: Contract, accuracy_log_sha256: str) -> list[str]:
    return [
        f"- pipeline {one_line(made.pipeline)}, run {one_line(made.run)}",
        f"- model {one_line(str(found.model.get('file', 'unknown')))}, "
        f"sha256 {one_line(str(found.model.get('sha256', 'unknown')))}",
        f"- dataset: {found.dataset.get('kept', 'unknown')} images, sha256 of their names "
        f"{one_line(str(found.dataset.get('sha256_of_names', 'unknown')))}",
        f"- accuracy log before it was cut: sha256 {accuracy_log_sha256}",
    ]


def about_text(of: str, approvals: Sequence[Approval], measured_in: Mapping[str, str]) -> str:
    """``documentation/README.md``: who approved, and what was measured in another run.

    ``of``: system and benchmark, as packages of several are merged into one tree.
    """
    lines = [f"# Approvals of {of}", "", *approval_lines(approvals), "", "As data: approvals.json."]
    if measured_in:
        lines += ["", "# Measured in another run, and taken over from there", ""]
        lines += [f"- {scenario}: {one_line(run)}" for scenario, run in measured_in.items()]
    return "\n".join(lines) + "\n"


def approval_lines(approvals: Sequence[Approval]) -> list[str]:
    """One line an answer, the plain truth where there was none or nobody looked."""
    if not approvals:
        return ["Not approved: no answer of a gate stands before this package."]
    lines = []
    for a in approvals:
        line = f"- gate {one_line(a.gate)}: {a.decision} by {one_line(a.by)} at {one_line(a.at)}"
        line += f" ({a.answered_via}), evidence {one_line(a.evidence_digest)}"
        if a.answered_via == "cli-yes" or not a.evidence_reviewed:
            line += "; **answered without review**"
        lines.append(line + (f"; “{one_line(a.comment)}”" if a.comment else ""))
    if not any(a.decision == "approved" for a in approvals):
        lines.append("\nNot approved.")
    return lines


def calibration_text(of: str, stated: str, model: Mapping[str, Any]) -> str:
    """``documentation/calibration.md``: what the submitter states, else what is known."""
    body = stated.strip() or (
        "This pipeline calibrated and quantised nothing: the weights were used as they were "
        "fetched. Whether and how their authors calibrated them was not stated."
    )
    file, sha256 = model.get("file", "unknown"), model.get("sha256", "unknown")
    return f"# Calibration of {of}\n\n{body}\n\nModel: {one_line(str(file))}, sha256 {sha256}\n"


def source_readme(pipeline: str, version: str) -> str:
    """``src/<benchmark>/README.md``: how to run this code again."""
    return (
        "# The code that measured\n\n"
        f"`proctor_steps` {version} as it ran in pipeline {one_line(pipeline)}. Each stage is\n"
        "`python -m proctor_steps <stage>`; the system under test is `loadgen run`\n"
        "(proctor_steps/sut, proctor_steps/benchmarks), the score `accuracy score`.\n"
    )


def one_line(text: str) -> str:
    """Text from outside, kept from starting a new line or table cell of its own."""
    return " ".join(text.split()).replace("|", "\\|")
