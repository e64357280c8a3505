"""pycocotools' COCOeval, fed category by category from arrays.

COCOeval looks at each category by itself, so the figures are those of one evaluation of everything,
to the last bit. What it would hold for all at once never exists together: a dictionary for each
box, one for each image, category and area range (1.6 million on COCO, most of them empty). Each
category is given the images that have something of it, and of the area ranges and limits the one
that mAP is made of. Nothing is written to a file to be read again.
"""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from proctor_steps.accuracy.resample import Compared, Interval, interval
from proctor_steps.benchmarks import coco
from proctor_steps.benchmarks.base import Array
from proctor_steps.dataset.coco import check_coco

# COCOeval's first area range is boxes of any size, its last limit 100 boxes per image and category.
_ALL_AREAS, _MOST_BOXES = 0, -1
_Box = dict[str, Any]


@dataclass(frozen=True)
class Truth:
    """The boxes of an annotation file, by image and by category."""

    of_image: dict[int, list[_Box]]
    of_category: dict[int, list[_Box]]


@dataclass(frozen=True)
class Found:
    """Boxes that were found, n of each; ``boxes`` are ``n x 4``: x, y, width, height in pixels.

    float32 like the payloads they come from, and computed in it, as the official scorer does.
    """

    images: Array
    boxes: Array
    scores: Array
    categories: Array

    def of(self, category: int) -> list[_Box]:
        """The boxes of one category, as pycocotools takes them."""
        mine = np.flatnonzero(self.categories == category)
        boxes = self.boxes[mine].astype(np.float64)
        areas = (boxes[:, 2] * boxes[:, 3]).tolist()
        images, scores = self.images[mine].tolist(), self.scores[mine].tolist()
        return [
            {
                "id": number,
                "category_id": category,
                "image_id": image,
                "bbox": box,
                "area": area,
                "score": score,
            }
            for number, (image, box, area, score) in enumerate(
                zip(images, boxes.tolist(), areas, scores, strict=True), 1
            )
        ]


@dataclass(frozen=True)
class Evaluated:
    """mAP and mAP@.50 (-1 where there is no box to find); per category AP, AP@.50 and boxes.

    ``interval``: of the mAP, where it was asked for.
    """

    value: float
    map50: float
    classes: dict[int, tuple[float | None, float | None, int]]
    interval: Interval | None = None


def read_truth(root: Path) -> Truth:
    """Read and check a dataset's annotation file.

    Raises:
        DataError: what is wrong with it.
    """
    checked = check_coco(coco.load(root), coco.ANNOTATIONS, licensed=False)
    truth = Truth(defaultdict(list), {c["id"]: [] for c in checked.whole["categories"]})
    for box in checked.whole["annotations"]:
        truth.of_image[box["image_id"]].append(box)
        truth.of_category[box["category_id"]].append(box)
    return truth


def evaluate(
    truth: Truth, found: Found, images: Sequence[int], seed: int | None = None
) -> Evaluated:
    """Evaluate what was found on the images with these ids; with a seed, the interval as well."""
    wanted = {id_: number for number, id_ in enumerate(sorted(set(images)))}
    whole = COCOeval(iouType="bbox")
    params = whole.params
    params.catIds = sorted(truth.of_category)
    # IoU thresholds x recalls x categories x area ranges x limits; -1 where undefined.
    shape = (params.iouThrs, params.recThrs, params.catIds, params.areaRng, params.maxDets)
    precision = np.full([len(axis) for axis in shape], -1.0)
    figures = precision[..., _ALL_AREAS, _MOST_BOXES]
    classes: dict[int, tuple[float | None, float | None, int]] = {}
    compared: list[Compared] = []
    with contextlib.redirect_stdout(io.StringIO()):
        for k, category in enumerate(params.catIds):
            boxes = [box for box in truth.of_category[category] if box["image_id"] in wanted]
            each = _category(category, boxes, found.of(category), figures[:, :, k])
            if seed is not None and each:
                compared.append(Compared.of(each, wanted))
            to_find = sum(not box["iscrowd"] for box in boxes)
            classes[category] = _mean(figures[:, :, k]), _mean(figures[0, :, k]), to_find
        whole.eval = {"precision": precision, "recall": np.full_like(precision[:, 0], -1.0)}
        whole.summarize()
    value = float(whole.stats[0])
    told = seed is not None and value >= 0
    sure = interval(value, compared, params.recThrs, len(wanted), seed or 0) if told else None
    return Evaluated(value, float(whole.stats[1]), classes, sure)


def _category(
    category: int, truth: list[_Box], found: list[_Box], figures: Array
) -> list[dict[str, Any] | None]:
    """Fill in a category's precision, and give what each image had; a category of which there is
    nothing keeps its -1."""
    images = {box["image_id"] for box in (*truth, *found)}
    if not images:
        return []
    part = COCOeval(_index(truth), _index(found), iouType="bbox")
    params = part.params
    params.catIds, params.imgIds = [category], sorted(images)
    params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]
    params.maxDets = params.maxDets[-1:]
    part.evaluate()
    part.accumulate()
    figures[:] = part.eval["precision"][:, :, 0, 0, 0]
    each: list[dict[str, Any] | None] = part.evalImgs
    return each


def _index(boxes: list[_Box]) -> COCO:
    index = COCO()
    index.dataset = {"images": [], "categories": [], "annotations": boxes}
    index.createIndex()
    return index


def _mean(values: Array) -> float | None:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None
