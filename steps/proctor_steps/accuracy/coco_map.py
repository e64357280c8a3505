"""Mean average precision of detection payloads. pycocotools is the authority for every figure."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from proctor_steps.benchmarks import coco
from proctor_steps.benchmarks.base import Array, Score
from proctor_steps.stage import DataError

_FIELDS = 7
_EXAMPLES = 6
_SHOWN_SCORE = 0.25
_ALL_AREAS, _MOST_BOXES = 0, -1


def score(
    answers: Sequence[tuple[int, bytes]], dataset: coco.Dataset, categories: Sequence[int]
) -> Score:
    """mAP@[.50:.95] over the images in ``answers``.

    ``categories`` are the ids that a payload may hold.

    Raises:
        DataError: a payload that is malformed, or annotations without a box.
    """
    rows = [_rows(index, data, dataset, categories) for index, data in answers]
    detections = np.concatenate(rows) if rows else np.empty((0, _FIELDS))
    truth, evaluated = _evaluate(dataset, detections, [i for i, _ in answers])
    value, map50 = float(evaluated.stats[0]), float(evaluated.stats[1])
    if value < 0:
        raise DataError(f"no image in {coco.ANNOTATIONS} has a box; there is nothing to score")
    details = {
        "map50": map50,
        "boxes": len(detections),
        "per_class": _per_class(evaluated, truth, dataset),
    }
    examples = _examples(rows, [i for i, _ in answers], truth, dataset)
    return Score("mAP", value, f"mAP={100 * value:.3f}%", details, examples)


def decode(index: int, data: bytes, images: int, categories: Sequence[int]) -> Array:
    """The ``n x 7`` rows of one payload, checked.

    Raises:
        DataError: the length, the sample index, a value or a category is not possible.
    """
    if len(data) % (4 * _FIELDS):
        raise DataError(
            f"sample {index}: payload of {len(data)} bytes is no whole number of boxes "
            f"({_FIELDS} float32 each)"
        )
    if not 0 <= index < images:
        raise DataError(f"sample {index}: the dataset has {images} samples, 0 to {images - 1}")
    rows = np.frombuffer(data, np.dtype("<f4")).reshape(-1, _FIELDS)
    _check_rows(index, rows, categories)
    return rows


def _check_rows(index: int, rows: Array, categories: Sequence[int]) -> None:
    if not np.isfinite(rows).all():
        raise DataError(f"sample {index}: a box holds a value that is not finite (NaN or inf)")
    if (rows[:, 0] != index).any():
        raise DataError(f"sample {index}: a box says it belongs to sample {rows[:, 0].max():g}")
    unknown = sorted({float(v) for v in rows[:, 6]} - {float(c) for c in categories})
    if unknown:
        raise DataError(f"sample {index}: category {unknown[0]:g} is none of the dataset's")


def _rows(index: int, data: bytes, dataset: coco.Dataset, categories: Sequence[int]) -> Array:
    """Rows as pycocotools takes them: image id, x, y, width, height in pixels, score, category."""
    rows = decode(index, data, len(dataset.images), categories).astype(np.float64)
    image = dataset.images[index]
    left, top = rows[:, 2] * image.width, rows[:, 1] * image.height
    right, bottom = rows[:, 4] * image.width, rows[:, 3] * image.height
    ids = np.full(len(rows), image.id, np.float64)
    return np.stack([ids, left, top, right - left, bottom - top, rows[:, 5], rows[:, 6]], axis=1)


def _evaluate(dataset: coco.Dataset, detections: Array, indices: Sequence[int]) -> tuple[Any, Any]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(dataset.root / coco.ANNOTATIONS))
        found = truth.loadRes(detections) if len(detections) else _nothing_found(truth)
        evaluated = COCOeval(truth, found, iouType="bbox")
        evaluated.params.imgIds = sorted({dataset.images[i].id for i in indices})
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    return truth, evaluated


def _nothing_found(truth: Any) -> Any:
    """pycocotools cannot load an empty list of detections; an empty result set it can score."""
    empty = COCO()
    empty.dataset = {
        "images": truth.dataset["images"],
        "categories": truth.dataset["categories"],
        "annotations": [],
    }
    empty.createIndex()
    return empty


def _per_class(evaluated: Any, truth: Any, dataset: coco.Dataset) -> list[dict[str, Any]]:
    # precision: IoU thresholds x recalls x categories x areas x most boxes; -1 where undefined.
    precision = evaluated.eval["precision"][:, :, :, _ALL_AREAS, _MOST_BOXES]
    names = dict(dataset.categories)
    images = list(evaluated.params.imgIds)
    return [
        {
            "category": int(id_),
            "name": names.get(id_, str(id_)),
            "ap": _mean(precision[:, :, k]),
            "ap50": _mean(precision[0, :, k]),
            "boxes_gt": len(truth.getAnnIds(imgIds=images, catIds=[id_], iscrowd=False)),
        }
        for k, id_ in enumerate(evaluated.params.catIds)
    ]


def _mean(values: Array) -> float | None:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


def _examples(
    rows: Sequence[Array], indices: Sequence[int], truth: Any, dataset: coco.Dataset
) -> list[dict[str, Any]]:
    """A few images spread over the dataset: those with boxes to find come first."""
    order = sorted(range(len(indices)), key=lambda k: indices[k])
    with_boxes = [k for k in order if truth.getAnnIds(imgIds=[dataset.images[indices[k]].id])]
    pool = with_boxes or order
    step = max(1, len(pool) // _EXAMPLES)
    return [_example(rows[k], indices[k], truth, dataset) for k in pool[::step][:_EXAMPLES]]


def _example(rows: Array, index: int, truth: Any, dataset: coco.Dataset) -> dict[str, Any]:
    image = dataset.images[index]
    shown = rows[rows[:, 5] >= _SHOWN_SCORE]
    boxes = truth.loadAnns(truth.getAnnIds(imgIds=[image.id]))
    return {
        "file_name": image.path.name,
        "qsl_idx": index,
        "width": image.width,
        "height": image.height,
        "detections": [
            {
                "bbox": [round(float(v), 2) for v in row[1:5]],
                "score": round(float(row[5]), 4),
                "category": int(row[6]),
            }
            for row in shown
        ],
        "ground_truth": [
            {"bbox": box["bbox"], "category": box["category_id"], "iscrowd": box.get("iscrowd", 0)}
            for box in boxes
        ],
    }
