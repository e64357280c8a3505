"""What the validator has to say: one :class:`Finding` for each thing that is wrong."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

# (division, submitter, system, benchmark, scenario), or the first few of them: what a finding is
# about. All results below it share its fate.
Scope = tuple[str, ...]


class Severity(StrEnum):
    """What a finding means for the submission, worst first."""

    REJECTED = "rejected by the official checker"
    AGAINST = "against the rules though the official checker lets it pass"
    ADVICE = "advice"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    ``rule``: its short name. ``path``: relative to the tree, with ``line`` where there is one.
    ``message``: what is wrong, ``advice``: what to do. ``stops``: the official checker does not
    only reject the result, it ends with a traceback here and judges nothing in the tree.
    """

    severity: Severity
    rule: str
    path: str
    message: str
    advice: str
    scope: Scope = ()
    line: int | None = None
    stops: bool = False

    @property
    def where(self) -> str:
        """``path:line``."""
        return f"{self.path}:{self.line}" if self.line else self.path

    def concerns(self, result: Scope) -> bool:
        """Whether the finding is about this result, or about something that the result is in."""
        return self.scope == result[: len(self.scope)]

    def data(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **asdict(self),
            "severity": self.severity.name.lower(),
            "scope": [*map(plain_name, self.scope)],
        }


@dataclass(frozen=True)
class Teller:
    """Makes findings about one scope; paths are given as they are and told relative to the tree."""

    root: Path
    scope: Scope = ()

    def rejected(
        self,
        rule: str,
        path: Path,
        message: str,
        advice: str,
        line: int | None = None,
        **more: bool,
    ) -> Finding:
        """The official checker refuses the result for it."""
        return self._make(Severity.REJECTED, rule, path, message, advice, line, **more)

    def against(
        self, rule: str, path: Path, message: str, advice: str, line: int | None = None
    ) -> Finding:
        """A rule forbids it, and the official checker does not see it."""
        return self._make(Severity.AGAINST, rule, path, message, advice, line)

    def advice(
        self, rule: str, path: Path, message: str, advice: str, line: int | None = None
    ) -> Finding:
        """Nothing forbids it."""
        return self._make(Severity.ADVICE, rule, path, message, advice, line)

    def _make(
        self,
        severity: Severity,
        rule: str,
        path: Path,
        message: str,
        advice: str,
        line: int | None,
        stops: bool = False,
    ) -> Finding:
        named = path.relative_to(self.root).as_posix()
        return Finding(
            severity,
            rule,
            plain_name(named),
            shown(message),
            shown(advice),
            self.scope,
            line,
            stops,
        )


def plain_name(text: str) -> str:
    """A name that every output takes: one that is no UTF-8 reaches Python in surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


def shown(text: str) -> str:
    """Text from outside as one line."""
    return " ".join(plain_name(text).split())
