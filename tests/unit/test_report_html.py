"""The report: what it says, what it must never say, and that it stands alone."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evidence_kit import Kit, approval, examples, run_json, score_json
from proctor_steps.report import pictures
from proctor_steps.report.evidence import Box
from proctor_steps.report.html import STAGE

PARAMS = {"benchmark": "yolo", "title": "YOLO"}


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit(tmp_path)


def page(kit: Kit, **params: Any) -> tuple[str, dict[str, Any]]:
    result, out = kit.run(STAGE, "report", {**PARAMS, **params})
    assert result.status == "ok", result.message
    return (out / "report.html").read_text(), json.loads((out / "summary.json").read_text())


ENDPOINT = {
    "service": "detector",
    "url": "http://detector:8000",
    "same_host": True,
    "server": "triton 2.60.0",
    "model": "yolo",
    "platform": "openvino",
}


def test_a_system_behind_http_is_told_as_one(kit: Kit) -> None:
    kit.fill()
    assert "<dt>Endpoint</dt>" not in page(kit)[0]
    sut = {"backend": "openvino", "version": "2026.2", "endpoint": ENDPOINT}
    kit.logs("Offline", "performance", sut=sut)
    text, _ = page(kit)
    assert (
        "<dt>Endpoint</dt><dd>detector at http://detector:8000, over HTTP, on the same host: "
        "triton 2.60.0, model yolo (openvino)</dd>"
    ) in text
    kit.logs("Offline", "performance", sut=sut | {"endpoint": ENDPOINT | {"same_host": False}})
    assert "over HTTP, host unknown" in page(kit)[0]


class Tags(HTMLParser):
    """All tags with their attributes; complains of what the page may not hold."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(text)
    return parser.tags


def test_a_run_that_meets_every_rule_is_said_to_do_so(kit: Kit) -> None:
    text, summary = page(kit.fill())
    assert "Every rule that was checked is met." in text
    assert "not a valid" not in text
    assert "the review by MLCommons" in text and "TEST01" in text
    assert summary["verdict"] == {
        "valid": True,
        "text": "Every rule that was checked is met.",
        "missed": [],
    }


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"rules": [{"rule": "min_duration", "met": False, "message": "5 s"}]}, "min_duration"),
        ({"rules": [{"rule": "early_stopping", "met": None, "message": "?"}]}, "early_stopping"),
        ({"valid": False}, "loadgen_valid"),
        ({"valid": None}, "loadgen_valid"),
        ({"scenario_in_round": False}, "scenario_in_round"),
        ({"official": False}, "official"),
        ({"errors": ["a sample twice"]}, "loadgen_errors"),
    ],
)
def test_one_rule_missed_is_no_valid_result_and_is_named(
    kit: Kit, changes: dict[str, Any], rule: str
) -> None:
    kit.fill().logs("Offline", "performance", **changes)
    text, summary = page(kit)
    assert summary["verdict"]["valid"] is False
    assert [missed["rule"] for missed in summary["verdict"]["missed"]] == [rule]
    assert summary["verdict"]["missed"][0]["places"][0][0] == "Offline"
    assert "This is not a valid MLPerf result: it misses the rules on" in text
    assert f"<code>{rule}</code>" in text


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"met": False, "value": 0.4}, "accuracy_target"),
        ({"met": None, "target": None}, "accuracy_target"),  # the round does set one
        ({"met": None}, "accuracy_target"),
        ({"samples": 1524}, "accuracy_samples"),
        ({"samples": 70, "expected_samples": 70}, "dataset_size"),
    ],
)
def test_accuracy_below_target_or_incomplete_is_named(
    kit: Kit, changes: dict[str, Any], rule: str
) -> None:
    kit.fill().score("MultiStream", **changes)
    _, summary = page(kit)
    assert rule in [missed["rule"] for missed in summary["verdict"]["missed"]]
    found = [f for f in summary["findings"] if f["rule"] == rule]
    assert [f["where"] for f in found] == ["MultiStream"]


def test_a_target_that_nobody_set_is_not_missed(kit: Kit) -> None:
    for scenario in ("SingleStream", "Offline"):
        kit.logs(scenario, "performance", benchmark="digits")
        kit.score(scenario, met=None, target=None, benchmark="digits")
    text, summary = page(kit, benchmark="digits")
    assert [m["rule"] for m in summary["verdict"]["missed"]] == ["benchmark_in_round"]
    assert summary["verdict"]["valid"] is False
    assert "it misses the rules on benchmark in round. No accuracy target is set." in text
    told = [f for f in summary["findings"] if f["rule"] == "no_accuracy_target"]
    assert [(f["severity"], f["where"]) for f in told] == [
        ("info", "SingleStream"),
        ("info", "Offline"),
    ]


