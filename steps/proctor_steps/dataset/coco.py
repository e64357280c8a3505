"""Reading a COCO annotation file from outside: what is wrong with it, all at once, by key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proctor_steps.stage import DataError

_SHOWN = 20
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Coco:
    """A checked annotation file; ``whole`` is all of it, as it was.

    ``licensed``: every image has a licence of the file's list; otherwise that was not looked at.
    """

    whole: Mapping[str, Any]
    licensed: bool = True

    @property
    def images(self) -> Sequence[Entry]:
        """``images``, in their order."""
        return self.whole["images"]  # type: ignore[no-any-return]

    @property
    def annotations(self) -> Sequence[Entry]:
        """``annotations``: the boxes."""
        return self.whole["annotations"]  # type: ignore[no-any-return]

    @property
    def licences(self) -> Sequence[Entry]:
        """``licenses``, in the file's spelling; none where the file was taken without."""
        return self.whole.get("licenses", []) if self.licensed else []


def load_json(path: Path, where: str) -> Any:
    """A JSON file's value.

    Raises:
        DataError: it is not JSON, by line and column.
    """
    try:
        return json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}:{error.lineno}:{error.colno}: not valid JSON ({error.msg}); the file is "
            "damaged or cut off, fetch it anew"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not text ({error.reason}), so no JSON; check the URI") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: no annotation file ({error}); check the URI") from error


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no value that JSON has")


def check_coco(value: Any, where: str, licensed: bool = True) -> Coco:
    """Check that a value has the shape of COCO's instances files.

    Args:
        licensed: whether every image has to have a licence.

    Raises:
        DataError: lists what is wrong, by key.
    """
    lists = ("images", "annotations", "categories", *(["licenses"] if licensed else []))
    problems = list(_shape(value, lists))
    if not problems:
        problems = [*_categories(value), *_images(value), *_boxes(value)]
    if not problems and licensed:
        problems = list(_licences(value))
    if problems:
        more = f"\n  … and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise DataError(
            f"{where} is not a COCO instances file that can be used:\n"
            + "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
            + f"{more}\nGive the instances_*.json that belongs to the images."
        )
    return Coco(value, licensed)


def _shape(value: Any, lists: Sequence[str]) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"the top is a {type(value).__name__}, an object was expected"
        return
    for key in lists:
        if key not in value:
            yield f"{key}: missing"
        elif not isinstance(value[key], list):
            yield f"{key}: a {type(value[key]).__name__}, a list was expected"
        else:
            for index, entry in enumerate(value[key]):
                if not isinstance(entry, dict):
                    kind = type(entry).__name__
                    yield f"{key}[{index}]: a {kind}, an object was expected"
    if isinstance(value.get("images"), list) and not value["images"]:
        yield "images: empty"


def _licences(value: Entry) -> Iterator[str]:
    yield from _fields("licenses", value["licenses"], {"id": _is_int, "url": _is_text})
    yield from _twice("licenses", value["licenses"], "id")
    yield from _fields("images", value["images"], {"license": _is_int})
    yield from _points("images", value["images"], "license", "licenses", _ids(value["licenses"]))


def _categories(value: Entry) -> Iterator[str]:
    yield from _fields("categories", value["categories"], {"id": _is_int, "name": _is_text})
    yield from _twice("categories", value["categories"], "id")


def _images(value: Entry) -> Iterator[str]:
    images = value["images"]
    checks = {
        "id": _is_int,
        "file_name": _is_file_name,
        "width": _is_size,
        "height": _is_size,
    }
    yield from _fields("images", images, checks)
    yield from _twice("images", images, "id")
    yield from _twice("images", images, "file_name")


def _boxes(value: Entry) -> Iterator[str]:
    boxes = value["annotations"]
    if boxes and all("caption" in box for box in boxes):
        yield "annotations: captions, not boxes; this is a captions_*.json"
        return
    checks = {
        "id": _is_int,
        "image_id": _is_int,
        "category_id": _is_int,
        "bbox": _is_box,
        "area": _is_number,
        "iscrowd": _is_flag,
    }
    yield from _fields("annotations", boxes, checks)
    yield from _twice("annotations", boxes, "id")
    yield from _points("annotations", boxes, "image_id", "images", _ids(value["images"]))
    yield from _points("annotations", boxes, "category_id", "categories", _ids(value["categories"]))


def _fields(
    key: str, entries: Sequence[Entry], checks: Mapping[str, Callable[[Any], str]]
) -> Iterator[str]:
    for index, entry in enumerate(entries):
        for field, expects in checks.items():
            if field not in entry:
                yield f"{key}[{index}].{field}: missing"
            elif expected := expects(entry[field]):
                yield f"{key}[{index}].{field}: {_short(entry[field])}, {expected} was expected"


def _twice(key: str, entries: Sequence[Entry], field: str) -> Iterator[str]:
    first: dict[Any, int] = {}
    for index, entry in enumerate(entries):
        value = entry.get(field)
        if isinstance(value, int | str) and first.setdefault(value, index) != index:
            yield f"{key}[{index}].{field}: {_short(value)} is {key}[{first[value]}]'s already"


def _points(
    key: str, entries: Sequence[Entry], field: str, to: str, ids: frozenset[int]
) -> Iterator[str]:
    for index, entry in enumerate(entries):
        value = entry.get(field)
        if isinstance(value, int) and value not in ids:
            yield f"{key}[{index}].{field}: {value} is none of {to}"


def _ids(entries: Sequence[Entry]) -> frozenset[int]:
    return frozenset(e["id"] for e in entries if isinstance(e.get("id"), int))


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else text[:60] + "…"


# Each check answers with what was expected, or with an empty text where the value is good.


def _is_int(value: Any) -> str:
    return "" if isinstance(value, int) and not isinstance(value, bool) else "a whole number"


def _is_text(value: Any) -> str:
    return "" if isinstance(value, str) and value else "a text"


def _is_size(value: Any) -> str:
    return "" if not _is_int(value) and value > 0 else "a whole number above 0"


def _is_number(value: Any) -> str:
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return "" if good else "a number"


def _is_flag(value: Any) -> str:
    return "" if not _is_int(value) and value in (0, 1) else "0 or 1"


def _is_box(value: Any) -> str:
    good = isinstance(value, list) and len(value) == 4 and not any(map(_is_number, value))
    return "" if good and value[2] >= 0 and value[3] >= 0 else "[x, y, width, height] in pixels"


def _is_file_name(value: Any) -> str:
    good = isinstance(value, str) and value not in ("", ".", "..") and "/" not in value
    clean = good and value.isprintable() and "\\" not in value
    return "" if clean else "a plain file name, without folders"
