"""What the rules look up: the pipeline, its steps by id, and what was set aside already."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from proctor.spec.document import DataPath
from proctor.spec.errors import Problem
from proctor.spec.model import Pipeline, Step


@dataclass
class Broken:
    """What was set aside already; rules that would judge it again keep silent."""

    steps: set[int] = field(default_factory=set)
    params: set[str] = field(default_factory=set)
    top: set[str] = field(default_factory=set)


@dataclass
class Context:
    """The pipeline under check, with what several rules look up."""

    pipeline: Pipeline
    broken: Broken

    @cached_property
    def index(self) -> dict[str, int]:
        """Step id -> its first position in the list."""
        found: dict[str, int] = {}
        for number, step in enumerate(self.pipeline.steps):
            found.setdefault(step.id, number)
        return found

    def step(self, id: str) -> Step:
        """The step of an id that exists."""
        return self.pipeline.steps[self.index[id]]

    def at(self, path: DataPath, message: str, remedy: str = "") -> Problem:
        """A problem at the value of a path."""
        return Problem(self.pipeline.where(*path), message, remedy)

    def at_key(self, path: DataPath, message: str, remedy: str = "") -> Problem:
        """A problem at the key of a path."""
        return Problem(self.pipeline.where_key(*path), message, remedy)
