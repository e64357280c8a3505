"""``dataset inventory``: what is there, file by file, and whether it can be used.

It is the first thing that a committee asks of a site, and says nothing of what the data show.
"""

from __future__ import annotations

import json
import mimetypes
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, JsonValue

from proctor_steps.contract import file_sha256
from proctor_steps.stage import DataError, Stage, StageParams, StepIO

INVENTORY = "inventory.json"
_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_DICOM, _DICOM_AT = b"DICM", 128
_SHOWN = 20


class Params(StageParams):
    """``files``: a pattern; a dataset in which nothing matches it cannot be used."""

    files: str = Field(default="**/*", description="pattern of the files to look at")


def run(params: Params, io: StepIO) -> None:
    """Write ``inventory.json``: each file with size, sha256 and kind, in the order of their names.

    Raises:
        DataError: no file matches, or some are empty, cannot be read or are no whole picture; all
            of them are named.
    """
    root = io.input("data")
    paths = sorted(path for path in root.glob(params.files) if path.is_file())
    if not paths:
        raise DataError(f"no file matches {params.files!r}; name another pattern, or add the data")
    listed, problems = [], []
    for done, path in enumerate(paths):
        io.progress(done, len(paths), "files")
        name = path.relative_to(root).as_posix()
        problems += [f"  {name}: {problem}" for problem in _problems(path)]
        listed.append(_entry(path, name))
    if problems:
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise DataError(
            f"{len(problems)} of {len(paths)} files cannot be used:\n"
            + "\n".join(problems[:_SHOWN])
            + f"{more}\nMend or replace them, and let this step run again."
        )
    text = json.dumps({"files": listed}, indent=1, ensure_ascii=False)
    (io.output("inventory") / INVENTORY).write_text(f"{text}\n", encoding="utf-8")
    io.metrics["files"] = len(listed)


def kind_of(path: Path) -> str:
    """The media type, by the file's beginning where that tells it, else by its name."""
    with path.open("rb") as file:
        if file.read(_DICOM_AT + len(_DICOM)).endswith(_DICOM):
            return "application/dicom"
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def _entry(path: Path, name: str) -> dict[str, JsonValue]:
    if not os.access(path, os.R_OK):
        return {"name": name}
    size = path.stat().st_size
    return {"name": name, "bytes": size, "sha256": file_sha256(path), "kind": kind_of(path)}


def _problems(path: Path) -> Iterator[str]:
    if not os.access(path, os.R_OK):
        yield "cannot be read by this step; give everybody the right to read it"
    elif not path.stat().st_size:
        yield "is empty"
    elif path.suffix.lower() in _PICTURES:
        # OpenCV takes its time to load, and only pictures need it.
        from proctor_steps.benchmarks import images

        try:
            images.read(path)
        except DataError as error:
            yield str(error)


STAGE = Stage(
    "dataset inventory",
    "List a dataset's files with their digests, and find those that cannot be used.",
    Params,
    run,
    inputs={"data": "the files"},
    outputs={"inventory": f"{INVENTORY}: every file with size, sha256 and kind"},
)
