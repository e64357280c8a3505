"""MLPerf's rule for COCO: the licences whose images a benchmark's dataset may have.

The rule is that of the reference's create_safe_annotations.py: an image stays where the URL of its
licence, in lower case, has one of these parts. Nothing else counts, and nobody can accept more.
"""

from __future__ import annotations

from proctor_steps.policy import licences
from proctor_steps.policy.clauses import Asked, Clause

# "by-nd" has no closing slash in the reference either; "by-nc-nd" does not hold "licenses/by-nd".
ALLOWED = (
    "creativecommons.org/licenses/by/",
    "creativecommons.org/licenses/by-sa/",
    "creativecommons.org/licenses/by-nd",
    "flickr.com/commons/usage",
    "www.usa.gov",
)


def allowed(url: str) -> bool:
    """Whether MLPerf's rule allows a licence, by its URL."""
    return any(part in url.lower() for part in ALLOWED)


def clauses(text: str, where: str, ask: Asked) -> list[Clause]:
    """What the rule says of a licence, in the licence's own terms where they say the same."""
    own = licences.clauses(text, where, ask)
    if allowed(text):
        duties = [clause for clause in own if clause.says == "duty"]
        known = licences.find(text)
        return [Clause(known.id if known else text, "a licence that MLPerf allows", where,
                       "permits"), *duties]  # fmt: skip
    forbidden = [clause for clause in own if clause.says == "forbids"]
    reason = "none of the licences that MLPerf allows"
    return forbidden or [
        Clause(clause.id, clause.label, where, "forbids", reason)
        for clause in own
        if clause.says != "duty"
    ]
