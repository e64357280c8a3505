"""No way around a gate: not by what else writes, not by the gate's state, not by old rights."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import Any

import httpx
import pytest
import yaml
from airflow_site import Site, Started
from rights_table import USERS, Person, Stage, hitl, log_in, of
from typer.testing import CliRunner

from proctor.cli import app
from proctor.site.instance import new_login_link
from proctor.site.settings import user_name

# What an approver may send: answers, her own list of favourites, and questions sent by POST.
OPEN_TO_APPROVERS = {
    "PATCH /api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/{map_index}"
    "/hitlDetails",
    "POST /api/v2/dags/{dag_id}/favorite",
    "POST /api/v2/dags/{dag_id}/unfavorite",
    "POST /api/v2/dags/{dag_id}/dagRuns/list",
    "POST /api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/list",
}
# Airflow looks for a backfill before it looks for the right to change it; there is none here.
NOTHING_THERE = {
    f"PUT /api/v2/backfills/{{backfill_id}}/{x}" for x in ("pause", "unpause", "cancel")
}


def bodies(run: Started) -> dict[str, Any]:
    """Where a right is looked up by what the body names."""

    def bulk(action: str, entity: dict[str, Any]) -> dict[str, Any]:
        return {"actions": [{"action": action, "entities": [entity]}]}

    one = {"dag_id": run.record.pipeline, "dag_run_id": run.record.run}
    connection = {"connection_id": "c", "conn_type": "http"}
    return {
        "/api/v2/connections": bulk("create", connection),
        "/api/v2/connections/enqueue-test": connection,
        "/api/v2/dags/{dag_id}/dagRuns": bulk("update", one | {"state": "failed"}),
        "/api/v2/dags/{dag_id}/clearDagRuns": {"dry_run": False, "dag_runs": [one]},
        "/api/v2/pools": bulk("create", {"name": "p", "slots": 1}),
        "/api/v2/variables": bulk("create", {"key": "k", "value": "v"}),
    }


def test_of_all_that_writes_an_approver_may_only_answer(stage: Stage, person: Person) -> None:
    run, asked = stage.gate(), person("admin")
    known = {
        "dag_id": run.record.pipeline,
        "dag_run_id": run.record.run,
        "task_id": "approve",
        "map_index": "-1",
        "task_group_id": "approve",
        "file_token": asked.get(f"/api/v2/dags/{run.record.pipeline}").json()["file_token"],
    }
    tried, allowed, sent = set(), set(), bodies(run)
    for path, methods in asked.get("/openapi.json").json()["paths"].items():
        for method in set(methods) & {"post", "put", "patch", "delete"}:
            place = re.sub(r"\{(\w+)(:path)?\}", lambda m: known.get(m[1], "1"), path)
            answered = person("abe").request(method.upper(), place, json=sent.get(path, {}))
            tried.add(f"{method.upper()} {path}")
            if answered.status_code != 403:
                allowed.add(f"{method.upper()} {path}")
    assert len(tried) > 50 and tried >= NOTHING_THERE
    assert allowed - NOTHING_THERE == OPEN_TO_APPROVERS
    assert run.tasks()["approve"] == "awaiting_input"


def test_a_gate_that_an_operator_sets_to_success_opens_nothing(
    site: Site, stage: Stage, person: Person
) -> None:
    run = stage.gate()
    path = of(run, "/taskInstances/approve")
    assert person("approver").patch(path, json={"new_state": "success"}).status_code == 403
    assert run.tasks()["approve"] == "awaiting_input"
    assert person("operator").patch(path, json={"new_state": "success"}).status_code == 200
    stage.spend_gate()
    assert run.ended() == "failed"
    assert "nobody has answered at the gate 'approve'" in run.log("package")
    assert not [r for r in site.fake.starts("package") if r["run"] == run.record.run]
    assert not run.summary()["approvals"]


def test_a_rejection_without_a_comment_is_refused_and_kept_with_the_name(
    stage: Stage, person: Person
) -> None:
    run = stage.gate()
    bare = {"chosen_options": ["Reject"], "params_input": {"comment": " "}}
    assert person("viewer").patch(hitl(run), json=bare).status_code == 403
    assert person("approver").patch(hitl(run), json=bare).status_code == 422
    line = run.record.last("uncounted", "approve")
    assert line is not None
    assert "abe rejected without a comment" in str(line.data["message"])


def test_nobody_is_nobody(site: Site, stage: Stage) -> None:
    stranger = httpx.Client(base_url=site.instance.url, trust_env=False)
    run = stage.gate()
    for path in (of(run), "/proctor/review/open/x", "/api/v2/dags", "/auth/fab/v1/users"):
        assert stranger.get(path).status_code in (401, 403), path
    assert stranger.patch(hitl(run), json={"chosen_options": ["Approve"]}).status_code == 401
    forged = httpx.Client(
        base_url=site.instance.url, trust_env=False, cookies={"_token": "eyJhbGciOiJub25lIn0.e30."}
    )
    assert forged.get("/api/v2/dags").status_code in (401, 403)


def test_a_users_session_is_no_tasks(person: Person) -> None:
    """What tasks talk to lies on the same port; with it one could end a gate's task."""
    token = person("approver").cookies["_token"]
    path = "/execution/task-instances/01a216cd-8465-743b-bac4-84abdf781bfc/state"
    body = {"state": "success", "end_date": "2026-01-01T00:00:00Z"}
    headers = {"Authorization": f"Bearer {token}"}
    assert person("approver").patch(path, json=body, headers=headers).status_code in (401, 403)


