"""MLPerf's ``yolo`` benchmark: object detection on the part of COCO val2017 that may be used.

The round's data for it is ``yolo`` in ``rounds/*.yaml``; results are submitted as ``yolo-95`` or
``yolo-99``, after the accuracy target that they meet.
"""

from __future__ import annotations

from proctor_steps.benchmarks.coco import Dataset
from proctor_steps.benchmarks.detection import Detection
from proctor_steps.stage import DataError

# The ids 1..90 of COCO's 80 categories; a YOLO model's class c is the c-th of them.
_UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_80_TO_91 = tuple(id_ for id_ in range(1, 91) if id_ not in _UNUSED)


class Yolo(Detection):
    """YOLO on COCO: 80 classes, ids of the 91-category numbering in the payload."""

    name = "yolo"
    config_key = "yolo"
    default_size = (640, 640)

    def category_ids(self, dataset: Dataset) -> tuple[int, ...]:
        """The 80 ids, whatever subset of them the annotation file lists."""
        unknown = [id_ for id_, _ in dataset.categories if id_ not in COCO_80_TO_91]
        if unknown:
            raise DataError(f"categories {unknown} of the annotation file are none of COCO's 80")
        return COCO_80_TO_91


BENCHMARK = Yolo()
