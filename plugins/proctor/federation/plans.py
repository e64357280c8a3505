"""What a coordinator knows of a plan that sites report on."""

from __future__ import annotations

from dataclasses import dataclass

from proctor.federation.report import SiteReport, reported_steps
from proctor.plan.model import Plan


@dataclass(frozen=True)
class KnownPlan:
    """A pipeline, and its steps in order: id and what people read."""

    pipeline: str
    title: str
    steps: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, plan: Plan) -> KnownPlan:
        """What is known of a plan that is here."""
        members = reported_steps(plan)
        steps = tuple((id, plan.step(ids[0]).title or id) for id, ids in members.items())
        return cls(plan.pipeline, plan.title or plan.pipeline, steps)

    def strange(self, report: SiteReport) -> bool:
        """Whether a report names a step that the plan does not have."""
        return not {step.id for step in report.steps} <= {id for id, _ in self.steps}
