"""Gates that make baselines: what a question tells of them, and what an answer leaves behind.

The answer's line in the record comes first, then the entry in the book, under the line's digest. A
task that is killed between the two finds the line when it is tried again, and writes the entry;
one that comes a second time writes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from proctor.airflow.recorded import refresh_summary
from proctor.plan.model import Plan, PlanStep
from proctor.records.baselines import Candidates, candidates, settle
from proctor.records.book import Accepted, Book, current
from proctor.records.figures import NONE, amount
from proctor.records.model import Line
from proctor.records.store import RecordError, RunRecord
from proctor.site.home import Home
from proctor_steps.history import Measured


def before(home: Home, record: RunRecord, plan: Plan, gate: PlanStep) -> Candidates:
    """What of the results that a gate has seen could become baselines.

    Raises:
        RecordError: the record cannot be read.
    """
    return candidates(home.records, record, plan.ancestors(gate.id))


def told(found: Candidates) -> dict[str, Any]:
    """What stands beside an answer in its line: which results it speaks of."""
    refused = {each.measured.of: why for each, why in found.refused}
    return {"results": [each.measured.of for each in found.accepted], "refused": refused}


def answered(home: Home, record: RunRecord, plan: Plan, line: Line) -> Iterator[str]:
    """Write down what an answer means for the baselines; in words what that was.

    Raises:
        RecordError: the record or the book cannot be read.
    """
    found = before(home, record, plan, plan.step(line.step))
    book = Book(home.path)
    entry = settle(book, record, line, found)
    tell_runs(home, book)
    answer = line.data.get("answer")
    if isinstance(answer, dict) and answer.get("decision") != "approved":
        if entry:
            yield f"finding {entry.id} is open: {'; '.join(map(str, entry.identities))}"
        return
    if entry is None and found.accepted:
        yield "no baseline: --yes looks at nothing, and accepting is a person's to do"
    for each in entry.accepted if entry else ():
        yield f"baseline of {each.identity}: {each.measured.of}"
    for refused, why in found.refused:
        yield f"no baseline of {refused.identity}: {refused.measured.of}: {why}"


def tell_runs(home: Home, book: Book) -> None:
    """Have the summary of every run that ever left a finding open say whether it still is."""
    for entry in book.entries():
        if entry.kind == "opened" and entry.answer:
            record = home.records.run(entry.answer.pipeline, entry.answer.run)
            if record.exists():
                with contextlib.suppress(RecordError):  # damaged, and told where it is shown
                    refresh_summary(home, record)


def rows(home: Home, found: Candidates) -> list[tuple[str, str, str, str]]:
    """For a question: identity, its figure, that of the baseline, and what an approval makes of it.

    Raises:
        RecordError: the book cannot be read.
    """
    known = current(Book(home.path).entries())
    every: list[tuple[Accepted, str]] = [(each, "") for each in found.accepted]
    every += [
        (Accepted(identity=each.identity, measured=each.measured), why)
        for each, why in found.refused
    ]
    return [
        (
            str(each.identity),
            figures(each.measured),
            figures(known[each.identity].measured) if each.identity in known else NONE,
            f"no baseline: {why}" if why else "becomes the baseline",
        )
        for each, why in every
    ]


def figures(measured: Measured) -> str:
    """The scenario's figure and the accuracy, as people read them."""
    wanted = [each for each in measured.figures if not each.name.startswith("latency_")]
    return ", ".join(f"{each.name} {amount(each.value, each.unit)}" for each in wanted) or NONE
