"""What each role may do: the table of docs/security.md, each row with how it is tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import httpx
from airflow_site import Site, Started

from proctor.site.instance import new_login_link

ROLES = ("viewer", "approver", "operator", "admin")
# Users of the instance under test; its administrator is whoever runs the tests.
USERS = {"vera": "viewer", "ada": "approver", "abe": "approver", "olaf": "operator"}


@dataclass
class Stage:
    """Runs of the instance under test, by what they are for; each is used once."""

    gates: list[Started]
    named: Started
    ended: list[Started]

    def gate(self) -> Started:
        """A run that waits at a gate that anybody may answer."""
        return self.gates[0]

    def spend_gate(self) -> None:
        """Somebody has answered at it."""
        self.gates.pop(0)


# What a user sends, by name or by role, logged in by a link.
Person = Callable[[str], httpx.Client]
Does = Callable[[Stage, httpx.Client], httpx.Response]


@dataclass(frozen=True)
class Row:
    """``lowest``: the least role that may, "" where none does. ``spends``: a gate is answered."""

    action: str
    lowest: str
    does: Does
    spends: bool = False

    def allows(self, role: str) -> bool:
        """Whether a role may."""
        return self.lowest != "" and ROLES.index(role) >= ROLES.index(self.lowest)


def log_in(site: Site, name: str) -> httpx.Client:
    """A client with the session that a login link gives."""
    client = httpx.Client(base_url=site.instance.url, trust_env=False, timeout=60)
    nonce = new_login_link(site.instance.home, name).rpartition("#")[2]
    client.post("/proctor/launch/take", json={"nonce": nonce}).raise_for_status()
    return client


def table() -> str:
    """The table as docs/security.md shows it."""
    head = "| | " + " | ".join(ROLES) + " |\n|---|" + "---|" * len(ROLES)
    lines = [
        f"| {row.action} | " + " | ".join("yes" if row.allows(r) else "no" for r in ROLES) + " |"
        for row in ROWS
    ]
    return "\n".join([head, *lines]) + "\n"


def of(run: Started, rest: str = "") -> str:
    """The address of a run in Airflow's REST API."""
    return f"/api/v2/dags/{run.record.pipeline}/dagRuns/{quote(run.record.run, safe='')}{rest}"


def page(run: Started, kind: str, rest: str = "") -> str:
    """The address of one of Proctor's pages about a run."""
    return f"/proctor/{kind}/{run.record.pipeline}/{quote(run.record.run, safe='')}{rest}"


def get(path: Callable[[Started], str]) -> Does:
    """Read something about a run that waits."""
    return lambda stage, client: client.get(path(stage.gate()))


def read(path: str) -> Does:
    """Read something that belongs to no run."""
    return lambda _, client: client.get(path)


def answer(option: str, comment: str = "looked at") -> Does:
    """Answer at a gate."""
    form = {"evidence_reviewed": True, "comment": comment}
    body = {"chosen_options": [option], "params_input": form}
    return lambda stage, client: client.patch(hitl(stage.gate()), json=body)


def hitl(run: Started) -> str:
    """The address of a run's question."""
    return of(run, "/taskInstances/approve/-1/hitlDetails")


def set_state(stage: Stage, client: httpx.Client) -> httpx.Response:
    """Set the state of a task of an ended run to what it is not."""
    path = of(stage.ended[0], "/taskInstances/package")
    state = "failed" if client.get(path).json()["state"] == "success" else "success"
    return client.patch(path, json={"new_state": state})


def end_run(stage: Stage, client: httpx.Client) -> httpx.Response:
    """Set the state of a run."""
    return client.patch(of(stage.ended[0]), json={"state": "failed"})


def clear(stage: Stage, client: httpx.Client) -> httpx.Response:
    """Let the last step of an ended run, and so the run, go again."""
    run = stage.ended[0]
    body = {
        "dry_run": False,
        "only_failed": False,
        "dag_run_id": run.record.run,
        "task_ids": ["package"],
    }
    return client.post(f"/api/v2/dags/{run.record.pipeline}/clearTaskInstances", json=body)


def trigger(stage: Stage, client: httpx.Client) -> httpx.Response:
    """Start a run."""
    path = f"/api/v2/dags/{stage.gate().record.pipeline}/dagRuns"
    return client.post(path, json={"logical_date": None})


def pause(stage: Stage, client: httpx.Client) -> httpx.Response:
    """Pause a pipeline, and let it go on where that worked."""
    path = f"/api/v2/dags/{stage.gate().record.pipeline}"
    answered = client.patch(path, json={"is_paused": True})
    if answered.is_success:
        client.patch(path, json={"is_paused": False})
    return answered


def delete_run(stage: Stage, client: httpx.Client) -> httpx.Response:
    """Take a run out of Airflow; its record stays."""
    return client.delete(of(stage.ended[1]))


def write_variable(_: Stage, client: httpx.Client) -> httpx.Response:
    """Set a variable."""
    body = {"key": client.cookies.get("_token", "")[-12:], "value": "1"}
    return client.post("/api/v2/variables", json=body)


def answer_for_another(stage: Stage, client: httpx.Client) -> httpx.Response:
    """Approve where only another user may."""
    body = {"chosen_options": ["Approve"], "params_input": {}}
    return client.patch(hitl(stage.named), json=body)


def edit_pool(_: Stage, client: httpx.Client) -> httpx.Response:
    """Change a pool's size."""
    path = "/api/v2/pools/default_pool?update_mask=slots"
    return client.patch(path, json={"slots": 128})


CONTENT = "/evidence/report/report.html"
ROWS = (
    Row("see pipelines, runs and tasks", "viewer", get(lambda r: of(r, "/taskInstances"))),
    Row("see a task's log", "viewer", get(lambda r: of(r, "/taskInstances/evidence/logs/1"))),
    Row("see evidence and answers", "viewer", get(lambda r: page(r, "evidence", "/approve"))),
    Row("see what a step made", "viewer", get(lambda r: page(r, "content", CONTENT))),
    Row("see the report", "viewer", get(lambda r: page(r, "report"))),
    Row("see a run's record", "viewer", get(lambda r: page(r, "record"))),
    Row("see what waits for a person", "viewer", get(lambda r: page(r, "review"))),
    Row("see what waits in all runs", "viewer", read("/proctor/review")),
    Row("see and download all results", "viewer", read("/proctor/results.json")),
    Row("approve", "approver", answer("Approve"), spends=True),
    Row("reject", "approver", answer("Reject"), spends=True),
    Row("answer where `approvers` names somebody else", "", answer_for_another),
    Row("start a run", "operator", trigger),
    Row("clear a task", "operator", clear),
    Row("set a task's state", "operator", set_state),
    Row("set a run's state", "operator", end_run),
    Row("pause a pipeline", "operator", pause),
    Row("delete a run", "admin", delete_run),
    Row("edit pools", "admin", edit_pool),
    Row("read connections", "admin", read("/api/v2/connections")),
    Row("read variables", "admin", read("/api/v2/variables")),
    Row("set variables", "admin", write_variable),
    Row("read Airflow's log of who did what", "admin", read("/api/v2/eventLogs")),
    Row("see and change users", "admin", read("/auth/fab/v1/users")),
    Row("read Airflow's configuration", "", read("/api/v2/config")),
)
