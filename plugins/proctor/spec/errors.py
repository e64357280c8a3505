"""What can be wrong with a spec, as data.

The exceptions of this package::

    Exception
    └── SpecErrors         a spec cannot be used; holds every Problem found, in the file's order

A Problem is text for the person who wrote the file: where it is, what is wrong, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

MOST_SHOWN = 100  # problems of one file
LONGEST = 600  # characters of one problem, which may quote the file


class Position(NamedTuple):
    """A place in a file. ``line`` and ``column`` count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong, where, and the way out (``remedy``, may be empty)."""

    at: Position
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.at}: {self.text}"

    @property
    def text(self) -> str:
        """The problem without its place."""
        text = f"{self.message}; {self.remedy}" if self.remedy else self.message
        # It may quote the file: no line break, no escape sequence may reach a terminal or a log.
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: LONGEST + 1])
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


class SpecErrors(Exception):
    """A spec cannot be used.

    ``problems`` is never empty. ``pipeline_name`` is what the spec calls itself, as far as it
    could be read, else the file's stem: the name under which the broken pipeline is shown.
    """

    def __init__(self, problems: Iterable[Problem], pipeline_name: str) -> None:
        self.problems = _readable(sorted(set(problems)))
        self.pipeline_name = pipeline_name
        super().__init__("\n".join(str(problem) for problem in self.problems))


def _readable(problems: list[Problem]) -> tuple[Problem, ...]:
    if len(problems) <= MOST_SHOWN:
        return tuple(problems)
    shown = problems[:MOST_SHOWN]
    more = Problem(shown[-1].at, f"{len(problems) - MOST_SHOWN} or more problems follow")
    return (*shown, more)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a name that nobody knows: the nearest ones, else all where they are few."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=2, cutoff=0.6)
    if not close:
        close = [name for name in names if name.lower() == word.lower()]
    if close:
        return "did you mean " + " or ".join(repr(name) for name in close) + "?"
    if not names:
        return "there are none"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"known: {shown}"
