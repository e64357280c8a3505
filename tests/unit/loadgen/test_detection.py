"""Detection: letterbox and back, suppression per class, payloads, and data that does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from proctor_steps import benchmarks
from proctor_steps.benchmarks.base import Signature, Tensor
from proctor_steps.benchmarks.detection import DetectionTask, letterbox, suppress
from proctor_steps.benchmarks.yolo import COCO_80_TO_91
from proctor_steps.stage import DataError, StepError

from .conftest import make_dataset


def signature(*shape: int | None, dtype: str = "float32") -> Signature:
    return Signature((Tensor("images", shape, dtype),))


def bind(root: Path, name: str = "digits") -> DetectionTask:
    task = benchmarks.get(name).bind(root, signature(None, 3, 64, 64))
    assert isinstance(task, DetectionTask)
    return task


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("detection") / "data", images=6, white=None)


@given(st.integers(1, 900), st.integers(1, 900))
@settings(max_examples=60, deadline=None)
def test_letterbox_keeps_the_shape_and_centres(width: int, height: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    canvas, box = letterbox(image, 64, 96)
    assert canvas.shape == (64, 96, 3)
    used_w, used_h = box.scale_x * width, box.scale_y * height
    assert used_w == pytest.approx(96) or used_h == pytest.approx(64)
    right, bottom = 96 - used_w - box.left, 64 - used_h - box.top
    assert -1e-6 < right - box.left < 1.001
    assert -1e-6 < bottom - box.top < 1.001
    dark = (canvas == 0).all(axis=2)
    assert dark.sum() == round(used_w) * round(used_h)
    assert (canvas[~dark] == 114).all()


def test_an_image_of_the_inputs_size_is_not_resampled() -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    canvas, box = letterbox(image, 64, 64)
    assert (canvas[8:56] == image).all()
    assert box == (1.0, 1.0, 0, 8)


def naive(output: NDArray[np.float32], confidence: float, iou: float) -> list[tuple[int, int]]:
    """(class, candidate) kept by the textbook's greedy suppression, best first."""
    classes, columns = np.nonzero(output[4:] > confidence)
    scores = output[4:][classes, columns]
    kept: list[tuple[int, int]] = []
    for k in np.argsort(-scores, kind="stable"):
        if all(c != classes[k] or overlap(output, columns[k], n) <= iou for c, n in kept):
            kept.append((int(classes[k]), int(columns[k])))
    return kept


def overlap(output: NDArray[np.float32], a: int, b: int) -> float:
    (ax, ay, aw, ah), (bx, by, bw, bh) = output[:4, a].astype(float), output[:4, b].astype(float)
    w = min(ax + aw / 2, bx + bw / 2) - max(ax - aw / 2, bx - bw / 2)
    h = min(ay + ah / 2, by + bh / 2) - max(ay - ah / 2, by - bh / 2)
    inter = max(w, 0) * max(h, 0)
    return float(inter / (aw * ah + bw * bh - inter))


@pytest.mark.parametrize("limit", [5, 20, 300])
def test_suppression_is_the_textbooks_whatever_the_limit(limit: int) -> None:
    random = np.random.default_rng(limit)
    output = random.uniform(0, 0.5, (4 + 3, 120)).astype(np.float32)
    output[:2], output[2:4] = random.uniform(20, 60, (2, 120)), random.uniform(10, 30, (2, 120))
    boxes, scores, classes = suppress(output, 0.1, 0.5, limit)
    wanted = naive(output, 0.1, 0.5)[:limit]
    assert [int(c) for c in classes] == [c for c, _ in wanted]
    assert scores.tolist() == [output[4 + c, n] for c, n in wanted]
    centres = [(float(b[0] + b[2]) / 2, float(b[1] + b[3]) / 2) for b in boxes]
    assert np.allclose(centres, [output[:2, n] for _, n in wanted], atol=1e-4)


def test_a_candidate_may_be_kept_for_two_classes() -> None:
    output = np.array([[10, 10, 4, 4, 0.9, 0.8]], np.float32).T
    _, scores, classes = suppress(output, 0.001, 0.7, 300)
    assert classes.tolist() == [0, 1]
    assert scores == pytest.approx([0.9, 0.8])


def test_at_most_300_boxes_and_nothing_below_the_threshold() -> None:
    output = np.full((5, 900), 0.5, np.float32)
    output[0], output[1] = np.arange(900) * 10, np.arange(900) * 10
    output[2:4] = 4
    assert len(suppress(output, 0.001, 0.7, 300)[0]) == 300
    output[4] = 0.001
    assert len(suppress(output, 0.001, 0.7, 300)[0]) == 0


