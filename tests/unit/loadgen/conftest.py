"""A small real dataset and small real ONNX models for the tests of LoadGen runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from proctor_steps.contract import Contract, Mount, Result, load_result
from proctor_steps.loadgen.run import STAGE
from proctor_steps.stage import execute

CATEGORIES = [{"id": 3, "name": "three"}, {"id": 7, "name": "seven"}]
SIZE = 64
CANDIDATES = 40
IMAGES = 20
# The one image that the awkward models choke on; neither warm-up nor calibration touches it.
WHITE = 18


def boxes_of(index: int) -> list[tuple[int, list[float]]]:
    """Ground truth of a made image: category and box in pixels (x, y, width, height)."""
    if index == 4:
        return []
    step = index % 20
    return [(3, [5.0 + step, 8.0, 20.0, 15.0]), (7, [40.0, 30.0 - step / 2, 12.0, 18.0])]


def make_dataset(root: Path, images: int = IMAGES, white: int | None = WHITE) -> Path:
    """A COCO-format dataset: images of several sizes, ids neither sorted nor dense."""
    (root / "val2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    random = np.random.default_rng(1)
    for index in range(images):
        width, height = 80 + 4 * (index % 20), 100 - 2 * (index % 20)
        pixels = random.integers(0, 120, (height, width, 3), dtype=np.uint8)
        if index == white:
            pixels = np.full((64, 64, 3), 255, np.uint8)
            width = height = 64
        name = f"{index:04d}.png"
        cv2.imwrite(str(root / "val2017" / name), pixels)
        entry = {"id": 1000 - 7 * index, "file_name": name, "width": width, "height": height}
        entries.append(entry)
        for category, bbox in boxes_of(index):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": entry["id"],
                    "category_id": category,
                    "bbox": bbox,
                    "area": bbox[2] * bbox[3],
                    "iscrowd": 0,
                }
            )
    content = {"images": entries, "annotations": annotations, "categories": CATEGORIES}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return root


def make_model(
    folder: Path,
    *,
    batch: int | str = "batch",
    classes: int = len(CATEGORIES),
    size: int = SIZE,
    choke: str = "",
) -> Path:
    """A detector whose scores depend on the image's mean. ``choke``: ``hang`` or ``fail`` on white,
    or fail on ``several`` images at a time, which its free batch dimension promises to take.

    Output: ``batch x (4 + classes) x CANDIDATES``.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(2)
    base = random.uniform(0.0, 0.6, (1, 4 + classes, CANDIDATES)).astype(np.float32)
    base[:, :2] = random.uniform(10, size - 10, (1, 2, CANDIDATES))
    base[:, 2:4] = random.uniform(6, 20, (1, 2, CANDIDATES))
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean4"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Squeeze", ["mean4", "last"], ["mean"]),
        helper.make_node("Mul", ["mean", "third"], ["shift"]),
        helper.make_node("Add", ["base", "shift"], ["found"]),
    ]
    constants = [
        numpy_helper.from_array(base, "base"),
        numpy_helper.from_array(np.array([3], np.int64), "last"),
        numpy_helper.from_array(np.array(1 / 3, np.float32), "third"),
    ]
    extra, more = _choking(choke)
    nodes += extra
    if not choke:
        nodes.append(helper.make_node("Identity", ["found"], ["output0"]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, size, size])],
        [
            helper.make_tensor_value_info(
                "output0", TensorProto.FLOAT, [batch, 4 + classes, CANDIDATES]
            )
        ],
        constants + more,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / "tiny.onnx"))
    (folder / "model.json").write_text(json.dumps({"format": "onnx", "file": "tiny.onnx"}))
    return folder


def _choking(how: str) -> tuple[list[Any], list[Any]]:
    """Nodes that add nothing to the result, unless the brightest image of the batch is white."""
    if not how:
        return [], []
    if how == "several":
        one = numpy_helper.from_array(np.array([1, -1, CANDIDATES], np.int64), "one")
        return [helper.make_node("Reshape", ["found", "one"], ["output0"])], [one]
    white = [
        helper.make_node("ReduceMax", ["mean4"], ["brightest"], keepdims=0),
        helper.make_node("Greater", ["brightest", "limit"], ["is_white"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(0.95, np.float32), "limit"),
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
    ]
    if how == "fail":
        white += [
            helper.make_node("Cast", ["is_white"], ["as_number"], to=TensorProto.INT64),
            helper.make_node("Mul", ["as_number", "far"], ["index"]),
            helper.make_node("Gather", ["short", "index"], ["nothing"]),
        ]
        constants += [
            numpy_helper.from_array(np.array(1000, np.int64), "far"),
            numpy_helper.from_array(np.zeros(2, np.float32), "short"),
        ]
    else:
        white.append(_endless())
        constants.append(numpy_helper.from_array(np.array(2**62, np.int64), "trips"))
    return [*white, helper.make_node("Add", ["found", "nothing"], ["output0"])], constants


def _endless() -> Any:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going_in"], ["going_out"]),
            helper.make_node("Mul", ["value_in", "zero"], ["value_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("trip", TensorProto.INT64, []),
            helper.make_tensor_value_info("going_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_in", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("going_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_out", TensorProto.FLOAT, []),
        ],
    )
    return helper.make_node("Loop", ["trips", "is_white", "zero"], ["nothing"], body=body)


@dataclass(frozen=True)
class Ran:
    """A run of the stage: its result and the folder with the logs."""

    result: Result
    logs: Path

    @property
    def run(self) -> dict[str, Any]:
        """``metrics.loadgen``."""
        found = self.result.metrics["loadgen"]
        assert isinstance(found, dict)
        return found


RunLoadgen = Callable[..., Ran]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "model")


def loadgen_run(
    folder: Path,
    dataset: Path,
    model: Path,
    deadline: float = 100,
    performance: Path | None = None,
    **params: Any,
) -> Ran:
    """Run the stage ``loadgen run`` from a contract, as the orchestrator does.

    ``performance``: the logs that a compliance test is compared with.
    """
    logs = folder / "logs"
    logs.mkdir(parents=True)
    given = {"benchmark": "digits", "backend": "onnxruntime", "threads": 1} | params
    inputs = {"dataset": dataset, "model": model, "performance": performance}
    mounts = [Mount(name=n, kind="input", path=str(p)) for n, p in inputs.items() if p]
    mounts.append(Mount(name="logs", kind="output", path=str(logs)))
    contract = Contract(
        pipeline="p",
        run="r",
        step="s",
        params=given,
        mounts=tuple(mounts),
        deadline_seconds=deadline,
    )
    execute(STAGE, contract, folder)
    result = load_result(folder)
    assert result is not None
    return Ran(result, logs)


def payload(rows: list[list[float]]) -> NDArray[np.float32]:
    """A payload from rows of seven."""
    return np.array(rows, np.float32).reshape(-1, 7)
