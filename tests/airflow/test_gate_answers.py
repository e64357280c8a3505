"""Gates: which answers count, who may give them, and what comes after one that does not."""

from __future__ import annotations

import time
from typing import Any

import httpx
import psycopg2  # type: ignore[import-untyped]
import pytest
from airflow_site import Site, Started
from test_gate import answer, asked, at_the_gate
from typer.testing import CliRunner

from proctor.airflow.answers import Given, given
from proctor.cli import app
from proctor.site.client import AirflowClient, AirflowUnavailable
from proctor.site.settings import Credentials


def question(run: Started) -> dict[str, Any]:
    (found,) = run.site.instance.client.open_questions(run.record.pipeline, run.record.run)
    return found


def answers(run: Started) -> list[Given]:
    return given(run.site.instance.home, run.record)


def shown(run: Started) -> str:
    name = f"{run.record.pipeline}/{run.record.run}"
    home = str(run.site.instance.home.path)
    said = CliRunner().invoke(app, ["runs", "show", name, "--home", home])
    assert said.exit_code == 0, said.output
    return said.output


def logged_in(site: Site, user: str) -> AirflowClient:
    password = Credentials.of(site.instance.home).password_of(user)
    client = AirflowClient(site.instance.url, user, password)
    client._login()
    return client


def patch(run: Started, user: str, option: str, form: dict[str, Any]) -> httpx.Response:
    """What a browser or a script sends."""
    client = logged_in(run.site, user)._http
    path = f"/api/v2/dags/{run.record.pipeline}/dagRuns/{run.record.run}/taskInstances/approve/-1"
    body = {"chosen_options": [option], "params_input": form}
    return client.patch(f"{path}/hitlDetails", json=body)


def test_a_rejection_without_a_comment_does_not_count_and_the_question_stays(site: Site) -> None:
    run = at_the_gate(site, "no-comment", ", approvers: [ada, vera]")
    bare = {"evidence_reviewed": True, "comment": " \n"}
    refused = patch(run, "ada", "Reject", bare)
    assert refused.status_code == 422
    assert "needs a comment" in refused.json()["detail"]
    # Those who may not answer are told that, and leave nothing in the record.
    assert patch(run, "bob", "Reject", bare).status_code == 403
    assert patch(run, "vera", "Reject", bare).status_code == 403
    path = "/api/v2/dags/no-comment/dagRuns/{}/taskInstances/approve/-1/hitlDetails"
    body = {"chosen_options": ["Reject"], "params_input": {}}
    anonymous = httpx.Client(base_url=site.instance.url, trust_env=False)
    assert anonymous.patch(path.format(run.record.run), json=body).status_code == 401
    assert patch(run, "ada", "Reject", {}).status_code == 422
    assert question(run)["response_received"] is False
    assert run.summary()["state"] == "waiting"
    assert not run.summary()["approvals"]
    assert patch(run, "ada", "Reject", bare | {"comment": "no chart"}).status_code == 200
    assert run.ended() == "failed"
    first, second, last = answers(run)
    assert [(a.attempt, a.signature, a.counts) for a in (first, second)] == [(1, "none", False)] * 2
    assert "ada rejected without a comment that says why" in first.verdict
    assert (first.reviewed, second.reviewed) == (True, False)
    assert (last.attempt, last.verdict, last.signature) == (1, "rejected", "good")
    assert patch(run, "ada", "Reject", bare).status_code == 409
    assert len(answers(run)) == 3
    assert run.record.verify_chain() == []
    page = shown(run)
    assert "approve #1: rejected; does not count" in page and "not signed" in page
    assert "approve #1: rejected, by" in page and "no chart" in page


def test_a_form_that_is_sent_in_part_or_wrongly_is_read_with_care(site: Site) -> None:
    run = at_the_gate(site, "partly")
    assert patch(run, "ada", "Approve", {"evidence_reviewed": "no"}).status_code == 200
    assert run.ended() == "success"
    (approval,) = run.summary()["approvals"]
    assert (approval["by"], approval["evidence_reviewed"], approval["comment"]) == (
        "ada",
        False,
        "",
    )


