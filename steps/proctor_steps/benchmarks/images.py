"""Decoding pictures from outside: of bounded size, and whole or not at all."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from proctor_steps import MOST_PIXELS
from proctor_steps.benchmarks.base import Array
from proctor_steps.stage import DataError

_JPEG, _SCAN, _END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"


def read(path: Path) -> Array:
    """The picture as stored, BGR, 8 bits (EXIF orientation ignored, as COCO's boxes are).

    Grey, CMYK, palettes and 16 bits are converted, an alpha channel is dropped, of an animation
    the first picture counts.

    Raises:
        DataError: it is no picture, cut off, damaged, or beyond ``MOST_PIXELS``.
    """
    data = path.read_bytes()
    if data.startswith(_JPEG) and _cut_off(data):
        raise DataError(
            f"{path.name} is cut off: a JPEG without its end, of which a decoder would make a "
            "picture that is grey below. Fetch it anew"
        )
    image = decode(data, path.name)
    if image is None:
        raise DataError(
            f"{path.name} cannot be decoded as an image: it is damaged, cut off or of another "
            "kind. Fetch it anew"
        )
    return image


def decode(data: bytes, name: str) -> Array | None:
    """A picture in memory, BGR; ``None`` where it is none that can be decoded.

    Raises:
        DataError: it is beyond ``MOST_PIXELS``, or memory does not suffice.
    """
    how = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), how) if data else None
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        if "MAX_IMAGE" not in str(error):
            return None
        raise DataError(
            f"{name} has more than {MOST_PIXELS:,} pixels and is taken for a decompression bomb; "
            "make it smaller, and its annotations with it"
        ) from error


def _cut_off(data: bytes) -> bool:
    """Whether a JPEG's last scan has no end: the decoder only warns of it, on the terminal."""
    return data.find(_END, max(data.rfind(_SCAN), 0)) < 0
