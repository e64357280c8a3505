"""The summary of results: the columns that submitters know, and nothing invalid shown as valid."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import submission_kit
from evidence_kit import Kit
from power_kit import BEGIN, make_session, run, sign
from proctor.cli import app
from proctor_steps.loadgen import log
from proctor_steps.submission import power, summary
from proctor_steps.submission.check.finding import Finding, Scope, Severity
from proctor_steps.submission.check.report import Report, ResultRow
from proctor_steps.submission.check.run import check
from proctor_steps.submission.package import STAGE
from proctor_steps.submission.summary import Summary
from submission_mutations import MUTATIONS, Mutation

PARAMS = {
    "submitter": "Example",
    "division": "closed",
    "system_name": "box-1",
    "benchmark": "yolo",
}
VALUES = {"SingleStream": 1.5, "MultiStream": 12.25, "Offline": 12345.6789}
UNITS = {"SingleStream": "Latency (ms)", "MultiStream": "Latency (ms)", "Offline": "Samples/s"}


def row(scenario: str = "Offline", scope: Scope = (), **columns: Any) -> ResultRow:
    scope = scope or ("closed", "Example", "box-1", "yolo-99", scenario)
    known = {
        "Organization": scope[1],
        "Availability": "available",
        "SystemType": "edge",
        "SystemName": "Box One",
        "MlperfModel": scope[3],
        "Model": scope[3],
        "number_of_nodes": 1,
        "host_processor_model_name": "CPU",
        "host_processors_per_node": "2",
        "accelerators_per_node": "8",
        "accelerator_model_name": "GPU",
        "total_accelerators": 8,
        "framework": "net 1.0",
        "Result": VALUES[scenario],
        "Units": UNITS[scenario],
        "Accuracy": "mAP: 53.4",
    }
    return ResultRow(scope, {**known, **columns})


def finding(rule: str, scope: Scope, severity: Severity = Severity.AGAINST) -> Finding:
    return Finding(severity, rule, "a/b.txt", f"{rule} <missed>", "run again", scope)


def made(*results: ResultRow, findings: tuple[Finding, ...] = (), root: Path = Path()) -> Summary:
    return summary.summarise(root, Report("v6.1", findings, results))


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_columns_are_those_of_the_official_table() -> None:
    both = made(*(row(scenario) for scenario in ("Offline", "SingleStream", "MultiStream")))
    (line,) = table(summary.as_csv(both))
    assert list(line) == [
        *("Division", "Suite", "Submitter", "Availability", "System", "Nodes", "Processor", "p#"),
        *("Accelerator", "a#", "Total Accelerators", "Software", "Notes", "UsedModel", "Accuracy"),
        "Location",
        "yolo-99 / SingleStream / Latency (ms)",
        "yolo-99 / MultiStream / Latency (ms)",
        "yolo-99 / Offline / Samples/s",
    ]
    assert (line["Submitter"], line["System"], line["Processor"], line["a#"]) == (
        "Example",
        "Box One",
        "CPU",
        "8",
    )
    assert line["yolo-99 / Offline / Samples/s"] == "12345.6789"
    assert line["Location"] == "closed/Example/results/box-1"
    assert both.valid == 3 and both.against == ()
    page = summary.as_html(both)
    assert "No check found anything against the 3 results." in page
    assert "<b>12,345.679</b>" in page and "not valid" not in page
    assert "8 x GPU" in page and "2 x CPU" in page


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("result_validity", "INVALID"),
        ("min_duration", "short"),
        ("loadgen_errors", "LoadGen errors"),
        ("accuracy_target", "accuracy missed"),
        ("qsl_seed", "QSL seed"),
    ],
)
@pytest.mark.parametrize("severity", [Severity.REJECTED, Severity.AGAINST])
@pytest.mark.parametrize("depth", range(6))
def test_what_anything_stands_against_is_never_shown_like_a_valid_result(
    rule: str, said: str, severity: Severity, depth: int
) -> None:
    """Whether it is about the result, its system, its submitter or the tree."""
    result = row()
    found = made(result, findings=(finding(rule, result.scope[:depth], severity),))
    (line,) = table(summary.as_csv(found))
    if severity is Severity.AGAINST and depth < 3:  # against the submission, not its results
        page = summary.as_html(found)
        assert "Against the submission itself" in page and f"{rule} &lt;missed&gt;" in page
        assert '<section class="verdict bad">' in page and found.valid == 1
        return
    assert line["yolo-99 / Offline / Samples/s"] == f"not valid ({said}): 12,345.679"
    page = summary.as_html(found)
    assert f"not valid: {said}" in page and "1 of 1 result is not valid." in page
    assert '<span class="void">12,345.679</span>' in page and "<b>12,345.679</b>" not in page
    assert f"{rule} &lt;missed&gt;" in page
    assert found.valid == 0


def test_advice_stands_against_nothing() -> None:
    result = row()
    found = made(result, findings=(finding("tip", result.scope, Severity.ADVICE),))
    assert found.valid == 1 and "not valid" not in summary.as_csv(found)


def test_only_the_result_that_it_is_about_is_marked() -> None:
    bad = row("SingleStream")
    found = made(bad, row("Offline"), findings=(finding("result_validity", bad.scope),))
    (line,) = table(summary.as_csv(found))
    assert line["yolo-99 / SingleStream / Latency (ms)"] == "not valid (INVALID): 1.500"
    assert line["yolo-99 / Offline / Samples/s"] == "12345.6789"


def test_a_result_without_a_figure_is_not_valid_and_keeps_its_column() -> None:
    found = made(row(Result="", Units=""))
    (line,) = table(summary.as_csv(found))
    assert line["yolo-99 / Offline / Samples/s"] == "not valid (no figure): no figure"


def test_a_benchmark_that_the_round_does_not_have_keeps_its_figure(tmp_path: Path) -> None:
    run(tmp_path / "run_1", BEGIN, 1.0, "Offline")
    line = {"key": "result_samples_per_second", "value": 7.5, "metadata": {}}
    with (tmp_path / "run_1/mlperf_log_detail.txt").open("a") as file:
        file.write(f":::MLLOG {json.dumps(line)}\n")
    mine = row(scope=("open", "E", "box", "mine", "Offline"), Result="", Location="run_1")
    found = made(mine, findings=(finding("benchmark_in_round", mine.scope),), root=tmp_path)
    (told,) = table(summary.as_csv(found))
    assert told["mine / Offline / Samples/s"] == "not valid (benchmark in round): 7.500"


def test_suites_divisions_and_models_of_ones_own() -> None:
    found = made(
        row(SystemType="datacenter,edge"),
        row(scope=("open", "Example", "box-1", "mine", "Offline"), MlperfModel="yolo-99"),
        row(scope=("open", "Example", "box-1", "other", "Offline"), MlperfModel="yolo-99"),
        row(scope=("closed", "Example", "box-2", "resnet50", "offline"), MlperfModel="resnet"),
        row(scope=("closed", "Example", "box-2", "resnet", "Offline"), MlperfModel="resnet"),
        row(scope=("closed", "Example", "box-3", "yolo-95", "Offline"), SystemType=""),
    )
    lines = table(summary.as_csv(found))
    assert [(line["Division"], line["Suite"], line["UsedModel"]) for line in lines] == [
        ("closed", "datacenter", ""),
        ("closed", "edge", ""),
        ("closed", "edge", ""),
        ("closed", "edge", ""),
        ("closed", "unknown suite", ""),
        ("open", "edge", "mine"),
        ("open", "edge", "other"),
    ]
    assert [line["Accuracy"] for line in lines] == [""] * 5 + ["mAP: 53.4"] * 2
    titles = [title for title in lines[0] if " / " in title]
    assert titles == [
        f"{model} / Offline / Samples/s" for model in ("yolo-99", "resnet", "yolo-95")
    ]


def test_text_from_outside_runs_nowhere() -> None:
    evil = "<script>alert(1)</script>"
    found = made(
        row(SystemName=evil, framework="=HYPERLINK(1)", notes="+1", Organization="@x\udcff")
    )
    page = summary.as_html(found)
    assert "<script" not in page and "&lt;script&gt;" in page
    (line,) = table(summary.as_csv(found))
    assert (line["Software"], line["Notes"]) == ("'=HYPERLINK(1)", "'+1")
    assert line["Submitter"].startswith("'@x") and summary.as_csv(found).encode()


def test_the_page_loads_nothing_and_suits_light_and_dark() -> None:
    page = summary.as_html(made(row()))
    assert not re.search(r"https?://|src=|<link|<script|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page and "color-scheme: light dark" in page


def test_an_empty_tree_has_no_result() -> None:
    found = made()
    assert "There is no result in this tree." in summary.as_html(found)
    assert table(summary.as_csv(found)) == []


def test_power_has_columns_of_its_own(tmp_path: Path) -> None:
    make_session(tmp_path / "sound", scenario="SingleStream")
    place = {"has_power": True, "Location": "sound/run_1"}
    found = made(row("SingleStream", **place), row("Offline", **place), root=tmp_path)
    (line,) = table(summary.as_csv(found))
    assert line["yolo-99 / SingleStream / millijoules"] == "12000.0"
    assert line["yolo-99 / Offline / Watts"] == "120.0"
    found = made(row("SingleStream", has_power=True, Location="absent"), root=tmp_path)
    (line,) = table(summary.as_csv(found))
    assert line["yolo-99 / SingleStream / Watts"] == ("not valid (power cannot be read): no figure")
    assert line["yolo-99 / SingleStream / Latency (ms)"] == "1.5"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    names = {"runs": "accuracy_logs", "accuracy": "scores"}
    result, out = Kit(tmp_path / "kit").fill().run(STAGE, "package", PARAMS, names)
    assert result.status == "ok", result.message
    return out


def test_the_package_brings_its_summary(package: Path) -> None:
    (line,) = table((package / "results.csv").read_text())
    figures = {title: text for title, text in line.items() if " / " in title}
    assert set(figures) == {f"yolo-99 / {name} / {UNITS[name]}" for name in VALUES}
    assert all(text.startswith("not valid (") for text in figures.values()), "these are no logs"
    assert "3 of 3 results are not valid." in (package / "results.html").read_text()


def test_on_the_terminal(package: Path, tmp_path: Path) -> None:
    page, sheet = tmp_path / "s.html", tmp_path / "s.csv"
    command = ["submission", "summary", str(package / "tree"), "--html", str(page)]
    shown = CliRunner().invoke(app, [*command, "--csv", str(sheet)])
    assert shown.exit_code == 0, shown.output
    assert (
        "3 results; nothing stands against 0 of them." in shown.output
        and "not valid" in shown.output
    )
    assert page.read_text() == (package / "results.html").read_text()
    assert sheet.read_text() == (package / "results.csv").read_text()
    for wrong in (["absent"], [str(package / "tree"), "--round", "v9"]):
        shown = CliRunner().invoke(app, ["submission", "summary", *wrong])
        assert shown.exit_code == 2 and "Traceback" not in shown.output


def test_a_merge_on_the_terminal(package: Path, tmp_path: Path) -> None:
    out, tar = tmp_path / "all", tmp_path / "all.tar.gz"
    command = ["submission", "merge", str(package), str(package / "tree"), "--out", str(out)]
    shown = CliRunner().invoke(app, [*command, "--tar", str(tar)])
    assert shown.exit_code == 0, shown.output
    assert "box-1/yolo-99/Offline" in shown.output and "3 results" in shown.output
    assert tar.read_bytes() == (package / "submission.tar.gz").read_bytes()
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 2 and "is there already" in shown.output


def test_a_system_on_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "system.json"
    shown = CliRunner().invoke(app, ["submission", "system", "--out", str(path)])
    assert shown.exit_code == 0, shown.output
    assert "to be stated" in shown.output and "/proc/meminfo" in shown.output
    text = path.read_text().replace('"cooling": ""', '"cooling": "air"')
    path.write_text(text)
    shown = CliRunner().invoke(app, ["submission", "system", "--out", str(path)])
    assert shown.exit_code == 2 and "is there already" in shown.output
    assert path.read_text() == text
    command = ["submission", "system", "--stated", str(path), "--division", "network"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0 and re.search(r"cooling +air +stated", shown.output)
    assert re.search(r"network_topology +to be stated", shown.output)
    shown = CliRunner().invoke(app, ["submission", "system", "--division", "half-open"])
    assert shown.exit_code == 2 and "no division" in shown.output


# on logs of real runs


@pytest.fixture(scope="module")
def faultless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("submission")
    return submission_kit.make_tree(folder / "tree", submission_kit.make_runs(folder / "runs"))


def judged(tree: Path) -> tuple[Summary, Report]:
    report = check(tree, submission_kit.ROUND, jobs=1)
    return summary.summarise(tree, report), report


def test_a_submission_without_fault_is_shown_without_a_mark(faultless: Path) -> None:
    found, _ = judged(faultless)
    (line,) = table(summary.as_csv(found))
    figures = {title: float(text) for title, text in line.items() if " / " in title}
    assert set(figures) == {f"yolo-99 / {name} / {unit}" for name, unit in UNITS.items()}
    assert all(value > 0 for value in figures.values())
    assert found.valid == 3 and "not valid" not in summary.as_html(found)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_whatever_is_spoilt_no_figure_that_it_concerns_looks_valid(
    mutation: Mutation, faultless: Path, tmp_path: Path
) -> None:
    tree = Path(shutil.copytree(faultless, tmp_path / "tree"))
    mutation.change(tree)
    found, report = judged(tree)
    page, lines = summary.as_html(found), table(summary.as_csv(found))
    bad = [r.scope for r in report.results if report.verdict(r.scope) is not None]
    assert found.valid == len(report.results) - len(bad)
    cells = [text for line in lines for title, text in line.items() if " / " in title and text]
    marked = [text for text in cells if text.startswith("not valid (")]
    assert len(marked) >= len(bad) and page.count('class="void"') == len(marked)
    assert page.encode("utf-8")


def test_power_that_was_carried_is_what_the_validator_wants(
    faultless: Path, tmp_path: Path
) -> None:
    tree = Path(shutil.copytree(faultless, tmp_path / "tree"))
    performance = tree / submission_kit.RESULTS / "Offline" / "performance"
    begin = log.read(performance / "run_1").values["power_begin"]
    at = datetime.strptime(begin, "%m-%d-%Y %H:%M:%S.%f")
    session = make_session(tmp_path / "session", begin=at)
    for name in ("mlperf_log_summary.txt", "mlperf_log_detail.txt"):
        shutil.copyfile(performance / "run_1" / name, session / "run_1" / name)
    sign(session, at)
    examined = power.examine(session, performance / "run_1")
    assert examined.problems == ()
    power.carry(examined, performance)
    found, report = judged(tree)
    assert report.findings == ()
    (line,) = table(summary.as_csv(found))
    assert float(line["yolo-99 / Offline / Watts"]) == pytest.approx(120, rel=0.01)
