"""``dataset fetch``: bring a dataset's files to where the next steps find them."""

from __future__ import annotations

from proctor_steps.stage import Stage, StepIO
from proctor_steps.transport.obtain import FetchParams, obtain


class Params(FetchParams):
    """Parameters of ``dataset fetch``."""


def run(params: Params, io: StepIO) -> None:
    """Fetch into the output ``dataset``."""
    obtain(params, io.output("dataset"), io)


STAGE = Stage(
    "dataset fetch",
    "Fetch a dataset: a file, a folder, an archive (unpacked) or a bucket's prefix.",
    Params,
    run,
    outputs={"dataset": "the files"},
)
