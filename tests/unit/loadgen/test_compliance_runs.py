"""Compliance tests of real LoadGen runs, verified: both verdicts, and files tampered with.

The runs are of the scenario Server, whose rate is that of its schedule: how busy this machine is
does not show in it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proctor_steps.accuracy import log as accuracy_log
from proctor_steps.compliance.verify import STAGE
from proctor_steps.contract import Contract, Mount, Result, load_result
from proctor_steps.loadgen import log
from proctor_steps.stage import execute

from .conftest import Ran, loadgen_run

SERVER = {"scenario": "Server", "server_target_latency_ms": 5000, "performance_seconds": 2}
QPS = 100  # a small part of what the model can do


@dataclass(frozen=True)
class Runs:
    """An accuracy and a performance run, and one of each test at the same rate, and one faster."""

    accuracy: Path
    performance: Path
    test01: Ran
    test04: Ran
    faster: Path


@pytest.fixture(scope="module")
def runs(dataset: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    root = tmp_path_factory.mktemp("compliance")

    def made(name: str, **params: Any) -> Ran:
        ran = loadgen_run(root / name, dataset, model, **{**SERVER, **params})
        assert ran.result.status == "ok", ran.result.message
        return ran

    accuracy = made("accuracy", mode="accuracy", target_qps=QPS)
    performance = made("performance", mode="performance", target_qps=QPS)
    as_before = {"mode": "performance", "performance": performance.logs}
    return Runs(
        accuracy.logs,
        performance.logs,
        made("test01", test="TEST01", **as_before),
        made("test04", test="TEST04", **as_before),
        made("faster", test="TEST04", target_qps=3 * QPS, **as_before).logs,
    )


Verify = Callable[..., tuple[dict[str, Any], Path, Result]]


@pytest.fixture
def verify(runs: Runs, tmp_path: Path) -> Verify:
    """The stage ``compliance verify``: compliance.json, the folder that it is in, the result."""

    def run(test: str, logs: Path, **inputs: Path | None) -> tuple[dict[str, Any], Path, Result]:
        given = {"performance": runs.performance, "accuracy": runs.accuracy, **inputs}
        out = tmp_path / "verified"
        out.mkdir()
        mounts = [Mount(name=n, kind="input", path=str(p)) for n, p in given.items() if p]
        mounts.append(Mount(name="logs", kind="input", path=str(logs)))
        mounts.append(Mount(name="compliance", kind="output", path=str(out)))
        params: dict[str, Any] = {"benchmark": "digits", "test": test}
        contract = Contract(pipeline="p", run="r", step="s", params=params, mounts=tuple(mounts))
        assert execute(STAGE, contract, tmp_path) == 0
        result = load_result(tmp_path)
        assert result is not None
        return json.loads((out / "compliance.json").read_text()), out / test, result

    return run


@pytest.fixture
def tampered(runs: Runs, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the TEST01 run whose first logged payload was changed."""

    def make(change: Callable[[bytearray], None]) -> Path:
        logs = tmp_path / "tampered"
        shutil.copytree(runs.test01.logs, logs)
        path = logs / accuracy_log.NAME
        entries = list(accuracy_log.objects(path))
        payload = bytearray.fromhex(entries[0]["data"])
        change(payload)
        entries[0]["data"] = payload.hex().upper()
        path.write_text("[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n")
        return logs

    return make


def test_the_settings_of_a_test_are_in_effect(runs: Runs) -> None:
    for ran, wanted in (
        (runs.test01, {"accuracy_log_sampling_target": 4096, "performance_issue_same": False}),
        (runs.test04, {"accuracy_log_sampling_target": 0, "performance_issue_same": True}),
    ):
        run = ran.result.metrics["compliance_run"]
        assert isinstance(run, dict)
        assert "loadgen" not in ran.result.metrics
        effective = run["settings"]["effective"]
        assert {key: effective[key] for key in wanted} == wanted
        met = {rule["rule"]: rule["met"] for rule in run["rules"]}
        assert met["audit_settings"] is True
        assert "no_audit_settings" not in met
        assert met["min_duration"] is False
        assert "min_duration" in {finding.rule for finding in ran.result.findings}
        assert (ran.logs / "audit.config").is_file()


