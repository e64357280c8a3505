"""The way back from a rejection: the named step and all that follows it run again.

The gate records the answer and fails. Clearing tasks is the launcher's: a task cannot. Airflow's
own rows tell whether it was done, as they change in one transaction: a gate that has failed under
the number of tries that its answer was recorded with has not been cleared since. So whoever looks
next, after whatever kill, clears once, and nothing begins again without another answer.

One thing is cleared a second time: what was cleared in the moment in which the scheduler found the
run to be over. Airflow leaves the state of a run that goes on as it is, and the scheduler then
writes what it found: a run that has failed, whose cleared tasks never start.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proctor.records.approvals import last_answer
from proctor.records.model import Line
from proctor.records.store import RunRecord
from proctor.site.instance import Instance


@dataclass
class Rework:
    """Looks for rejections that lead back; call :meth:`look_at` from the launcher's loop."""

    instance: Instance
    _idle: dict[str, int] = field(default_factory=dict)

    def look_at(self, record: RunRecord) -> list[str]:
        """Clear what a run's rejections want to run again; a line for each.

        Raises:
            AirflowUnavailable: to be tried again.
        """
        said = []
        for line in self.wanted(record):
            plan = self.instance.home.records.plan(line.plan_digest)
            first = str(line.data["rework"])
            cells = [step.id for step in plan.steps if step.step == first]
            self.instance.client.clear(record.pipeline, record.run, cells)
            said.append(f"{record.pipeline}/{record.run}: rejected at {line.step}, back to {first}")
        return said

    def wanted(self, record: RunRecord) -> list[Line]:
        """The rejections for which nobody has cleared anything yet, or not so that it runs."""
        lines = self._asked(record)
        client = self.instance.client
        if not lines or client.run_state(record.pipeline, record.run) is None:
            return []
        tasks = client.task_states(record.pipeline, record.run)

        def stuck() -> bool:
            # Asked after the tasks: clearing tasks of a run that is over sets it going, too.
            return client.run_state(record.pipeline, record.run) == "failed"

        def uncleared(line: Line) -> bool:
            if line.step not in tasks:
                return False
            state, tries = tasks[line.step]["state"], tasks[line.step]["max_tries"]
            if state == "failed":
                return bool(tries == line.data.get("generation"))
            return state is None and stuck()

        return [line for line in lines if uncleared(line)]

    def _asked(self, record: RunRecord) -> list[Line]:
        try:
            written = record.path.stat().st_mtime_ns
        except FileNotFoundError:
            return []
        if self._idle.get(str(record.path)) == written:
            return []
        found = asked(record)
        if not found:
            self._idle[str(record.path)] = written
        return found


def asked(record: RunRecord) -> list[Line]:
    """By the record alone: each gate's last line where that is a rejection that leads back."""
    gates = dict.fromkeys(line.step for line in record.lines() if line.data.get("rework"))
    found = [line for gate in gates if (line := last_answer(record, gate))]
    return [line for line in found if line.data.get("rework")]


def forgo(record: RunRecord) -> None:
    """The run is given up: nobody is to go back in it by himself any more."""
    for line in asked(record) if record.exists() else ():
        data = {"message": "the run was given up before its rework began"}
        record.append("refused", step=line.step, plan_digest=line.plan_digest, data=data)
