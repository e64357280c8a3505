"""The system under test as a server: the same accuracy as in-process, in both runtimes and with a
real model, and what is left of a run whose server is killed."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from proctor_command import Finished, processes_of, proctor_run, start_proctor, wait_until_started

import yolo_reference
from endpoint_kit import endpoint_run, served
from proctor_steps.accuracy.score import STAGE as SCORE
from proctor_steps.contract import Contract, Mount, load_result
from proctor_steps.dataset.filter_coco import STAGE as FILTER
from proctor_steps.loadgen.run import STAGE as LOADGEN
from proctor_steps.stage import execute

SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
SHORT = {"performance_seconds": 1, "scenarios": ",".join(SCENARIOS), "threads": 1}


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> float:
    """mAP of the demo's detector with the model in LoadGen's own process."""
    folder = tmp_path_factory.mktemp("in-process")
    data, model = _demo(folder)
    logs = _stage(LOADGEN, folder / "run", "logs", {
        "benchmark": "digits", "backend": "onnxruntime", "scenario": "Offline",
        "mode": "accuracy", "threads": 1,
    }, dataset=data, model=model)  # fmt: skip
    return float(_score(folder / "score", "digits", logs, data)["value"])


def check(done: Finished, runtime: str, wanted: float) -> None:
    assert done.code == 0, done.output
    assert done.summary["runtime"] == runtime
    accuracy = done.accuracy()
    assert set(accuracy) == set(SCENARIOS)
    for row in accuracy.values():
        assert row["samples"] == row["expected_samples"] == 72
        assert abs(row["value"] - wanted) <= 1e-6
    results = done.results("performance")
    assert set(results) == set(SCENARIOS)
    for result in results.values():
        said = result["metrics"]["sut"]["endpoint"]
        assert said["service"] == "detector"
        assert said["same_host"] is True
        assert (said["retries"], said["timeouts"], said["failures"]) == (0, 0, 0)
    assert "<dt>Endpoint</dt><dd>detector at http://" in (done.folder / "report.html").read_text()
    assert processes_of(done.home) == []


def test_the_demo_behind_a_server_as_processes(home: Path, in_process: float) -> None:
    done = proctor_run(home, "demo-endpoint", SHORT, "--runtime", "process", "--yes")
    check(done, "process", in_process)


@pytest.mark.docker
def test_the_demo_behind_a_server_in_containers(
    home: Path, in_process: float, docker_engine: Any
) -> None:
    done = proctor_run(home, "demo-endpoint", SHORT, "--runtime", "docker", "--yes")
    check(done, "docker", in_process)
    assert _left(docker_engine, done.summary["run"]) == ([], [])


@pytest.mark.docker
def test_a_server_killed_by_the_engine_fails_the_run_and_leaves_nothing(
    home: Path, docker_engine: Any
) -> None:
    settings = {"performance_seconds": 60, "scenarios": "SingleStream"}
    flags = ("--runtime", "docker", "--yes", "--json", str(home.parent / "summary.json"))
    running = start_proctor(home, "demo-endpoint", settings, *flags)
    try:
        wait_until_started(home, "performance.SingleStream", seconds=400)
        _wait_for_queries(home)
        (server,) = docker_engine.containers.list(
            filters={"label": ["proctor.pipeline=demo-endpoint", "proctor.step=detector",
                               f"proctor.run={_run(home)}"]}
        )  # fmt: skip
        server.kill()
        output, _ = running.communicate(timeout=300)
    finally:
        running.kill()
    assert running.returncode == 1, output
    assert "Traceback" not in output
    assert "detector" in output
    summary = json.loads((home.parent / "summary.json").read_text())
    assert summary["state"] == "failed"
    assert summary["results"] == [] or all(r["mode"] == "accuracy" for r in summary["results"])
    assert _left(docker_engine, summary["run"]) == ([], [])
    assert processes_of(home) == []


@pytest.mark.data
def test_the_real_model_on_the_70_images(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    coco, threads = shared_data / "coco", 2
    annotations = tmp_path / "annotations"
    annotations.mkdir()
    shutil.copy(coco / "annotations" / "instances_val2017.json", annotations)
    data = _stage(
        FILTER, tmp_path / "f", "dataset", {}, images=coco / "val2017", annotations=annotations
    )
    model = tmp_path / "model"
    shutil.copytree(shared_data / "yolo11n" / "yolo11n_int8_openvino_model", model)
    (model / "model.json").write_text(json.dumps({"format": "openvino", "file": "yolo11n.xml"}))
    common = {"benchmark": "yolo", "scenario": "Offline", "mode": "accuracy"}
    near = _stage(LOADGEN, tmp_path / "near", "logs", common | {
        "backend": "openvino", "threads": threads,
    }, dataset=data, model=model)  # fmt: skip
    with served(tmp_path / "server", model, backend="openvino", threads=threads) as server:
        result, far = endpoint_run(tmp_path / "far", data, server.url, **common)
    assert result.status == "ok", result.message
    scores = [
        _score(tmp_path / name, "yolo", logs, data) for name, logs in (("n", near), ("e", far))
    ]
    assert [score["entries"] for score in scores] == [70, 70]
    yolo_reference.check(shared_data, scores[0]["value"])
    assert scores[0]["value"] == pytest.approx(scores[1]["value"], abs=1e-6)


def _demo(folder: Path) -> tuple[Path, Path]:
    from proctor_steps.dataset.fetch import STAGE as FETCH
    from proctor_steps.model.fetch import STAGE as FETCH_MODEL

    images = _stage(FETCH, folder / "i", "dataset", {"uri": "embedded:digits/scenes.zip"})
    boxes = _stage(FETCH, folder / "a", "dataset", {"uri": "embedded:digits/annotations.json"})
    data = _stage(FILTER, folder / "f", "dataset", {}, images=images, annotations=boxes)
    uri = {"uri": "embedded:digits/detector.onnx"}
    return data, _stage(FETCH_MODEL, folder / "m", "model", uri)


def _stage(stage: Any, folder: Path, out: str, params: dict[str, Any], **inputs: Path) -> Path:
    (folder / out).mkdir(parents=True)
    mounts = [Mount(name=n, kind="input", path=str(p)) for n, p in inputs.items()]
    mounts.append(Mount(name=out, kind="output", path=str(folder / out)))
    made = Contract(pipeline="p", run="r", step="s", params=params, mounts=tuple(mounts))
    execute(stage, made, folder)
    result = load_result(folder)
    assert result is not None
    assert result.status == "ok", result.message
    return folder / out


def _score(folder: Path, benchmark: str, logs: Path, data: Path) -> dict[str, Any]:
    out = _stage(SCORE, folder, "score", {"benchmark": benchmark}, logs=logs, dataset=data)
    found: dict[str, Any] = json.loads((out / "accuracy.json").read_text())
    return found


def _run(home: Path) -> str:
    (run,) = (home / "runs" / "demo-endpoint").iterdir()
    return run.name


def _wait_for_queries(home: Path, seconds: float = 120) -> None:
    """Until the performance run's own progress says that LoadGen runs."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for path in home.rglob("progress.json"):
            if "performance" in str(path) and "running, " in path.read_text():
                return
        time.sleep(0.2)
    raise AssertionError("the performance run did not begin")


def _left(engine: Any, run: str) -> tuple[list[Any], list[Any]]:
    """Containers and networks of a run."""
    label = {"label": f"proctor.run={run}"}
    return engine.containers.list(all=True, filters=label), engine.networks.list(filters=label)
