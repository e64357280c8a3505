"""Which pipeline a plan's digest stands for: of those that this home offers or has run."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from proctor.federation.report import SiteReport, reported_steps
from proctor.plan.compile import load_plan
from proctor.plan.model import Plan
from proctor.plan.params import ParamErrors
from proctor.records.store import RecordError
from proctor.site.home import Home, HomeError, Registered
from proctor.spec.errors import SpecErrors

_Stamp = tuple[str, int, int, str]


@dataclass(frozen=True)
class KnownPlan:
    """A pipeline, and its steps in order: id and what people read."""

    pipeline: str
    title: str
    steps: tuple[tuple[str, str], ...]

    def strange(self, report: SiteReport) -> bool:
        """Whether a report names a step that the plan does not have."""
        return not {step.id for step in report.steps} <= {id for id, _ in self.steps}


@dataclass
class KnownPlans:
    """The plans of a home, compiled when they are asked for and when a spec changed."""

    home: Home
    _stamp: tuple[_Stamp, ...] = ()
    _offered: dict[str, KnownPlan] = field(default_factory=dict)

    def get(self, digest: str) -> KnownPlan | None:
        """The plan of a digest; ``None`` where this home does not know it."""
        with contextlib.suppress(HomeError, OSError):  # what was known before still is
            self._look()
        if found := self._offered.get(digest):
            return found
        try:
            return _known(self.home.records.plan(digest))
        except RecordError:
            return None

    def _look(self) -> None:
        offered = self.home.pipelines().values()
        stamp = tuple(_stamp(entry) for entry in offered)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        for entry in offered:
            try:
                plan = load_plan(entry.spec, entry.build)
            except (SpecErrors, ParamErrors, OSError):
                continue  # it is shown as a DAG with its errors
            self._offered[plan.digest] = _known(plan)


def _stamp(entry: Registered) -> _Stamp:
    built = repr(sorted(entry.build.items()))
    if not entry.spec.is_file():
        return str(entry.spec), 0, 0, built
    found = entry.spec.stat()
    return str(entry.spec), found.st_mtime_ns, found.st_size, built


def _known(plan: Plan) -> KnownPlan:
    steps = tuple(
        (id, plan.step(members[0]).title or id) for id, members in reported_steps(plan).items()
    )
    return KnownPlan(plan.pipeline, plan.title or plan.pipeline, steps)
