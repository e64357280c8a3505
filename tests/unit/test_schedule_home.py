"""Schedules of a home: since when, paused, what is watched and what a look at it finds."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proctor.cli import app
from proctor.plan.params import ParamErrors
from proctor.site import schedules, sources
from proctor.site.home import Home, Registered
from proctor.site.profile import ProfileErrors, read_profile
from proctor.site.schedule_view import rows
from proctor.site.schedules import Scheduled
from proctor.site.sources import Mark, Source, Troubles, look
from proctor.spec.errors import SpecErrors

SPEC = """
pipeline: nightly
params:
  model: {type: uri}
  images: {type: uri, default: "s3://data/val/"}
  store: {type: string, default: "http://127.0.0.1:9"}
schedule:
  cron: 0 3 * * *
  assets: [model, images, fetch]
steps:
  - id: model
    image: proctor/steps
    command: model fetch
    params: {uri: "${params.model}"}
    outputs: {model: directory}
    network: true
  - id: get
    image: proctor/steps
    command: dataset fetch
    params: {uri: "${params.images}", s3_endpoint: "${params.store}", s3_region: eu-north-1}
    secrets: [s3]
    outputs: {dataset: directory}
    network: true
  - id: fetch
    matrix: {set: [train, val]}
    image: proctor/steps
    command: dataset fetch
    params: {uri: "https://example.org/${matrix.set}.zip"}
    outputs: {dataset: directory}
    network: true
