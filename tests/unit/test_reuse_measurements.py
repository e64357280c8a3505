"""``--reuse-measurements RUN``: figures of one run stand in another, and everyone is told so."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from evidence_kit import Kit
from proctor.airflow.attempts import StepRun
from proctor.airflow.question import evidence_markdown
from proctor.airflow.reuse import Wish, always_runs
from proctor.cli import app
from proctor.plan.model import Gate, Input, Param, Plan, PlannedOutput, PlanStep, Source
from proctor.records.store import RunRecord
from proctor.records.summary import summarise
from proctor.site.runs import Asked
from proctor.site.terminal import results_table
from proctor_steps.report import html
from proctor_steps.submission import package
from reuse_kit import Site

METRICS = {
    "loadgen": {
        "scenario": "Offline", "mode": "performance", "valid": True,
        "metric": {"value": 480.0, "unit": "samples/s"},
    }
}  # fmt: skip


def read(step: str) -> tuple[Input, ...]:
    source = Source(step=step, output="logs")
    return (Input(name="logs", mount_path="/proctor/in/logs", sources=(source,)),)


def plan(**performance: Any) -> Plan:
    """performance -> (tail, evidence) -> look -> again, which measures behind the gate."""
    out = (PlannedOutput(name="logs", mount_path="/proctor/out/logs"),)
    measures: dict[str, Any] = {
        "image": "proctor/sut", "command": ("loadgen", "run"), "outputs": out, "exclusive": True,
        "reuse": "within_run",
    }  # fmt: skip
    first = measures | {"params": {"seconds": "${params.seconds}"}} | performance
    gate = Gate(question="Good?", evidence=(Source(step="evidence", output="logs"),))
    return Plan(
        pipeline="p",
        params=(Param(name="seconds", type="number"),),
        steps=(
            PlanStep(id="performance", step="performance", **first),
            PlanStep(
                id="tail", step="tail", inputs=read("performance"), upstream=("performance",),
                **measures,
            ),
            PlanStep(
                id="evidence", step="evidence", image="proctor/steps", command=("report", "html"),
                inputs=read("performance"), outputs=out, upstream=("tail",),
            ),
            PlanStep(id="look", step="look", kind="approval", gate=gate, upstream=("evidence",)),
            PlanStep(
                id="again", step="again", required_approvals=("look",), upstream=("look",),
                **measures,
            ),
        ),
    )  # fmt: skip


class Runs(Site):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        unlike = {"outputs": {"logs": {"run.json": "{run}"}}, "metrics": METRICS}
        self.acts = dict.fromkeys(("performance", "tail", "again"), unlike)

    def run(
        self, measurements: str = "", seconds: float = 1.0, **performance: Any
    ) -> tuple[RunRecord, list[str]]:
        wish = Wish(measurements=measurements)
        record, started = self.drive(plan(**performance), {"seconds": seconds}, wish)
        assert self.bad(record) == []
        return record, started


@pytest.fixture
def site(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


ALL = ["performance", "tail", "evidence", "again"]
OF = "p/r1/performance/1"


def test_only_what_the_named_run_measured_is_taken_over(site: Runs) -> None:
    assert site.run()[1] == ALL
    assert site.run()[1] == ALL  # its own figures, so its own evidence
    record, started = site.run("p/r1")
    assert started == ["evidence", "again"]
    lines = [x for x in record.lines() if x.step == "performance"]
    assert [x.kind for x in lines] == ["result", "attempt"]
    for line in lines:
        assert line.data["reused_from"] == OF and line.data["measurement"] is True


def test_what_a_spec_takes_over_unasked_is_named_as_well(site: Runs) -> None:
    site.run(reuse="across_runs")
    record, started = site.run(reuse="across_runs")
    assert "performance" not in started
    summary = summarise(site.home.records, record)
    assert [r["measured_in"] for r in summary["results"] if r["step"] == "performance"] == [OF]


def test_of_a_figure_taken_over_twice_the_run_that_measured_is_named(site: Runs) -> None:
    site.run()
    site.run("p/r1")
    record, started = site.run("p/r2")
    assert "performance" not in started and "tail" not in started
    row = next(r for r in summarise(site.home.records, record)["steps"] if r["id"] == "performance")
    assert (row["reused_from"], row["measurement"]) == (OF, True)


def other_host(site: Runs) -> dict[str, Any]:
    site.fingerprint = {"cpu": "b"}
    return {}


def other_image(site: Runs) -> dict[str, Any]:
    site.identities = {"proctor/sut": "sha256:" + "ab" * 32}
    return {}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda site: {"seconds": 600.0}, "parameter seconds was 1.0, is 600.0"),
        (lambda site: {"seed": 3}, "the seed was 0, is 3"),
        (lambda site: {"resources": {"cpus": 2}}, "resource cpus was 0.0, is 2.0"),
        (other_host, "this host is another: cpu was a"),
        (other_image, "the image was fake:proctor/sut, is abababababab"),
    ],
)
def test_what_does_not_fit_runs_and_its_log_says_why(
    site: Runs, caplog: pytest.LogCaptureFixture, change: Any, why: str
) -> None:
    site.run()
    with caplog.at_level("INFO"):
        _, started = site.run("p/r1", **change(site))
    assert "performance" in started
    assert f"it runs: compared with p/r1, {why}" in caplog.messages
    assert "it runs: it stands behind an approval (look)" in caplog.messages


def test_a_run_without_the_result_or_with_another_record_gives_nothing(
    site: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = site.run()
    first.path.write_text(first.path.read_text().replace('"finished"', '"finished" '))
    with caplog.at_level("INFO"):
        assert site.run("p/r1")[1] == ALL
        assert site.run("p/r9")[1] == ALL
    assert "it runs: the record of p/r1, which has its result, was changed" in caplog.messages
    assert "it runs: p/r9 has no good result of it" in caplog.messages


def test_a_step_with_services_is_never_taken_over() -> None:
    step = plan().step("performance").model_copy(update={"services": ("detector",)})
    assert always_runs(step, Wish(measurements="p/r1")) == "it uses services (detector)"


def test_what_the_host_was_doing_then_comes_along(site: Runs) -> None:
    first, _ = site.run()
    record, _ = site.run("p/r1")
    host = [
        next(r for r in summarise(site.home.records, x)["steps"] if r["id"] == "performance")[
            "host"
        ]
        for x in (first, record)
    ]
    assert host[0] == host[1] and set(host[1]) == {"before", "after"}


def test_the_step_that_tells_of_a_figure_is_told_where_it_comes_from(site: Runs) -> None:
    site.run()
    site.run("p/r1")
    told = site.fake.starts("evidence")[-1]["inputs"]
    assert [source["measured_in"] for source in told] == [OF]


def test_terminal_gate_and_summary_name_the_run(site: Runs) -> None:
    site.run()
    record, _ = site.run("p/r1")
    summary = summarise(site.home.records, record)
    assert [r["measured_in"] for r in summary["results"] if r["step"] == "performance"] == [OF]
    console = Console(file=io.StringIO(), width=80, record=True)
    summary["results"] = [r for r in summary["results"] if r["step"] == "performance"]
    results_table(console, summary, record)
    text = console.export_text()
    assert f"Offline was not measured in this run: taken over from {OF}" in text
    assert "480.0 samples/s *" in text
    assert "Taken over from earlier runs" not in text  # a figure is not one of many
    made = plan()
    gate = StepRun(site.home, made, made.step("look"), record, site.fake)
    assert f"480.0 samples/s | {OF} |" in evidence_markdown(gate, "f" * 64)


def test_a_run_of_its_own_figures_says_nothing_of_others(site: Runs) -> None:
    record, _ = site.run()
    console = Console(file=io.StringIO(), width=80, record=True)
    results_table(console, summarise(site.home.records, record), record)
    assert "taken over" not in console.export_text()


def test_an_unfinished_run_goes_on_only_as_it_was_begun(site: Runs) -> None:
    record, _ = site.run("p/r1")
    made, params = plan(), {"seconds": 1.0}
    assert Asked(made, params, wish=Wish(measurements="p/r1")).began(record)
    assert not Asked(made, params).began(record)


def test_the_command_wants_a_run_that_is_there_and_no_fresh(site: Runs) -> None:
    words = ["run", "demo", "--home", str(site.home.path), "--reuse-measurements", "none"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 2 and "there is no run 'none'" in said.output
    said = CliRunner().invoke(app, [*words, "--fresh"])
    assert said.exit_code == 2 and "give one of them" in said.output


def measured_elsewhere(kit: Kit) -> None:
    kit.fill()
    kit.mounts[:] = [
        m.model_copy(update={"measured_in": "yolo-coco/r1/performance.Offline/2"})
        if (m.name, m.cell) == ("performance", "Offline")
        else m
        for m in kit.mounts
    ]


def test_the_report_names_the_run_beside_the_figure(tmp_path: Path) -> None:
    kit = Kit(tmp_path)
    measured_elsewhere(kit)
    result, out = kit.run(html.STAGE, "report", {"benchmark": "yolo"})
    assert result.status == "ok", result.message
    text = (out / "report.html").read_text()
    assert text.count("<small>measured in yolo-coco/r1/performance.Offline/2</small>") == 1
    assert text.count("Not measured in this run: taken over from yolo-coco/r1") == 1
    summary = json.loads((out / "summary.json").read_text())
    assert summary["measured_in"] == {"Offline": "yolo-coco/r1/performance.Offline/2"}
    told = [f for f in summary["findings"] if f["rule"] == "measured_in_another_run"]
    assert [(f["severity"], f["where"]) for f in told] == [("info", "Offline")]
    assert summary["verdict"]["valid"] is True  # it is the same system, and said


def test_the_package_names_the_run_in_its_documents(tmp_path: Path) -> None:
    kit = Kit(tmp_path)
    measured_elsewhere(kit)
    params = {
        "submitter": "Example", "division": "closed", "system_name": "box-1", "benchmark": "yolo",
    }  # fmt: skip
    names = {"runs": "accuracy_logs", "accuracy": "scores"}
    result, out = kit.run(package.STAGE, "package", params, names)
    assert result.status == "ok", result.message
    tree = out / "tree" / "closed" / "Example"
    row = "| Measured in | yolo-coco/r1/performance.Offline/2; taken over from there |"
    offline, single = (
        (tree / "results/box-1/yolo-99" / name / "README.md").read_text()
        for name in ("Offline", "SingleStream")
    )
    assert row in offline and "Measured in" not in single
    about = (tree / "documentation" / "README.md").read_text()
    assert "- Offline: yolo-coco/r1/performance.Offline/2" in about
