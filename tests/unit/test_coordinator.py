"""The coordinator: who may report, what is refused, and that a report counts once."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError
from starlette.testclient import TestClient
from test_outbox import report
from typer.testing import CliRunner

from coordinator_kit import Coordinator, alembic_config, engine_on, fresh_tables
from proctor.cli import app
from proctor.federation import inbox, register
from proctor.federation.intake import Intake
from proctor.federation.limits import Limit
from proctor.federation.plans import KnownPlan
from proctor.federation.report import LONGEST_REPORT, SiteReport
from proctor.federation.sender import PATH
from proctor.federation.tables import METADATA, REPORTS, TOKENS, VERSION_TABLE
from proctor.plan.compile import load_plan
from proctor.site.home import Home
from proctor.site.known_plans import KnownPlans
from proctor.site.profile import read_profile

CANARY = "Canary-4711"


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    # Not below pytest's own folder: as root, PostgreSQL runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="proctor-sites-"))
    made = Home(folder)
    made.create()
    folder.chmod(0o711)
    yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server(home: Home) -> Iterator[tuple[Engine, str]]:
    with engine_on(home.path) as found:
        fresh_tables(*found)
        yield found


@pytest.fixture
def coordinator(server: tuple[Engine, str]) -> Coordinator:
    with server[0].begin() as database:
        database.execute(text("TRUNCATE proctor_site CASCADE"))
    return Coordinator(server[0], None)


@pytest.fixture
def client(coordinator: Coordinator) -> TestClient:
    return TestClient(coordinator.app(), raise_server_exceptions=False)


def numbered(sequence: int, done: int = 0, **more: Any) -> SiteReport:
    return report(done).model_copy(update={"sequence": sequence, **more})


def post(client: TestClient, token: str, body: bytes | SiteReport, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else body.body()
    told = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return client.post(PATH, content=content, headers=told | headers)


def added(coordinator: Coordinator, name: str = "hospital-a") -> str:
    with coordinator.database() as database:
        return register.add_site(database, name)


def kept(coordinator: Coordinator) -> list[tuple[int, int]]:
    with coordinator.database() as database:
        rows = database.execute(select(REPORTS.c.sequence, REPORTS.c.run).order_by(REPORTS.c.id))
        return [(row.sequence, row.run) for row in rows]


def test_the_migrations_make_the_tables_and_take_them_back(server: tuple[Engine, str]) -> None:
    engine, url = server
    fresh_tables(engine, url)
    with engine.connect() as database:
        options = {"version_table": VERSION_TABLE, "include_name": _ours}
        context = MigrationContext.configure(database, opts=options)
        assert compare_metadata(context, METADATA) == []
    command.downgrade(alembic_config(url), "base")
    with engine.connect() as database:
        left = database.execute(text("SELECT tablename FROM pg_tables WHERE schemaname='public'"))
        assert [name for (name,) in left] == [VERSION_TABLE]
    command.upgrade(alembic_config(url), "head")


def _ours(name: str | None, kind: str, parents: Any) -> bool:
    return name != VERSION_TABLE


def test_a_report_is_kept_once(coordinator: Coordinator, client: TestClient) -> None:
    token = added(coordinator)
    for _ in range(3):
        answer = post(client, token, numbered(1))
        assert (answer.status_code, answer.json()) == (200, {"ok": True, "sequence": 1})
    assert post(client, token, numbered(2, 1)).status_code == 200
    assert kept(coordinator) == [(1, 1), (2, 1)]


def test_another_report_under_a_number_is_refused(
    coordinator: Coordinator, client: TestClient
) -> None:
    token = added(coordinator)
    post(client, token, numbered(1))
    answer = post(client, token, numbered(1, 7))
    assert answer.status_code == 409 and "ask the committee for a new token" in answer.text
    assert kept(coordinator) == [(1, 1)]
    with coordinator.database() as database:
        (only,) = inbox.newest(database)
    assert only.report == numbered(1)


def test_none_can_be_missing(coordinator: Coordinator, client: TestClient) -> None:
    token = added(coordinator)
    assert post(client, token, numbered(7)).status_code == 200  # a token may come later
    answer = post(client, token, numbered(9))
    assert answer.status_code == 409 and answer.json()["expected"] == 8
    assert answer.json()["error"] == "report 8 of this token comes first"
    assert [post(client, token, numbered(n)).status_code for n in (8, 9)] == [200, 200]
    assert kept(coordinator) == [(7, 1), (8, 1), (9, 1)]


def test_the_database_itself_keeps_reports_as_they_are(
    coordinator: Coordinator, client: TestClient
) -> None:
    post(client, added(coordinator), numbered(1))
    for change in ("UPDATE proctor_site_report SET run = 9", "DELETE FROM proctor_site_report"):
        refused = pytest.raises(DBAPIError, match="never changed or removed")
        with refused, coordinator.database() as database:
            database.execute(text(change))
    assert kept(coordinator) == [(1, 1)]


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": "Basic abc"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {CANARY}"},
        {"Authorization": "Bearer 00000000." + "a" * 43},
        {"Authorization": "Bearer 00000000." + "a" * 100_000},
    ],
)
def test_without_a_token_that_counts_nothing_is_taken(
    coordinator: Coordinator, client: TestClient, headers: dict[str, str]
) -> None:
    added(coordinator)
    answer = post(client, "", numbered(1), **headers)
    assert answer.status_code == 401 and CANARY not in answer.text
    assert kept(coordinator) == []


def test_a_forged_token_with_the_public_half_of_a_real_one(
    coordinator: Coordinator, client: TestClient
) -> None:
    token = added(coordinator)
    forged = token.partition(".")[0] + "." + "A" * 43
    assert post(client, forged, numbered(1)).status_code == 401
    assert kept(coordinator) == []


def test_tokens_are_kept_as_digests_and_can_be_revoked(
    coordinator: Coordinator, client: TestClient
) -> None:
    first, second, other = (added(coordinator, name) for name in ("a", "a", "b"))
    with coordinator.database() as database:
        dump = str(database.execute(select(TOKENS)).all())
    assert first not in dump and first.partition(".")[2] not in dump
    assert post(client, first, numbered(1)).status_code == 200
    with coordinator.database() as database:
        assert register.revoke(database, "a") == 2
        assert register.revoke(database, "a") == 0
        with pytest.raises(LookupError):
            register.revoke(database, "nobody")
    for token in (first, second):
        assert post(client, token, numbered(2)).status_code == 401
    assert post(client, other, numbered(1)).status_code == 200
    with coordinator.database() as database:
        assert [(s.name, s.tokens) for s in register.sites(database)] == [("a", 0), ("b", 1)]


def test_a_site_cannot_report_for_another(coordinator: Coordinator, client: TestClient) -> None:
    for name in ("a", "b"):
        post(client, added(coordinator, name), numbered(1, plan=name * 64))
    with coordinator.database() as database:
        found = {each.site: each.report.plan[0] for each in inbox.newest(database)}
    assert found == {"a": "a", "b": "b"}


@pytest.mark.parametrize("name", ["", "A", "a b", "../x", "a" * 41, "-a", "a\n", CANARY])
def test_what_is_no_sites_name(coordinator: Coordinator, name: str) -> None:
    with pytest.raises(ValueError, match="is no site's name"):
        added(coordinator, name)


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"x" * (LONGEST_REPORT + 1), {}, 413, "bytes at most"),
        (b"{}", {"Content-Length": "99999999999999999999"}, 413, "bytes at most"),
        (b"{}", {"Content-Length": "-1"}, 413, "bytes at most"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "application/json"),
        (b"{}", {"Content-Encoding": "gzip"}, 415, "not compressed"),
        (b"{}", {}, 422, "format: missing"),
        (b"[" * 100_000, {}, 422, "no JSON"),
        (json.dumps({CANARY: CANARY}).encode(), {}, 422, "the report: extra forbidden"),
        (b'{"subject": "' + CANARY.encode() + b'"}', {}, 422, "extra forbidden"),
    ],
)
def test_what_is_no_report_is_refused_and_not_repeated(
    coordinator: Coordinator,
    client: TestClient,
    body: bytes,
    headers: dict[str, str],
    status: int,
    words: str,
) -> None:
    answer = post(client, added(coordinator), body, **headers)
    assert (answer.status_code, answer.json()["ok"]) == (status, False)
    assert words in answer.json()["error"] and CANARY not in answer.text
    assert kept(coordinator) == []


def test_the_size_is_counted_where_no_header_tells_it(
    coordinator: Coordinator, client: TestClient
) -> None:
    read = 0

    def chunks() -> Iterator[bytes]:
        nonlocal read
        for _ in range(10_000):
            read += 1
            yield b" " * 65536

    told = {"Authorization": f"Bearer {added(coordinator)}", "Content-Type": "application/json"}
    answer = client.post(PATH, content=chunks(), headers=told)
    assert answer.status_code == 413


def test_a_step_that_the_plan_does_not_have_is_refused(
    coordinator: Coordinator, client: TestClient
) -> None:
    token = added(coordinator)
    coordinator.plans["a" * 64] = KnownPlan("other", "Other", (("fetch", "Fetch"),))
    answer = post(client, token, numbered(1))
    assert answer.status_code == 422 and "none of the plan's" in answer.text
    coordinator.plans["a" * 64] = KnownPlan("prep", "Prep", (("prep", "Prepare"),))
    assert post(client, token, numbered(1)).status_code == 200


def test_too_often_is_refused_and_says_when(coordinator: Coordinator, client: TestClient) -> None:
    coordinator.intake.per_token = Limit(burst=3, per_second=0.1)
    one, other = added(coordinator, "a"), added(coordinator, "b")
    codes = [post(client, one, numbered(n)).status_code for n in range(1, 6)]
    assert codes == [200, 200, 200, 429, 429]
    assert 5 <= int(post(client, one, numbered(9)).headers["Retry-After"]) <= 11
    assert post(client, other, numbered(1)).status_code == 200


def test_who_guesses_is_stopped_and_a_known_site_behind_the_same_address_is_not(
    coordinator: Coordinator, client: TestClient
) -> None:
    token = added(coordinator)
    assert post(client, token, numbered(1)).status_code == 200
    guesses = [f"{n:08x}." + "b" * 43 for n in range(14)]
    codes = [post(client, guess, numbered(1)).status_code for guess in guesses]
    assert codes == [401] * 10 + [429] * 4
    assert post(client, token, numbered(2)).status_code == 200
    with coordinator.database() as database:
        register.revoke(database, "hospital-a")
    assert post(client, token, numbered(3)).status_code == 401
    assert post(client, token, numbered(3)).status_code == 429


def test_other_methods_and_places_are_nothing(client: TestClient) -> None:
    assert client.get(PATH).status_code == 405
    assert client.post("/proctor/sites").status_code == 404


def test_a_database_that_is_away_is_no_loss(coordinator: Coordinator) -> None:
    token = added(coordinator)

    def away() -> Any:
        raise DBAPIError(CANARY, {}, Exception(CANARY))

    app = Coordinator(coordinator.engine, None)
    app.intake = Intake(away, {}.get)
    answer = post(TestClient(app.app()), token, numbered(1))
    assert answer.status_code == 503 and answer.headers["Retry-After"]
    assert CANARY not in answer.text


def test_the_newest_of_each_site_and_plan(coordinator: Coordinator, client: TestClient) -> None:
    token = added(coordinator)
    for sequence, run, plan in ((4, 1, "a"), (5, 2, "a"), (6, 1, "b"), (7, 1, "a")):
        assert post(client, token, numbered(sequence, run=run, plan=plan * 64)).status_code == 200
    with coordinator.database() as database:
        found = [
            (e.report.plan[0], e.report.run, e.report.sequence) for e in inbox.newest(database)
        ]
        assert found == [("a", 2, 5), ("b", 1, 6)]
        assert list(inbox.heard(database)) == ["hospital-a"]
    # A home that was made anew counts from 1 again, under a token of its own.
    post(client, added(coordinator), numbered(1, run=1))
    with coordinator.database() as database:
        assert inbox.newest(database)[0].report.sequence == 1
        assert len(inbox.history(database, "hospital-a")) == 5


def test_a_run_that_succeeded_is_told_once(coordinator: Coordinator, client: TestClient) -> None:
    token = added(coordinator)
    for sequence, state in enumerate(("running", "succeeded", "succeeded"), start=1):
        post(client, token, numbered(sequence, state=state))
    with coordinator.database() as database:
        bearer = register.bearer_of(database, token)
        assert bearer
        (finished,) = inbox.untold(database, bearer.site_id)
        assert finished.run == 1
        assert inbox.tell(database, finished, "prep") and not inbox.tell(database, finished, "prep")
        assert inbox.untold(database, bearer.site_id) == []


def terminal(home: Home, *words: str) -> Any:
    return CliRunner().invoke(app, ["coordinator", *words, "--home", str(home.path)])


def test_sites_are_added_listed_and_revoked_in_the_terminal(
    coordinator: Coordinator, client: TestClient, home: Home
) -> None:
    profile = home.path / "site.yaml"
    profile.unlink(missing_ok=True)
    assert "is no coordinator: add `sites: {}`" in terminal(home, "list").stderr
    profile.write_text("sites: {}\n")
    assert "no sites yet" in terminal(home, "list").stdout
    url = "https://committee.example.org"
    said = terminal(home, "add-site", "hospital-a", "--url", url, "--pipeline", "prep")
    token = said.stdout.splitlines()[1]
    snippet = said.stdout.partition("of the home:\n")[2]
    (home.path / "sites.yaml").write_text(snippet)
    profile_of_site = read_profile(home.path / "sites.yaml")
    assert profile_of_site.coordinator and profile_of_site.coordinator.url == url
    assert profile_of_site.coordinator.pipelines == ("prep",)
    assert "never" in terminal(home, "list").stdout
    assert post(client, token, numbered(1, state="failed")).status_code == 200
    listed = terminal(home, "list").stdout
    assert "0.1.0" in listed and "failed" in listed and token not in listed
    assert "1 tokens of hospital-a count no more" in terminal(home, "revoke", "hospital-a").stdout
    assert "revoked" in terminal(home, "list").stdout
    assert post(client, token, numbered(2)).status_code == 401
    assert "there is no site 'b'" in terminal(home, "revoke", "b").stderr
    assert "'B' is no site's name; use small" in terminal(home, "add-site", "B").stderr


def test_without_an_instance_the_terminal_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("sites: {}\n")
    said = terminal(Home(tmp_path), "add-site", "a")
    assert said.exit_code == 2 and "no proctor runs on" in said.stderr


def test_plans_are_known_by_the_specs_of_the_home_and_their_changes(tmp_path: Path) -> None:
    home, text_ = (
        Home(tmp_path),
        "pipeline: p\ntitle: {}\nsteps: [{{id: a, image: b, command: c}}]\n",
    )
    spec = tmp_path / "p.yaml"
    spec.write_text(text_.format("One"))
    home.register("p", spec, {})
    home.register("broken", tmp_path / "nowhere.yaml", {})
    plans, first = KnownPlans(home), load_plan(spec)
    found = plans.get(first.digest)
    assert found and (found.pipeline, found.title, found.steps) == ("p", "One", (("a", "a"),))
    spec.write_text(text_.format("Another one"))
    second = load_plan(spec)
    assert plans.get(second.digest) and plans.get("f" * 64) is None
    home.records.save_plan(first)
    assert KnownPlans(home).get(first.digest)  # of a run of this home, whatever became of the spec
    other = tmp_path / "other.yaml"
    other.write_text(text_.format("What sites run"))
    (tmp_path / "site.yaml").write_text(f"sites: {{specs: [{other}]}}\n")
    assert plans.get(load_plan(other).digest)
    (tmp_path / "pipelines.json").write_text("{")
    assert plans.get(second.digest)
