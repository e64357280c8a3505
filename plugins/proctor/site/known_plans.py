"""Which pipeline a plan's digest stands for: of those that this home knows, offers or has run."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from proctor.federation.plans import KnownPlan
from proctor.plan.compile import load_plan
from proctor.plan.params import ParamErrors
from proctor.records.store import RecordError
from proctor.site.home import Home, HomeError, Registered
from proctor.spec.errors import SpecErrors

_Stamp = tuple[str, int, int, str]


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
            return KnownPlan.of(self.home.records.plan(digest))
        except RecordError:
            return None

    def _look(self) -> None:
        sites = self.home.profile().sites
        specs = sites.specs if sites else ()
        offered = [*self.home.pipelines().values(), *(Registered("", Path(s), {}) for s in specs)]
        stamp = tuple(_stamp(entry) for entry in offered)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        for entry in offered:
            try:
                plan = load_plan(entry.spec, entry.build)
            except (SpecErrors, ParamErrors, OSError):
                continue  # it is shown as a DAG with its errors
            self._offered[plan.digest] = KnownPlan.of(plan)


def _stamp(entry: Registered) -> _Stamp:
    built = repr(sorted(entry.build.items()))
    if not entry.spec.is_file():
        return str(entry.spec), 0, 0, built
    found = entry.spec.stat()
    return str(entry.spec), found.st_mtime_ns, found.st_size, built
