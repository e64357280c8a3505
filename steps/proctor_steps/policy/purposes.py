"""The purposes that a spec may declare, and the words that policies have for them.

Terms of DPV 2 (https://w3id.org/dpv) are what ODRL policies name as purposes; ODRL itself leaves
them open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from proctor_steps.contract import Purpose

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
ABOUT: Mapping[Purpose, str] = {
    "commercial-benchmark": "figures of a system or product, published or submitted by anybody",
    "research": "research without commercial aims, methods research included",
    "clinical-research": "research on health and disease, without commercial aims",
    "education": "teaching and learning, without commercial aims",
}
# What is true of each. ``methods``: methods and software are developed or compared with the data.
TRAITS: Mapping[Purpose, frozenset[str]] = {
    "commercial-benchmark": frozenset({"commercial", "methods"}),
    "research": frozenset({"research", "non-commercial", "methods"}),
    "clinical-research": frozenset({"research", "health", "non-commercial"}),
    "education": frozenset({"education", "non-commercial"}),
}
# Neither true nor false of it: whether such a benchmark is research, only a person can say.
UNCLEAR: Mapping[Purpose, frozenset[str]] = {"commercial-benchmark": frozenset({"research"})}
# What a policy calls a purpose -> the traits of whatever is one.
WORDS: Mapping[str, frozenset[str]] = {
    "commercial": frozenset({"commercial"}),
    "non-commercial": frozenset({"non-commercial"}),
    "research": frozenset({"research"}),
    "education": frozenset({"education"}),
    "educational": frozenset({"education"}),
    "educational-use": frozenset({"education"}),
    "dpv:Purpose": frozenset(),
    "dpv:CommercialPurpose": frozenset({"commercial"}),
    "dpv:NonCommercialPurpose": frozenset({"non-commercial"}),
    "dpv:ResearchAndDevelopment": frozenset({"research"}),
    "dpv:ScientificResearch": frozenset({"research"}),
    "dpv:NonCommercialResearch": frozenset({"research", "non-commercial"}),
    "dpv:CommercialResearch": frozenset({"research", "commercial"}),
}


def is_a(purpose: Purpose, word: str) -> bool | None:
    """Whether a purpose is what a policy's word says; ``None`` for a word that is not known."""
    plain = word if ":" in word else word.strip().lower().replace("_", "-").replace(" ", "-")
    if plain == purpose:
        return True
    if plain in WORDS:
        return has(purpose, WORDS[plain])
    return False if plain in PURPOSES else None


def has(purpose: Purpose, traits: frozenset[str]) -> bool | None:
    """Whether a purpose has all of these traits; ``None`` where that is unclear."""
    missing = traits - TRAITS[purpose]
    if not missing:
        return True
    return None if missing <= UNCLEAR.get(purpose, frozenset()) else False


# Three-valued logic: ``None`` is what cannot be told.


def all_of(values: Iterable[bool | None]) -> bool | None:
    """False where one is, else ``None`` where one is, else true."""
    found = set(values)
    return False if False in found else None if None in found else True


def any_of(values: Iterable[bool | None]) -> bool | None:
    """True where one is, else ``None`` where one is, else false."""
    found = set(values)
    return True if True in found else None if None in found else False


def negated(value: bool | None) -> bool | None:
    """The opposite; what cannot be told stays so."""
    return None if value is None else not value