def test_a_payload_is_normalised_to_the_original_image(data: Path) -> None:
    task = bind(data)
    index = 3
    image = task.dataset.images[index]
    task.preprocess(index, task.load(index))
    # A box known in the original image, carried into the model's input by hand.
    scale = min(64 / image.width, 64 / image.height)
    left, top = (64 - image.width * scale) / 2, (64 - image.height * scale) / 2
    x, y, w, h = 20.0, 30.0, 25.0, 10.0
    output = np.array(
        [[left + (x + w / 2) * scale, top + (y + h / 2) * scale, w * scale, h * scale, 0.01, 0.9]],
        np.float32,
    ).T
    rows = task.payload(index, task.postprocess([output[np.newaxis]], [index])[0])
    assert rows.dtype == np.float32
    assert rows[0, 0] == index
    found = rows[0, 1:5] * [image.height, image.width, image.height, image.width]
    # Within a pixel: the scaled image has whole pixels.
    assert found == pytest.approx([y, x, y + h, x + w], abs=1.0)
    assert rows[:, 5] == pytest.approx([0.9, 0.01])
    assert rows[:, 6].tolist() == [7, 3]  # category ids in the annotation file's order


def test_boxes_do_not_leave_the_image(data: Path) -> None:
    task = bind(data)
    task.preprocess(0, task.load(0))
    output = np.array([[32, 32, 500, 500, 0.9, 0.0]], np.float32).T
    rows = task.payload(0, task.postprocess([output[np.newaxis]], [0])[0])
    assert rows[0, 1:5].tolist() == [0, 0, 1, 1]


def test_no_box_gives_an_empty_payload(data: Path) -> None:
    task = bind(data)
    task.preprocess(0, task.load(0))
    rows = task.payload(0, task.postprocess([np.zeros((1, 6, 10), np.float32)], [0])[0])
    assert rows.nbytes == 0


def test_preprocessing_gives_rgb_planes_in_0_to_1(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "d", images=1, white=None)
    task = bind(data)
    image = task.dataset.images[0]
    blue = np.zeros((image.height, image.width, 3), np.uint8)
    blue[:, :, 0] = 255  # OpenCV's order is BGR
    cv2.imwrite(str(image.path), blue)
    planes = task.preprocess(0, task.load(0))
    assert planes.dtype == np.float32
    assert planes[:, 32, 32] == pytest.approx([0, 0, 1])
    assert planes[:, 0, 0] == pytest.approx([114 / 255] * 3)


def test_yolos_80_classes_are_cocos_91() -> None:
    assert len(COCO_80_TO_91) == 80
    assert (COCO_80_TO_91[0], COCO_80_TO_91[11], COCO_80_TO_91[79]) == (1, 13, 90)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        (signature(1, 1, 64, 64), "is 1x1x64x64; wanted is Nx3xHxW"),
        (signature(1, 3, 64), "is 1x3x64"),
        (signature(1, 3, 64, 64, dtype="uint8"), "is uint8; wanted is float32"),
        (
            Signature((Tensor("a", (1, 3, 64, 64), "float32"), Tensor("b", (1,), "float32"))),
            r"2 inputs \(a, b\)",
        ),
    ],
)
def test_models_that_are_no_detectors(given_: Signature, message: str, data: Path) -> None:
    with pytest.raises(DataError, match=message):
        benchmarks.get("digits").bind(data, given_)


@pytest.mark.parametrize("shape", [(1, 7, 10), (2, 6, 10), (6, 10)])
def test_outputs_of_the_wrong_shape(shape: tuple[int, ...], data: Path) -> None:
    with pytest.raises(DataError, match=r"wanted is \(1, 6, candidates\)"):
        bind(data).check([np.zeros(shape, np.float32)], 1)


def test_missing_images_are_listed(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "d", images=5)
    for name in ("0001.png", "0003.png"):
        (data / "val2017" / name).unlink()
    with pytest.raises(DataError, match=r"2 of 5 images .*: 0001\.png, 0003\.png"):
        bind(data)


def test_an_image_of_another_size_than_annotated(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "d", images=2)
    cv2.imwrite(str(data / "val2017" / "0001.png"), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(DataError, match=r"0001\.png is 9x9 pixels"):
        bind(data).load(1)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": [{}], "categories": []}', "{}"])
def test_annotations_that_are_no_coco_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(text)
    with pytest.raises(DataError, match="no COCO file"):
        bind(tmp_path)


def test_a_dataset_without_annotations_or_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no annotations/"):
        bind(tmp_path)
    (tmp_path / "annotations").mkdir()
    empty = json.dumps({"images": [], "categories": [], "annotations": []})
    (tmp_path / "annotations" / "instances_val2017.json").write_text(empty)
    with pytest.raises(DataError, match="lists no image"):
        bind(tmp_path)


def test_yolo_refuses_categories_that_coco_does_not_have(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "d", images=1)
    path = data / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text().replace('"id": 7, "name"', '"id": 12, "name"'))
    with pytest.raises(DataError, match=r"\[12\]"):
        bind(data, "yolo")


def test_an_unknown_benchmark() -> None:
    with pytest.raises(StepError, match="known: yolo, digits"):
        benchmarks.get("resnet")