def test_a_test_is_given_the_load_of_the_performance_run(runs: Runs) -> None:
    found = [log.read(path).values for path in (runs.performance, runs.test01.logs, runs.faster)]
    assert [run["effective_target_qps"] for run in found] == [QPS, QPS, 3 * QPS]
    assert {run["effective_target_latency_ns"] for run in found} == {5_000_000_000}


def test_test01_passes(runs: Runs, verify: Verify) -> None:
    found, folder, result = verify("TEST01", runs.test01.logs)
    assert found["verdict"] == "pass", found["checks"]
    accuracy, performance = found["checks"]
    assert accuracy["figures"]["logged_samples"] == accuracy["figures"]["samples_compared"] > 100
    assert accuracy["figures"]["payloads_different"] == 0
    assert abs(performance["figures"]["change_percent"]) < 10
    # Honest: the comparison holds, but this is no run that the round would take.
    assert found["official"] is False
    assert "min_duration" in {finding.rule for finding in result.findings}
    for name in ("verify_accuracy.txt", "verify_performance.txt"):
        text = (folder / name).read_text()
        assert text.splitlines()[-1] == "TEST PASS"
        assert "the run must last 600 s" in text
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "verify_accuracy.txt", "verify_performance.txt",
        "performance/run_1/mlperf_log_summary.txt", "performance/run_1/mlperf_log_detail.txt",
        "accuracy/mlperf_log_accuracy.json", "accuracy/accuracy.txt",
    }  # fmt: skip
    assert (folder / "accuracy" / accuracy_log.NAME).stat().st_size <= 10240
    figures = result.metrics["compliance"]
    assert isinstance(figures, dict)
    assert (figures["test"], figures["scenario"], figures["verdict"]) == (
        "TEST01",
        "Server",
        "pass",
    )


def test_test01_fails_when_a_payload_was_changed(
    verify: Verify, tampered: Callable[..., Path]
) -> None:
    def change(payload: bytearray) -> None:
        payload[0] ^= 1

    found, folder, result = verify("TEST01", tampered(change))
    assert found["verdict"] == "fail"
    accuracy, performance = found["checks"]
    assert accuracy["figures"]["first_elements_different"] >= 1
    assert performance["verdict"] == "pass"
    assert "TEST PASS" not in (folder / "verify_accuracy.txt").read_text()
    assert "test01_accuracy" in {f.rule for f in result.findings if f.severity == "error"}


def test_what_the_references_script_does_not_compare_is_told(
    verify: Verify, tampered: Callable[..., Path]
) -> None:
    """Its verdict, by the first byte, is a pass; the rules ask that the results match."""

    def change(payload: bytearray) -> None:
        payload[-1] ^= 1

    found, _, result = verify("TEST01", tampered(change))
    assert found["verdict"] == "pass"
    assert found["official"] is False
    told = [f for f in result.findings if f.rule == "test01_payloads"]
    assert [f.severity for f in told] == ["error"]
    assert "first byte" in told[0].message


def test_answers_that_are_not_deterministic_are_scored(
    verify: Verify, tampered: Callable[..., Path], dataset: Path
) -> None:
    """A score of one box in a thousandth: other bytes, the same accuracy."""

    def change(payload: bytearray) -> None:
        rows = np.frombuffer(payload, np.float32).reshape(-1, 7).copy()
        rows[:, 5] *= np.float32(0.999)
        payload[:] = rows.tobytes()

    found, folder, result = verify("TEST01", tampered(change), dataset=dataset)
    figures = found["checks"][0]["figures"]
    assert figures["payloads_different"] >= 1
    assert figures["accuracy_delta_percent"] <= 1
    assert {f.severity for f in result.findings if f.rule == "test01_payloads"} == {"info"}
    names = {path.name for path in (folder / "accuracy").iterdir()}
    assert names == {
        "mlperf_log_accuracy.json", "accuracy.txt", "baseline_accuracy.txt",
        "compliance_accuracy.txt",
    }  # fmt: skip
    assert (folder / "accuracy" / "baseline_accuracy.txt").read_text().startswith("mAP=")


