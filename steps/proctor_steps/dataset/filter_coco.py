"""``dataset filter-coco``: keep the COCO images whose licence MLPerf allows.

The rule is that of the reference's create_safe_annotations.py: by the licence's URL, in the
order of the annotation file (which is not that of the ids), images without boxes included. The
annotation file takes the name that the scorers open; under another they would map sample indices
into the unfiltered list.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue

from proctor_steps.contract import write_atomically
from proctor_steps.dataset.coco import Coco, check_coco, load_json
from proctor_steps.stage import DataError, Stage, StageParams, StepIO

ANNOTATIONS = "instances_val2017.json"
IMAGES = "val2017"
_SHOWN = 20
# What the URL of a licence has to hold, in lower case. "by-nd" has no closing slash in the
# reference either; "by-nc-nd" does not hold "licenses/by-nd".
MLPERF_LICENCES = (
    "creativecommons.org/licenses/by/",
    "creativecommons.org/licenses/by-sa/",
    "creativecommons.org/licenses/by-nd",
    "flickr.com/commons/usage",
    "www.usa.gov",
)


class Params(StageParams):
    """Parameters of ``dataset filter-coco``."""

    licences: Literal["mlperf", "all"] = Field(
        default="mlperf", description="mlperf: those that MLPerf allows; all: no filter"
    )


def allowed(url: str) -> bool:
    """Whether MLPerf's rule allows a licence, by its URL."""
    return any(part in url.lower() for part in MLPERF_LICENCES)


def select(
    images: Iterable[Mapping[str, Any]], licences: Iterable[Mapping[str, Any]], rule: str
) -> list[Mapping[str, Any]]:
    """The images that a rule keeps, in their order. Only ``license`` and ``url`` are looked at."""
    if rule == "all":
        return list(images)
    good = {licence["id"] for licence in licences if allowed(licence["url"])}
    return [image for image in images if image["license"] in good]


def names_sha256(names: Iterable[str]) -> str:
    """sha256 of the file names in order, joined by newlines, none at the end."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def find_annotations(folder: Path) -> Path:
    """The COCO JSON of a folder: the only one, or the one with the scorers' name.

    Raises:
        DataError: there is none, or which one is meant cannot be told.
    """
    found = sorted(p for p in folder.rglob("*.json") if p.is_file())
    named = [p for p in found if p.name == ANNOTATIONS]
    if len(found) == 1 or len(named) == 1:
        return (named or found)[0]
    listed = _listed(p.relative_to(folder).as_posix() for p in found)
    raise DataError(
        f"input 'annotations': {len(found)} JSON files{': ' + listed if found else ''}; give "
        f"one COCO file, or one named {ANNOTATIONS} among others"
    )


def find_images(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Where each name lies below a folder.

    Raises:
        DataError: files are missing, empty or there more than once; lists them.
    """
    wanted = set(names)
    found: dict[str, list[Path]] = {}
    for root, _, files in os.walk(folder):
        for name in wanted.intersection(files):
            found.setdefault(name, []).append(Path(root) / name)
    problems = [
        *_problem("missing", [n for n in names if n not in found], len(names)),
        *_problem("there more than once", [n for n in names if len(found.get(n, ())) > 1]),
        *_problem("empty", [n for n, at in found.items() if not all(p.stat().st_size for p in at)]),
    ]
    if problems:
        raise DataError(
            "input 'images' does not fit the annotations:\n" + "\n".join(problems) + "\nFetch the "
            "images anew, or give the annotations that belong to them."
        )
    return {name: found[name][0] for name in names}


def _problem(what: str, names: Sequence[str], of: int = 0) -> list[str]:
    if not names:
        return []
    return [f"  {len(names)}{f' of {of}' if of else ''} image files {what}: {_listed(names)}"]


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def filtered(coco: Coco, kept: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The annotation file with those images and their boxes only; all else as it was."""
    ids = {image["id"] for image in kept}
    boxes = [a for a in coco.annotations if a["image_id"] in ids]
    return {**coco.whole, "images": list(kept), "annotations": boxes}


def by_licence(coco: Coco, kept: Sequence[Mapping[str, Any]]) -> dict[str, JsonValue]:
    """How many images each licence has and how many of them are kept, by the licence's id."""
    if not coco.licensed:
        return {}
    total = Counter(image["license"] for image in coco.images)
    left = Counter(image["license"] for image in kept)
    return {
        str(licence["id"]): {
            "name": str(licence.get("name", "")),
            "url": licence["url"],
            "total": total[licence["id"]],
            "kept": left[licence["id"]],
        }
        for licence in coco.licences
    }


def run(params: Params, io: StepIO) -> None:
    """Filter the inputs ``images`` and ``annotations`` into the output ``dataset``."""
    out = io.output("dataset")
    folder = io.input("annotations")
    path = find_annotations(folder)
    where = path.relative_to(folder).as_posix()
    coco = _read(path, where, params.licences)
    kept = select(coco.images, coco.licences, params.licences)
    if not kept:
        raise DataError(
            f"{where}: none of its {len(coco.images)} images has a licence that the rule "
            f"{params.licences!r} allows, so nothing is left; give another dataset"
        )
    names = [str(image["file_name"]) for image in kept]
    _copy_all(find_images(io.input("images"), names), out / IMAGES, io)
    _write_json(out / "annotations" / ANNOTATIONS, filtered(coco, kept))
    _tell(params, coco, kept, names, out, io)


def _read(path: Path, where: str, rule: str) -> Coco:
    """The annotations; where every image is kept, those without licences will do."""
    value = load_json(path, where)
    licensed = rule != "all" or (isinstance(value, dict) and "licenses" in value)
    return check_coco(value, where, licensed)


def _tell(
    params: Params,
    coco: Coco,
    kept: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    out: Path,
    io: StepIO,
) -> None:
    summary: dict[str, JsonValue] = {
        "total": len(coco.images),
        "kept": len(kept),
        "licences": params.licences,
        "by_licence": by_licence(coco, kept),
        "sha256_of_names": names_sha256(names),
    }
    places = {"images": IMAGES, "annotations": f"annotations/{ANNOTATIONS}"}
    _write_json(out / "dataset.json", {**places, **summary})
    io.metrics["dataset"] = summary
    if params.licences == "all":
        io.find(
            "licence_filter",
            "warning",
            "images of every licence are kept; MLPerf's rule allows only some, so results on this "
            "dataset are for your own use",
            "licences",
        )
    io.say(f"kept {len(kept)} of {len(coco.images)} images")


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(value, ensure_ascii=False, allow_nan=False).encode())


def _copy_all(sources: Mapping[str, Path], target: Path, io: StepIO) -> None:
    target.mkdir()
    for done, (name, source) in enumerate(sources.items(), start=1):
        _link_or_copy(source, target / name)
        io.progress(done, len(sources), "images")


def _link_or_copy(source: Path, target: Path) -> None:
    """A second name for the same bytes where the file system allows; inputs are never changed."""
    try:
        target.hardlink_to(source.resolve())
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copyfile(source, target)


STAGE = Stage(
    "dataset filter-coco",
    "Keep the COCO images whose licence MLPerf allows, in their order.",
    Params,
    run,
    inputs={
        "images": "folder with the image files, at any depth",
        "annotations": f"folder with one COCO JSON, or one named {ANNOTATIONS} among others",
    },
    outputs={"dataset": f"{IMAGES}/, annotations/{ANNOTATIONS}, dataset.json"},
)
