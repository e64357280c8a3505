"""Mean average precision of detection payloads. pycocotools is the authority for every figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from proctor_steps.accuracy.coco_eval import Evaluated, Found, Truth, evaluate, read_truth
from proctor_steps.benchmarks import coco
from proctor_steps.benchmarks.base import Array, Score
from proctor_steps.stage import DataError

_FIELDS = 7
_EXAMPLES = 6
_SHOWN_SCORE = 0.25


def score(
    answers: Sequence[tuple[int, bytes]],
    dataset: coco.Dataset,
    categories: Sequence[int],
    seed: int | None = None,
) -> Score:
    """mAP@[.50:.95] over the images in ``answers``.

    ``categories`` are the ids that a payload may hold. ``seed``: as :meth:`Benchmark.score`.

    Raises:
        DataError: a payload that is malformed, or annotations without a box.
    """
    rows = decode(answers, len(dataset.images), categories)
    found = _in_pixels(rows, dataset)
    truth = read_truth(dataset.root)
    evaluated = evaluate(truth, found, [dataset.images[i].id for i, _ in answers], seed)
    if evaluated.value < 0:
        raise DataError(f"no image in {coco.ANNOTATIONS} has a box; there is nothing to score")
    details = {
        "map50": evaluated.map50,
        "boxes": len(rows),
        "per_class": _per_class(evaluated, dataset),
    }
    examples = _examples(sorted(i for i, _ in answers), found, truth, dataset)
    value, sure = evaluated.value, evaluated.interval
    made = Score("mAP", value, f"mAP={100 * value:.3f}%", details, examples)
    if sure is None:
        return made
    return replace(made, low=sure.low, high=sure.high, interval_method=sure.method)


def decode(answers: Sequence[tuple[int, bytes]], images: int, categories: Sequence[int]) -> Array:
    """The ``n x 7`` float32 rows of all payloads, in their order, checked.

    Raises:
        DataError: a length, a sample index, a value or a category is not possible.
    """
    for index, data in answers:
        if len(data) % (4 * _FIELDS):
            raise DataError(
                f"sample {index}: payload of {len(data)} bytes is no whole number of boxes "
                f"({_FIELDS} float32 each)"
            )
        if not 0 <= index < images:
            raise DataError(f"sample {index}: the dataset has {images} samples, 0 to {images - 1}")
    joined = b"".join(data for _, data in answers)
    rows = np.frombuffer(joined, np.dtype("<f4")).reshape(-1, _FIELDS)
    counts = [len(data) // (4 * _FIELDS) for _, data in answers]
    _check_rows(rows, np.repeat([index for index, _ in answers], counts), categories)
    return rows


def _check_rows(rows: Array, samples: Array, categories: Sequence[int]) -> None:
    for wrong, what in (
        (~np.isfinite(rows).all(axis=1), "a box holds a value that is not finite (NaN or inf)"),
        (rows[:, 0] != samples, "a box says it belongs to sample {0:g}"),
        (~np.isin(rows[:, 6], categories), "category {6:g} is none of the dataset's"),
    ):
        if wrong.any():
            first = int(wrong.argmax())
            raise DataError(f"sample {samples[first]}: " + what.format(*rows[first]))


def _in_pixels(rows: Array, dataset: coco.Dataset) -> Found:
    sample, top, left, bottom, right, scores, categories = rows.T
    sample = sample.astype(np.intp)
    width = np.array([image.width for image in dataset.images], np.float32)[sample]
    height = np.array([image.height for image in dataset.images], np.float32)[sample]
    left, top, right, bottom = left * width, top * height, right * width, bottom * height
    boxes = np.stack([left, top, right - left, bottom - top], axis=1)
    images = np.array([image.id for image in dataset.images])[sample]
    return Found(images, boxes, scores, categories)


def _per_class(evaluated: Evaluated, dataset: coco.Dataset) -> list[dict[str, Any]]:
    names = dict(dataset.categories)
    return [
        {"category": id_, "name": names[id_], "ap": ap, "ap50": ap50, "boxes_gt": boxes}
        for id_, (ap, ap50, boxes) in evaluated.classes.items()
    ]


def _examples(
    indices: Sequence[int], found: Found, truth: Truth, dataset: coco.Dataset
) -> list[dict[str, Any]]:
    """A few images spread over the dataset: those with boxes to find come first."""
    with_boxes = [i for i in indices if dataset.images[i].id in truth.of_image]
    pool = with_boxes or indices
    step = max(1, len(pool) // _EXAMPLES)
    return [_example(i, found, truth, dataset) for i in pool[::step][:_EXAMPLES]]


def _example(index: int, found: Found, truth: Truth, dataset: coco.Dataset) -> dict[str, Any]:
    image = dataset.images[index]
    shown = np.flatnonzero((found.images == image.id) & (found.scores >= _SHOWN_SCORE))
    boxes = truth.of_image.get(image.id, [])
    return {
        "file_name": image.path.name,
        "qsl_idx": index,
        "width": image.width,
        "height": image.height,
        "detections": [
            {
                "bbox": [round(float(v), 2) for v in found.boxes[row]],
                "score": round(float(found.scores[row]), 4),
                "category": int(found.categories[row]),
            }
            for row in shown
        ],
        "ground_truth": [
            {"bbox": box["bbox"], "category": box["category_id"], "iscrowd": box["iscrowd"]}
            for box in boxes
        ],
    }
