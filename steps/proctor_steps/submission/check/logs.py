"""What is wrong with a detail log as a file, whichever run it is of."""

from __future__ import annotations

from collections.abc import Iterator

from proctor_steps.submission.check.finding import Finding, Teller
from proctor_steps.submission.check.result import Log

_SHOWN = 3


def damage(log: Log, tell: Teller, kind: str) -> Iterator[Finding]:
    """Lines that are none of LoadGen's, values that LoadGen does not write, an empty log."""
    advice = f"give the log of the {kind} run as LoadGen wrote it"
    found = log.scan
    if found is None:
        return
    for problem in found.problems[:_SHOWN]:
        # The checker reads marked lines alone, but the first must be one.
        stops = problem.marked or problem.line == 1
        said = ("detail_log", log.path, problem.text, advice, problem.line or None)
        yield tell.rejected(*said, stops=True) if stops else tell.against(*said)
    if len(found.problems) > _SHOWN:
        text = f"{len(found.problems) - _SHOWN} more lines are none of a LoadGen log"
        yield tell.against("detail_log", log.path, text, advice)
    if not found.values and not found.problems:
        yield tell.rejected("detail_log", log.path, "is empty", advice)