def test_without_a_target_there_is_no_valid_result_even_if_nothing_is_missed(kit: Kit) -> None:
    kit.fill().score("Offline", met=None, target=None)
    text, summary = page(kit, benchmark="")
    assert summary["verdict"]["missed"] == [] and summary["verdict"]["valid"] is False
    assert "This is not a valid MLPerf result: no accuracy target is set for it." in text


def test_a_disturbed_machine_is_shown_and_is_no_rule(kit: Kit) -> None:
    text, _ = page(kit.fill())
    assert "disturbed" not in text.split("</style>")[1]
    reason = "others took 1.00 of 2 processors <during> the run"
    earlier = {"logs": "disturbed/1", "disturbed": ["it was hot"], "valid": True, "metric": None}
    kit.logs("Offline", "performance", disturbed=[reason], left_out=[earlier])
    text, summary = page(kit)
    assert '<span class="badge warn">disturbed machine</span>' in text
    assert text.count("others took 1.00 of 2 processors &lt;during&gt; the run") == 2
    assert "disturbed/1 of its logs" in text
    assert summary["verdict"]["valid"] is True
    found = {f["rule"]: f for f in summary["findings"] if f["where"] == "Offline"}
    assert found["disturbed"]["severity"] == found["run_left_out"]["severity"] == "info"
    assert summary["results"][-1]["disturbed"] == [reason]


def test_scenarios_that_the_round_requires_are_missed(kit: Kit) -> None:
    _, summary = page(kit.fill(("SingleStream",)))
    (missed,) = summary["verdict"]["missed"]
    assert missed["rule"] == "required_scenarios"
    assert "MultiStream and Offline" in missed["places"][0][1]


def test_a_rule_that_both_runs_miss_is_told_once(kit: Kit) -> None:
    rules = [{"rule": "benchmark_in_round", "met": False, "message": "digits must be one"}]
    for mode in ("performance", "accuracy"):
        kit.logs("Offline", mode, rules=rules, official=False, benchmark="digits")
    kit.score("Offline", met=None, target=None, benchmark="digits")
    _, summary = page(kit, benchmark="digits")
    assert [f["rule"] for f in summary["findings"] if "benchmark" in f["rule"]] == [
        "benchmark_in_round"
    ]


def test_a_run_of_another_benchmark_is_told(kit: Kit) -> None:
    kit.fill().logs("Offline", "accuracy", benchmark="digits")
    _, summary = page(kit)
    assert [m["rule"] for m in summary["verdict"]["missed"]] == ["other_benchmark"]


def test_never_called_compliant(kit: Kit) -> None:
    text, _ = page(kit.fill())
    assert "compliant" not in text.lower()


def test_the_page_stands_alone(kit: Kit) -> None:
    text, _ = page(kit.fill())
    assert len(text) < 1_000_000
    for tag, attributes in tags(text):
        assert tag not in ("script", "link", "iframe", "object", "base")
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("#", "data:image/")), value
    assert "@import" not in text and "url(" not in text


def test_same_evidence_same_bytes(kit: Kit) -> None:
    assert page(kit.fill()) == page(kit)


HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}"


