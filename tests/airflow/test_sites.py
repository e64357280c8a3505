"""A coordinator as it runs: reports over TLS, the page's data, asset events, DAGs that wait."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpx
import pytest

from committee_kit import (
    CANARY,
    Committee,
    Member,
    committee_running,
    has,
    member,
    until,
    wait_for_door,
)
from proctor.federation.sender import PATH, Refused, Sender, read_token
from proctor.site.reporting import Reporter


@pytest.fixture(scope="module")
def committee() -> Iterator[Committee]:
    with committee_running() as running:
        yield running


def test_reports_are_on_the_page_and_a_dag_starts_when_enough_sites_are_ready(
    committee: Committee,
) -> None:
    sites = [member(committee, f"site-{letter}") for letter in "abc"]
    digest = sites[0].record.header().plan_digest
    for site in sites:
        has(site.record, "fetch", "succeeded")
        for number in range(4):
            part = site.record.subject(f"{CANARY}/{number}")
            part.append("header", plan_digest=digest, data={"subject": f"{CANARY}/{number}"})
            if number:
                has(part, "prepare", "failed" if number == 3 else "succeeded")
        site.send()
    reader = committee.page("vera")
    assert reader.get("/proctor/sites").status_code == 200
    data = reader.get("/proctor/sites/data").json()
    (plan,) = data["plans"]
    assert (plan["plan"], plan["title"], plan["known"]) == (digest, "Preparation", True)
    assert [step["title"] for step in plan["steps"]] == ["fetch", "Prepare"]
    assert [(s["site"], s["state"]) for s in plan["sites"]] == [
        (f"site-{letter}", "failed") for letter in "abc"
    ]
    prepare = plan["sites"][0]["steps"]["prepare"]
    assert (prepare["total"], prepare["percent"], prepare["counts"]["failed"]) == (4, 50.0, 1)
    assert CANARY not in reader.get("/proctor/sites/data").text
    assert CANARY not in reader.get("/proctor/sites/history?site=site-a").text

    runs = "/dags/merge/dagRuns"
    until(lambda: committee.instance.client.has_dag("merge", {"begin", "merge"}))
    for count, site in enumerate(sites[:2], start=1):
        assert committee.ask(runs)["total_entries"] == 0
        for part in site.record.subjects():
            part.append("result", step="prepare", attempt=2, data={"state": "succeeded"})
        has(site.record, "subjects-1", "succeeded")
        has(site.record, "list-subjects", "succeeded")
        site.send()
        site.send()
        assert committee.ask("/assets/events")["total_entries"] == count
    events = committee.ask("/assets/events")["asset_events"]
    assert {each["uri"] for each in events} == {
        "proctor-site://site-a/prep",
        "proctor-site://site-b/prep",
    }
    assert events[0]["extra"] == {"site": "site-a", "plan": digest, "run": 1}
    found = until(lambda: committee.ask(runs)["dag_runs"])
    assert len(found) == 1 and found[0]["run_type"] == "asset_triggered"
    until(lambda: committee.ask(runs)["dag_runs"][0]["state"] == "success")
    assert committee.instance.home.records.run("merge", found[0]["dag_run_id"]).exists()
    listed = committee.terminal("list").stdout
    assert listed.count("succeeded") == 2 and "prep" in listed


def test_the_page_is_for_who_is_logged_in(committee: Committee) -> None:
    stranger = committee.page()
    for path in ("/proctor/sites", "/proctor/sites/data", "/proctor/sites/history?site=site-a"):
        assert stranger.get(path).status_code in (401, 403), path
    reader = committee.page("vera")
    assert reader.get("/proctor/sites/history?site=nobody").status_code == 404
    assert reader.get("/proctor/sites/history?site=../x").status_code == 404
    # Being logged in is no token.
    told = {"Content-Type": "application/json"}
    assert reader.post("/proctor/sites/reports", content=b"{}", headers=told).status_code == 401
    policy = reader.get("/proctor/sites").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "http" not in policy


def test_a_token_opens_nothing_but_the_address_for_reports(committee: Committee) -> None:
    site = member(committee, "site-d")
    token = read_token(site.home.path / "coordinator.token")
    headers = {"Authorization": f"Bearer {token}"}
    stranger = committee.page()
    for path in ("/api/v2/dags", "/proctor/sites/data", "/proctor/sites/history?site=site-a"):
        assert stranger.get(path, headers=headers).status_code in (401, 403), path
    trust = ssl.create_default_context(cafile=str(committee.tls.ca))
    with httpx.Client(base_url=committee.url, verify=trust, trust_env=False) as door:
        for path in ("/", "/api/v2/dags", "/proctor/sites/data", "/auth/token", "/docs"):
            assert door.get(path, headers=headers).status_code == 404, path
        assert door.get(PATH, headers=headers).status_code == 405


def test_a_revoked_site_is_refused_while_all_runs(committee: Committee) -> None:
    site = member(committee, "site-e")
    has(site.record, "fetch", "succeeded")
    site.send()
    assert committee.terminal("revoke", "site-e").exit_code == 0
    to = site.reporter._courier
    assert to is not None and isinstance(to.sender, Sender)
    with pytest.raises(Refused, match="was revoked"):
        to.sender.send(site.outbox.body(1), 1)
    data = committee.page("vera").get("/proctor/sites/data").json()
    assert {s["name"]: s["may_report"] for s in data["sites"]}["site-e"] is False


def test_a_door_that_died_is_opened_again(committee: Committee) -> None:
    site = member(committee, "site-f")
    door = committee.instance.components._running["sites-door"]
    door.kill()
    door.wait(10)
    has(site.record, "fetch", "succeeded")
    first, *_, last = site.reporter.finish()
    assert "cannot be reached" in first and "1 report waits for the coordinator" in last
    until(lambda: "sites-door" in committee.instance.supervise())
    wait_for_door(committee.url, committee.tls)
    Member(site.home, site.record, Reporter(site.home)).send()
