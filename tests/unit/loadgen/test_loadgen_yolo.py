"""The real thing: YOLO11n on the COCO images that the licence rule keeps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import yolo_reference
from proctor_steps import benchmarks
from proctor_steps.accuracy.score import STAGE as SCORE
from proctor_steps.benchmarks.detection import CONFIDENCE, IOU, MAX_BOXES, suppress
from proctor_steps.contract import Contract, Mount, load_result
from proctor_steps.dataset.filter_coco import STAGE as FILTER
from proctor_steps.stage import execute
from proctor_steps.sut import base

from .conftest import loadgen_run
from .test_payload_bytes import payloads

pytestmark = pytest.mark.data


def run(stage: Any, folder: Path, out: str, params: dict[str, Any], **inputs: Path) -> Path:
    """Run a stage; the folder of its output."""
    made = folder / out
    made.mkdir(parents=True)
    mounts = [Mount(name=n, kind="input", path=str(p)) for n, p in inputs.items()]
    mounts.append(Mount(name=out, kind="output", path=str(made)))
    contract = Contract(pipeline="p", run="r", step="s", params=params, mounts=tuple(mounts))
    execute(stage, contract, folder)
    result = load_result(folder)
    assert result is not None
    assert result.status == "ok", result.message
    return made


@pytest.fixture(scope="module")
def yolo(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The 70 images and the model, as the steps before a LoadGen run leave them."""
    pytest.importorskip("openvino")
    folder, coco = tmp_path_factory.mktemp("yolo"), shared_data / "coco"
    annotations = folder / "annotations"
    annotations.mkdir()
    shutil.copy(coco / "annotations" / "instances_val2017.json", annotations)
    images = coco / "val2017"
    dataset = run(FILTER, folder / "f", "dataset", {}, images=images, annotations=annotations)
    model = folder / "model"
    shutil.copytree(shared_data / "yolo11n" / "yolo11n_int8_openvino_model", model)
    (model / "model.json").write_text(json.dumps({"format": "openvino", "file": "yolo11n.xml"}))
    return dataset, model


def test_the_70_images_give_the_known_precision(
    yolo: tuple[Path, Path], shared_data: Path, tmp_path: Path
) -> None:
    dataset, model = yolo
    ran = loadgen_run(
        tmp_path / "run", dataset, model, benchmark="yolo", backend="openvino", threads=0,
        scenario="Offline", mode="accuracy",
    )  # fmt: skip
    assert ran.result.status == "ok", ran.result.message
    assert ran.run["samples"] == 70
    params = {"benchmark": "yolo"}
    score = run(SCORE, tmp_path / "score", "score", params, logs=ran.logs, dataset=dataset)
    said = json.loads((score / "accuracy.json").read_text())
    yolo_reference.check(shared_data, said["value"], said["map50"])
    assert said["entries"] == 70
    assert said["met"] is False


@pytest.mark.parametrize("scenario", ["SingleStream", "MultiStream", "Server", "Offline"])
def test_both_modes_answer_with_the_same_bytes(
    scenario: str, yolo: tuple[Path, Path], tmp_path: Path
) -> None:
    given: dict[str, Any] = {
        "benchmark": "yolo", "backend": "openvino", "scenario": scenario, "batch": 0,
        "performance_seconds": 1.0, "target_qps": 20.0, "expected_latency_ms": 100.0,
    }  # fmt: skip
    scored = payloads(tmp_path / "accuracy", *yolo, mode="accuracy", **given)
    timed = payloads(tmp_path / "performance", *yolo, mode="performance", **given)
    assert len(scored) == 70
    assert timed
    assert timed == {index: scored[index] for index in timed}


def test_suppression_finds_what_comparing_all_with_all_does(yolo: tuple[Path, Path]) -> None:
    """On real outputs: OpenCV's own suppression over all classes at once, all candidates."""
    dataset, model = yolo
    backend = base.make("openvino")
    backend.load(model / "yolo11n.xml", threads=2)
    task = benchmarks.get("yolo").bind(dataset, backend.signature())
    for index in range(0, task.count, 5):
        output = backend.infer(task.preprocess(index, task.load(index))[np.newaxis])[0][0]
        boxes, scores, classes = suppress(output, CONFIDENCE, IOU, MAX_BOXES)
        found, candidates = np.nonzero(output[4:] > CONFIDENCE)
        xywh = output[:4, candidates].T.astype(np.float64, order="C")
        xywh[:, :2] -= xywh[:, 2:] / 2
        values = output[4:][found, candidates]
        batched: Any = cv2.dnn.NMSBoxesBatched
        picked = batched(xywh, values, found.astype(np.int32), CONFIDENCE, IOU)[:MAX_BOXES]
        assert scores.tolist() == values[picked].tolist()
        assert classes.tolist() == found[picked].tolist()
        assert boxes[:, :2].tolist() == xywh[picked, :2].tolist()
