"""The same as ``tuning`` of YOLO11n INT8, with a limit of 250 ms.

Needs the shared data. Two hours at most.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.endpoint import Place
from benchmarks.harness import SHARED, Bench, NotHere
from benchmarks.tuning import tried

_MODEL = SHARED / "yolo11n" / "yolo11n_int8_openvino_model"


def measure(bench: Bench) -> None:
    """Tune and try out."""
    if not _MODEL.is_dir():
        raise NotHere(f"there is no {_MODEL}")
    with tempfile.TemporaryDirectory(prefix="bench-tuning-") as folder:
        place = Place(Path(folder))
        tried(bench, "yolo", "openvino", 250, *place.yolo(), place.folder)
