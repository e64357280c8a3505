"""`proctor gc`: what no record needs goes, what one does stays, and every run verifies."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from test_reuse import Runs
from typer.testing import CliRunner, Result

from proctor.cli import app
from proctor.records.store import RecordError
from proctor.runtime.artifacts import AttemptName, LocalArtifacts
from proctor.site import gc
from proctor.site.gc import remove, remove_run, unneeded
from proctor.site.verify import verify


@pytest.fixture
def site(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def litter(site: Runs, run: str) -> list[Path]:
    """What crashes leave: outputs and scratch that no record names, and a plan of no run."""
    store = LocalArtifacts(site.home.path)
    lost = AttemptName("p", run, "fetch", 7)
    store.stage(lost, ["data"])
    store.publish(lost, ["data"])
    store.stage(AttemptName("p", run, "fetch", 8), ["data"])
    scratch = site.home.path / "work" / "p" / run / "fetch" / "7"
    scratch.mkdir(parents=True)
    (scratch / "request.json").write_text("{}")
    plan = site.home.path / "plans" / f"{'0' * 64}.json"
    plan.write_text("{}")
    return [store._final(lost), scratch, plan]


def bad(site: Runs) -> list[str]:
    checked = [each for record in site.home.records.runs() for each in verify(site.home, record)]
    return [each.message for each in checked if each.state == "bad"]


def test_what_is_left_over_goes_and_the_rest_verifies(site: Runs) -> None:
    site.run()
    record, _ = site.run()
    lost = litter(site, record.run)
    found = unneeded(site.home)
    assert set(lost) <= {each.path for each in found}
    assert len(found) == 4
    assert bad(site) == []
    remove(found)
    assert not any(path.exists() for path in lost)
    assert unneeded(site.home) == []
    assert bad(site) == []


def test_outputs_that_another_run_took_over_stay_when_the_run_is_removed(site: Runs) -> None:
    first, _ = site.run()
    second, started = site.run()
    assert started == ["performance"]
    remove_run(first)
    remove(unneeded(site.home))
    assert [r.run for r in site.home.records.runs()] == [second.run]
    assert bad(site) == []
    store = LocalArtifacts(site.home.path)
    assert store._final(AttemptName("p", first.run, "fetch", 1)).is_dir()
    assert not store._final(AttemptName("p", first.run, "performance", 1)).exists()
    remove_run(second)
    remove(unneeded(site.home))
    assert list((site.home.path / "artifacts").rglob("*")) == []
    assert site.run()[1] == ["fetch", "filter", "accuracy", "performance", "score"]


def test_what_is_under_way_stays(site: Runs) -> None:
    record, _ = site.run()
    scratch = litter(site, record.run)[1]
    record.append("attempt", step="fetch", attempt=7, data={"status": "running"})
    assert scratch not in {each.path for each in unneeded(site.home)}


def test_a_crash_in_the_middle_leaves_everything_verifying(
    site: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = site.run()
    site.run()
    litter(site, "r2")
    original, most = gc.remove_tree, 0

    def until_killed(path: Path) -> None:
        nonlocal most
        if most == 0:
            raise KeyboardInterrupt
        most -= 1
        original(path)

    for removals in range(6):
        most = removals
        monkeypatch.setattr(gc, "remove_tree", until_killed)
        with contextlib.suppress(KeyboardInterrupt):
            remove(unneeded(site.home))
        monkeypatch.setattr(gc, "remove_tree", original)
        assert bad(site) == []
    remove(unneeded(site.home))
    assert unneeded(site.home) == [] and first.exists()


def test_nothing_goes_where_a_record_cannot_be_read(site: Runs) -> None:
    record, _ = site.run()
    litter(site, record.run)
    with record.path.open("ab") as file:
        file.write(b"no line of ours\n")
    with pytest.raises(RecordError, match="no record line"):
        unneeded(site.home)


def test_a_run_is_not_removed_either_where_another_record_cannot_be_read(site: Runs) -> None:
    good, _ = site.run()
    broken, _ = site.run()
    with broken.path.open("ab") as file:
        file.write(b"no line of ours\n")

    def removed(run: str) -> Result:
        return CliRunner().invoke(app, ["runs", "rm", run, "--yes", "--home", str(site.home.path)])

    refused = removed(good.run)
    assert "nothing was removed" in refused.output and good.exists()
    assert removed(broken.run).exit_code == 0 and not broken.exists()
    assert removed(good.run).exit_code == 0 and not good.exists()
