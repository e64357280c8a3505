"""``dataset catalogue``: the inventories of all subjects as one, with a page for people."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from proctor_steps.contract import digest
from proctor_steps.dataset.inventory import INVENTORY
from proctor_steps.stage import DataError, Stage, StageParams, StepIO

CATALOGUE, PAGE = "catalogue.json", "catalogue.html"


class Params(StageParams):
    """None."""


def run(params: Params, io: StepIO) -> None:
    """Write ``catalogue.json`` and ``catalogue.html``.

    Raises:
        DataError: an inventory is missing or none.
    """
    subjects = {name: _files(name, path) for name, path in sorted(io.inputs("inventories").items())}
    if not subjects:
        raise DataError("there is no inventory of any subject")
    kinds = Counter(str(file["kind"]) for files in subjects.values() for file in files)
    made: dict[str, Any] = {
        "subjects": len(subjects),
        "files": sum(map(len, subjects.values())),
        "bytes": sum(int(file["bytes"]) for files in subjects.values() for file in files),
        "kinds": dict(sorted(kinds.items())),
        "sha256": digest(subjects),
        "by_subject": {name: _summary(files) for name, files in subjects.items()},
        "same_content": _repeated(subjects),
    }
    out = io.output("catalogue")
    text = json.dumps(made, indent=1, ensure_ascii=False)
    (out / CATALOGUE).write_text(f"{text}\n", encoding="utf-8")
    (out / PAGE).write_text(_page(made), encoding="utf-8")
    for names in made["same_content"]:
        io.find("same_content", "warning", f"the same bytes: {', '.join(names)}", CATALOGUE)
    io.metrics["catalogue"] = {key: made[key] for key in ("subjects", "files", "bytes")}


def _files(name: str, folder: Path) -> list[dict[str, Any]]:
    try:
        files = json.loads((folder / INVENTORY).read_text(encoding="utf-8"))["files"]
        return [{key: file[key] for key in ("name", "bytes", "sha256", "kind")} for file in files]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"subject {name}: {INVENTORY} cannot be used ({error})") from error


def _summary(files: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "files": len(files),
        "bytes": sum(int(file["bytes"]) for file in files),
        "sha256": digest(files),
    }


def _repeated(subjects: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    """Files of different subjects with the same bytes: a subject may be there twice."""
    where: dict[str, list[tuple[str, str]]] = {}
    for subject, files in subjects.items():
        for file in files:
            where.setdefault(str(file["sha256"]), []).append((subject, f"{subject}/{file['name']}"))
    several = [places for places in where.values() if len({subject for subject, _ in places}) > 1]
    return [[name for _, name in places] for places in several]


def _page(made: dict[str, Any]) -> str:
    # Loaded when needed: templates take their time.
    from proctor_steps.report.page import filled

    return filled(Path(__file__).with_name("catalogue.html.j2"), made=made)


STAGE = Stage(
    "dataset catalogue",
    "Put the inventories of all subjects together, with a page.",
    Params,
    run,
    inputs={"inventories": "the inventory of each subject, one cell a subject"},
    outputs={"catalogue": f"{CATALOGUE}, {PAGE}"},
)