def test_text_from_specs_and_logs_stays_text(kit: Kit) -> None:
    kit.fill()
    rules = [{"rule": HOSTILE, "met": False, "required": HOSTILE, "found": [HOSTILE]}]
    rules += [{"rule": "x", "met": None, "message": HOSTILE}]
    run = {
        "rules": rules,
        "errors": [HOSTILE],
        "loadgen_version": HOSTILE,
        "sut": {"backend": HOSTILE},
    }
    metric = {"name": HOSTILE, "value": 1.5, "unit": HOSTILE}
    percentile = {"name": HOSTILE, "value_ns": 1.4e6}
    kit.logs("SingleStream", "performance", metric=metric, percentile=percentile, **run)
    classes = [{"category": 1, "name": HOSTILE, "ap": 0.5, "ap50": 0.6}]
    score = kit.score("SingleStream", metric=HOSTILE, per_class=classes)
    shown = [{**examples()[0], "file_name": HOSTILE}]
    (score / "examples.json").write_text(json.dumps(shown))
    licence = {"4": {"name": HOSTILE, "total": HOSTILE, "kept": HOSTILE}}
    about = {"kept": HOSTILE, "total": HOSTILE, "sha256_of_names": HOSTILE, "by_licence": licence}
    (kit.folder("dataset") / "dataset.json").write_text(json.dumps(about))
    tensor = {"name": HOSTILE, "shape": [HOSTILE], "dtype": HOSTILE}
    model = {"file": HOSTILE, "format": HOSTILE, "sha256": HOSTILE, "inputs": [tensor]}
    (kit.folder("model") / "model.json").write_text(json.dumps(model))
    kit.approvals = (
        approval(gate=HOSTILE, by=HOSTILE, at=HOSTILE, comment=HOSTILE, evidence_digest=HOSTILE),
    )
    text, _ = page(kit, title=HOSTILE)
    assert "alert(1)" in text  # it is shown ...
    assert "<script" not in text and "<img" not in text  # ... as text
    assert "49" not in re.findall(r"&gt;(\d\d)", text)
    for tag, attributes in tags(text):
        assert tag not in ("script", "img")
        assert not [name for name in attributes if name.startswith("on")]


def usage(text: str = "CC-BY-NC-2.0") -> dict[str, Any]:
    term = {"id": text, "label": text, "where": text, "says": "forbids", "reason": text}
    return {
        "purpose": text, "date": "2026-01-15", "verdict": "filter", "kept": 70, "total": 202,
        "clauses": [term | {"says": "permits"}], "duties": [term], "accepted": [term],
        "reason_accepted": text, "left_out": [{"what": text, "clauses": [term]}],
    }  # fmt: skip


def test_the_use_of_the_data_is_told_with_its_terms(kit: Kit) -> None:
    kit.fill()
    assert "Use of the data" not in page(kit)[0]
    said = usage() | {"purpose": "commercial-benchmark"}
    (kit.folder("dataset") / "usage.json").write_text(json.dumps(said))
    text, summary = page(kit)
    assert "For commercial-benchmark, on 2026-01-15: filtered, 70 of 202 may be used" in text
    assert "Accepted by a person: CC-BY-NC-2.0" in text and "left out: CC-BY-NC-2.0" in text
    assert summary["usage"]["left_out"][0]["clauses"][0]["id"] == "CC-BY-NC-2.0"
    (kit.folder("dataset") / "usage.json").write_text(json.dumps(usage(HOSTILE)))
    text, _ = page(kit)
    assert "alert(1)" in text and "<script" not in text and "<img" not in text


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps(usage() | {"kept": "x"})])
def test_a_damaged_answer_on_the_use_is_told(kit: Kit, text: str) -> None:
    kit.fill()
    (kit.folder("dataset") / "usage.json").write_text(text)
    result, _ = kit.run(STAGE, "report", PARAMS)
    assert result.status == "data_error" and "usage.json" in result.message


def test_a_file_name_cannot_lead_out_of_the_dataset(kit: Kit, tmp_path: Path) -> None:
    kit.fill(("Offline",))
    (tmp_path / "in" / "secret.png").write_bytes(b"\x89PNG secret")
    shown = [{**examples()[0], "file_name": "../../secret.png"}]
    (kit.folder("accuracy", "Offline") / "examples.json").write_text(json.dumps(shown))
    text, _ = page(kit)
    assert "data:image" not in text and "no-picture" in text


def test_parts_that_are_missing_are_said_to_be(kit: Kit) -> None:
    text, summary = page(kit)
    assert "There is no result: neither a performance run nor an accuracy score" in text
    assert summary["results"] == [] and summary["accuracy"] == []
    assert {f["rule"] for f in summary["findings"]} >= {"performance_run", "accuracy_score"}


def test_without_performance_runs(kit: Kit) -> None:
    kit.score("Offline")
    text, summary = page(kit)
    assert "No performance run of this scenario was made." in text
    assert "performance_run" in [m["rule"] for m in summary["verdict"]["missed"]]


def test_without_scores(kit: Kit) -> None:
    kit.logs("SingleStream", "performance")
    text, _ = page(kit)
    assert "The accuracy was not scored." in text and "not scored</span>" in text


def test_accuracy_without_boxes(kit: Kit) -> None:
    kit.fill(("Offline",))
    folder = kit.score("Offline", per_class=[])
    (folder / "examples.json").unlink()
    text, _ = page(kit)
    assert "The score kept no pictures with boxes." in text
    assert "does not tell the precision of the classes" in text