def test_other_answers_pass_by_their_score(
    verify: Verify, tampered: Callable[..., Path], dataset: Path
) -> None:
    """The script's verdict stays a fail: the official checker then reads the two scores."""
    logs = tampered(lambda payload: payload.clear())
    found, folder, _ = verify("TEST01", logs, dataset=dataset)
    accuracy = found["checks"][0]
    assert accuracy["figures"]["deterministic"] is False
    assert accuracy["figures"]["accuracy_delta_percent"] <= 1
    assert accuracy["verdict"] == found["verdict"] == "pass"
    assert (folder / "verify_accuracy.txt").read_text().endswith("\nTEST FAIL\n")
    assert (folder / "accuracy" / "compliance_accuracy.txt").is_file()


def test_test04_passes_and_fails(runs: Runs, verify: Verify) -> None:
    found, folder, _ = verify("TEST04", runs.test04.logs)
    assert found["verdict"] == "pass", found["checks"]
    assert (folder / "verify_performance.txt").read_text().endswith("TEST PASS\n")
    shutil.rmtree(folder.parent)
    found, folder, result = verify("TEST04", runs.faster)
    assert found["verdict"] == "fail"
    assert found["checks"][0]["figures"]["change_percent"] > 50
    assert (folder / "verify_performance.txt").read_text().endswith("TEST FAIL\n")
    assert "test04_performance" in {f.rule for f in result.findings}


def test_a_plain_run_is_no_run_of_test04(runs: Runs, verify: Verify) -> None:
    found, _, _ = verify("TEST04", runs.performance)
    assert found["verdict"] == "cannot be verified"
    assert "one sample was not issued over and over" in found["checks"][0]["reason"]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("mlperf_log_detail.txt", None),
        ("mlperf_log_summary.txt", b""),
        ("mlperf_log_detail.txt", b":::MLLOG {"),
        ("mlperf_log_accuracy.json", b"[\n]\n"),
        ("mlperf_log_accuracy.json", b'[\n{ "seq_id" : 0, "qsl_idx" : 1, "data" : "0'),
        ("mlperf_log_accuracy.json", b"[" * 100_000),
    ],
)
def test_logs_that_allow_no_verdict(
    name: str, damage: bytes | None, runs: Runs, verify: Verify, tmp_path: Path
) -> None:
    logs = tmp_path / "damaged"
    shutil.copytree(runs.test01.logs, logs)
    if damage is None:
        (logs / name).unlink()
    else:
        (logs / name).write_bytes(damage)
    found, folder, result = verify("TEST01", logs)
    assert found["verdict"] == "cannot be verified"
    assert found["official"] is False
    assert "TEST PASS" not in (folder / "verify_accuracy.txt").read_text()
    assert "test01_accuracy" in {f.rule for f in result.findings}


def test_without_the_accuracy_run(runs: Runs, verify: Verify) -> None:
    found, _, _ = verify("TEST01", runs.test01.logs, accuracy=None)
    assert found["verdict"] == "cannot be verified"
    assert "the input accuracy" in found["checks"][0]["reason"]
    assert found["checks"][1]["verdict"] == "pass"


def test_a_test_is_no_accuracy_run(dataset: Path, model: Path, tmp_path: Path) -> None:
    ran = loadgen_run(tmp_path, dataset, model, scenario="Offline", mode="accuracy", test="TEST01")
    assert ran.result.status == "step_error"
    assert "mode: performance" in ran.result.message


def test_the_load_is_that_of_the_same_scenario(
    runs: Runs, dataset: Path, model: Path, tmp_path: Path
) -> None:
    ran = loadgen_run(
        tmp_path, dataset, model, scenario="Offline", mode="performance", test="TEST01",
        performance=runs.performance,
    )  # fmt: skip
    assert ran.result.status == "data_error"
    assert "a run of Server" in ran.result.message
