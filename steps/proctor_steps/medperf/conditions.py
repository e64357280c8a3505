"""Whether conditions hold, as functions of the workflow's author say."""

from __future__ import annotations

from pydantic import Field

from proctor_steps.medperf.functions import FILES, call
from proctor_steps.stage import Stage, StageParams, StepIO


class Params(StageParams):
    """``functions``: in the order in which they are asked; the first that holds counts."""

    functions: tuple[str, ...] = Field(description="module.function of each condition")


def run(params: Params, io: StepIO) -> None:
    """Ask each, up to the first that holds."""
    holds: dict[str, bool] = {}
    for name in params.functions:
        holds[name] = bool(call(io, name))
        if holds[name]:
            break
    io.metrics["holds"] = dict(holds)


STAGE = Stage(
    "medperf conditions",
    "Ask the conditions that are functions beside the workflow file.",
    Params,
    run,
    inputs={FILES: "the functions' modules"},
)