def test_a_run_without_latencies(kit: Kit) -> None:
    (kit.fill().folder("performance", "SingleStream") / "latencies.npy").unlink()
    text, _ = page(kit)
    assert "The run kept no latencies." in text


def test_everything_unreadable_is_told_at_once(kit: Kit) -> None:
    kit.fill()
    (kit.folder("performance", "Offline") / "run.json").write_text("{")
    (kit.folder("accuracy", "Offline") / "accuracy.json").write_text('{"value": "much"}')
    result, _ = kit.run(STAGE, "report", PARAMS)
    assert result.status == "data_error"
    assert "Offline/run.json: not JSON" in result.message
    assert "accuracy.json: metric" in result.message and "value" in result.message


def test_broken_examples_are_a_data_error(kit: Kit) -> None:
    kit.fill()
    (kit.folder("accuracy", "SingleStream") / "examples.json").write_text('[{"width": 0}]')
    result, _ = kit.run(STAGE, "report", PARAMS)
    assert result.status == "data_error" and "examples.json" in result.message


def test_an_unknown_round_is_told_without_traceback(kit: Kit) -> None:
    result, _ = kit.run(STAGE, "report", {**PARAMS, "round": "v1.0"})
    assert result.status == "step_error" and "v6.1" in result.message


def test_nobody_approved(kit: Kit) -> None:
    text, summary = page(kit.fill())
    assert "Nobody had approved this result" in text and summary["approvals"] == []


@pytest.mark.parametrize(
    ("given", "marked"),
    [
        ({}, False),
        ({"answered_via": "cli-yes", "evidence_reviewed": False}, True),
        ({"answered_via": "api", "evidence_reviewed": False}, True),
    ],
)
def test_an_answer_without_review_is_marked(kit: Kit, given: dict[str, Any], marked: bool) -> None:
    kit.approvals = (approval(**given),)
    text, summary = page(kit.fill())
    assert ("answered without review" in text) is marked
    assert "maria" in text and summary["approvals"][0]["by"] == "maria"


def test_the_summary_holds_runs_and_scores(kit: Kit) -> None:
    _, summary = page(kit.fill())
    assert [r["scenario"] for r in summary["results"]] == ["SingleStream", "MultiStream", "Offline"]
    assert summary["results"][0] == run_json("SingleStream")
    assert summary["accuracy"][0]["scenario"] == "SingleStream"
    assert summary["accuracy"][0]["value"] == score_json()["value"]
    assert "images" not in summary["dataset"]


def test_the_estimate_that_counts_is_marked_and_the_measured_percentile_is_not(kit: Kit) -> None:
    metric = {"name": "early_stopping_latency_ss", "value": 4.48e6, "unit": "ns"}
    percentile = {"name": "p90", "value_ns": 3.88e6}
    kit.fill().logs("SingleStream", "performance", metric=metric, percentile=percentile)
    text, _ = page(kit)
    assert ">early-stopping estimate of p90, 4.48 ms: counts<" in text
    assert ">p90 3.88 ms<" in text
    assert "the early-stopping estimate of p90 is the figure that counts" in text
    assert text.count('class="mark counts"') == 4  # a line and a label in each of two charts


def test_without_an_estimate_the_measured_percentile_counts(kit: Kit) -> None:
    name = "result_90.00_percentile_latency_ns"
    metric = {"name": name, "value": 1.6e6, "unit": "ns"}
    text, _ = page(kit.fill(("SingleStream",)))
    assert "p90 1.60 ms: counts" not in text
    kit.logs("SingleStream", "performance", metric=metric)
    text, _ = page(kit)
    assert ">p90 1.60 ms: counts<" in text and ">p90 1.60 ms<" not in text


def test_a_latency_does_not_count_where_throughput_alone_does(kit: Kit) -> None:
    folder = kit.fill(("Offline",)).folder("performance", "Offline")
    np.save(folder / "latencies.npy", np.arange(1000, 2000, dtype=np.int64))
    text, _ = page(kit)
    assert 'class="mark "' in text and 'class="mark counts"' not in text


def test_a_picture_shows_found_wrong_and_missed(kit: Kit) -> None:
    text, _ = page(kit.fill())
    assert "1 found, 1 wrong, 1 missed" in text
    for kind in ("right", "wrong", "missed"):
        assert f'class="box {kind}"' in text
    assert "data:image/png;base64," in text


