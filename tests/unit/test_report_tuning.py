"""Load tuning in the report: each probe, the chart, and what is said of an unsure figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evidence_kit import Kit
from proctor_steps.loadgen import tuning
from proctor_steps.loadgen.tuning import Probe, Trial, Tuning
from proctor_steps.report.html import STAGE


def probe(qps: float, verdict: str, **changes: Any) -> Probe:
    given: dict[str, Any] = {
        "qps": qps, "asked_s": 60.0, "duration_s": 60.1, "queries": int(60 * qps), "late": 3,
        "share": 3 / (60 * qps), "low": 0.0005, "high": 0.004, "burst": 3.0, "chance": 0.97,
        "verdict": verdict, "percentile_ms": 8 * qps, "valid": verdict == "meets", "whole": True,
        "cut_short": False, "service_ms": 33.0,
    }  # fmt: skip
    return Probe(**given | changes)


def server(**changes: Any) -> Tuning:
    probes = (
        probe(9, "unsure", whole=False),
        probe(22, "meets"),
        probe(26, "unsure"),
        probe(31, "misses", cut_short=True, late=40),
        probe(300, "misses"),
    )
    given: dict[str, Any] = {
        "benchmark": "yolo", "round": "v6.1", "scenario": "Server", "scenario_in_round": False,
        "performance_seconds": 60, "percentile": 99.0, "limit_ms": 250.0, "target_qps": 21.4,
        "ended": "found", "certain": True, "noise": 0.016, "margin": 0.026, "budget_s": 900,
        "took_s": 310.5, "probes": probes,
    }  # fmt: skip
    return Tuning(**given | changes)


def page(tmp_path: Path, *found: Tuning) -> tuple[str, dict[str, Any]]:
    kit = Kit(tmp_path).fill()
    for made in found:
        tuning.write(kit.folder("tuning", made.scenario), "yolo", made)
    result, out = kit.run(STAGE, "report", {"benchmark": "yolo"})
    assert result.status == "ok", result.message
    return (out / "report.html").read_text(), json.loads((out / "summary.json").read_text())


def test_the_probes_and_the_chart(tmp_path: Path) -> None:
    text, summary = page(tmp_path, server())
    assert "Load tuning" in text and "target_qps 21.4" in text
    assert "Round v6.1 has no Server scenario for yolo: the limit of 250 ms is the run" in text
    # The one far above is in the table, not in the chart.
    assert text.count('<circle class="probe') == 4
    assert '<circle class="probe good"' in text and '<circle class="probe bad"' in text
    assert "99th percentile of latency over the rate, 4 probes; limit 250 ms" in text
    for words in ("too few queries to say", "too close", "misses, cut short", "meets"):
        assert f'">{words}</span>' in text
    assert "ended by its budget" not in text and "not confirmed" not in text
    (told,) = summary["tuning"]
    assert told["target_qps"] == 21.4 and len(told["probes"]) == 5


def test_what_is_not_sure_is_said(tmp_path: Path) -> None:
    text, _ = page(tmp_path, server(ended="budget", certain=False))
    assert "ended by its budget" in text
    assert "not confirmed by a run of the full length" in text
    assert "a run at this rate" not in text
    text, summary = page(tmp_path / "unsteady", server(chance=0.4))
    assert "a run at this rate is VALID with a probability of 40" in text
    assert summary["tuning"][0]["chance"] == 0.4


def test_other_scenarios_and_none(tmp_path: Path) -> None:
    trial = Trial(asked_s=2, duration_s=2.1, queries=60, expected=40.0, found=33.0, enough=False)
    stream = server(
        scenario="SingleStream", scenario_in_round=True, limit_ms=None, target_qps=None,
        target_latency_ms=33.0, probes=(), trials=(trial,),
    )  # fmt: skip
    off = server(scenario="Offline", ended="off", target_qps=None, probes=())
    text, summary = page(tmp_path, stream, off)
    assert "target_latency 33.0 ms" in text
    assert '<circle class="probe' not in text and '">no</span>' in text
    assert [told["scenario"] for told in summary["tuning"]] == ["SingleStream"]
    assert "Load tuning" not in page(tmp_path / "none", off)[0]


def test_a_damaged_tuning_is_named(tmp_path: Path) -> None:
    kit = Kit(tmp_path).fill()
    (kit.folder("tuning", "Server") / "tuning.json").write_text('{"scenario": "Server"}')
    result, _ = kit.run(STAGE, "report", {"benchmark": "yolo"})
    assert result.status == "data_error"
    assert "tuning.json: ended" in result.message


@pytest.mark.parametrize("latency", [1e-6, 1e9])
def test_latencies_that_are_far_from_the_limit(latency: float, tmp_path: Path) -> None:
    probes = (probe(9, "meets", percentile_ms=latency), probe(22, "misses"))
    text, _ = page(tmp_path, server(probes=probes))
    assert text.count('<circle class="probe') == 2
    assert "nan" not in text.split("Load tuning")[1].split("</svg>")[0]
