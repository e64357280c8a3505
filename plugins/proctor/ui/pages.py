"""HTML of our own pages: small, light and dark, nothing loaded from elsewhere."""

from __future__ import annotations

from html import escape

from proctor.airflow.answers import Given
from proctor.plan.model import Gate
from proctor.records.store import RunRecord

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882;--good:#1a7f4b;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--good:#5fd39a;--bad:#ff8a80}}
body{font:15px/1.5 system-ui,sans-serif;margin:0;padding:1.25rem 1.5rem;box-sizing:border-box;
min-height:100vh;display:flex;flex-direction:column;align-items:flex-start}
h1{font-size:1.35rem;margin:0 0 .25rem}p{margin:.4rem 0}
code{background:var(--soft);padding:.1em .35em;border-radius:4px}
table{border-collapse:collapse;margin:.75rem 0}th{opacity:.7}
td,th{border-bottom:1px solid var(--line);padding:.35rem .9rem .35rem 0;text-align:left;
font-weight:inherit}
iframe{width:100%;flex:1 0 75vh;margin:.5rem 0;border:1px solid var(--line);border-radius:8px;
background:Canvas}
.good{color:var(--good)}.bad{color:var(--bad)}a{color:LinkText}
"""


def page(title: str, body: str) -> str:
    """A whole page; ``body`` is HTML."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body>{body}</body></html>"
    )


def message_page(title: str, text: str) -> str:
    """A page that says one thing."""
    return page(title, f"<h1>{escape(title)}</h1><p>{escape(text)}</p>")


def no_report_page(record: RunRecord) -> str:
    """Said before the report is published; a gate's evidence is there earlier."""
    lines = record.lines() if record.exists() else ()
    gates = dict.fromkeys(line.step for line in lines if line.kind == "asked")
    links = [
        f'<p><a href="/proctor/evidence/{escape(record.pipeline)}/{escape(record.run)}/'
        f'{escape(gate)}">Evidence at the gate {escape(gate)}</a></p>'
        for gate in gates
    ]
    text = "<h1>No report yet</h1><p>The run has not come to its report step.</p>"
    return page("No report yet", text + "".join(links))


def evidence_page(
    record: RunRecord,
    task: str,
    gate: Gate,
    answers: list[Given],
    frames: list[tuple[str, str]],
) -> str:
    """The evidence of a gate, with the answers given so far."""
    asked = record.last("asked", task)
    parts = [f"<h1>{escape(gate.question)}</h1>"]
    if asked:
        shown = str(asked.data.get("evidence_digest"))
        parts.append(
            f"<p>Asked {escape(_time(asked.at))}. An answer counts only for exactly this "
            f"evidence: <code>{escape(shown[:16])}</code></p>"
        )
    else:
        parts.append("<p>The run has not come to this gate yet.</p>")
    if gate.approvers:
        parts.append(f"<p>May answer: {escape(', '.join(gate.approvers))}</p>")
    if gate.rework:
        parts.append(f"<p>A rejection leads back to <code>{escape(gate.rework)}</code>.</p>")
    parts.append(_answers(answers))
    for title, address in frames:
        parts.append(
            # Airflow frames this page without the right to open another: the link stays here.
            f'<p><a href="{escape(address)}">Show {escape(title)} alone</a></p>'
            f'<iframe title="{escape(title)}" src="{escape(address)}" sandbox></iframe>'
        )
    return page(gate.question, "".join(parts))


_SIGNATURES = {"good": "good", "none": "not signed", "bad": "bad"}


def _answers(answers: list[Given]) -> str:
    if not answers:
        return ""
    head = "".join(
        f"<th>{title}</th>"
        for title in ("#", "Answer", "By", "At", "How", "Reviewed", "Signature", "Comment")
    )
    return f"<table><tr>{head}</tr>{''.join(_answer_row(each) for each in answers)}</table>"


def _answer_row(answer: Given) -> str:
    cells = (
        answer.by,
        _time(answer.at),
        answer.via,
        ("yes" if answer.reviewed else "no") if answer.by else "",
        _SIGNATURES[answer.signature],
        answer.comment,
    )
    rest = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return (
        f'<tr><td>{answer.attempt}</td><td class="{"good" if answer.counts else "bad"}">'
        f"{escape(answer.verdict)}</td>{rest}</tr>"
    )


def _time(at: str) -> str:
    """A record's time as people read it."""
    return f"{at[:10]} {at[11:19]} UTC"
