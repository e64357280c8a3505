"""A few pictures of the evidence, with what was found on them and what is there."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from proctor_steps.report.evidence import Box, Example
from proctor_steps.stage import DataError

SHOWN_SCORE = 0.4  # below this a page of boxes says nothing; the scorer sees them all
MATCH_IOU = 0.5
WIDEST = 400  # pixels of an embedded picture
SMALL_ENOUGH = 24_000  # bytes up to which a file is embedded as it is


@dataclass(frozen=True)
class Picture:
    """One figure of the page: the drawing and the sentence below it."""

    name: str
    drawing: Markup
    right: int
    wrong: int
    missed: int
    source: str = ""


def draw(
    example: Example, folder: Path | None, names: Mapping[int, str], source: str = ""
) -> Picture:
    """The picture (where its file is there) under its boxes, as one SVG."""
    truth = [box for box in example.ground_truth if not box.iscrowd]
    crowds = [box for box in example.ground_truth if box.iscrowd]
    shown = [box for box in example.detections if (box.score or 0) >= SHOWN_SCORE]
    shown = [box for box in shown if not any(_inside(box, crowd) for crowd in crowds)]
    matched = match(shown, truth)
    right = {d for d, _ in matched}
    seen = {t for _, t in matched}
    missed = [box for i, box in enumerate(truth) if i not in seen]
    parts = [_image(example, folder)]
    parts += [_box(box, "missed", _name(box, names), example) for box in missed]
    for i, box in enumerate(shown):
        label = f"{_name(box, names)} {box.score:.2f}"
        parts.append(_box(box, "right" if i in right else "wrong", label, example))
    counts = len(right), len(shown) - len(right), len(missed)
    text = f"{example.file_name}: {counts[0]} found, {counts[1]} wrong, {counts[2]} missed"
    drawing = Markup(
        '<svg class="picture" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(example.width, example.height, text, Markup("").join(parts))
    return Picture(example.file_name, drawing, *counts, source)


def match(found: Sequence[Box], truth: Sequence[Box]) -> list[tuple[int, int]]:
    """Pairs (found, truth) of the same category with IoU of 0.5 at least, best score first."""
    free, pairs = set(range(len(truth))), []
    for i in sorted(range(len(found)), key=lambda k: -(found[k].score or 0)):
        same = [t for t in free if truth[t].category == found[i].category]
        best = max(same, key=lambda t: iou(found[i].bbox, truth[t].bbox), default=None)
        if best is not None and iou(found[i].bbox, truth[best].bbox) >= MATCH_IOU:
            free.discard(best)
            pairs.append((i, best))
    return pairs


def iou(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes x, y, width, height."""
    shared = _shared(one, other)
    union = one[2] * one[3] + other[2] * other[3] - shared
    return shared / union if union > 0 else 0.0


def _shared(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float]
) -> float:
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(across, 0.0) * max(down, 0.0)


def _inside(box: Box, crowd: Box) -> bool:
    """COCO's rule for crowds: the part of the box that lies in the region counts."""
    area = box.bbox[2] * box.bbox[3]
    part = _shared(box.bbox, crowd.bbox) / area if area > 0 else 0.0
    return box.category == crowd.category and part >= MATCH_IOU


def _name(box: Box, names: Mapping[int, str]) -> str:
    return names.get(box.category) or f"category {box.category}"


def _box(box: Box, kind: str, label: str, example: Example) -> Markup:
    x, y, width, height = box.bbox
    size = max(example.width, example.height)
    text = size / 26
    # Near the right edge the label ends with its box, elsewhere it begins with it.
    last = x + text * len(label) * 0.65 > example.width
    at, anchor = (min(x + width, example.width), "end") if last else (max(x, 0.0), "start")
    return Markup(
        '<g class="box {}"><title>{}</title>'
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" stroke-width="{:.1f}"/>'
        '<text x="{:.1f}" y="{:.1f}" font-size="{:.1f}" stroke-width="{:.1f}" '
        'text-anchor="{}">{}</text></g>'
    ).format(
        kind, f"{kind}: {label}", x, y, width, height, size / 190,
        at, _baseline(box, kind, text, example.height), text, text / 5,
        anchor, label,
    )  # fmt: skip


def _baseline(box: Box, kind: str, text: float, height: float) -> float:
    """Right above, wrong below, as two answers for one thing must both be read; never outside."""
    top, bottom = box.bbox[1], box.bbox[1] + box.bbox[3]
    above, below = top - text * 0.35, bottom + text
    if kind == "wrong":
        return below if below < height else bottom - text * 0.3
    return above if above > text else min(below, height - text * 0.3)


def _image(example: Example, folder: Path | None) -> Markup:
    path = _file(example.file_name, folder)
    data = _embedded(path) if path else None
    if data is None:
        return Markup('<rect class="no-picture" width="100%" height="100%"/>')
    return Markup('<image href="{}" width="{}" height="{}"/>').format(
        data, example.width, example.height
    )


def _file(name: str, folder: Path | None) -> Path | None:
    """The picture's path; a name that leads out of the dataset is not followed."""
    if folder is None:
        return None
    root = folder.resolve()
    for path in (root / "val2017" / name, root / name):
        if path.is_file() and path.resolve().is_relative_to(root):
            return path
    return None


def _embedded(path: Path) -> str | None:
    """The picture as a data URI: small PNG or JPEG files as they are, others made smaller."""
    kinds = {b"\x89PNG": "image/png", b"\xff\xd8\xff\xe0": "image/jpeg"}
    data = path.read_bytes()
    kind = kinds.get(data[:4])
    if kind is None or len(data) > SMALL_ENOUGH:
        smaller = _smaller(data)
        if smaller is None:
            return None
        kind, data = "image/jpeg", smaller
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _smaller(data: bytes) -> bytes | None:
    import cv2

    from proctor_steps.benchmarks import images

    try:
        image = images.decode(data, "the picture")
    except DataError:
        return None
    if image is None:
        return None
    scale = min(1.0, WIDEST / max(image.shape[:2]))
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    done, out = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 78])
    return bytes(out) if done else None
