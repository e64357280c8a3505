"""Licences and usage terms as metadata have them, and what they say of a purpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proctor_steps.policy import duo, licences, odrl
from proctor_steps.policy.clauses import Asked, Clause, is_date
from proctor_steps.policy.jsonld import Node

_NAMED = ("termCode", "url", "@id", "identifier", "name")  # what a term or a licence is
_LONGEST = 100  # characters of a text that is quoted


@dataclass(frozen=True)
class Terms:
    """Licences and usage terms as they stand."""

    licences: tuple[Node, ...] = ()
    usage: tuple[Node, ...] = ()


Rule = Callable[[str, str, Asked], list[Clause]]


def licence_clauses(
    terms: Sequence[Node], ask: Asked, rule: Rule = licences.clauses
) -> list[Clause]:
    """What licences say of the purpose, by a rule for their ids and URLs.

    Several count together, as nobody says which of them may be chosen.
    """
    return [clause for node in terms for clause in _licence(node, ask, rule)]


def _licence(node: Node, ask: Asked, rule: Rule) -> list[Clause]:
    if odrl.is_policy(node):
        return odrl.clauses(node, ask)
    words = [n.word for n in node.get("url", "@id", "identifier", "name") if n.word]
    texts = [node.word] if node.word else words
    known = next((text for text in texts if licences.find(text)), texts[0] if texts else "")
    return rule(known, node.where, ask)


def usage_clauses(terms: Sequence[Node], ask: Asked) -> list[Clause]:
    """What usage terms say of the purpose. Of DUO's permissions, one is enough."""
    found = [(node, clause) for node in terms for clause in _usage(node, ask)]
    granted = any(clause.says == "permits" for _, clause in found)
    return [
        clause
        for _, clause in found
        if not (granted and _other_permission(clause) and clause.says in ("forbids", "undecided"))
    ]


def _other_permission(clause: Clause) -> bool:
    term = duo.TERMS.get(clause.id)
    return term is not None and term.kind == "permission"


def _usage(node: Node, ask: Asked) -> list[Clause]:
    if odrl.is_policy(node):
        return odrl.clauses(node, ask)
    words = [node.word] if node.word else []
    words += [n.word for name in _NAMED for n in node.get(name) if n.word]
    if term := next((word for word in words if duo.is_duo(word)), ""):
        ends = [n.word[:10] for n in node.get("expires") if is_date(n.word[:10])]
        return [duo.clause(term, node.where, ask, min(ends, default=""))]
    if known := next((word for word in words if licences.find(word)), ""):
        return licences.clauses(known, node.where, ask)
    said = words[0] if words else ""
    said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"
    reason = "what it asks cannot be told from here"
    return [Clause("usageInfo", said, node.where, "undecided", reason)]