def start_again(site: Site) -> None:
    """Do with roles and users what a start does."""
    script = (
        "from airflow.providers.fab.www.app import create_app; create_app(enable_plugins=False)"
    )
    subprocess.run(
        [sys.executable, "-c", script],
        env=dict(site.instance.components.environment),
        check=True,
        cwd=site.instance.home.path / "airflow",
    )


def test_each_start_brings_roles_and_users_to_what_the_profile_says(
    site: Site, person: Person
) -> None:
    admin, profile = person("admin"), site.instance.home.path / "site.yaml"
    role = admin.get("/auth/fab/v1/roles/Approver").json()
    more = {"action": {"name": "can_edit"}, "resource": {"name": "Task Instances"}}
    wider = {"name": "Approver", "actions": [*role["actions"], more]}
    assert admin.patch("/auth/fab/v1/roles/Approver", json=wider).status_code == 200
    ada = log_in(site, "ada")
    assert ada.get("/api/v2/dags").status_code == 200
    left = {name: role for name, role in USERS.items() if name != "ada"} | {"vera": "approver"}
    before = profile.read_text()
    profile.write_text(yaml.safe_dump({"auth": "fab", "users": left}))
    try:
        start_again(site)
        narrow = admin.get("/auth/fab/v1/roles/Approver").json()
        assert sorted(narrow["actions"], key=str) == sorted(role["actions"], key=str)
        users = {u["username"]: u for u in admin.get("/auth/fab/v1/users").json()["users"]}
        assert (users["ada"]["active"], users["abe"]["active"]) == (False, True)
        assert users["vera"]["roles"] == [{"name": "Approver"}]
        time.sleep(6)  # rights are remembered for 5 s
        assert ada.get("/api/v2/dags").status_code in (401, 403)
        with pytest.raises(LookupError, match="'ada' may not log in here"):
            new_login_link(site.instance.home, "ada")
    finally:
        profile.write_text(before)
        start_again(site)
    time.sleep(6)
    assert log_in(site, "ada").get("/api/v2/dags").status_code == 200


def log_in_by_form(site: Site, name: str, password: str) -> httpx.Client:
    client = httpx.Client(base_url=site.instance.url, trust_env=False, follow_redirects=True)
    page = client.get("/auth/login/").text
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert token, page[:2000]
    client.post(
        "/auth/login/", data={"username": name, "password": password, "csrf_token": token[1]}
    )
    return client


def set_password(site: Site, name: str, typed: str) -> tuple[int, str]:
    command = ["user", "password", name, "--home", str(site.instance.home.path)]
    done = CliRunner().invoke(app, command, input=typed)
    return done.exit_code, done.output


def test_a_password_lets_in_by_the_form(site: Site) -> None:
    word = "correct horse battery"
    code, said = set_password(site, "abe", f"{word}\n{word}\n")
    assert (code, word in said) == (0, False), said
    client = log_in_by_form(site, "abe", word)
    assert client.get("/api/v2/dags").status_code == 200
    path = "/api/v2/dags/open/dagRuns"
    assert client.post(path, json={"logical_date": None}).status_code == 403
    assert client.get("/auth/users/list/").url.path != "/auth/users/list/"
    assert log_in_by_form(site, "abe", "wrong").get("/api/v2/dags").status_code == 401
    token = client.post("/auth/token", json={"username": "abe", "password": word})
    assert token.status_code == 201


@pytest.mark.parametrize(
    ("name", "typed", "words"),
    [
        ("abe", "short\nshort\n", "it has 5 characters; 12 at least are needed"),
        ("eve", "", "'eve' may not log in here"),
        (user_name(), "", "the owner has no password"),
    ],
)
def test_passwords_that_are_not_taken(site: Site, name: str, typed: str, words: str) -> None:
    code, said = set_password(site, name, typed)
    assert code == 2
    assert words in said
