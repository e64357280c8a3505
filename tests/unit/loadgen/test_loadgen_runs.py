"""Real LoadGen runs of a small real model, in every scenario and mode, and what goes wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from proctor_steps.accuracy import log as accuracy_log
from proctor_steps.accuracy.score import STAGE as SCORE
from proctor_steps.contract import Contract, Mount, load_result
from proctor_steps.stage import execute

from .conftest import IMAGES, loadgen_run, make_dataset, make_model

SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_performance_run_of_each_scenario(
    scenario: str, dataset: Path, model: Path, tmp_path: Path
) -> None:
    ran = loadgen_run(
        tmp_path, dataset, model, scenario=scenario, mode="performance", performance_seconds=0.6
    )
    assert ran.result.status == "ok", ran.result.message
    run = ran.run
    assert (run["scenario"], run["mode"]) == (scenario, "performance")
    if scenario != "Server":  # whose verdict depends on how busy this machine is
        assert run["valid"] is True, run["rules"]
    assert run["duration_s"] >= 0.6
    assert run["samples"] == run["queries"] * {"MultiStream": 8, "Offline": run["samples"]}.get(
        scenario, 1
    )
    assert run["metric"]["value"] > 0
    assert run["official"] is False
    assert run["scenario_in_round"] is False
    missed = {finding.rule for finding in ran.result.findings}
    assert {"min_duration", "benchmark_in_round"} <= missed
    assert run["settings"]["effective"]["max_duration_ms"] == 0
    latencies = np.load(ran.logs / "latencies.npy")
    assert latencies.dtype == np.int64
    assert len(latencies) == run["queries"]
    assert run["loadgen_version"] == ran.result.versions["mlcommons-loadgen"]
    made_with = {"mlcommons-loadgen", "numpy", "opencv-python-headless", run["sut"]["backend"]}
    assert made_with <= set(ran.result.versions)
    assert not (ran.logs / "mlperf_log_trace.json").exists()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_accuracy_run_of_each_scenario(
    scenario: str, dataset: Path, model: Path, tmp_path: Path
) -> None:
    ran = loadgen_run(tmp_path, dataset, model, scenario=scenario, mode="accuracy")
    assert ran.result.status == "ok", ran.result.message
    run = ran.run
    assert run["valid"] is None
    assert run["metric"] is None
    assert run["samples"] == IMAGES
    read = accuracy_log.read(ran.logs / accuracy_log.NAME, IMAGES)
    # MultiStream pads its last query of 8.
    assert read.duplicates == (4 if scenario == "MultiStream" else 0)
    assert {rule["rule"]: rule["met"] for rule in run["rules"]}["accuracy_samples"] is True


def test_the_latencies_agree_with_loadgens_own(dataset: Path, model: Path, tmp_path: Path) -> None:
    ran = loadgen_run(
        tmp_path, dataset, model, scenario="SingleStream", mode="performance",
        performance_seconds=0.5,
    )  # fmt: skip
    latencies = np.load(ran.logs / "latencies.npy")
    assert np.median(latencies) == pytest.approx(ran.run["latency_ns"]["p50"], rel=0.2, abs=5e4)


def test_accuracy_is_scored_from_a_run(dataset: Path, model: Path, tmp_path: Path) -> None:
    ran = loadgen_run(tmp_path / "run", dataset, model, scenario="Offline", mode="accuracy")
    (tmp_path / "score").mkdir()
    mounts = (
        Mount(name="logs", kind="input", path=str(ran.logs)),
        Mount(name="dataset", kind="input", path=str(dataset)),
        Mount(name="score", kind="output", path=str(tmp_path / "score")),
    )
    params: dict[str, Any] = {"benchmark": "digits"}
    contract = Contract(pipeline="p", run="r", step="s", params=params, mounts=mounts)
    assert execute(SCORE, contract, tmp_path) == 0
    result = load_result(tmp_path)
    assert result is not None
    accuracy = result.metrics["accuracy"]
    assert isinstance(accuracy, dict)
    assert accuracy["scenario"] == "Offline"
    assert accuracy["samples"] == accuracy["expected_samples"] == IMAGES


@pytest.mark.parametrize("workers", [0, 2])
def test_a_model_that_fails_on_one_image(workers: int, dataset: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", choke="fail")
    began = time.monotonic()
    ran = loadgen_run(
        tmp_path / "run", dataset, model, scenario="Offline", mode="accuracy", workers=workers
    )
    assert ran.result.status == "step_error"
    assert "out of data bounds" in ran.result.message or "Gather" in ran.result.message
    assert time.monotonic() - began < 30


def test_a_failure_during_a_long_run_is_told_at_once(dataset: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", choke="fail")
    began = time.monotonic()
    ran = loadgen_run(
        tmp_path / "run", dataset, model, scenario="Server", mode="performance",
        performance_seconds=20, target_qps=100,
    )  # fmt: skip
    assert ran.result.status == "step_error"
    assert time.monotonic() - began < 30


def test_a_model_that_hangs_is_stopped(dataset: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", choke="hang")
    ran = loadgen_run(
        tmp_path / "run", dataset, model, scenario="Offline", mode="accuracy", stall_seconds=2
    )
    assert ran.result.status == "step_error"
    assert "hangs" in ran.result.message
    assert "while running (" in ran.result.message
    assert not _children()


def test_the_deadline_stops_the_run(dataset: Path, model: Path, tmp_path: Path) -> None:
    ran = loadgen_run(
        tmp_path, dataset, model, deadline=4, scenario="SingleStream", mode="performance"
    )
    assert ran.result.status == "step_error"
    assert "deadline" in ran.result.message
    assert not _children()


def test_no_process_is_left_when_the_step_is_killed(dataset: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", choke="hang")
    command = [sys.executable, "-m", "proctor_steps", "loadgen", "run", "--benchmark", "digits"]
    command += ["--backend", "onnxruntime", "--scenario", "Offline", "--mode", "accuracy"]
    command += ["--in", f"dataset={dataset}", "--in", f"model={model}"]
    command += ["--out", f"logs={tmp_path / 'logs'}"]
    step = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=_clean())
    try:
        child = _wait_for_child(step.pid)
    finally:
        step.send_signal(signal.SIGKILL)
        step.wait()
    _, alive = psutil.wait_procs([child], timeout=5)
    assert not alive


def test_a_broken_image_is_the_datas_fault(model: Path, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data")
    (dataset / "val2017" / "0009.png").write_bytes(b"\x89PNG cut off")
    ran = loadgen_run(tmp_path / "run", dataset, model, scenario="Offline", mode="accuracy")
    assert ran.result.status == "data_error"
    assert "0009.png" in ran.result.message


@pytest.mark.parametrize(
    ("made", "message"),
    [({"classes": 5}, r"wanted is \(1, 6, candidates\)"), ({"batch": 4}, "")],
)
def test_models_are_tried_before_loadgen_starts(
    made: dict[str, Any], message: str, dataset: Path, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "model", **made)
    ran = loadgen_run(tmp_path / "run", dataset, model, scenario="Offline", mode="accuracy")
    if message:
        assert ran.result.status == "data_error"
        assert re.search(message, ran.result.message)
        assert not (ran.logs / "mlperf_log_detail.txt").exists()
    else:  # a fixed batch is filled up, and every sample still answered once
        assert ran.result.status == "ok", ran.result.message
        assert ran.run["samples"] == IMAGES
        assert ran.run["sut"]["batch"] == 4


@pytest.mark.parametrize(
    ("scenario", "threads", "batch"),
    [("Offline", 2, 4), ("MultiStream", 1, 8), ("MultiStream", 3, 3), ("SingleStream", 2, 1)],
)
def test_the_batch_suits_the_scenario(
    scenario: str, threads: int, batch: int, dataset: Path, model: Path, tmp_path: Path
) -> None:
    ran = loadgen_run(tmp_path, dataset, model, scenario=scenario, mode="accuracy", threads=threads)
    assert ran.result.status == "ok", ran.result.message
    assert ran.run["sut"]["batch"] == batch
    assert ran.run["samples"] == IMAGES


def test_a_model_that_takes_one_image_after_all(dataset: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", choke="several")
    given: dict[str, Any] = {"scenario": "Offline", "mode": "accuracy"}
    ran = loadgen_run(tmp_path / "run", dataset, model, **given)
    assert ran.result.status == "ok", ran.result.message
    assert ran.run["sut"]["batch"] == 1
    asked = loadgen_run(tmp_path / "asked", dataset, model, batch=2, **given)
    assert asked.result.status == "data_error"


def test_a_batch_that_the_model_cannot_take(dataset: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", batch=1)
    ran = loadgen_run(
        tmp_path / "run", dataset, model, scenario="Offline", mode="accuracy", batch=8
    )
    assert ran.result.status == "step_error"
    assert "fixed to a batch of 1" in ran.result.message


def test_a_torchscript_model_runs(dataset: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Tiny(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, images: Any) -> Any:
            return images.mean(dim=(2, 3))[:, :1, None].repeat(1, 6, 5)

    (tmp_path / "model").mkdir()
    made = torch.jit.trace(Tiny(), torch.zeros(1, 3, 192, 192))
    made.save(str(tmp_path / "model" / "tiny.torchscript"))
    ran = loadgen_run(
        tmp_path / "run", dataset, tmp_path / "model", backend="torch", scenario="MultiStream",
        mode="accuracy",
    )  # fmt: skip
    assert ran.result.status == "ok", ran.result.message
    assert ran.run["sut"]["backend"] == "torch"
    assert ran.run["samples"] == IMAGES


def test_old_logs_do_not_count(dataset: Path, model: Path, tmp_path: Path) -> None:
    from proctor_steps.loadgen.run import STAGE

    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "mlperf_log_summary.txt").write_text("old")
    mounts = (
        Mount(name="dataset", kind="input", path=str(dataset)),
        Mount(name="model", kind="input", path=str(model)),
        Mount(name="logs", kind="output", path=str(tmp_path / "logs")),
    )
    params: dict[str, Any] = {
        "benchmark": "digits", "backend": "onnxruntime", "scenario": "Offline", "mode": "accuracy",
    }  # fmt: skip
    contract = Contract(pipeline="p", run="r", step="s", params=params, mounts=mounts)
    execute(STAGE, contract, tmp_path)
    result = load_result(tmp_path)
    assert result is not None
    assert result.status == "step_error"
    assert "not empty" in result.message


def test_a_stray_audit_file_changes_nothing(
    dataset: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "audit.config").write_text("*.*.performance_issue_same = 1\n*.*.mode = 2\n")
    monkeypatch.chdir(tmp_path)
    ran = loadgen_run(
        tmp_path / "run", dataset, model, scenario="SingleStream", mode="performance",
        performance_seconds=0.3,
    )  # fmt: skip
    assert ran.result.status == "ok", ran.result.message
    rules = {rule["rule"]: rule["met"] for rule in ran.run["rules"]}
    assert rules["no_audit_settings"] is True


def test_fewer_images_than_the_performance_set(tmp_path: Path) -> None:
    """yolo's set is 64 samples; LoadGen must not ask for samples that are not there."""
    data = make_dataset(tmp_path / "data", images=9, white=None)
    model = make_model(tmp_path / "model", classes=80)
    ran = loadgen_run(
        tmp_path / "run", data, model, benchmark="yolo", scenario="SingleStream",
        mode="performance", performance_seconds=0.3,
    )  # fmt: skip
    assert ran.result.status == "ok", ran.result.message
    rules = {rule["rule"]: rule for rule in ran.run["rules"]}
    assert rules["performance_sample_count"]["met"] is False
    assert rules["performance_sample_count"]["found"] == 9


