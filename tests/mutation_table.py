"""What the official checker makes of each mutation, beside the validator, as a page of the docs.

``PYTHONPATH=tests python tests/mutation_table.py CHECKOUT [OUT]``: CHECKOUT is of
mlcommons/inference; the page goes to OUT, by default docs/submission-mutations.md. Ends with 1
where the validator says "rejected" and the official checker accepts, or the other way round.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import submission_kit as kit
from proctor_steps.submission.check import official, run
from proctor_steps.submission.check.finding import Severity
from proctor_steps.submission.check.official import Opinion
from proctor_steps.submission.check.report import Report
from submission_mutations import MUTATIONS

PAGE = Path(__file__).parent.parent / "docs" / "submission-mutations.md"
HEAD = """\
# One fault at a time: the validator and the official checker

A closed edge submission of `yolo-99`, round v6.1, without fault in the eyes of both, is spoilt in
{count} ways, one at a time. What Proctor finds stands in the second and third column; the last one
is what the official checker (mlcommons/inference, `submission_checker`) does with the same tree.
*rejected*, *against* and *advice* are the validator's severities ([submission.md](submission.md)).
Made by `tests/mutation_table.py`; the validator's side is a test, too
(`tests/unit/test_submission_check.py`).

{summary}

| What is wrong | Proctor | Rule | Official checker |
|---|---|---|---|
"""


def main(checkout: Path, out: Path) -> int:
    """Run both on every mutation, and write the page."""
    rows, counts, apart = [], Counter[str](), []
    with tempfile.TemporaryDirectory(prefix="proctor-mutations-") as name:
        good = kit.make_tree(Path(name) / "good", kit.make_runs(Path(name) / "runs"))
        for number, mutation in enumerate(MUTATIONS):
            tree = Path(shutil.copytree(good, Path(name) / f"tree-{number}"))
            mutation.change(tree)
            report = run.check(tree, kit.ROUND, jobs=1)
            opinion = official.ask(checkout, tree, kit.ROUND, None, 300)
            said, kind = in_words(opinion, len(report.results))
            counts[kind] += 1
            rows.append(f"| {mutation.name} | {mutation.severity} | `{mutation.rule}` | {said} |")
            if not alike(report, opinion):
                apart.append(f"{mutation.name}: {report.counts}, official: {said}")
            shutil.rmtree(tree)
    summary = ", ".join(f"{kind} {count}" for kind, count in counts.most_common())
    summary = f"Of these, the official checker {summary}. "
    summary += f"On {len(apart) or 'none'} it and Proctor's *rejected* say different things."
    out.write_text(HEAD.format(count=len(rows), summary=summary) + "\n".join(rows) + "\n")
    print(summary, *apart, f"{len(apart)} judged differently", sep="\n")
    return 1 if apart else 0


def in_words(opinion: Opinion, results: int) -> tuple[str, str]:
    """What the official checker did: for the table, and for the count."""
    if opinion.crash:
        kind = opinion.crash.split(":")[0].rsplit(".", 1)[-1][:40]
        return f"ends with a traceback ({kind})", "ends with a traceback on"
    refused = results - len(opinion.passed)
    if refused:
        return f"rejects {refused} of {results}", "rejects"
    return f"accepts ({results} of {results})" if results else "accepts (no result)", "accepts"


def alike(report: Report, opinion: Opinion) -> bool:
    """Whether both say the same of every result, or of the tree as a whole."""
    if opinion.crash or report.stops:
        return bool(opinion.crash) and bool(report.stops)
    return all(
        opinion.passes(row.scope) is (report.verdict(row.scope) is not Severity.REJECTED)
        for row in report.results
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else PAGE))
