"""Licences by SPDX id or URL, and what they say of a purpose.

Sources: https://spdx.org/licenses/ for ids and names, https://creativecommons.org/licenses/ for
the elements of the Creative Commons licences (BY, SA, NC, ND).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from proctor_steps.policy.clauses import Asked, Clause
from proctor_steps.policy.purposes import TRAITS

_ELEMENTS = {
    "by": ("Attribution", "attribution"),
    "nc": ("NonCommercial", "non-commercial"),
    "nd": ("NoDerivatives", "no-derivatives"),
    "sa": ("ShareAlike", "share-alike"),
}
DUTIES = {
    "attribution": "name the authors wherever the data are shown or passed on",
    "notice": "pass the licence's text on with the data",
    "share-alike": "what is changed and passed on comes under the same licence",
    "no-derivatives": "pass nothing on that was changed",
}


@dataclass(frozen=True)
class Licence:
    """A known licence. ``terms``: of DUTIES, and ``non-commercial``."""

    id: str
    name: str
    terms: frozenset[str] = frozenset()


def _known(id: str, name: str, *terms: str) -> Licence:
    return Licence(id, name, frozenset(terms))


_OTHERS = (
    _known("CC0-1.0", "Creative Commons Zero 1.0 Universal"),
    _known("PDDL-1.0", "Open Data Commons Public Domain Dedication and License 1.0"),
    _known("Unlicense", "The Unlicense"),
    _known("ODC-By-1.0", "Open Data Commons Attribution License 1.0", "attribution"),
    _known(
        "ODbL-1.0", "Open Data Commons Open Database License 1.0", "attribution", "share-alike"
    ),
    _known("CDLA-Permissive-1.0", "Community Data License Agreement Permissive 1.0", "attribution"),
    _known("CDLA-Permissive-2.0", "Community Data License Agreement Permissive 2.0", "notice"),
    _known("CDLA-Sharing-1.0", "Community Data License Agreement Sharing 1.0", "attribution",
           "share-alike"),
    _known("OGL-UK-3.0", "Open Government Licence 3.0", "attribution"),
    _known("etalab-2.0", "Etalab Open License 2.0", "attribution"),
    _known("Apache-2.0", "Apache License 2.0", "notice"),
    _known("MIT", "MIT License", "notice"),
    _known("BSD-2-Clause", "BSD 2-Clause License", "notice"),
    _known("BSD-3-Clause", "BSD 3-Clause License", "notice"),
)  # fmt: skip
_BY_ID = {licence.id.lower(): licence for licence in _OTHERS}
# Not of SPDX: the two that COCO has besides Creative Commons.
FLICKR_COMMONS = _known("Flickr-Commons", "No known copyright restrictions")
US_GOVERNMENT = _known("US-Government-Work", "United States Government Work")
_URLS: Mapping[str, Licence] = {
    "opendatacommons.org/licenses/by": _BY_ID["odc-by-1.0"],
    "opendatacommons.org/licenses/by/1-0": _BY_ID["odc-by-1.0"],
    "opendatacommons.org/licenses/odbl": _BY_ID["odbl-1.0"],
    "opendatacommons.org/licenses/odbl/1-0": _BY_ID["odbl-1.0"],
    "opendatacommons.org/licenses/pddl": _BY_ID["pddl-1.0"],
    "opendatacommons.org/licenses/pddl/1-0": _BY_ID["pddl-1.0"],
    "cdla.dev/permissive-1-0": _BY_ID["cdla-permissive-1.0"],
    "cdla.dev/permissive-2-0": _BY_ID["cdla-permissive-2.0"],
    "cdla.dev/sharing-1-0": _BY_ID["cdla-sharing-1.0"],
    "nationalarchives.gov.uk/doc/open-government-licence/version/3": _BY_ID["ogl-uk-3.0"],
    "apache.org/licenses/license-2.0": _BY_ID["apache-2.0"],
    "flickr.com/commons/usage": FLICKR_COMMONS,
    "usa.gov/copyright.shtml": US_GOVERNMENT,
    "usa.gov/government-works": US_GOVERNMENT,
}
_CC_URL = re.compile(r"creativecommons\.org/licenses/([a-z-]+)/(\d\.\d)(?:/.*)?")
_CC0_URL = re.compile(r"creativecommons\.org/publicdomain/(zero|mark)/1\.0(?:/.*)?")
_CC_ID = re.compile(r"cc-(by[a-z-]*)-(\d\.\d)")
_ID_URL = re.compile(r"(?:spdx|opensource)\.org/licenses?/([a-z0-9.+-]+)")


def find(text: str) -> Licence | None:
    """The licence that an SPDX id or a URL names; ``None`` where that is not known."""
    plain = text.strip().lower()
    place = re.sub(r"^https?://(www\.)?", "", plain).rstrip("/")
    place = re.sub(r"\.(html?|txt)$", "", place)
    if found := _CC_URL.fullmatch(place):
        return _creative_commons(found[1], found[2])
    if found := _CC0_URL.fullmatch(place):
        zero = found[1] == "zero"
        return _BY_ID["cc0-1.0"] if zero else _known("PDM-1.0", "Public Domain Mark 1.0")
    if found := _ID_URL.fullmatch(place):
        plain = found[1]
    if found := _CC_ID.fullmatch(plain.replace(" ", "-")):
        return _creative_commons(found[1], found[2])
    return _BY_ID.get(plain) or _URLS.get(place)


def _creative_commons(elements: str, version: str) -> Licence | None:
    parts = elements.split("-")
    if parts[0] != "by" or any(part not in _ELEMENTS for part in parts):
        return None
    name = "-".join(_ELEMENTS[part][0] for part in parts)
    terms = frozenset(_ELEMENTS[part][1] for part in parts)
    return Licence(f"CC-{elements.upper()}-{version}", f"{name} {version}", terms)


def clauses(text: str, where: str, ask: Asked) -> list[Clause]:
    """What the licence that a text names says of the purpose."""
    licence = find(text)
    if licence is None:
        shown = text if len(text) <= 100 else f"{text[:100]}…"
        reason = "what it permits is not known here"
        return [Clause(shown or "licence", "unknown licence", where, "undecided", reason)]
    if "non-commercial" in licence.terms and "non-commercial" not in TRAITS[ask.purpose]:
        reason = f"non-commercial use only, and {ask.purpose} is commercial"
        return [Clause(licence.id, licence.name, where, "forbids", reason)]
    duties = [
        Clause(licence.id, term, where, "duty", DUTIES[term]) for term in DUTIES
        if term in licence.terms
    ]  # fmt: skip
    return [Clause(licence.id, licence.name, where, "permits"), *duties]