def test_offline_yolo_has_the_rounds_minimum(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", images=70, white=None)
    model = make_model(tmp_path / "model", classes=80)
    ran = loadgen_run(
        tmp_path / "run", data, model, benchmark="yolo", scenario="Offline", mode="performance",
        performance_seconds=0.2, target_qps=10,
    )  # fmt: skip
    assert ran.result.status == "ok", ran.result.message
    assert ran.run["samples"] == 1525
    assert "yolo.Offline.min_query_count = 1525" in (ran.logs / "user.conf").read_text()
    assert ran.run["valid"] is True or ran.run["duration_s"] < 0.2


def test_a_run_that_ended_early_is_made_again(
    dataset: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a calibration while the machine was busy: far too little was expected."""
    from proctor_steps.loadgen import once

    real, rates = once._job, []

    def misled(params: Any, *rest: Any) -> Any:
        rates.append(params.target_qps)
        low = {"target_qps": 20.0} if params.target_qps is None else {}
        return real(params, *rest).model_copy(update=low)

    monkeypatch.setattr(once, "_job", misled)
    ran = loadgen_run(
        tmp_path, dataset, model, scenario="Offline", mode="performance", performance_seconds=0.5
    )
    assert ran.result.status == "ok", ran.result.message
    assert rates[0] is None
    assert rates[1] > 100
    assert ran.run["settings"]["effective"]["target_qps"] == pytest.approx(rates[1], rel=1e-3)
    assert "calibrated_again" in {f.rule for f in ran.result.findings}


def test_what_the_user_expects_is_not_corrected(dataset: Path, model: Path, tmp_path: Path) -> None:
    ran = loadgen_run(
        tmp_path, dataset, model, scenario="Offline", mode="performance",
        performance_seconds=0.5, target_qps=20,
    )  # fmt: skip
    assert ran.run["valid"] is False
    assert "Increase expected QPS" in str(ran.run["rules"])


def _children() -> list[psutil.Process]:
    return [
        p for p in psutil.Process().children(recursive=True)
        if "proctor_steps.loadgen.child" in p.cmdline()
    ]  # fmt: skip


def _wait_for_child(pid: int) -> psutil.Process:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for process in psutil.Process(pid).children():
            if "proctor_steps.loadgen.child" in process.cmdline():
                time.sleep(0.5)  # long enough to have asked to die with its parent
                return process
        time.sleep(0.05)
    raise AssertionError("the LoadGen process did not start")


def _clean() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "PROCTOR_STEP_DIR"}
