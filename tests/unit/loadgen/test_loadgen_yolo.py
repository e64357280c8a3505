"""The real thing: YOLO11n on the COCO images that the licence rule keeps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from proctor_steps.accuracy.score import STAGE as SCORE
from proctor_steps.contract import Contract, Mount, load_result
from proctor_steps.dataset.filter_coco import STAGE as FILTER
from proctor_steps.stage import execute

from .conftest import loadgen_run

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


def test_the_70_images_give_the_known_precision(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    coco = shared_data / "coco"
    annotations = tmp_path / "annotations"
    annotations.mkdir()
    shutil.copy(coco / "annotations" / "instances_val2017.json", annotations)
    dataset = run(
        FILTER, tmp_path / "filter", "dataset", {}, images=coco / "val2017", annotations=annotations
    )
    model = tmp_path / "model"
    shutil.copytree(shared_data / "yolo11n" / "yolo11n_int8_openvino_model", model)
    (model / "model.json").write_text(json.dumps({"format": "openvino", "file": "yolo11n.xml"}))
    ran = loadgen_run(
        tmp_path / "run", dataset, model, benchmark="yolo", backend="openvino", threads=0,
        scenario="Offline", mode="accuracy",
    )  # fmt: skip
    assert ran.result.status == "ok", ran.result.message
    assert ran.run["samples"] == 70
    params = {"benchmark": "yolo"}
    score = run(SCORE, tmp_path / "score", "score", params, logs=ran.logs, dataset=dataset)
    said = json.loads((score / "accuracy.json").read_text())
    assert said["value"] == pytest.approx(0.466, abs=0.005)
    assert said["map50"] == pytest.approx(0.634, abs=0.008)
    assert said["entries"] == 70
    assert said["met"] is False
