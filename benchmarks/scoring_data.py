"""Annotations and a LoadGen accuracy log the size of COCO val2017's: ``DIR [images] [boxes each]``.

Made up, the same at every run. Boxes, classes and crowds are as frequent as in COCO. What the
detector is said to have found are the boxes themselves, moved a little, found twice or missed, and
noise up to a fixed number of boxes per image. LoadGen itself writes the log.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import mlperf_loadgen as lg
import numpy as np
from numpy.typing import NDArray

from proctor_steps.benchmarks.coco import ANNOTATIONS
from proctor_steps.benchmarks.yolo import COCO_80_TO_91

Array = NDArray[Any]
SIZES = ((640, 480), (640, 427), (480, 640), (500, 375), (640, 640))
# COCO val2017: 36,335 boxes and 446 crowds in 5,000 images; 30 % of the boxes are persons.
BOXES_EACH, CROWDS = 7.3, 0.012
CORNERS = 26
FREQUENCY = np.array([30.0, *(70 / 5.4 / (k + 2.0) for k in range(79))])
FREQUENCY /= FREQUENCY.sum()


def main(folder: Path, images: int = 5000, each: int = 90) -> None:
    """Write ``dataset/`` and ``logs/`` into the folder."""
    random = np.random.default_rng(2017)
    ids = np.sort(random.choice(600_000, images, replace=False))
    random.shuffle(ids)
    sizes = [SIZES[k] for k in random.integers(0, len(SIZES), images)]
    truths = [_truth(random, *size) for size in sizes]
    _write_annotations(folder / "dataset", ids, sizes, truths, random)
    answers = [
        _found(random, index, size, truth, each)
        for index, (size, truth) in enumerate(zip(sizes, truths, strict=True))
    ]
    _write_log(folder / "logs", answers)


def _truth(random: np.random.Generator, width: int, height: int) -> Array:
    """``n x 5``: class 0..79 and x, y, w, h in pixels; one image in a hundred has none."""
    count = 0 if random.random() < 0.01 else int(random.geometric(1 / BOXES_EACH))
    classes = random.choice(80, min(count, 3), p=FREQUENCY)
    return _boxes(random, count, width, height, classes if count else np.zeros(1, int))


def _boxes(
    random: np.random.Generator, count: int, width: int, height: int, classes: Array
) -> Array:
    scale = np.exp(random.uniform(np.log(0.03), np.log(0.9), (count, 2)))
    w, h = scale[:, 0] * width, scale[:, 1] * height
    x, y = random.random(count) * (width - w), random.random(count) * (height - h)
    return np.stack([random.choice(classes, count), x, y, w, h], axis=1).round(2)


def _found(
    random: np.random.Generator, index: int, size: tuple[int, int], truth: Array, each: int
) -> Array:
    """``each x 7`` float32, best first: MLPerf's layout of a payload."""
    width, height = size
    copies = np.repeat(truth, random.integers(0, 4, len(truth)), axis=0)[:each]
    shift = random.normal(0, 0.06, (len(copies), 4)) * copies[:, [3, 4, 3, 4]]
    copies[:, 1:] += shift
    present = np.unique(truth[:, 0]).astype(int)
    noise = each - len(copies)
    near = _boxes(random, noise // 2, *size, present if len(present) else np.zeros(1, int))
    far = _boxes(random, noise - noise // 2, *size, random.choice(80, 20, p=FREQUENCY))
    scores = np.concatenate([random.beta(3, 2, len(copies)), random.beta(0.4, 8, noise)])
    boxes = np.concatenate([copies, near, far])
    order = np.argsort(-scores)
    boxes, scores = boxes[order], scores[order]
    left, top = boxes[:, 1].clip(0, width), boxes[:, 2].clip(0, height)
    right = (boxes[:, 1] + boxes[:, 3]).clip(0, width)
    bottom = (boxes[:, 2] + boxes[:, 4]).clip(0, height)
    category = np.asarray(COCO_80_TO_91)[boxes[:, 0].astype(int)]
    place = [top / height, left / width, bottom / height, right / width]
    columns = [np.full(each, index), *place, scores.clip(0.001), category]
    return np.stack(columns, axis=1).astype(np.float32)


def _write_annotations(
    folder: Path, ids: Array, sizes: list[tuple[int, int]], truths: list[Array], random: Any
) -> None:
    images = [
        {
            "license": 1,
            "file_name": f"{id_:012d}.jpg",
            "coco_url": f"http://images.cocodataset.org/val2017/{id_:012d}.jpg",
            "height": height,
            "width": width,
            "date_captured": "2013-11-14 17:02:52",
            "id": id_,
        }
        for id_, (width, height) in zip(ids.tolist(), sizes, strict=True)
    ]
    annotations: list[dict[str, Any]] = []
    for image, truth in zip(images, truths, strict=True):
        for row in truth.tolist():
            annotations.append(_annotation(len(annotations) + 1, image, row, random))
    categories = [
        {"supercategory": "thing", "id": id_, "name": f"class {id_}"} for id_ in COCO_80_TO_91
    ]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    path = folder / ANNOTATIONS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _annotation(id_: int, image: dict[str, Any], row: list[float], random: Any) -> dict[str, Any]:
    x, y, w, h = row[1:]
    crowd = int(random.random() < CROWDS)
    outline: Any = [
        (random.random((CORNERS, 2)) * (w, h) + (x, y)).round(2).ravel().tolist(),
    ]
    if crowd:
        runs = random.integers(1, 400, 300).tolist()
        outline = {"counts": runs, "size": [image["height"], image["width"]]}
    return {
        "segmentation": outline,
        "area": round(0.6 * w * h, 4),
        "iscrowd": crowd,
        "image_id": image["id"],
        "bbox": [x, y, w, h],
        "category_id": COCO_80_TO_91[int(row[0])],
        "id": id_,
    }


def _write_log(folder: Path, answers: list[Array]) -> None:
    folder.mkdir(parents=True, exist_ok=True)

    def issue(queries: list[Any]) -> None:
        told = [
            lg.QuerySampleResponse(q.id, answers[q.index].ctypes.data, answers[q.index].nbytes)
            for q in queries
        ]
        lg.QuerySamplesComplete(told)

    settings = lg.TestSettings()
    settings.scenario, settings.mode = lg.TestScenario.Offline, lg.TestMode.AccuracyOnly
    logs = lg.LogSettings()
    logs.log_output.outdir = str(folder)
    sut = lg.ConstructSUT(issue, lambda: None)
    qsl = lg.ConstructQSL(len(answers), len(answers), lambda _: None, lambda _: None)
    lg.StartTestWithLogSettings(sut, qsl, settings, logs)
    lg.DestroyQSL(qsl)
    lg.DestroySUT(sut)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
