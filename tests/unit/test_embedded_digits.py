"""The shipped demo: whole, consistent, free of leaks, and made by the committed script."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import proctor_steps
from proctor_steps.embedded.digits import scenes

HOME = Path(proctor_steps.__file__).parent / "embedded" / "digits"
FREE = (4, 5, 6, 7, 8)  # the licences that MLPerf's rule keeps


@pytest.fixture(scope="module")
def coco() -> dict[str, Any]:
    made: dict[str, Any] = json.loads((HOME / "annotations.json").read_bytes())
    return made


@pytest.fixture(scope="module")
def pictures() -> dict[str, np.ndarray[Any, Any]]:
    cv2 = pytest.importorskip("cv2")
    with zipfile.ZipFile(HOME / "scenes.zip") as archive:
        return {
            name: cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_COLOR)
            for name in archive.namelist()
        }


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in HOME.iterdir() if path.is_file()) < 1_000_000


def test_the_annotations_fit_together(coco: dict[str, Any]) -> None:
    images = {image["id"]: image for image in coco["images"]}
    assert len(images) == len(coco["images"]) == 96
    assert len({a["id"] for a in coco["annotations"]}) == len(coco["annotations"])
    assert [c["name"] for c in coco["categories"]] == list(scenes.NAMES)
    assert [c["id"] for c in coco["categories"]] == list(range(1, 11))
    for entry in coco["annotations"]:
        image, (x, y, width, height) = images[entry["image_id"]], entry["bbox"]
        assert 0 <= x < x + width <= image["width"] and 0 <= y < y + height <= image["height"]
        assert entry["area"] == width * height > 0
        assert 1 <= entry["category_id"] <= 10 and entry["iscrowd"] == 0


def test_it_has_the_traps_of_the_real_thing(coco: dict[str, Any]) -> None:
    names = [image["file_name"] for image in coco["images"]]
    assert names != sorted(names)
    with_boxes = {a["image_id"] for a in coco["annotations"]}
    assert sum(image["id"] not in with_boxes for image in coco["images"]) >= 3
    assert any(image["width"] != image["height"] for image in coco["images"])
    assert {a["category_id"] for a in coco["annotations"]} == set(range(1, 11))


def test_the_licence_rule_has_something_to_do(coco: dict[str, Any]) -> None:
    assert [entry["id"] for entry in coco["licenses"]] == list(range(1, 9))
    kept = [image for image in coco["images"] if image["license"] in FREE]
    assert 64 <= len(kept) <= 80 < len(coco["images"])
    assert {image["license"] for image in coco["images"]} == set(range(1, 9))


def test_the_pictures_are_those_of_the_annotations(
    coco: dict[str, Any], pictures: dict[str, np.ndarray[Any, Any]]
) -> None:
    assert set(pictures) == {image["file_name"] for image in coco["images"]}
    for image in coco["images"]:
        assert pictures[image["file_name"]].shape == (image["height"], image["width"], 3)


def test_the_script_makes_them_again(
    coco: dict[str, Any], pictures: dict[str, np.ndarray[Any, Any]]
) -> None:
    pytest.importorskip("sklearn")
    made = scenes.evaluation_scenes()
    assert scenes.annotations_json(made) == (HOME / "annotations.json").read_bytes()
    for number, scene in enumerate(made):
        shipped = pictures[scenes.file_name(number)][:, :, ::-1]
        assert np.array_equal(scene.rgb(), shipped)
    # The same bytes every time; across machines the pixels are the promise, as zlib may differ.
    first = scenes.scenes_zip(made)
    assert first == scenes.scenes_zip(scenes.evaluation_scenes())
    with zipfile.ZipFile(BytesIO(first)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_no_training_digit_is_in_the_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    images, labels = scenes.load_digits()
    numbered = np.arange(len(labels))[:, None, None] * np.ones_like(images)
    used: list[int] = []

    def record(digits: list[scenes.Ints2D], *_: Any) -> None:
        used.extend(int(digit[0, 0]) for digit in digits)

    monkeypatch.setattr(scenes, "load_digits", lambda: (numbered, labels))
    monkeypatch.setattr(scenes, "compose", record)
    scenes.evaluation_scenes()
    assert len(used) > 400 and len(used) == len(set(used))
    assert min(used) >= scenes.FIRST_EVALUATION_DIGIT


def test_a_box_encloses_its_ink() -> None:
    pytest.importorskip("sklearn")
    for scene in scenes.evaluation_scenes(24):
        if len(scene.things) == 1:
            (thing,) = scene.things
            inside = scene.levels[thing.y : thing.y + thing.height, thing.x : thing.x + thing.width]
            outside = scene.levels.astype(int)
            outside[thing.y : thing.y + thing.height, thing.x : thing.x + thing.width] = 0
            assert inside.max() > outside.max()
            return
    pytest.fail("no scene with one digit")


@pytest.fixture(scope="module")
def session() -> Any:
    return pytest.importorskip("onnxruntime").InferenceSession(str(HOME / "detector.onnx"))


def test_the_detector_has_the_shape_that_is_told(session: Any) -> None:
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape, given.type) == (
        "images",
        ["batch", 3, 192, 192],
        "tensor(float)",
    )
    assert (made.name, made.shape) == ("output0", ["batch", 14, 576])
    assert session.run(None, {"images": np.zeros((2, 3, 192, 192), np.float32)})[0].shape == (
        2,
        14,
        576,
    )


def test_the_detector_finds_digits_and_leaves_empty_cells_alone(
    session: Any, coco: dict[str, Any], pictures: dict[str, np.ndarray[Any, Any]]
) -> None:
    """Without suppression or letterbox: the square scenes, and the best cell over each digit."""
    right = total = candidates = looked = 0
    for image in coco["images"]:
        if (image["width"], image["height"]) != (192, 192):
            continue
        pixels = pictures[image["file_name"]][:, :, ::-1].transpose(2, 0, 1)[None] / 255
        out = session.run(None, {"images": pixels.astype(np.float32)})[0][0]
        looked += 1
        candidates += int((out[4:] > 0.001).sum())
        for entry in (a for a in coco["annotations"] if a["image_id"] == image["id"]):
            x, y, width, height = entry["bbox"]
            over = (np.abs(out[0] - x - width / 2) < 4) & (np.abs(out[1] - y - height / 2) < 4)
            scores = np.where(over, out[4:], 0)
            right += int(scores.max(1).argmax() + 1 == entry["category_id"])
            total += 1
    assert looked >= 10 and right / total > 0.9, (right, total)
    # Each candidate goes through the non-maximum suppression inside the timed interval.
    assert candidates / looked < 600
