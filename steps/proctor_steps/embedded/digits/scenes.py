"""Real handwritten digits, composed into small pictures with COCO annotations.

Everything here is integer arithmetic on ``random.Random`` draws, so the same seed gives the same
pixels on every machine. The pictures vary as photographs do: size, shape, light, colour, how many
things are in them and how large those are; some hold nothing.
"""

from __future__ import annotations

import json
import random
import struct
import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes2D = npt.NDArray[np.uint8]
Ints2D = npt.NDArray[np.int64]

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# scikit-learn's file goes writer by writer, so a cut (not a shuffle) keeps most writers apart:
# the digits from here on are for evaluation alone.
FIRST_EVALUATION_DIGIT = 1250

SHAPES = ((160, 160), (192, 128), (128, 192), (224, 160), (160, 224), (192, 192))  # width, height
DIGIT_HEIGHTS = (22, 26, 32, 38, 46, 56)
LEVELS = 32  # few grey levels: a PNG of 3 to 5 KB instead of 20
INK = 80  # of 255; the box encloses every pixel with at least so much ink

# COCO's own list. The evaluation scenes take these ids in turn (see LICENCE_TURNS).
LICENSES = (
    ("Attribution-NonCommercial-ShareAlike License", "creativecommons.org/licenses/by-nc-sa/2.0/"),
    ("Attribution-NonCommercial License", "creativecommons.org/licenses/by-nc/2.0/"),
    ("Attribution-NonCommercial-NoDerivs License", "creativecommons.org/licenses/by-nc-nd/2.0/"),
    ("Attribution License", "creativecommons.org/licenses/by/2.0/"),
    ("Attribution-ShareAlike License", "creativecommons.org/licenses/by-sa/2.0/"),
    ("Attribution-NoDerivs License", "creativecommons.org/licenses/by-nd/2.0/"),
    ("No known copyright restrictions", "flickr.com/commons/usage/"),
    ("United States Government Work", "www.usa.gov/copyright.shtml"),
)
LICENCE_TURNS = (4, 1, 5, 4, 3, 6, 4, 5, 2, 7, 4, 8)  # 9 of 12 pass MLPerf's rule


@dataclass(frozen=True)
class Thing:
    """One digit in a scene: what it is (0..9) and its box in pixels."""

    digit: int
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Scene:
    """``levels`` (height x width, 0 paper .. 31 ink) seen through a palette of RGB colours."""

    levels: Bytes2D
    palette: Bytes2D
    things: tuple[Thing, ...]

    def rgb(self) -> npt.NDArray[np.uint8]:
        """The picture as height x width x 3."""
        return np.asarray(self.palette[self.levels])


def load_digits() -> tuple[Ints2D, npt.NDArray[np.int64]]:
    """scikit-learn's 1,797 digits: 8x8 with 0..16, and which digit each is."""
    from sklearn.datasets import load_digits as load

    data = load()
    return data.images.astype(np.int64), data.target.astype(np.int64)


def evaluation_scenes(count: int = 96, seed: int = 61) -> list[Scene]:
    """The committed scenes. Each evaluation digit is used once at most."""
    images, labels = load_digits()
    chance = random.Random(seed)  # noqa: S311 (pictures, not secrets)
    unused = list(range(FIRST_EVALUATION_DIGIT, len(labels)))
    chance.shuffle(unused)
    scenes = []
    for number in range(count):
        wanted = 0 if number % 24 == 7 else chance.choice((1, 3, 4, 5, 6, 7, 8))
        taken = [unused.pop() for _ in range(wanted)]
        scenes.append(compose([images[i] for i in taken], [int(labels[i]) for i in taken], chance))
    return scenes


