"""A COCO-format dataset as its samples see it: images in the order of the annotation file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from proctor_steps.stage import DataError

ANNOTATIONS = "annotations/instances_val2017.json"
IMAGES = "val2017"
_SHOWN = 10


@dataclass(frozen=True)
class Image:
    """One image; sizes in pixels, as the annotation file has them."""

    id: int
    path: Path
    width: int
    height: int


@dataclass(frozen=True)
class Dataset:
    """``images[i]`` is sample ``i``. The order is the file's own, which need not be sorted."""

    root: Path
    images: tuple[Image, ...]
    categories: tuple[tuple[int, str], ...]


@lru_cache(maxsize=2)
def read(root: Path) -> Dataset:
    """Read the annotation file of a dataset folder.

    Raises:
        DataError: no such file, not COCO, or no image in it.
    """
    content = load(root)
    try:
        images = tuple(_image(root, entry) for entry in content["images"])
        categories = tuple((int(c["id"]), str(c["name"])) for c in content["categories"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{ANNOTATIONS} is no COCO file: {type(error).__name__} {error}") from error
    if not images:
        raise DataError(f"{ANNOTATIONS} lists no image; there is nothing to run on")
    return Dataset(root, images, categories)


def load(root: Path) -> Any:
    """The annotation file's value, less the outlines: most of the file, and nothing here uses them.

    Raises:
        DataError: no such file, or no JSON.
    """
    path = root / ANNOTATIONS
    if not path.is_file():
        raise DataError(f"the dataset has no {ANNOTATIONS}; give it the output of filter-coco")
    try:
        return json.loads(path.read_bytes(), object_hook=_without_outline)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{ANNOTATIONS} is no COCO file: {type(error).__name__} {error}") from error


def _without_outline(value: dict[str, Any]) -> dict[str, Any]:
    value.pop("segmentation", None)
    return value


def require_files(dataset: Dataset) -> None:
    """Refuse a dataset with images missing on disk: skipping one would shift every index."""
    missing = [image.path.name for image in dataset.images if not image.path.is_file()]
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise DataError(
            f"{len(missing)} of {len(dataset.images)} images are not in {IMAGES}/: {shown}"
        )


def _image(root: Path, entry: dict[str, Any]) -> Image:
    name, width, height = str(entry["file_name"]), int(entry["width"]), int(entry["height"])
    if Path(name).name != name or "\0" in name:
        raise ValueError(f"of the file name {name!a}, which is no plain one without folders")
    if width < 1 or height < 1:
        raise ValueError(f"of the size {width}x{height} of {name!a}")
    return Image(int(entry["id"]), root / IMAGES / name, width, height)
