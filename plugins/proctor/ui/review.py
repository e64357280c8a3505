"""The page of a run that says what people have to do: which files of which subjects, and where."""

from __future__ import annotations

from html import escape
from typing import Any

from proctor.airflow.decisions import waiting
from proctor.plan.model import Plan
from proctor.records.store import RunRecord
from proctor.ui.pages import page


def review_page(record: RunRecord, plan: Plan | None) -> str:
    """All that a run waits for; it is made anew each time that it is opened."""
    rows = waiting(record.whole)
    title = f"{len(rows)} waiting for a person" if rows else "Nothing waits for a person"
    parts = [f"<h1>{escape(title)}</h1>", f"<p>{escape(record.pipeline)}/{escape(record.run)}</p>"]
    for id in dict.fromkeys(str(row["step"]) for row in rows):
        mine = [row for row in rows if row["step"] == id]
        parts.append(f"<h2>{escape(str(mine[0].get('title') or id))}: {len(mine)}</h2>")
        review = plan.step(id).review if plan else None
        if review and review.instructions:
            parts.append(f"<p>{escape(review.instructions)}</p>")
        parts.append("<table><tr><th>Subject</th><th>Outstanding</th></tr>")
        parts += [_row(row) for row in mine]
        parts.append("</table>")
    if rows:
        parts.append("<p>What is in its place is found within seconds; open this page again.</p>")
    return page(title, "".join(parts))


def _row(row: dict[str, Any]) -> str:
    words = row.get("words")
    lines = words if isinstance(words, list) else []
    told = "<br>".join(escape(str(line)) for line in lines)
    return f"<tr><td>{escape(str(row['subject'] or 'the run'))}</td><td>{told}</td></tr>"
