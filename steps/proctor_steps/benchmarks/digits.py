"""``digits``: the demo, a small detector on scenes of handwritten digits.

This is **no MLPerf benchmark**: no round has it, so a run of it is measured against the rules that
a round sets for the scenario in general (minimum duration, queries, early stopping, seeds), and can
never be official. It shares all its code with ``yolo``: only the classes differ.
"""

from __future__ import annotations

from proctor_steps.benchmarks.coco import Dataset
from proctor_steps.benchmarks.detection import Detection


class Digits(Detection):
    """Digits in scenes: a model's class c is the c-th category of the annotation file."""

    name = "digits"
    config_key = "digits"
    default_size = (192, 192)

    def category_ids(self, dataset: Dataset) -> tuple[int, ...]:
        """The ids in the annotation file's order."""
        return tuple(id_ for id_, _ in dataset.categories)


BENCHMARK = Digits()
