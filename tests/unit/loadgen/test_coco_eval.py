"""Evaluated category by category from arrays: the very figures of pycocotools on all of it."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from proctor_steps.accuracy import coco_eval, log
from proctor_steps.accuracy.score import STAGE
from proctor_steps.benchmarks import coco
from proctor_steps.contract import Result
from proctor_steps.stage import DataError

IMAGES, CLASSES = 60, 12
# Nothing is annotated of the one, found of the other, neither of the third.
UNSEEN, MISSED, ABSENT = 3, 5, 7
RunStage = Callable[..., tuple[Result, Path]]
Answers = list[tuple[int, bytes]]


def annotate(root: Path, random: np.random.Generator) -> None:
    """Images of several sizes; crowds, outlines, images without a box, annotations in no order."""
    images, boxes = [], []
    for index, id_ in enumerate(random.permutation(1000)[:IMAGES].tolist()):
        width, height = random.integers(200, 700, 2).tolist()
        name = f"{id_:06d}.jpg"
        images.append({"id": id_, "file_name": name, "width": width, "height": height})
        for _ in range(0 if index % 9 == 4 else random.integers(1, 14)):
            w, h = random.uniform(4, width / 2), random.uniform(4, height / 2)
            x, y = random.uniform(0, width - w), random.uniform(0, height - h)
            category = random.choice([k for k in range(1, CLASSES) if k not in (UNSEEN, ABSENT)])
            box = {"image_id": id_, "category_id": int(category), "bbox": [x, y, w, h]}
            box |= {"area": 0.7 * w * h, "iscrowd": int(random.random() < 0.1)}
            boxes.append(box | {"segmentation": [[x, y, x + w, y, x, y + h]]})
    random.shuffle(boxes)
    content = {
        "images": images,
        "annotations": [{"id": k, **box} for k, box in enumerate(boxes, 1)],
        "categories": [{"id": k, "name": f"c{k}"} for k in random.permutation(range(1, CLASSES))],
    }
    path = root / coco.ANNOTATIONS
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content, default=int))


def answers_of(root: Path, random: np.random.Generator) -> Answers:
    """Boxes moved a little and found again, noise, equal scores, over 100 of one class."""
    dataset, truth = coco.read(root), coco_eval.read_truth(root)
    answers = []
    for index, image in enumerate(dataset.images):
        rows = []
        for box in truth.of_image.get(image.id, []) * 3:
            x, y, w, h = box["bbox"] + random.normal(0, 2.5, 4)
            if box["category_id"] != MISSED and random.random() < 0.5:
                rows.append([y, x, y + h, x + w, random.integers(1, 9) / 9, box["category_id"]])
        for _ in range(260 if index == 2 else random.integers(0, 9)):
            y, x = random.uniform(0, 150, 2)
            category = UNSEEN if index % 2 else 1
            rows.append([y, x, y + random.uniform(1, 40), x + 30, random.random() / 2, category])
        rows = [] if index % 11 == 7 else rows
        found = np.array(rows, np.float32).reshape(-1, 6)
        found[:, :4] /= np.float32([image.height, image.width] * 2)
        numbered = np.column_stack([np.full(len(found), index), found])
        answers.append((index, numbered.astype(np.float32).tobytes()))
    return answers


def official(root: Path, answers: Answers, folder: Path) -> COCOeval:
    """The plain way: float32 per box, a file of results, one evaluation of everything."""
    images = coco.read(root).images
    boxes = []
    for index, data in answers:
        image = images[index]
        for _, top, left, bottom, right, score, category in np.frombuffer(data, "<f4").reshape(
            -1, 7
        ):
            y, x, y2, x2 = (
                top * image.height, left * image.width, bottom * image.height, right * image.width,
            )  # fmt: skip
            bbox = [float(v) for v in (x, y, x2 - x, y2 - y)]
            about = {"image_id": image.id, "category_id": int(category), "score": float(score)}
            boxes.append({**about, "bbox": bbox})
    (folder / "results.json").write_text(json.dumps(boxes))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(root / coco.ANNOTATIONS))
        whole = COCOeval(truth, truth.loadRes(str(folder / "results.json")), "bbox")
        whole.params.imgIds = [images[index].id for index, _ in answers]
        whole.evaluate()
        whole.accumulate()
        whole.summarize()
    return whole


def mean(values: Any) -> float | None:
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else None


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_figures_are_those_of_one_evaluation_of_everything(
    seed: int, run_stage: RunStage, tmp_path: Path
) -> None:
    random = np.random.default_rng(seed)
    root = tmp_path / "dataset"
    annotate(root, random)
    answers = answers_of(root, random)
    whole = official(root, answers, tmp_path)
    # MultiStream pads its last query: a sample's further entries do not count.
    padded = [answers[k] for k in random.permutation(IMAGES)] + [(5, b""), (8, answers[8][1])]
    write_log(tmp_path / "logs", padded)
    result, out = run_stage(
        STAGE, {"benchmark": "digits"}, inputs={"logs": tmp_path / "logs", "dataset": root}
    )
    assert result.status == "ok", result.message
    said = json.loads((out / "accuracy.json").read_text())
    assert 0.1 < said["value"] < 0.9
    assert said["value"] == pytest.approx(whole.stats[0], abs=1e-12)
    assert said["map50"] == pytest.approx(whole.stats[1], abs=1e-12)
    assert said["duplicates"] == 2
    precision = whole.eval["precision"][..., 0, -1]
    assert [c["category"] for c in said["per_class"]] == list(whole.params.catIds)
    for k, found in enumerate(said["per_class"]):
        assert found["ap"] == pytest.approx(mean(precision[:, :, k]), abs=1e-12)
        assert found["ap50"] == pytest.approx(mean(precision[0, :, k]), abs=1e-12)
        to_find = whole.cocoGt.getAnnIds(catIds=[found["category"]], iscrowd=False)
        assert found["boxes_gt"] == len(to_find)
    by_class = {c["category"]: c for c in said["per_class"]}
    assert by_class[UNSEEN]["ap"] is by_class[ABSENT]["ap"] is None
    assert by_class[MISSED]["ap"] == 0


def write_log(folder: Path, answers: Answers) -> None:
    folder.mkdir()
    lines = [
        f'{{ "seq_id" : {k}, "qsl_idx" : {i}, "data" : "{d.hex().upper()}" }}'
        for k, (i, d) in enumerate(answers)
    ]
    (folder / log.NAME).write_text("[\n" + ",\n".join(lines) + "\n]\n")


def test_only_the_images_asked_for_count(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    annotate(tmp_path, random)
    truth, images = coco_eval.read_truth(tmp_path), coco.read(tmp_path).images
    first, other = (image.id for image in images[:2])
    boxes = truth.of_image[first]
    found = coco_eval.Found(
        np.array([first] * len(boxes)),
        np.array([box["bbox"] for box in boxes], np.float32),
        np.ones(len(boxes), np.float32),
        np.array([box["category_id"] for box in boxes], np.float32),
    )
    assert coco_eval.evaluate(truth, found, [first]).value == pytest.approx(1.0)
    assert coco_eval.evaluate(truth, found, [first, other]).value < 1.0


def test_outlines_are_not_kept_in_memory(tmp_path: Path) -> None:
    annotate(tmp_path, np.random.default_rng(5))
    truth = coco_eval.read_truth(tmp_path)
    assert not any("segmentation" in box for boxes in truth.of_image.values() for box in boxes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][0].pop("area"), r"annotations\[0\]\.area: missing"),
        (lambda c: c["annotations"][1].update(iscrowd=2), r"annotations\[1\]\.iscrowd: 2"),
        (lambda c: c["annotations"][1].update(id=1), r"\[1\]\.id: 1 is annotations\[0\]"),
        (lambda c: c["annotations"][0].update(category_id=99), "99 is none of categories"),
        (lambda c: c.pop("annotations"), "annotations: missing"),
    ],
)
def test_annotations_that_cannot_be_scored(
    change: Callable[[Any], object], message: str, tmp_path: Path
) -> None:
    annotate(tmp_path, np.random.default_rng(6))
    path = tmp_path / coco.ANNOTATIONS
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        coco_eval.read_truth(tmp_path)