def test_a_large_picture_is_made_smaller(kit: Kit) -> None:
    kit.fill()
    cv2 = pytest.importorskip("cv2")
    noise = np.random.default_rng(1).integers(0, 255, (900, 1200, 3), dtype=np.uint8)
    path = kit.folder("dataset") / "val2017" / "000000000042.png"
    assert cv2.imwrite(str(path), noise)
    text, _ = page(kit)
    assert "data:image/jpeg;base64," in text and len(text) < 300_000


def test_matching_takes_the_best_score_and_the_right_class() -> None:
    truth = [Box(bbox=(0, 0, 10, 10), category=1)]
    found = [
        Box(bbox=(0, 0, 10, 10), category=2, score=0.9),
        Box(bbox=(0, 0, 10, 9), category=1, score=0.5),
        Box(bbox=(0, 0, 10, 10), category=1, score=0.7),
    ]
    assert pictures.match(found, truth) == [(2, 0)]


def test_a_box_in_a_crowd_is_neither_right_nor_wrong(kit: Kit) -> None:
    kit.fill(("Offline",))
    shown = examples()
    shown[0]["ground_truth"].append({"bbox": [25, 15, 30, 20], "category": 3, "iscrowd": 1})
    (kit.folder("accuracy", "Offline") / "examples.json").write_text(json.dumps(shown))
    text, _ = page(kit)
    assert "1 found, 0 wrong, 1 missed" in text


def test_compliance_tests_with_verdict_and_figures(kit: Kit) -> None:
    kit.fill()
    for scenario in ("SingleStream", "MultiStream"):
        kit.compliance(scenario)
    text, summary = page(kit)
    assert "Compliance tests" in text
    assert "+1.20 % against the performance run" in text
    assert "Not checked here: TEST01 of Offline;" in text
    assert summary["verdict"]["valid"] is True
    assert [v["scenario"] for v in summary["compliance"]] == ["MultiStream", "SingleStream"]


def test_a_compliance_test_that_failed_is_missed(kit: Kit) -> None:
    short = {"rule": "min_duration", "met": False, "required": 600, "found": 3, "message": "short"}
    check = {
        "name": "accuracy",
        "verdict": "fail",
        "reason": "2 of 64 logged answers differ",
        "figures": {"logged_samples": 64},
        "doubts": [{"rule": "test01_payloads", "severity": "error", "message": "a doubt"}],
        "lines": ["TEST FAIL"],
    }
    kit.fill().compliance("Offline", verdict="fail", checks=[check], rules=[short], official=False)
    text, summary = page(kit)
    assert summary["verdict"]["valid"] is False
    found = {m["rule"]: m["places"] for m in summary["verdict"]["missed"]}
    assert found["test01_accuracy"][0][0] == "Offline TEST01"
    assert {"min_duration", "test01_payloads"} <= found.keys()
    assert "64 answers logged" in text and "a doubt" in text and "minimum duration" in text


def test_what_could_not_be_verified_is_missed(kit: Kit) -> None:
    check = {"name": "performance", "verdict": "cannot be verified", "reason": "no log"}
    nothing = {"metric": None, "duration_s": None, "rules": [], "official": False}
    kit.fill().compliance(
        "Offline", "TEST04", verdict="cannot be verified", checks=[check], **nothing
    )
    text, summary = page(kit)
    assert summary["verdict"]["valid"] is False
    assert "cannot be verified: no log" in text


def test_a_verification_that_does_not_fit(kit: Kit) -> None:
    folder = kit.fill().compliance("Offline")
    (folder / "compliance.json").write_text('{"verdict": "splendid"}')
    result, _ = kit.run(STAGE, "report", PARAMS)
    assert result.status == "data_error"
    assert "compliance.json: verdict" in result.message


def test_the_open_division_asks_for_no_compliance_test(kit: Kit) -> None:
    check = {"name": "performance", "verdict": "fail", "reason": "much faster"}
    kit.fill().compliance("Offline", "TEST04", verdict="fail", checks=[check], official=False)
    assert page(kit)[1]["verdict"]["valid"] is False
    summary = page(kit, division="open")[1]
    assert summary["verdict"]["valid"] is True
    told = [f for f in summary["findings"] if f["rule"] == "test04_performance"]
    assert told[0]["severity"] == "info"
    assert "the open division does not ask for it" in told[0]["message"]
