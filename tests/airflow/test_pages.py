"""Our pages in Airflow: who gets in, and what they send."""

from __future__ import annotations

import subprocess

import httpx
import pytest
from airflow_site import Site
from test_gate import answer, at_the_gate

from proctor.site.instance import new_login_link
from proctor.ui import pages


def fresh(site: Site) -> httpx.Client:
    return httpx.Client(base_url=site.instance.url, trust_env=False)


def nonce_of(link: str) -> str:
    return link.rpartition("#")[2]


def test_the_login_link_works_once_and_a_wrong_guess_burns_nothing(site: Site) -> None:
    nonce = nonce_of(site.instance.login_link())
    client = fresh(site)
    assert client.post("/proctor/launch/take", json={"nonce": "wrong"}).status_code == 403
    taken = client.post("/proctor/launch/take", json={"nonce": nonce})
    assert taken.status_code == 200
    assert "httponly" in taken.headers["set-cookie"].lower()
    assert "samesite=strict" in taken.headers["set-cookie"].lower()
    assert client.get("/api/v2/dags").status_code == 200
    assert fresh(site).post("/proctor/launch/take", json={"nonce": nonce}).status_code == 403


def test_a_link_of_another_user_logs_that_one_in_with_its_role(site: Site) -> None:
    home = site.instance.home
    run = at_the_gate(site, "links", ", approvers: [ada]")
    path = f"/api/v2/dags/links/dagRuns/{run.record.run}/taskInstances/approve/-1/hitlDetails"
    body = {"chosen_options": ["Approve"], "params_input": {}}
    for user, status in (("vera", 403), ("bob", 403), ("ada", 200)):
        client = fresh(site)
        nonce = nonce_of(new_login_link(home, user))
        assert client.post("/proctor/launch/take", json={"nonce": nonce}).status_code == 200
        assert client.get("/api/v2/dags").status_code == 200
        assert client.patch(path, json=body).status_code == status, user
    assert run.ended() == "success"
    assert run.summary()["approvals"][0]["by"] == "ada"
    with pytest.raises(LookupError, match="'adda' may not log in here; did you mean 'ada'"):
        new_login_link(home, "adda")


def test_pages_need_a_login(site: Site) -> None:
    for path in (
        "evidence/a/b/c",
        "report/a/b",
        "content/a/b/c/d/e",
        "review/a/b",
        "record/a/b",
        "record/a/b/c",
        "file/a/b/c",
        "results",
        "results.csv",
        "results.json",
        "compare",
        "review",
    ):
        assert fresh(site).get(f"/proctor/{path}").status_code in (401, 403), path


def test_a_viewer_sees_what_waits_and_may_only_look(site: Site) -> None:
    run = at_the_gate(site, "looked-at")
    for user, words in (("vera", "You may only look."), ("bob", "You may.")):
        client = fresh(site)
        nonce = nonce_of(new_login_link(site.instance.home, user))
        assert client.post("/proctor/launch/take", json={"nonce": nonce}).status_code == 200
        for path in ("review", f"review/looked-at/{run.record.run}"):
            page = client.get(f"/proctor/{path}")
            assert "Good enough?" in page.text and words in page.text, (user, path)
        assert client.get("/proctor/results").status_code == 200
        assert "approve" in client.get(f"/proctor/record/looked-at/{run.record.run}").text
    answer(run, "Approve")
    assert run.ended() == "success"
    assert run.record.name not in client.get("/proctor/review").text


def test_the_evidence_page_shows_evidence_and_answers(site: Site) -> None:
    run = at_the_gate(site, "pages")
    client = fresh(site)
    client.post("/proctor/launch/take", json={"nonce": nonce_of(site.instance.login_link())})
    page = client.get(f"/proctor/evidence/pages/{run.record.run}/approve")
    assert page.status_code == 200
    assert "Good enough?" in page.text
    address = pages.address("content", "pages", run.record.run, "evidence", "report", "report.html")
    assert address in page.text
    content = client.get(address)
    assert content.text == "<h1>evidence</h1>"
    assert "sandbox" in content.headers["content-security-policy"]
    for path in ("..%2f..%2frecord.jsonl", "nothing.html"):
        assert client.get(f"{address.removesuffix('report.html')}{path}").status_code == 404
    answer(run, "Approve", reviewed=False)
    assert run.ended() == "success"
    assert "in the UI" in client.get(f"/proctor/evidence/pages/{run.record.run}/approve").text


def test_everything_listens_on_loopback_only(site: Site) -> None:
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    pids = {str(p.pid) for p in site.instance.components._running.values()}
    ours = [line for line in listening.splitlines() if any(f"pid={pid}," in line for pid in pids)]
    assert ours
    assert all("127.0.0.1:" in line.split()[3] for line in ours), ours