def test_only_the_named_approvers_may_answer(site: Site) -> None:
    run = at_the_gate(site, "named", ", approvers: [ada]")
    form = {"evidence_reviewed": True, "comment": "mine"}
    assert patch(run, "bob", "Approve", form).status_code == 403
    assert patch(run, "vera", "Approve", form).status_code == 403
    with pytest.raises(AirflowUnavailable, match="answered 403"):
        answer(run, "Approve")  # the administrator is no approver either
    assert run.tasks()["approve"] == "awaiting_input"
    assert patch(run, "ada", "Approve", form).status_code == 200
    assert run.ended() == "success"
    assert run.summary()["approvals"][0]["by"] == "ada"


def test_an_answer_of_another_is_refused_again_when_it_is_recorded(site: Site) -> None:
    run = at_the_gate(site, "slipped-in", ", approvers: [ada]")
    forget_assignees(run)
    form = {"evidence_reviewed": True, "comment": "let me"}
    assert patch(run, "bob", "Approve", form).status_code == 200
    asked(run, 2)
    assert "bob may not answer here, but ada" in question(run)["body"]
    assert [user["id"] for user in question(run)["assigned_users"]] == ["ada"]
    assert [(a.by, a.signature) for a in answers(run)] == [("bob", "none")]
    assert patch(run, "ada", "Approve", form).status_code == 200
    assert run.ended() == "success"


def forget_assignees(run: Started) -> None:
    """Take Airflow's own check away: an auth manager may have none."""
    url = run.site.instance.postgres.addresses()[0].replace("+psycopg2", "")
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "UPDATE hitl_detail SET assignees = NULL FROM task_instance ti "
            "WHERE ti.id = ti_id AND ti.dag_id = %s",
            (run.record.pipeline,),
        )
        assert cursor.rowcount == 1


def test_a_question_that_nobody_answers_in_time_approves_nothing(site: Site) -> None:
    run = at_the_gate(site, "late", ", timeout: 4s")
    assert run.ended() == "failed"
    assert run.tasks() | {"approve": "failed", "package": "upstream_failed"} == run.tasks()
    assert "nobody answered in time" in run.log("approve")
    steps = {step["id"]: step for step in run.summary()["steps"]}
    assert "nobody answered in time" in steps["approve"]["message"]
    assert [a.verdict for a in answers(run)] == ["nobody answered in time"]
    assert not [r for r in site.fake.starts("package") if r["run"] == run.record.run]
    site.instance.client.clear(run.record.pipeline, run.record.run, ["approve"])
    run.until(lambda: len([x for x in run.record.lines() if x.kind == "asked"]) == 2)
    run.until_task("approve", "awaiting_input")
    time.sleep(1)
    answer(run, "Approve")
    assert run.ended() == "success"
    assert "approve #1: nobody answered in time" in shown(run)


def test_an_answer_is_voided_when_an_earlier_step_is_cleared_and_stays_in_the_history(
    site: Site,
) -> None:
    run = at_the_gate(site, "voided")
    answer(run, "Approve", comment="the first")
    assert run.ended() == "success"
    assert [a.verdict for a in answers(run)] == ["approved"]
    outputs = {"report": {"report.html": "<h1>measured anew</h1>"}}
    site.fake.script({"evidence": {"outputs": outputs}})
    site.instance.client.clear(run.record.pipeline, run.record.run, ["evidence"])
    asked(run, 2)
    assert [a.verdict for a in answers(run)] == ["approved; voided: the evidence changed"]
    assert "approve #1: approved; voided: the evidence changed" in shown(run)
    assert "approved other evidence before: the first" in question(run)["body"]
    answer(run, "Approve", comment="the second")
    assert run.ended() == "success"
    assert [(a.attempt, a.comment, a.signature) for a in answers(run)] == [
        (1, "the first", "good"),
        (2, "the second", "good"),
    ]


def test_a_question_is_no_template(site: Site) -> None:
    run = at_the_gate(site, "template", question="{{ 6 * 7 }} {{ conn }}?")
    assert question(run)["subject"] == "{{ 6 * 7 }} {{ conn }}?"
