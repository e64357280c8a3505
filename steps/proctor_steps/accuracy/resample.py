"""How much a mAP depends on which images were chosen: a bootstrap over images.

pycocotools compares every box that was found with the truth once; a resample only counts an image
as often as it was drawn. What COCOeval.accumulate makes of a list in which images are repeated is
computed from the places of the hits alone: recall rises nowhere else, and the highest precision
from a place on is that of a hit. The figures are the same, in hundredths of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from proctor_steps.benchmarks.base import Array

FEWEST_IMAGES = 30
# So many resamples where there are few boxes, and where there are many: seconds either way.
RESAMPLES, OF_MANY, MANY_BOXES = 500, 200, 20_000
_COVERED = (0.025, 0.975)


@dataclass(frozen=True)
class Interval:
    """A 95 % interval; ``low`` and ``high`` are ``None`` where ``method`` says why."""

    low: float | None
    high: float | None
    method: str


@dataclass(frozen=True)
class Compared:
    """A category's boxes beside the truth, best score first, as pycocotools matched them.

    ``image``: of each box. ``hits``: of each IoU threshold the places of those that were there.
    ``counted``: of each threshold the boxes that count at all, ``None`` where all do. ``to_find``:
    per image.
    """

    image: Array
    hits: tuple[Array, ...]
    counted: tuple[Array | None, ...]
    to_find: Array

    @classmethod
    def of(cls, evaluated: Sequence[dict[str, Any] | None], place: dict[int, int]) -> Compared:
        """From ``COCOeval.evalImgs`` of one category; ``place``: image id -> number."""
        parts = [part for part in evaluated if part is not None]
        scores = np.concatenate([part["dtScores"] for part in parts])
        order = np.argsort(-scores, kind="mergesort")  # as accumulate has it
        matched = np.concatenate([part["dtMatches"] for part in parts], axis=1)[:, order] != 0
        ignored = np.concatenate([part["dtIgnore"] for part in parts], axis=1)[:, order] != 0
        of_image = [np.full(len(p["dtScores"]), place[p["image_id"]], np.intp) for p in parts]
        to_find = np.zeros(len(place), np.int64)
        for part in parts:
            to_find[place[part["image_id"]]] += np.count_nonzero(np.asarray(part["gtIgnore"]) == 0)
        return cls(
            np.concatenate(of_image)[order],
            tuple(np.flatnonzero(row) for row in matched & ~ignored),
            tuple(~row if row.any() else None for row in ignored),
            to_find,
        )

    def precision(self, drawn: Array, recalls: Array) -> float | None:
        """Average precision where each image counts as often as it was ``drawn``; ``None`` where
        there is nothing to find."""
        to_find = int(self.to_find @ drawn)
        if not to_find:
            return None
        times = drawn[self.image]
        all_ = np.cumsum(times)
        each = []
        for hits, counted in zip(self.hits, self.counted, strict=True):
            hits = hits[times[hits] > 0]
            right = np.cumsum(times[hits])
            seen = all_ if counted is None else np.cumsum(times * counted)
            best = np.maximum.accumulate((right / seen[hits])[::-1])[::-1]
            places = np.searchsorted(right / to_find, recalls, side="left")
            each.append(float(np.append(best, 0.0)[places].mean()))
        return float(np.mean(each))


def interval(
    value: float, compared: Sequence[Compared], recalls: Array, images: int, seed: int
) -> Interval:
    """The interval of ``value``, the mean of all categories' precision.

    Images that are there twice make precision a little higher, so resamples lie around another
    value: their scatter is put around the score.
    """
    if images < FEWEST_IMAGES:
        return Interval(None, None, f"none: {images} samples are too few, {FEWEST_IMAGES} at least")
    boxes = sum(len(each.image) for each in compared)
    count = OF_MANY if boxes > MANY_BOXES else RESAMPLES
    random = np.random.default_rng(seed)
    values = []
    for _ in range(count):
        drawn = random.multinomial(images, np.full(images, 1 / images))
        found = [each.precision(drawn, recalls) for each in compared]
        defined = [value for value in found if value is not None]
        if defined:
            values.append(float(np.mean(defined)))
    edges = value + np.quantile(values, _COVERED) - np.mean(values)
    low, high = (float(edge) for edge in np.clip(edges, 0, 1))
    method = f"centred bootstrap over {images} images, {len(values)} resamples, seed {seed}"
    return Interval(low, high, method)
