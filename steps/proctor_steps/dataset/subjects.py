"""Which subjects there are: the files or folders of a dataset that a pattern matches."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import Field

from proctor_steps.contract import SUBJECTS_FILE
from proctor_steps.stage import DataError, Stage, StageParams, StepIO


class Params(StageParams):
    """``glob``: relative; ``*/`` matches folders only, ``*/*/`` those of two levels."""

    glob: str = Field(default="*/", description="pattern of the subjects' names below the data")


def find_subjects(root: Path, glob: str) -> list[str]:
    """Names of what a pattern matches below a folder, sorted; a name holds ``/`` for each level.

    Hidden files and folders are no subjects. Links are not followed.
    """
    folders = glob.endswith("/")
    found = set()
    for path in root.glob(glob.rstrip("/")):
        relative = path.relative_to(root)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or path.is_symlink() or (folders and not path.is_dir()):
            continue
        found.add(relative.as_posix())
    return sorted(found)


def run(params: Params, io: StepIO) -> None:
    """List the subjects into ``subjects.json``."""
    subjects = find_subjects(io.input("data"), params.glob)
    if not subjects:
        raise DataError(
            f"nothing in the data matches {params.glob!r}, so there is no subject; put the data "
            "into place, or mend the pattern in the spec's partition_def"
        )
    text = json.dumps(subjects, indent=1, ensure_ascii=False) + "\n"
    (io.output("subjects") / SUBJECTS_FILE).write_text(text)
    io.metrics["subjects"] = len(subjects)


STAGE = Stage(
    "subjects list",
    "List the subjects of a dataset by the names of its folders or files.",
    Params,
    run,
    inputs={"data": "the dataset"},
    outputs={"subjects": f"{SUBJECTS_FILE}: a JSON list of names"},
)
