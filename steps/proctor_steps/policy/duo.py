"""The terms of the Data Use Ontology (DUO, http://purl.obolibrary.org/obo/duo.owl) as rules.

``permission`` terms permit their use and no other; one of them is needed. ``limit`` terms narrow
it. ``before`` terms ask for something that has to be there before the use, which no spec states;
``after`` terms are duties that follow from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from proctor_steps.policy.clauses import Asked, Clause, Says
from proctor_steps.policy.purposes import TRAITS, has


@dataclass(frozen=True)
class Term:
    """``needs``: traits of a purpose that it permits. ``bars``: traits that it does not bear.

    ``open``: what it depends on besides, and no metadata or spec tells.
    """

    code: str
    label: str
    kind: Literal["permission", "limit", "before", "after"]
    needs: frozenset[str] = frozenset()
    bars: frozenset[str] = frozenset()
    open: str = ""


def _traits(*names: str) -> frozenset[str]:
    return frozenset(names)


_APPROVED = "whether this use is among those approved"
TERMS: Mapping[str, Term] = {
    "DUO:0000004": Term("NRES", "no restriction", "permission"),
    "DUO:0000042": Term("GRU", "general research use", "permission", _traits("research")),
    "DUO:0000006": Term(
        "HMB", "health or medical or biomedical research", "permission", _traits("health")
    ),
    "DUO:0000007": Term(
        "DS",
        "disease specific research",
        "permission",
        _traits("health"),
        open="whether the research is on that disease",
    ),
    "DUO:0000011": Term(
        "POA", "population origins or ancestry research only", "permission", _traits("ancestry")
    ),
    "DUO:0000012": Term(
        "RS", "research specific restrictions", "limit", open="which research it is limited to"
    ),
    "DUO:0000015": Term("NMDS", "no general methods research", "limit", bars=_traits("methods")),
    "DUO:0000016": Term("GSO", "genetic studies only", "limit", _traits("genetics")),
    "DUO:0000018": Term(
        "NPUNCU",
        "not for profit, non commercial use only",
        "limit",
        _traits("non-commercial"),
        open="whether the user is a not-for-profit organisation",
    ),
    "DUO:0000019": Term("PUB", "publication required", "after"),
    "DUO:0000020": Term("COL", "collaboration required", "before"),
    "DUO:0000021": Term("IRB", "ethics approval required", "before"),
    "DUO:0000022": Term(
        "GS", "geographical restriction", "before", open="whether the use is within that region"
    ),
    "DUO:0000024": Term("MOR", "publication moratorium", "after"),
    "DUO:0000025": Term("TS", "time limit on use", "limit"),
    "DUO:0000026": Term("US", "user specific restriction", "before", open=_APPROVED),
    "DUO:0000027": Term("PS", "project specific restriction", "before", open=_APPROVED),
    "DUO:0000028": Term("IS", "institution specific restriction", "before", open=_APPROVED),
    "DUO:0000029": Term("RTN", "return to database or resource", "after"),
    "DUO:0000043": Term("CC", "clinical care use", "limit"),
    "DUO:0000044": Term(
        "NPOA", "population origins or ancestry research prohibited", "limit",
        bars=_traits("ancestry"),
    ),
    "DUO:0000045": Term(
        "NPU",
        "not for profit organisation use only",
        "before",
        open="whether the user is a not-for-profit organisation",
    ),
    "DUO:0000046": Term("NCU", "non-commercial use only", "limit", _traits("non-commercial")),
}  # fmt: skip
TIME_LIMIT = "DUO:0000025"
_ID = re.compile(r"DUO:\d{7}")


def is_duo(word: str) -> bool:
    """Whether a word is one of DUO's ids, known here or not."""
    return bool(_ID.fullmatch(word))


def clause(word: str, where: str, ask: Asked, until: str = "") -> Clause:
    """What a DUO term says of the purpose. ``until``: the end of a time limit, where one stands."""
    term = TERMS.get(word)
    if term is None:
        reason = "this is no term that says whether data may be used"
        return Clause(word, "unknown DUO term", where, "undecided", reason)
    says, reason = _time_limit(ask, until) if word == TIME_LIMIT else _ruling(term, ask)
    return Clause(word, term.label, where, says, reason)


def _ruling(term: Term, ask: Asked) -> tuple[Says, str]:
    if term.kind == "after":
        return "duty", ""
    fits = has(ask.purpose, term.needs)
    if fits is False:
        return "forbids", f"{ask.purpose} is not such a use"
    if fits is None:
        return "undecided", f"whether {ask.purpose} is such a use cannot be told from here"
    if term.bars & TRAITS[ask.purpose]:
        return "forbids", f"{ask.purpose} is such a use"
    if term.kind == "before" or term.open:
        what = term.open or "whether that was done"
        return "undecided", f"{what} cannot be told from here"
    return ("permits" if term.kind == "permission" else "met"), ""


def _time_limit(ask: Asked, until: str) -> tuple[Says, str]:
    if not until:
        return "undecided", "no date is stated at which it ends"
    if not ask.date:
        return "undecided", f"it ends on {until}, and no date of use was given"
    if ask.date > until:
        return "forbids", f"it ended on {until}, and the date of use is {ask.date}"
    return "met", f"it ends on {until}"
