"""The subjects, as a function of the workflow's author lists them."""

from __future__ import annotations

import json

from pydantic import Field

from proctor_steps.contract import SUBJECTS_FILE
from proctor_steps.medperf.functions import FILES, call
from proctor_steps.stage import DataError, Stage, StageParams, StepIO


class Params(StageParams):
    """``function``: as a workflow writes it."""

    function: str = Field(description="module.function that gives a list of names")


def run(params: Params, io: StepIO) -> None:
    """Write what the function answers to ``subjects.json``."""
    found = call(io, params.function)
    if not isinstance(found, list | tuple | set) or not all(isinstance(x, str) for x in found):
        raise DataError(f"{params.function} gives {type(found).__name__}, not a list of texts")
    if not found:
        raise DataError(f"{params.function} finds no subject; is the data in its place?")
    text = json.dumps(sorted(found), indent=1, ensure_ascii=False) + "\n"
    (io.output("subjects") / SUBJECTS_FILE).write_text(text)
    io.metrics["subjects"] = len(found)


STAGE = Stage(
    "medperf subjects",
    "List the subjects by a function beside the workflow file.",
    Params,
    run,
    inputs={FILES: "the function's module", "data_path": "the raw data"},
    outputs={"subjects": f"{SUBJECTS_FILE}: a JSON list of names"},
)
