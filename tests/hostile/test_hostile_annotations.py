"""Annotation files that are cut off, of another dataset, or made to do harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile_data as data
import pytest
from hostile_kit import DATA, STEP, Programs

Spoil = Callable[[dict[str, Any]], object]


def _rename(value: dict[str, Any]) -> None:
    for image in value["images"]:
        image["file_name"] = f"other-{image['file_name']}"


# what is done to a good file's value, and what is said
BAD: dict[str, tuple[Spoil, str]] = {
    "of another dataset": (_rename, "4 of 4 image files missing: other-0.png"),
    "no free licence": (
        lambda v: v["licenses"][0].update(url="https://all.rights/reserved"),
        "none of its 4 images has a licence that the rule 'mlperf' allows",
    ),
    "no licences": (lambda v: v.pop("licenses"), "licenses: missing"),
    "no images": (lambda v: v.update(images=[]), "images: empty"),
    "a name that leads out": (
        lambda v: v["images"][1].update(file_name="../../../etc/passwd"),
        "images[1].file_name: '../../../etc/passwd', a plain file name",
    ),
    "one id for two images": (
        lambda v: v["images"][2].update(id=1),
        "images[2].id: 1 is images[0]'s already",
    ),
    "a width below nothing": (lambda v: v["images"][0].update(width=-5), "images[0].width: -5"),
    "a box of a negative size": (
        lambda v: v["annotations"][0].update(bbox=[1, 1, -2, 4]),
        "annotations[0].bbox: [1, 1, -2, 4], [x, y, width, height] in pixels was expected",
    ),
    "a box of an image that is not there": (
        lambda v: v["annotations"][3].update(image_id=99),
        "annotations[3].image_id: 99 is none of images",
    ),
    "numbers that no float holds": (
        lambda v: v["annotations"][0].update(area=10**400),
        "annotations[0].area",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_of_the_wrong_content(programs: Programs, name: str) -> None:
    spoil, phrase = BAD[name]
    made = data.dataset(programs.root / "data")
    path = made / "annotations" / "instances_val2017.json"
    value = json.loads(path.read_bytes())
    spoil(value)
    path.write_text(json.dumps(value))
    filter_coco(programs, made).refuses(phrase, code=DATA)


_GOOD = json.dumps(data.coco({"0.png": (data.WIDTH, data.HEIGHT)}))
TEXTS = {
    "cut off": (_GOOD[: len(_GOOD) // 2].encode(), "not valid JSON"),
    "empty": (b"", "not valid JSON"),
    "no JSON": (b"images: []\n", "not valid JSON"),
    "binary": (bytes(range(128, 256)) * 9, "not text"),
    "a box of NaN": (_GOOD.replace("[0, 0,", "[NaN, 0,").encode(), "NaN is no value that JSON has"),
    "a box of 1e400": (_GOOD.replace("[0, 0,", "[1e400, 0,").encode(), "annotations[0].bbox"),
    "200 MB of brackets": (b"[" * 200_000_000, "maximum recursion depth exceeded"),
    "captions": (
        _GOOD.replace('"bbox"', '"caption": "a dog", "bbox"').encode(),
        "this is a captions_*.json",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_of_the_wrong_text(programs: Programs, name: str) -> None:
    content, phrase = TEXTS[name]
    made = data.dataset(programs.root / "data")
    path = made / "annotations" / "instances_val2017.json"
    path.write_bytes(content)
    filter_coco(programs, made).refuses("instances_val2017.json", phrase, code=DATA)


def test_after_a_bad_file_the_same_folder_takes_a_good_one(programs: Programs) -> None:
    made, out = data.dataset(programs.root / "data"), programs.root / "out"
    path = made / "annotations" / "instances_val2017.json"
    good = path.read_bytes()
    path.write_bytes(good[:-9])
    filter_coco(programs, made, out).refuses("not valid JSON", code=DATA)
    path.write_bytes(good)
    filter_coco(programs, made, out).succeeds()


def test_memory_that_does_not_suffice(programs: Programs) -> None:
    """A file that is small beside what it becomes: the limit ends it in words."""
    made = data.dataset(programs.root / "data")
    path = made / "annotations" / "instances_val2017.json"
    path.write_bytes(b"[" + b"[]," * 12_000_000 + b"[]]")
    inputs = {"images": made, "annotations": made / "annotations"}
    said = programs.stage("dataset filter-coco", {}, inputs, memory=900 << 20)
    said.refuses("the step ran out of memory; give it more (resources.memory)", code=STEP)


def test_a_dataset_that_nobody_filtered(programs: Programs, good_model: Path) -> None:
    """What filter-coco would refuse is refused by the run, too, where somebody skips it."""
    made = data.dataset(programs.root / "data")
    path = made / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text().replace('"width": 48', '"width": 1e400'))
    inputs = {"dataset": made, "model": good_model}
    said = programs.stage("loadgen run", data.OFFLINE, inputs)
    said.refuses("instances_val2017.json", code=DATA)


def filter_coco(programs: Programs, made: Path, out: Path | None = None) -> Any:
    inputs = {"images": made, "annotations": made / "annotations"}
    return programs.stage("dataset filter-coco", {}, inputs, out)
