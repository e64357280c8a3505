"""Answers as a table: for the terminal, and as Markdown for pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from proctor_steps.policy import duo
from proctor_steps.policy.answer import Answer
from proctor_steps.policy.clauses import Asked
from proctor_steps.policy.purposes import PURPOSES, WORDS, is_a

_SAID = {True: "yes", False: "no", None: "undecided"}
HEAD = ("Data", "Purpose", "Answer", "Terms", "Where")


@dataclass(frozen=True)
class Row:
    """One dataset and one purpose: the answer, the terms that count, and where each stands."""

    data: str
    purpose: str
    verdict: str
    terms: tuple[tuple[str, str], ...]


def row(data: str, made: Answer) -> Row:
    """An answer's row: terms of a refusal, what is left out, or what permits, with duties."""
    verdict = f"{made.verdict}, {made.kept} of {made.total}" if made.total else made.verdict
    terms = [(f"left out, {each.what}: {c.words}", c.where)
             for each in made.left_out for c in each.clauses]  # fmt: skip
    if made.verdict == "refused":
        terms = [(clause.words, clause.where) for clause in made.clauses]
    if made.verdict == "permitted":
        terms = [(clause.words, clause.where) for clause in made.clauses]
        first = {clause.label: clause for clause in reversed(made.duties)}
        terms += [(f"duty: {c.label}", c.where) for c in reversed(first.values())]
    terms += [(f"accepted: {clause.words}", clause.where) for clause in made.accepted]
    return Row(data, made.ask.purpose, verdict, tuple(terms))


def terms() -> list[tuple[str, ...]]:
    """Every word that is known besides licences: what it is, and what it says of each purpose."""
    asked = [Asked(purpose) for purpose in PURPOSES]
    found: list[tuple[str, ...]] = []
    for word in WORDS:
        found.append((word, "a purpose", *(_SAID[is_a(ask.purpose, word)] for ask in asked)))
    for word, term in duo.TERMS.items():
        label = f"{term.code}, {term.label}"
        found.append((word, label, *(duo.clause(word, "", ask).says for ask in asked)))
    return found


def terms_markdown() -> str:
    """:func:`terms` for a page."""
    lines = [f"| Term | What it is | {' | '.join(PURPOSES)} |", "|---" * (2 + len(PURPOSES)) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(_plain, each))} |" for each in terms())]) + "\n"


def terms_view() -> Table:
    """:func:`terms` for the terminal."""
    table = Table("Term", "What it is", *PURPOSES)
    for each in terms():
        table.add_row(*map(escape, each))
    return table


def view(rows: Iterable[Row]) -> Table:
    """For the terminal."""
    table = Table(*HEAD, show_lines=True)
    for each in rows:
        colour = {"permitted": "green", "refused": "red"}.get(each.verdict.split(",")[0], "yellow")
        table.add_row(
            escape(each.data),
            each.purpose,
            f"[{colour}]{each.verdict}[/]",
            "\n".join(escape(words) for words, _ in each.terms),
            "\n".join(escape(where) for _, where in each.terms),
        )
    return table


def markdown(rows: Sequence[Row]) -> str:
    """For a page: a line for each dataset and purpose."""
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    for each in rows:
        terms = "<br>".join(_plain(words) for words, _ in each.terms)
        places = "<br>".join(f"`{_plain(w)}`" for w in dict.fromkeys(w for _, w in each.terms))
        lines.append(f"| {each.data} | {each.purpose} | {each.verdict} | {terms} | {places} |")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Text that neither ends a cell nor begins a tag."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