"""


class Site:
    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.home.create()
        self.folder = folder
        self.spec = folder / "nightly.yaml"
        self.write(SPEC)
        self.home.register("nightly", self.spec, {})

    def write(self, text: str) -> None:
        self.spec.write_text(text)

    def profile(self, **content: Any) -> None:
        (self.home.path / "site.yaml").write_text(json.dumps(content))

    def found(self) -> Scheduled:
        found = schedules.scheduled(self.home, Registered("nightly", self.spec, {}))
        assert found is not None
        return found

    def proctor(self, *words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["schedule", *words, "--home", str(self.home.path)])
        return done.exit_code, done.output


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


# --- values --------------------------------------------------------------------------------------


def test_the_sites_values_come_before_the_specs(site: Site) -> None:
    site.write(
        SPEC.replace("  cron:", '  params: {store: "http://a", model: "https://b/m"}\n  cron:')
    )
    site.profile(schedules={"nightly": {"params": {"model": "file:///srv/m.onnx"}}})
    assert site.found().given == {"store": "http://a", "model": "file:///srv/m.onnx"}
    assert site.found().params["images"] == "s3://data/val/"


def test_a_value_of_the_site_that_does_not_fit(site: Site) -> None:
    site.profile(schedules={"nightly": {"params": {"modle": "x", "images": 7}}})
    with pytest.raises(ParamErrors) as caught:
        site.found()
    assert len(caught.value.problems) == 2
    assert all(f"{site.home.path}/site.yaml:1:" in each for each in caught.value.problems)


def test_a_profile_that_says_it_wrongly(site: Site) -> None:
    path = site.home.path / "site.yaml"
    path.write_text("schedules:\n  nightly: {parms: {}}\n  'a b': {}\n")
    with pytest.raises(ProfileErrors) as caught:
        read_profile(path)
    told = [str(problem) for problem in caught.value.problems]
    assert f"{path}:2:13: unknown key 'parms' in a schedule; did you mean 'params'?" in told
    assert len(told) == 2


# --- when the site says when ---------------------------------------------------------------------

UNSCHEDULED = SPEC.replace("schedule:\n  cron: 0 3 * * *\n  assets: [model, images, fetch]\n", "")


def test_a_site_says_when_a_pipeline_starts_that_says_nothing_itself(site: Site) -> None:
    site.write(UNSCHEDULED)
    assert schedules.scheduled(site.home, Registered("nightly", site.spec, {})) is None
    values = {"model": "file:///srv/m.onnx"}
    when = {"cron": "*/5 * * * *", "timezone": "Europe/Zurich", "assets": ["model"]}
    site.profile(schedules={"nightly": {**when, "params": values}})
    found = site.found()
    assert found.schedule.cron == "*/5 * * * *" and found.schedule.timezone == "Europe/Zurich"
    assert [s.name for s in sources.watched(site.home, found)] == ["model"]
    assert found.given == values
    (row,) = rows(site.home)
    assert row.schedule == found.schedule


def test_a_cron_alone_is_the_sites_schedule_too(site: Site) -> None:
    site.profile(schedules={"nightly": "0 5 * * *"})
    assert site.found().schedule.label == "0 5 * * * (UTC)"  # the spec's sources are not watched


def test_the_sites_times_replace_the_specs_and_the_values_add_up(site: Site) -> None:
    site.write(SPEC.replace("  cron:", '  params: {store: "http://a"}\n  cron:'))
    site.profile(schedules={"nightly": {"assets": ["images"], "params": {"model": "https://b/m"}}})
    found = site.found()
    assert (found.schedule.cron, found.schedule.assets) == ("", ("images",))
    assert found.given == {"store": "http://a", "model": "https://b/m"}


def test_all_that_is_wrong_with_when_the_site_says(site: Site) -> None:
    site.write(UNSCHEDULED)
    (site.home.path / "site.yaml").write_text(
        "schedules:\n"
        "  nightly:\n"
        "    cron: 0 25 * * *\n"
        "    timezone: Europe/Zürich\n"
        "    assets: [model, store, modle]\n"
        "    every: 2s\n"
    )
    with pytest.raises(SpecErrors) as caught:
        site.found()
    told = [str(problem) for problem in caught.value.problems]
    lines = [text.removeprefix(f"{site.home.path}/site.yaml:").split(":")[0] for text in told]
    assert lines == ["3", "4", "5", "5", "6"], told
    assert "did you mean 'model'?" in told[3]
    code, listed = site.proctor("list")
    assert code == 0
    assert all(f"nightly: {problem}" in listed for problem in told), listed
    site.profile(schedules={"nightly": {"timezone": "UTC"}})
    with pytest.raises(SpecErrors, match="'timezone' means nothing without 'cron'"):
        site.found()


def test_a_required_value_that_nobody_gives(site: Site) -> None:
    site.write(UNSCHEDULED.replace("model: {type: uri}", "model: {type: uri, required: true}"))
    site.profile(schedules={"nightly": "0 5 * * *"})
    with pytest.raises(ParamErrors, match=r"site\.yaml:1:\d+: model: a value is required"):
        site.found()


def test_what_the_site_schedules_and_nobody_knows(site: Site) -> None:
    site.write(UNSCHEDULED)
    site.profile(schedules={"nightly": {"params": {}}, "weekly": "0 5 * * 1"})
    code, told = site.proctor("list")
    assert code == 0
    assert "site.yaml names nightly, but neither that nor its spec says when it starts" in told
    assert "site.yaml names weekly, which this home does not know" in told


def test_up_has_the_images_of_what_an_earlier_command_made_known(site: Site) -> None:
    from rich.console import Console

    from proctor.site.commands import _scheduled

    plain = site.folder / "plain.yaml"
    plain.write_text("steps: [{id: a, image: other/image, command: a}]\n")
    site.home.register("plain", plain, {})
    (site.folder / "broken.yaml").write_text("steps: 7\n")
    site.home.register("broken", site.folder / "broken.yaml", {})
    assert _scheduled(Console(quiet=True), site.home) == {"proctor/steps"}


# --- since when ----------------------------------------------------------------------------------


def test_a_schedule_counts_since_it_is_known_and_anew_when_its_times_change(site: Site) -> None:
    given = site.found().schedule
    first = schedules.clock(site.home, "nightly", given)
    assert abs(datetime.now(UTC) - first.since) < timedelta(minutes=1)
    _set(site, since="2026-01-01T00:00:00+00:00")
    assert schedules.clock(site.home, "nightly", given).since == datetime(2026, 1, 1, tzinfo=UTC)
    other = given.model_copy(update={"timezone": "Europe/Zurich"})
    assert schedules.clock(site.home, "nightly", other).since > datetime(2026, 1, 1, tzinfo=UTC)


def test_what_came_while_it_was_paused_is_not_missed(site: Site) -> None:
    given = site.found().schedule
    schedules.clock(site.home, "nightly", given)
    _set(site, since="2026-01-01T00:00:00+00:00")
    schedules.pause(site.home, "nightly")
    since = schedules.paused(site.home, "nightly")
    schedules.pause(site.home, "nightly")
    assert schedules.paused(site.home, "nightly") == since
    schedules.resume(site.home, "nightly")
    clock = schedules.clock(site.home, "nightly", given)
    assert (clock.paused, clock.since > datetime(2026, 1, 1, tzinfo=UTC)) == ("", True)
    _set(site, since="2026-01-01T00:00:00+00:00")
    schedules.resume(site.home, "nightly")  # was not paused: nothing is forgiven
    assert schedules.clock(site.home, "nightly", given).since.month == 1


def test_a_damaged_clock_is_told(site: Site) -> None:
    schedules.pause(site.home, "nightly")
    for text in ("[", "[]", '{"since": 7}', '{"since": "soon"}'):
        schedules.clock_file(site.home, "nightly").write_text(text)
        code, told = site.proctor("pause", "nightly")
        assert code and "clock.json: cannot be used" in told + str(_error(site)), text


def _error(site: Site) -> Exception | None:
    return CliRunner().invoke(app, ["schedule", "list", "--home", str(site.home.path)]).exception  # type: ignore[return-value]


def _set(site: Site, **values: str) -> None:
    path = schedules.clock_file(site.home, "nightly")
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# --- what is watched -----------------------------------------------------------------------------


def test_parameters_and_steps_with_their_store(site: Site) -> None:
    (site.home.path / "secrets" / "s3").write_text("x")
    found = {source.name: source for source in sources.watched(site.home, site.found())}
    assert list(found) == ["model", "images", "fetch.train", "fetch.val"]
    secret = str(site.home.path / "secrets" / "s3")
    assert found["images"] == Source(
        "images", "s3://data/val/", "http://127.0.0.1:9", "eu-north-1", secret
    )
    assert found["fetch.val"] == Source("fetch.val", "https://example.org/val.zip")
    assert found["model"].uri == ""


@pytest.fixture
def model(site: Site) -> Path:
    path = site.folder / "models" / "m.onnx"
    path.parent.mkdir()
    path.write_text("one")
    site.profile(roots=[str(path.parent)])
    return path


def of(model: Path) -> list[Source]:
    return [Source("model", model.as_uri())]


def see(site: Site, model: Path) -> tuple[dict[str, str], ...]:
    """One look, of which Airflow was told."""
    found = look(site.home, "nightly", of(model))
    sources.keep(site.home, "nightly", found.told)
    return found.changes


def test_the_first_look_sets_the_mark_and_a_change_is_told_once(site: Site, model: Path) -> None:
    assert see(site, model) == ()
    first = sources.marks(site.home, "nightly")["model"]
    assert first.version.startswith("sha256 ")
    assert see(site, model) == ()
    os.utime(model)  # touched, not changed
    assert see(site, model) == ()
    model.write_text("two")
    (change,) = see(site, model)
    assert (change["name"], change["was"]) == ("model", first.version)
    assert change["is"] == sources.marks(site.home, "nightly")["model"].version != first.version
    assert see(site, model) == ()


def test_a_change_that_nobody_was_told_of_is_told_by_the_next_look(site: Site, model: Path) -> None:
    """A triggerer that dies between the look and the event."""
    see(site, model)
    model.write_text("two")
    for _ in range(2):
        found = look(site.home, "nightly", of(model))
        sources.keep(site.home, "nightly", found.untold)
        assert len(found.changes) == 1


def test_what_is_out_of_reach_is_trouble_and_no_change(site: Site, model: Path) -> None:
    see(site, model)
    troubles = Troubles(site.home)
    assert troubles.look(True) == []
    model.rename(model.with_suffix(".away"))
    assert see(site, model) == ()
    mark = sources.marks(site.home, "nightly")["model"]
    assert "there is no such file" in mark.trouble
    assert mark.version and mark.since
    assert troubles.look(False) == []
    assert troubles.look(True) == [f"nightly cannot watch model: {mark.trouble}"]
    assert troubles.look(True) == []
    see(site, model)
    assert sources.marks(site.home, "nightly")["model"].since == mark.since
    model.with_suffix(".away").rename(model)
    assert see(site, model) == ()
    assert sources.marks(site.home, "nightly")["model"].trouble == ""


def test_a_first_look_in_vain_sets_no_mark(site: Site, model: Path) -> None:
    model.rename(model.with_suffix(".away"))
    assert see(site, model) == ()
    model.with_suffix(".away").rename(model)
    assert see(site, model) == ()


def test_another_place_begins_anew(site: Site, model: Path) -> None:
    see(site, model)
    other = model.with_name("other.onnx")
    other.write_text("other")
    assert see(site, other) == ()


def test_nothing_outside_the_roots_is_looked_at(site: Site, model: Path) -> None:
    outside = site.folder / "outside.onnx"
    outside.write_text("x")
    link = model.with_name("link.onnx")
    link.symlink_to(outside)
    for path in (outside, link, site.home.path / "keys"):
        see(site, path)
        assert "does not allow" in (
            mark := sources.marks(site.home, "nightly")["model"]
        ).trouble or ("own home" in mark.trouble)
        assert mark.version == ""


def test_a_file_that_did_not_change_is_not_read_again(
    site: Site, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = time.time() - 60
    os.utime(model, (old, old))
    time.sleep(2.1)  # the ctime, which nobody can set, has to settle, too
    see(site, model)
    monkeypatch.setattr("proctor.runtime.hashes.file_sha256", lambda path: pytest.fail("read"))
    assert see(site, model) == ()


def test_a_source_from_afar_is_asked_by_a_process_that_knows_no_passwords(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    asked: list[dict[str, Any]] = []

    def run(words: list[str], **more: Any) -> Any:
        asked.append({"words": words, **more})
        return subprocess.CompletedProcess(words, 0, b'{"where":"w","version":"v","trouble":""}')

    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "hunter2")
    monkeypatch.setattr(sources.subprocess, "run", run)
    found = look(site.home, "nightly", [Source("m", "https://u:p@example.org/m?sig=hunter2")])
    assert found.told["m"].version == "v"
    assert "hunter2" not in str(asked[0]["words"]) + str(asked[0]["env"])
    assert b"hunter2" in asked[0]["input"]


def test_a_look_that_hangs_or_dies_is_trouble(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LOOK_SECONDS", 0.01)
    found = look(site.home, "nightly", [Source("m", "https://example.org/m")])
    assert "no answer within" in found.troubles["m"]
    monkeypatch.setattr(sources, "_LOOKER", "proctor_steps.nothing")
    monkeypatch.setattr(sources, "LOOK_SECONDS", 60)
    found = look(site.home, "nightly", [Source("m", "https://example.org/m")])
    assert "the look at it failed" in found.troubles["m"]


def test_damaged_marks_count_as_none(site: Site, model: Path) -> None:
    see(site, model)
    for text in ("[", "[]", '{"model": {"x": 1}}', "7"):
        (schedules.folder(site.home, "nightly") / "sources.json").write_text(text)
        assert sources.marks(site.home, "nightly") == {}
        assert see(site, model) == ()


# --- the command ---------------------------------------------------------------------------------


def test_list_without_an_instance(site: Site) -> None:
    code, told = site.proctor("list")
    assert code == 0
    assert "counts from the next" in told.replace("\n", " ")
    assert "nothing starts before the next `proctor up`" in told.replace("\n", " ")
    schedules.clock(site.home, "nightly", site.found().schedule)
    (row,) = rows(site.home)
    now = datetime.now(UTC)
    assert row.next and now < row.next <= now + timedelta(days=1)
    assert row.next_words(now).endswith("03:00 UTC")
    _set(site, since=(now - timedelta(days=2)).isoformat())
    (row,) = rows(site.home)
    assert row.next_words(now).startswith("missed ")
    told = json.loads(site.proctor("list", "--json")[1])
    assert told["instance"] is None
    assert told["schedules"][0]["pipeline"] == "nightly"
    assert set(told["schedules"][0]["sources"]) == {"model", "images", "fetch.train", "fetch.val"}


def test_list_tells_the_last_run_and_the_tick_that_it_made_up_for(site: Site) -> None:
    schedules.clock(site.home, "nightly", site.found().schedule)
    _set(site, since="2026-01-01T00:00:00+00:00")
    plan = site.found().plan
    site.home.records.save_plan(plan)
    tick = datetime.now(UTC).replace(microsecond=0)
    site.home.records.run("nightly", "r1").append(
        "header", plan_digest=plan.digest,
        data={"started_by": {"by": "clock", "tick": tick.isoformat()}},
    )  # fmt: skip
    (row,) = rows(site.home)
    assert row.last is not None
    assert (row.last.run, row.last.state, row.last.by[:10]) == ("r1", "running", "the clock,")
    assert row.next and row.next > tick


def test_list_shows_trouble_and_what_cannot_be_used(site: Site, model: Path) -> None:
    site.profile(schedules={"nightly": {"params": {"model": model.as_uri()}}})
    found = site.found()
    watched = [s for s in sources.watched(site.home, found) if s.name == "model"]
    sources.keep(site.home, "nightly", look(site.home, "nightly", watched).told)
    told = site.proctor("list")[1]
    assert "does not allow reading there" in told
    schedules.clock(site.home, "nightly", found.schedule)
    site.write("steps: 7\n")
    assert "nightly.yaml:1:8" in site.proctor("list")[1]


def test_list_of_nothing(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["schedule", "list", "--home", str(tmp_path)])
    assert "has a schedule" in done.output


def test_pause_and_resume(site: Site) -> None:
    assert site.proctor("pause", "nightly")[0] == 0
    (row,) = rows(site.home)
    assert row.next_words(datetime.now(UTC)).startswith("paused since ")
    assert site.proctor("resume", "nightly")[0] == 0
    (row,) = rows(site.home)
    assert row.paused == ""


@pytest.mark.parametrize("command", ["pause", "resume", "run"])
def test_a_name_that_has_no_schedule(site: Site, command: str) -> None:
    code, told = site.proctor(command, "nihgtly")
    assert code == 2
    assert "did you mean 'nightly'?" in told


def test_run_needs_an_instance(site: Site) -> None:
    code, told = site.proctor("run", "nightly")
    assert code == 2
    assert "start one with: proctor up" in told


def test_at_a_data_site_no_schedule_counts(site: Site) -> None:
    (site.home.path / "trusted.json").write_text('{"images": {}, "plans": []}')
    (row,) = rows(site.home)
    assert row.next_words(datetime.now(UTC)) == "never"
    assert "a data site runs what its person starts" in site.proctor("list")[1]


def test_marks_of_sources_that_are_watched_no_more_are_not_shown(site: Site) -> None:
    sources.keep(site.home, "nightly", {"old": Mark("x", version="v")})
    (row,) = rows(site.home)
    assert row.sources is not None
    assert "old" not in row.sources
