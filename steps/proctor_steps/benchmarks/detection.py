"""Object detection with a YOLO-shaped model, as MLPerf's reference does it.

The model takes ``Bx3xHxW`` float32 RGB in 0..1 and gives ``Bx(4+C)xN``: per candidate cx, cy, w, h
in pixels of the input, then one score per class. A candidate counts for every class whose score
passes the threshold, as in the validation of the YOLO models' training code: the published
accuracies are made so.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from proctor_steps import MOST_PIXELS
from proctor_steps.benchmarks import coco, images
from proctor_steps.benchmarks.base import Array, Benchmark, Score, Signature, Task
from proctor_steps.stage import DataError

# The same in accuracy and performance mode: what is measured is what is scored.
CONFIDENCE = 0.001
IOU = 0.7
MAX_BOXES = 300
# Suppression is quadratic: a model that finds everything everywhere must not stall the run.
_MAX_CANDIDATES = 30_000
_FIRST = 4  # times the limit
_GREY = 114
# It takes arrays too, whatever its type hints say; a list of 10,000 boxes would cost milliseconds.
_NMS: Any = cv2.dnn.NMSBoxes


class Letterbox(NamedTuple):
    """How an image lies in the model's input: scale per axis and the padding's left and top."""

    scale_x: float
    scale_y: float
    left: int
    top: int


def letterbox(image: Array, height: int, width: int) -> tuple[Array, Letterbox]:
    """Fit a BGR image into ``height x width`` keeping its shape: centred, padded with grey 114.

    The long side is scaled to fit and the other rounded up, odd padding goes to the right and
    bottom, as in the validation of the YOLO models' training code.
    """
    rows, columns = image.shape[:2]
    ratio = min(height / rows, width / columns)
    new_w = min(int(np.ceil(columns * ratio - 1e-9)), width)
    new_h = min(int(np.ceil(rows * ratio - 1e-9)), height)
    if (new_w, new_h) != (columns, rows):
        image = cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    left, top = (width - new_w) // 2, (height - new_h) // 2
    canvas = np.full((height, width, 3), _GREY, np.uint8)
    canvas[top : top + new_h, left : left + new_w] = image
    return canvas, Letterbox(new_w / columns, new_h / rows, left, top)


def suppress(output: Array, confidence: float, iou: float, limit: int) -> tuple[Array, ...]:
    """Boxes (``n x 4``: x1, y1, x2, y2), scores and classes of one image, best first.

    ``output`` is ``(4+C) x N``. Suppression is per class; a candidate may stay for several.
    """
    scores = output[4:].ravel()
    found = np.flatnonzero(scores > confidence)
    # Suppression goes from the best down, and what is kept of the best k does not depend on the
    # rest: a thousand candidates mostly do, and tens of thousands would cost their square.
    size = _FIRST * limit
    while len(found) > size:
        best = found[np.argsort(-scores[found], kind="stable")[:size]]
        kept = _suppress(output, np.sort(best), confidence, iou)
        if len(kept[0]) >= limit or size == _MAX_CANDIDATES:
            break
        size = min(4 * size, _MAX_CANDIDATES)
    else:
        kept = _suppress(output, found, confidence, iou)
    return tuple(part[:limit] for part in kept)


def _suppress(output: Array, flat: Array, confidence: float, iou: float) -> tuple[Array, ...]:
    """:func:`suppress` for some candidates, given as ascending positions in the ``C x N`` scores.

    Ascending is class by class, so that each class is a slice: what is of another class need not
    be compared.
    """
    classes, candidates = np.divmod(flat, output.shape[1])
    scores = output[4:].ravel()[flat]
    boxes = np.empty((len(flat), 4))
    boxes[:] = output[:4, candidates].T
    boxes[:, :2] -= boxes[:, 2:] / 2
    edges = [0, *(np.flatnonzero(np.diff(classes)) + 1).tolist(), len(flat)]
    kept: list[int] = []
    for start, stop in pairwise(edges):
        if stop - start > 1:
            picked = _NMS(boxes[start:stop], scores[start:stop], confidence, iou)
            kept += (np.asarray(picked, np.intp) + start).tolist()
        else:
            kept += range(start, stop)
    # Of equal scores the first in ascending order, as within a class.
    order = np.asarray(kept, np.intp)
    order = order[np.argsort(-scores[order], kind="stable")]
    boxes = boxes[order]
    boxes[:, 2:] += boxes[:, :2]
    return boxes, scores[order], classes[order]


class _Fixed(NamedTuple):
    batch: int | None
    height: int
    width: int


@dataclass
class DetectionTask(Task):
    """Detection on one dataset with one model."""

    dataset: coco.Dataset
    fixed: _Fixed
    ids: Array
    boxes: dict[int, Letterbox]

    @property
    def count(self) -> int:
        """Images in the dataset."""
        return len(self.dataset.images)

    @property
    def fixed_batch(self) -> int | None:
        """Batch size that the model is fixed to."""
        return self.fixed.batch

    def load(self, index: int) -> Array:
        """The decoded image, BGR, as stored (EXIF orientation ignored, as COCO's boxes are)."""
        entry = self.dataset.images[index]
        image = images.read(entry.path)
        if image.shape[:2] != (entry.height, entry.width):
            raise DataError(
                f"{entry.path.name} is {image.shape[1]}x{image.shape[0]} pixels, the annotation "
                f"file says {entry.width}x{entry.height}: they are not of one dataset, or the "
                "image was resized; give those that belong together"
            )
        return image

    def preprocess(self, index: int, loaded: Array) -> Array:
        """``3 x H x W`` float32 RGB in 0..1."""
        canvas, self.boxes[index] = letterbox(loaded, self.fixed.height, self.fixed.width)
        planes = np.ascontiguousarray(canvas[:, :, ::-1].transpose(2, 0, 1), dtype=np.float32)
        planes *= np.float32(1 / 255)
        return planes

    def blank(self) -> Array:
        """A grey image."""
        shape = (3, self.fixed.height, self.fixed.width)
        return np.full(shape, _GREY / 255, np.float32)

    def check(self, outputs: Sequence[Array], batch: int) -> None:
        """One output ``batch x (4 + classes) x candidates``."""
        shape = tuple(outputs[0].shape) if outputs else ()
        wanted = 4 + len(self.ids)
        if len(shape) != 3 or shape[0] != batch or shape[1] != wanted:
            raise DataError(
                f"the model's output has shape {shape}; wanted is ({batch}, {wanted}, candidates): "
                f"4 coordinates and {len(self.ids)} class scores per candidate"
            )
        if not np.issubdtype(outputs[0].dtype, np.floating):
            raise DataError(f"the model's output is {outputs[0].dtype}; wanted is float32")
        _require_numbers(outputs[0], "a grey picture")

    def postprocess(self, outputs: Sequence[Array], indices: Sequence[int]) -> list[Any]:
        """Per image: boxes in pixels of the model's input, scores, classes."""
        found = outputs[0]
        _require_numbers(found, f"the samples {', '.join(map(str, indices[:8]))}")
        return [suppress(found[i], CONFIDENCE, IOU, MAX_BOXES) for i in range(len(indices))]

    def payload(self, index: int, answer: tuple[Array, ...]) -> Array:
        """``n x 7`` float32: qsl_idx, ymin, xmin, ymax, xmax (0..1), score, category id."""
        boxes, scores, classes = answer
        if not np.isfinite(boxes).all():
            raise DataError(
                f"NaN outputs: the model's coordinates for sample {index} are not finite; its "
                "weights are damaged, or its precision is too low for them: convert it anew"
            )
        image, box = self.dataset.images[index], self.boxes[index]
        rows = np.empty((len(boxes), 7), np.float32)
        rows[:, 0] = index
        for column, source, pad, size in (
            (1, 1, box.top, box.scale_y * image.height),
            (2, 0, box.left, box.scale_x * image.width),
            (3, 3, box.top, box.scale_y * image.height),
            (4, 2, box.left, box.scale_x * image.width),
        ):
            rows[:, column] = ((boxes[:, source] - pad) / size).clip(0, 1)
        rows[:, 5] = scores
        rows[:, 6] = self.ids[classes]
        return rows


def _require_numbers(output: Array, of: str) -> None:
    """Refuse what compares with nothing: NaN would count as "nothing found", silently.

    One pass over the scores, as ``max`` keeps a NaN: thousandths of the model's own time. What is
    not finite among the coordinates counts only where a box is made of it.
    """
    worst = output[:, 4:].max(initial=0)
    if not np.isfinite(worst):
        raise DataError(
            f"NaN outputs: the model's scores for {of} hold {worst}, of which no box can be made; "
            "its weights are damaged, or its precision is too low for them: convert it anew"
        )


class Detection(Benchmark):
    """Base of the detection benchmarks; they differ in their classes alone."""

    performance_samples = 64
    default_size: tuple[int, int]

    @abstractmethod
    def category_ids(self, dataset: coco.Dataset) -> tuple[int, ...]:
        """Category id of each class of the model, in the order of its scores."""

    def bind(self, dataset: Path, signature: Signature) -> DetectionTask:
        """Check images and model's input, before anything is timed."""
        data = coco.read(dataset)
        coco.require_files(data)
        ids = np.asarray(self.category_ids(data), np.float32)
        return DetectionTask(data, _input_shape(signature, self.default_size), ids, {})

    def samples(self, dataset: Path) -> int:
        """Images in the annotation file."""
        return len(coco.read(dataset).images)

    def score(
        self, answers: Sequence[tuple[int, bytes]], dataset: Path, seed: int | None = None
    ) -> Score:
        """Mean average precision by pycocotools."""
        from proctor_steps.accuracy.coco_map import score

        data = coco.read(dataset)
        return score(answers, data, self.category_ids(data), seed)


def _input_shape(signature: Signature, default: tuple[int, int]) -> _Fixed:
    if not signature.inputs:
        return _Fixed(None, *default)
    if len(signature.inputs) != 1:
        names = ", ".join(t.name for t in signature.inputs)
        raise DataError(f"the model has {len(signature.inputs)} inputs ({names}); wanted is one")
    tensor = signature.inputs[0]
    shape = tensor.shape
    if len(shape) != 4 or shape[1] not in (3, None):
        shown = "x".join("?" if d is None else str(d) for d in shape)
        raise DataError(f"the model's input {tensor.name!r} is {shown}; wanted is Nx3xHxW")
    if tensor.dtype != "float32":
        raise DataError(f"the model's input {tensor.name!r} is {tensor.dtype}; wanted is float32")
    height, width = shape[2] or default[0], shape[3] or default[1]
    if height * width > MOST_PIXELS:
        raise DataError(
            f"the model's input {tensor.name!r} is {height}x{width}, more than "
            f"{MOST_PIXELS:,} pixels; export the model with a smaller input"
        )
    return _Fixed(shape[0], height, width)
