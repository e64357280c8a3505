"""``submission official-check``: the official checker's opinion, and where it differs from ours.

The checker is an input: a checkout or an unpacked archive of mlcommons/inference, as a folder of
the site or fetched by a step before.
"""

from __future__ import annotations

import json

from pydantic import Field, JsonValue

from proctor_steps.stage import DataError, Stage, StageParams, StepIO
from proctor_steps.submission.check import official, run
from proctor_steps.submission.check.compare import Comparison, compare
from proctor_steps.submission.check.finding import plain_name
from proctor_steps.submission.check.stage import tree_of


class Params(StageParams):
    """By which round, and for how long at most."""

    round: str = Field(default="v6.1", description="MLPerf round; the checker must know it")
    submitter: str = Field(default="", description="judge this submitter's results alone")
    deadline: float = Field(
        default=3600.0, gt=0, description="seconds that the official checker may take"
    )
    stop: bool = Field(
        default=False, description="fail where it does not accept, or judges otherwise than Proctor"
    )


def execute(params: Params, io: StepIO) -> None:
    """Ask both, write official.json.

    Raises:
        DataError: with ``stop``: it does not accept the submission, or the two differ.
    """
    root, submitter = tree_of(io.input("package")), params.submitter or None
    report = run.check(root, params.round, submitter)
    opinion = official.ask(io.input("checker"), root, params.round, submitter, params.deadline)
    both = compare(report, opinion)
    text = json.dumps(both.data(), indent=1, ensure_ascii=False)
    (io.output("opinion") / "official.json").write_text(text + "\n", encoding="utf-8")
    counts: dict[str, JsonValue] = {str(name): count for name, count in both.counts.items()}
    io.metrics["official"] = {**counts, "crash": opinion.crash, "agree": both.agree}
    _tell(both, io)
    passed = [opinion.passes(row.scope) for row in both.rows]
    accepted = not opinion.crash and bool(passed) and all(passed)
    if params.stop and not (both.agree and accepted):
        text = "the official checker does not accept this submission, or judges otherwise"
        raise DataError(f"{text} than Proctor; the findings tell where")


def _tell(both: Comparison, io: StepIO) -> None:
    for outcome, count in sorted(both.counts.items()):
        io.say(f"{count} results: {outcome}")
    for row in both.differing:
        reasons = "; ".join(f"{f.where}: {f.message}" for f in (*row.ours, *row.theirs)[:5])
        io.find(
            "opinions_differ",
            "warning",
            f"{row.outcome}: {reasons}",
            plain_name("/".join(row.scope)),
        )
    for finding in both.opinion.findings:
        io.find(finding.rule, "error", finding.message, finding.where)


STAGE = Stage(
    "submission official-check",
    "Judge a submission by the official checker as well.",
    Params,
    execute,
    inputs={
        "package": "the submission: a tree, or the output of submission package",
        "checker": "a checkout of mlcommons/inference, or its unpacked archive",
    },
    outputs={"opinion": "official.json: both opinions of every result"},
)
