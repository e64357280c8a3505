"""What a page shows of ``usage.json``: the purpose, what was left out, and by which terms."""

from __future__ import annotations

from proctor_steps.report.read import Read


class Term(Read):
    """One term of a licence or policy (policy/clauses.py)."""

    id: str
    label: str = ""
    where: str = ""
    says: str = ""
    reason: str = ""


class LeftOut(Read):
    """What may not be used, and the terms for which."""

    what: str
    clauses: tuple[Term, ...] = ()


class Usage(Read):
    """The answer that the dataset was made by."""

    purpose: str
    date: str = ""
    verdict: str
    kept: int = 0
    total: int = 0
    clauses: tuple[Term, ...] = ()
    duties: tuple[Term, ...] = ()
    accepted: tuple[Term, ...] = ()
    reason_accepted: str = ""
    left_out: tuple[LeftOut, ...] = ()

    @property
    def rows(self) -> list[tuple[str, str, Term]]:
        """What is shown of each term: a kind of badge, what it did, and the term."""
        return [
            *(("warn", f"left out: {e.what}", term) for e in self.left_out for term in e.clauses),
            *(("warn", "accepted", term) for term in self.accepted),
            *(("good", "permits" if t.says == "permits" else "met", t) for t in self.clauses),
            *(("", "duty", term) for term in self.duties),
        ]