def compose(digits: list[Ints2D], labels: list[int], chance: random.Random) -> Scene:
    """Place the digits where there is room; one that finds no room is left out."""
    width, height = chance.choice(SHAPES)
    values = _paper(width, height, chance)
    things: list[Thing] = []
    for digit, label in zip(digits, labels, strict=True):
        patch = enlarge(digit, chance.choice(DIGIT_HEIGHTS), chance.randint(85, 115))
        rows, columns = np.nonzero(patch >= INK)
        patch = patch[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        thing = _place(patch, label, (width, height), things, chance)
        if thing is not None:
            things.append(thing)
            _blend(values, patch * chance.randint(70, 100) // 100, thing)
    return Scene((values * LEVELS // 256).astype(np.uint8), _palette(chance), tuple(things))


def enlarge(digit: Ints2D, height: int, aspect: int) -> Ints2D:
    """An 8x8 digit at a new size (width = height x aspect %), 0..255, cubic interpolation."""
    across, down = _weights(height * aspect // 100), _weights(height)
    return np.asarray(np.clip((down @ digit @ across.T) * 16 >> 24, 0, 255))


def _weights(size: int) -> Ints2D:
    """Catmull-Rom weights from 8 points to ``size`` points, in 4096ths."""
    at = (np.arange(size) + 0.5) * 8 / size - 0.5
    distance = np.abs(at[:, None] - np.arange(8)[None, :])
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    return np.asarray(np.rint(weights * 4096), dtype=np.int64)


def _paper(width: int, height: int, chance: random.Random) -> Ints2D:
    """A background lit unevenly: a linear slope of grey, 0..255."""
    base, right, down = chance.randint(0, 40), chance.randint(-30, 30), chance.randint(-30, 30)
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    return np.asarray(np.clip(base + right * x // width + down * y // height, 0, 255))


def _palette(chance: random.Random) -> Bytes2D:
    """From paper to ink, through colours: dark on light, or chalk on a board."""
    light = [chance.randint(200, 255) for _ in range(3)]
    dark = [chance.randint(0, 80) for _ in range(3)]
    paper, ink = (dark, light) if chance.random() < 0.25 else (light, dark)
    steps = np.arange(LEVELS)[:, None]
    colours = (np.array(paper) * (LEVELS - 1 - steps) + np.array(ink) * steps) // (LEVELS - 1)
    return colours.astype(np.uint8)


def _place(
    patch: Ints2D,
    label: int,
    size: tuple[int, int],
    things: list[Thing],
    chance: random.Random,
) -> Thing | None:
    height, width = patch.shape
    for _ in range(40):
        x, y = chance.randint(2, size[0] - width - 2), chance.randint(2, size[1] - height - 2)
        thing = Thing(label, x, y, width, height)
        if all(_overlap(thing, other) <= 0.1 for other in things):
            return thing
    return None


def _overlap(one: Thing, other: Thing) -> float:
    """Shared area as a part of the smaller box."""
    across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    smaller = min(one.width * one.height, other.width * other.height)
    return max(across, 0) * max(down, 0) / smaller


def _blend(values: Ints2D, patch: Ints2D, thing: Thing) -> None:
    rows, columns = slice(thing.y, thing.y + thing.height), slice(thing.x, thing.x + thing.width)
    below = values[rows, columns]
    values[rows, columns] = np.maximum(below + (255 - below) * patch // 255, below)


def png(scene: Scene) -> bytes:
    """A PNG with a palette, written by hand: no library's version changes its bytes but zlib's."""
    height, width = scene.levels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in scene.levels)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"PLTE", scene.palette.tobytes())]
    chunks += [(b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def image_id(number: int) -> int:
    """Ids that jump, so that neither they nor the file names are in the order of the list."""
    return 1009 + (number * 37) % 97 * 61


def file_name(number: int) -> str:
    """COCO's way: the id with twelve digits."""
    return f"{image_id(number):012d}.png"


def coco(scenes: list[Scene]) -> dict[str, Any]:
    """The annotations of the scenes as COCO's instances file has them."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, scene in enumerate(scenes):
        height, width = scene.levels.shape
        images.append(
            {
                "license": LICENCE_TURNS[number % len(LICENCE_TURNS)],
                "file_name": file_name(number),
                "height": height,
                "width": width,
                "id": image_id(number),
            }
        )
        for thing in scene.things:
            annotations.append(
                {
                    "area": thing.width * thing.height,
                    "iscrowd": 0,
                    "image_id": image_id(number),
                    "bbox": [thing.x, thing.y, thing.width, thing.height],
                    "category_id": thing.digit + 1,
                    "id": len(annotations) + 1,
                }
            )
    return {
        "info": {
            "description": "scikit-learn's handwritten digits composed into scenes",
            "url": "https://archive.ics.uci.edu/dataset/80",
            "version": "1.0",
            "contributor": "E. Alpaydin and C. Kaynak (digits), Proctor (scenes)",
            "date_created": "2026/11/21",
        },
        "licenses": [
            {"url": f"http://{url}", "id": number, "name": name}
            for number, (name, url) in enumerate(LICENSES, 1)
        ],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"supercategory": "digit", "id": number, "name": name}
            for number, name in enumerate(NAMES, 1)
        ],
    }


def annotations_json(scenes: list[Scene]) -> bytes:
    """:func:`coco` as bytes, one image or annotation a line so that a change can be read."""
    parts = []
    for key, value in coco(scenes).items():
        text = json.dumps(value)
        if isinstance(value, list):
            text = "[\n" + ",\n".join(json.dumps(entry) for entry in value) + "\n]"
        parts.append(f"{json.dumps(key)}: {text}")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


def scenes_zip(scenes: list[Scene]) -> bytes:
    """The pictures in one archive whose bytes hold no clock."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted((file_name(n), png(s)) for n, s in enumerate(scenes)):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, data)
    return buffer.getvalue()
