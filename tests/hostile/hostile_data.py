"""Good datasets, pictures and models, small, and the ways to spoil them."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

WIDTH, HEIGHT, SIDE = 48, 40, 32
OFFLINE = {"benchmark": "digits", "backend": "onnxruntime", "scenario": "Offline", "threads": 1}
OFFLINE |= {"mode": "accuracy"}
FREE = "https://creativecommons.org/licenses/by/2.0/"

# Eight by eight pixels, as printers' programs write them.
CMYK_JPEG = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAbEhQXFBEbFxYXHhwbIChCKyglJShROj0wQmBVZWRfVV1baniZgWpxkHNbXYW1"
    "hpCeo6utq2eAvMm6pseZqKuk/8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EABUAAQEAAAAAAAAAAAAAAAAAAAUG/8QAFBAB"
    "AAAAAAAAAAAAAAAAAAAAAP/aAA4EQwBNAFkASwAAPwCjEnV5/9k="
)


def pixels(width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def coco(names: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """An annotation file for pictures: name -> width and height. One box on each."""
    images = [
        {"id": i, "file_name": name, "width": size[0], "height": size[1], "license": 1}
        for i, (name, size) in enumerate(names.items(), 1)
    ]
    box = {"category_id": 3, "bbox": [0, 0, 1, 1], "area": 1.0, "iscrowd": 0}
    return {
        "licenses": [{"id": 1, "url": FREE, "name": "free"}],
        "categories": [{"id": 3, "name": "three"}, {"id": 7, "name": "seven"}],
        "images": images,
        "annotations": [{"id": image["id"], "image_id": image["id"], **box} for image in images],
    }


def dataset(root: Path, changed: Mapping[str, bytes] | None = None, **sizes: Any) -> Path:
    """Four pictures and what is on them. ``changed``: other bytes for pictures by name."""
    (root / "val2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    names = {f"{i}.png": (WIDTH, HEIGHT) for i in range(4)}
    for i, name in enumerate(names):
        cv2.imwrite(str(root / "val2017" / name), pixels(seed=i))
    for name, data in (changed or {}).items():
        (root / "val2017" / name).write_bytes(data)
    text = json.dumps(coco({**names, **sizes.get("sizes", {})}))
    (root / "annotations" / "instances_val2017.json").write_text(text)
    return root


def model(
    root: Path,
    output: Any = 0.5,
    shape: tuple[int, ...] = (1, 6, 12),
    taken: tuple[int, ...] = (1, 3, SIDE, SIDE),
    dtype: Any = np.float32,
    taken_type: int = TensorProto.FLOAT,
) -> Path:
    """A model whose output is always the same: ``output``, of that shape and type."""
    root.mkdir(parents=True)
    constant = np.broadcast_to(np.asarray(output, dtype), shape).copy()
    tensor = numpy_helper.from_array(constant, "constant")
    graph = helper.make_graph(
        [helper.make_node("Identity", ["constant"], ["output0"])],
        "constant",
        [helper.make_tensor_value_info("images", taken_type, taken)],
        [helper.make_tensor_value_info("output0", tensor.data_type, shape)],
        [tensor],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, str(root / "model.onnx"))
    return root


# Pictures


def encoded(suffix: str, image: NDArray[Any] | None = None) -> bytes:
    done, data = cv2.imencode(suffix, pixels() if image is None else image)
    assert done
    return bytes(data)


def animation(suffix: str, folder: Path) -> bytes:
    """Two pictures, one after the other."""
    path = folder / f"animation{suffix}"
    made = cv2.Animation()
    made.frames, made.durations = [pixels(seed=1), pixels(seed=2)], [100, 100]
    assert cv2.imwriteanimation(str(path), made)
    return path.read_bytes()


def png(width: int, height: int, kind: int, depth: int, row: bytes, *chunks: bytes) -> bytes:
    """A PNG whose rows are all the same. ``kind``: 0 grey, 3 palette."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(b"\0" + row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = [_chunk(b"IHDR", head), *chunks, _chunk(b"IDAT", rows), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def palette_png() -> bytes:
    """Two colours, the second half transparent."""
    colours = _chunk(b"PLTE", bytes([200, 10, 10, 10, 10, 200]))
    return png(
        WIDTH,
        HEIGHT,
        3,
        8,
        bytes(i % 2 for i in range(WIDTH)),
        colours,
        _chunk(b"tRNS", b"\xff\x80"),
    )


def bomb_png(side: int = 20_000) -> bytes:
    """Some 50 kB that a decoder makes 1.2 GB of."""
    return png(side, side, 0, 1, bytes(side // 8))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
