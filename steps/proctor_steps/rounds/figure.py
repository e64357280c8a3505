"""A figure of the rules, and where it stands.

Three sources state the rules of a round, and they do not always agree: the rules' text (policy),
the configuration that LoadGen carries (mlperf.conf, with LoadGen's own defaults), and the tables
of the official submission checker. A figure holds what each of them says. One value is in force:
what "against the rules" is measured by. What the official checker rejects is measured by the
checker's own, :meth:`Figure.by`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, model_validator

Source = Literal["policy", "mlperf.conf", "checker", "page"]
SOURCES: tuple[Source, ...] = get_args(Source)

T = TypeVar("T")


class Rules(BaseModel):
    """Base of all the data of a round: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(Rules, Generic[T]):
    """One figure: what each source states, and which of them is in force.

    ``in_force``: the source whose value counts; ``None`` where the figure is unknown, or stands
    only where it is no rule. ``why``: for an unknown figure the reason, for sources that disagree
    why this one is in force; else empty.
    """

    stated: dict[Source, T]
    in_force: Source | None = None
    why: str = ""

    @model_validator(mode="after")
    def _explained(self) -> Figure[T]:
        if self.in_force is not None and self.in_force not in self.stated:
            raise ValueError(f"{self.in_force} is in force, but does not state the figure")
        if self.in_force is None and not self.why:
            raise ValueError("a figure without a value needs its reason (unknown: ...)")
        if self.disputed and not self.why:
            raise ValueError("the sources disagree: say why the one in force is (why: ...)")
        return self

    @property
    def value(self) -> T | None:
        """The value in force; ``None`` where there is none (``why`` tells the reason)."""
        return None if self.in_force is None else self.stated[self.in_force]

    def by(self, source: Source) -> T | None:
        """What this source states; ``None`` where it is silent."""
        return self.stated.get(source)

    @property
    def disputed(self) -> bool:
        """Whether two sources state different values."""
        values = list(self.stated.values())
        return any(not same(value, values[0]) for value in values[1:])


def same(one: Any, other: Any) -> bool:
    """Whether two values are one figure: 76.46 x 0.99 in floating point is 75.6954."""
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)


def spread(data: Any, stands_in: Mapping[str, Sequence[str]]) -> Any:
    """A round as it is written -> a round with each figure in full.

    A figure is written plainly (``64``) where all who state it agree; ``stands_in`` names, for
    each key, who they are. Otherwise it says so itself::

        {policy: 34996, checker: 349823, in_force: policy, why: ...}
        {checker: 1525}                   # only the checker states it
        {unknown: the page has none}      # nobody does
    """
    if isinstance(data, list):
        return [spread(each, stands_in) for each in data]
    if not isinstance(data, dict):
        return data
    return {
        key: _figure(value, stands_in[key]) if key in stands_in else spread(value, stands_in)
        for key, value in data.items()
    }


_WORDS = {*SOURCES, "in_force", "why", "unknown"}


def _figure(value: Any, sources: Sequence[str]) -> Any:
    if not isinstance(value, dict):
        return {"stated": dict.fromkeys(sources, value), "in_force": sources[0]}
    if not _WORDS & value.keys():
        return {key: _figure(each, sources) for key, each in value.items()}
    if "unknown" in value:
        return {"stated": {}, "why": value["unknown"], **_rest(value, "unknown")}
    stated = {source: value[source] for source in SOURCES if source in value}
    first = next(iter(stated), None)
    made = {"stated": stated, "in_force": value.get("in_force", first), "why": value.get("why", "")}
    if made["in_force"] == "none":
        made["in_force"] = None
    return {**made, **_rest(value, "in_force", "why", *stated)}


def _rest(value: dict[str, Any], *known: str) -> dict[str, Any]:
    """What is left is misspelt, and the model will say so."""
    return {key: each for key, each in value.items() if key not in known}
