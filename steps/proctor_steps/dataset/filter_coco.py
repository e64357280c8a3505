"""``dataset filter-coco``: keep the COCO images whose licence MLPerf allows.

The rule is MLPerf's (policy/mlperf.py) or what the licences permit for the purpose: in the order of
the annotation file (which is not that of the ids), images without boxes included. The annotation
file takes the name that the scorers open; under another they would map sample indices into the
unfiltered list.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from proctor_steps.contract import Purpose, write_atomically
from proctor_steps.dataset import croissant
from proctor_steps.dataset.coco import Coco, check_coco, load_json
from proctor_steps.dataset.link import link_or_copy
from proctor_steps.lineage import CROISSANT
from proctor_steps.policy import licences as licence_terms
from proctor_steps.policy import mlperf
from proctor_steps.policy.answer import FILE, Answer, answer
from proctor_steps.policy.clauses import Asked, blocking
from proctor_steps.policy.folder import NAMES, beside
from proctor_steps.policy.metadata import Metadata
from proctor_steps.policy.metadata import read as read_metadata
from proctor_steps.policy.terms import Terms
from proctor_steps.policy.usage import UsageParams, decide
from proctor_steps.stage import DataError, Stage, StepIO

ANNOTATIONS = "instances_val2017.json"
IMAGES = "val2017"
_SHOWN = 20


class Params(UsageParams):
    """Parameters of ``dataset filter-coco``."""

    licences: Literal["mlperf", "purpose", "all"] = Field(
        default="mlperf",
        description="mlperf: those that MLPerf allows; purpose: those that permit it; all",
    )
    purpose: Purpose | Literal[""] = Field(
        default="", description="what the data are used for: a spec gives ${run.purpose}"
    )

    @model_validator(mode="after")
    def _has_purpose(self) -> Self:
        if self.licences == "purpose" and not self.purpose:
            raise ValueError("licences 'purpose' needs the parameter purpose")
        return self


def select(
    images: Iterable[Mapping[str, Any]],
    licences: Iterable[Mapping[str, Any]],
    rule: str,
    ask: Asked | None = None,
) -> list[Mapping[str, Any]]:
    """The images that a rule keeps, in their order. Only ``license`` and ``url`` are looked at.

    ``ask``: the purpose, which the rule ``purpose`` asks for.
    """
    if rule == "all":
        return list(images)
    good = {licence["id"] for licence in licences if _keeps(rule, licence["url"], ask)}
    return [image for image in images if image["license"] in good]


def _keeps(rule: str, url: str, ask: Asked | None) -> bool:
    if rule == "mlperf" or ask is None:
        return mlperf.allowed(url)
    return not blocking(licence_terms.clauses(url, "", ask), ask, "")


def names_sha256(names: Iterable[str]) -> str:
    """sha256 of the file names in order, joined by newlines, none at the end."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def find_annotations(folder: Path) -> Path:
    """The COCO JSON of a folder: the only one, or the one with the scorers' name.

    Raises:
        DataError: there is none, or which one is meant cannot be told.
    """
    found = sorted(p for p in folder.rglob("*.json") if p.is_file())
    if len(found) > 1:  # one may be metadata
        found = [p for p in found if p.parent != folder or p.name not in NAMES] or found
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
    ask = Asked(params.purpose, params.date, params.accept) if params.purpose else None
    found = _beside(ask is not None, io)
    answered = _answer(params.licences, ask, coco, where, found, io) if ask else None
    kept = select(coco.images, coco.licences, params.licences, ask)
    if not kept:
        raise DataError(
            f"{where}: none of its {len(coco.images)} images has a licence that the rule "
            f"{params.licences!r} allows, so nothing is left; give another dataset"
        )
    names = [str(image["file_name"]) for image in kept]
    _copy_all(find_images(io.input("images"), names), out / IMAGES, io)
    _write_json(out / "annotations" / ANNOTATIONS, filtered(coco, kept))
    _describe(params, coco, kept, found, out, io)
    _tell(params, coco, kept, names, out, io)
    if answered:
        _write_json(out / FILE, answered.as_json())


def _beside(asked: bool, io: StepIO) -> list[Metadata]:
    """Metadata beside the inputs. Where no purpose asks for them, damaged ones are only told of.

    Raises:
        DataError: they are damaged, and a purpose asks for them.
    """
    try:
        return [each for name in STAGE.inputs for each in beside(io.input(name))]
    except DataError as error:
        if asked:
            raise
        text = f"{CROISSANT} does not carry usage terms on, as some cannot be read: {error}"
        io.find("usage_unread", "warning", text, "usageInfo")
        return []


def _answer(
    rule: str, ask: Asked, coco: Coco, where: str, found: Sequence[Metadata], io: StepIO
) -> Answer:
    """What the licences of the images say of the purpose, and usage terms beside the data.

    Raises:
        DataError: nothing may be used, or all was to be kept and some may not.
    """
    # Each image has a licence; what metadata say of the licences of all of them adds nothing.
    terms = [replace(each, terms=Terms(usage=each.terms.usage), parts=()) for each in found]
    images = read_metadata(coco.whole, where)
    assert images is not None  # noqa: S101 - it has been checked
    licences = mlperf.clauses if rule == "mlperf" else licence_terms.clauses
    made = decide(answer([images, *terms], ask, where, licences), io)
    if rule == "all" and made.left_out:
        lines = [f"  {each.what}: {c}" for each in made.left_out for c in each.clauses]
        raise DataError(
            f"licences 'all' keeps images that may not be used for {ask.purpose}:\n"
            + "\n".join(lines)
            + "\nLeave the parameter licences out, or write 'purpose'."
        )
    return made


def _read(path: Path, where: str, rule: str) -> Coco:
    """The annotations; where every image is kept, those without licences will do."""
    value = load_json(path, where)
    licensed = rule != "all" or (isinstance(value, dict) and "licenses" in value)
    return check_coco(value, where, licensed)


def _describe(
    params: Params,
    coco: Coco,
    kept: Sequence[Mapping[str, Any]],
    found: Sequence[Metadata],
    out: Path,
    io: StepIO,
) -> None:
    """The dataset's metadata, beside it, with the usage terms that lay beside the inputs."""
    words = {
        "mlperf": "those whose licence MLPerf allows",
        "purpose": f"those that may be used for {params.purpose}",
        "all": "those of every licence",
    }
    usage = tuple(node for each in found for node in each.terms.usage)
    made = croissant.Prepared(
        out, f"annotations/{ANNOTATIONS}", IMAGES, coco, kept, words[params.licences], usage
    )
    if missing := croissant.write(made, STAGE.name, io.contract):
        io.say(f"{CROISSANT} lacks {', '.join(missing)}: the annotations do not tell")


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
    others = [licence for licence in coco.licences if not mlperf.allowed(licence["url"])]
    beyond = {licence["id"] for licence in others} & {image.get("license") for image in kept}
    if params.licences == "all" or beyond:
        io.find(
            "licence_filter",
            "warning",
            "images are kept whose licence MLPerf's rule does not allow, so results on this "
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
        link_or_copy(source, target / name)
        io.progress(done, len(sources), "images")


STAGE = Stage(
    "dataset filter-coco",
    "Keep the COCO images whose licence MLPerf allows, in their order.",
    Params,
    run,
    inputs={
        "images": "folder with the image files, at any depth",
        "annotations": f"folder with one COCO JSON, or one named {ANNOTATIONS} among others",
    },
    outputs={
        "dataset": f"{IMAGES}/, annotations/{ANNOTATIONS}, dataset.json, {CROISSANT}, "
        f"{croissant.IMAGE_LIST}"
    },
)
