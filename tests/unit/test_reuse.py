"""A step of the same identity is taken over from an earlier run; whatever differs, it runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crash_points import dies_at
from proctor.airflow.attempts import StepRun
from proctor.airflow.reuse import Wish
from proctor.plan.model import Input, Param, Plan, PlannedOutput, PlanStep, Source
from proctor.records.store import RunRecord
from proctor.records.summary import summarise
from proctor.runtime import hashes as hashes_module
from proctor.runtime.artifacts import LocalArtifacts
from proctor.runtime.base import Handle, Outcome
from proctor.runtime.hashes import FILE_NAME, FileHashes
from proctor_steps.contract import tree_digest
from reuse_kit import Site

IMAGES = {"proctor/steps": "steps-1", "proctor/sut": "sut-1"}


def out(name: str) -> tuple[PlannedOutput, ...]:
    return (PlannedOutput(name=name, mount_path=f"/proctor/out/{name}"),)


def read(name: str, step: str, output: str) -> Input:
    mount = f"/proctor/in/{name}"
    return Input(name=name, mount_path=mount, sources=(Source(step=step, output=output),))


def steps(**fetch: Any) -> tuple[PlanStep, ...]:
    """fetch -> filter -> (accuracy, performance); accuracy -> score."""
    given: dict[str, Any] = {
        "id": "fetch", "step": "fetch", "image": "proctor/steps", "command": ("dataset", "fetch"),
        "params": {"uri": "embedded:data"}, "outputs": out("data"),
    }  # fmt: skip
    sut: dict[str, Any] = {
        "image": "proctor/sut", "command": ("loadgen", "run"), "exclusive": True,
        "inputs": (read("data", "filter", "data"),), "outputs": out("logs"),
        "upstream": ("filter",),
    }  # fmt: skip
    return (
        PlanStep(**(given | fetch)),
        PlanStep(
            id="filter", step="filter", image="proctor/steps", command=("dataset", "filter"),
            params={"keep": "${params.keep}"}, inputs=(read("data", "fetch", "data"),),
            outputs=out("data"), upstream=("fetch",),
        ),
        PlanStep(id="accuracy", step="accuracy", params={"mode": "accuracy"}, **sut),
        PlanStep(
            id="performance", step="performance", reuse="within_run",
            params={"mode": "performance", "seconds": "${params.seconds}"}, **sut,
        ),
        PlanStep(
            id="score", step="score", image="proctor/steps", command=("accuracy", "score"),
            inputs=(read("logs", "accuracy", "logs"),), outputs=out("score"),
            upstream=("accuracy",),
        ),
    )  # fmt: skip


PARAMS = (
    Param(name="keep", type="string"), Param(name="seconds", type="number"),
    Param(name="uri", type="uri"),
)  # fmt: skip


class Runs(Site):
    """Runs of the plan above, or of one that a test bends."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.identities = dict(IMAGES)

    def run(
        self,
        *,
        plan: tuple[PlanStep, ...] | None = None,
        fresh: bool = False,
        measurements: str = "",
        allowed: Path | None = None,
        **params: Any,
    ) -> tuple[RunRecord, list[str]]:
        """A whole run; its record, and the steps that were started for it."""
        made = Plan(pipeline="p", params=PARAMS, steps=plan or steps())
        values = {"keep": "some", "seconds": 1.0, "uri": None} | params
        record, started = self.drive(made, values, Wish(fresh, measurements), allowed)
        assert self.bad(record) == []
        return record, started


@pytest.fixture
def site(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


ALL = ["fetch", "filter", "accuracy", "performance", "score"]


def with_image(image: str, identity: str) -> Callable[[Runs], dict[str, Any]]:
    def change(site: Runs) -> dict[str, Any]:
        site.identities[image] = identity
        return {}

    return change


def other_host(site: Runs) -> dict[str, Any]:
    site.fingerprint = {"cpu": "b"}
    return {}


def other_bytes(site: Runs) -> dict[str, Any]:
    """The source is another, and each step makes something else of it."""
    site.acts = {
        step: {"outputs": {name: {"file": "another byte"}}}
        for step, name in (("fetch", "data"), ("filter", "data"), ("accuracy", "logs"))
    }
    return {"plan": steps(params={"uri": "embedded:other"})}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda site: {}, ["performance"]),
        (lambda site: {"seconds": 2.0}, ["performance"]),
        (lambda site: {"keep": "others"}, ["filter", "performance"]),
        (lambda site: {"fresh": True}, ALL),
        (with_image("proctor/sut", "sut-2"), ["accuracy", "performance"]),
        (with_image("proctor/steps", "steps-2"), ["fetch", "filter", "performance", "score"]),
        (other_host, ["accuracy", "performance"]),
        (other_bytes, ALL),
        (lambda site: {"plan": steps(command=("dataset", "-v"))}, ["fetch", "performance"]),
        (lambda site: {"plan": steps(seed=1)}, ["fetch", "performance"]),
        (lambda site: {"plan": steps(reuse="never")}, ["fetch", "performance"]),
        (lambda site: {"plan": steps(network=True)}, ["performance"]),
        (lambda site: {"plan": steps(title="Fetch it")}, ["performance"]),
    ],
    ids=[
        "nothing", "a measurement's parameter", "a parameter", "fresh", "image of the SUT",
        "image of the steps", "host", "an input byte", "command", "seed", "never",
        "embedded, with network", "a title",
    ],
)  # fmt: skip
def test_just_what_depends_on_a_change_runs_again(
    site: Runs, change: Callable[[Runs], dict[str, Any]], expected: list[str]
) -> None:
    """A step of the fake runtime leaves the same bytes, unless the script says otherwise."""
    assert site.run()[1] == ALL
    assert site.run(**change(site))[1] == expected


def test_a_measurement_is_never_taken_over_silently(site: Runs) -> None:
    for _ in range(3):
        assert "performance" in site.run()[1]


def test_the_record_and_the_summary_name_the_run_it_comes_from(
    site: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    site.run()
    site.run()
    with caplog.at_level("INFO"):
        third, _ = site.run()
    assert "not run: p/r1/fetch/1 had the same command" in caplog.text
    rows = {row["id"]: row for row in summarise(site.home.records, third)["steps"]}
    assert rows["fetch"]["reused_from"] == "p/r1/fetch/1"  # the run that did it, not the second
    assert rows["fetch"]["state"] == "succeeded"
    assert "reused_from" not in rows["performance"]


def test_a_crash_in_the_middle_of_taking_over_takes_over_again(site: Runs) -> None:
    site.run()
    plan = Plan(pipeline="p", params=PARAMS, steps=steps())
    for point in range(1, 5):
        record = site.home.records.run("p", f"crash-{point}")
        values = {"keep": "some", "seconds": 1.0, "uri": None}
        record.append("header", plan_digest=plan.digest, data={"params": values})
        run = StepRun(site.home, plan, plan.step("fetch"), record, site.fake, generation=3)
        assert dies_at(point, [(RunRecord, "append")], run.take_up_or_start)
        again = run.take_up_or_start()
        assert isinstance(again, Outcome) and again.failure is None
        attempts = [x for x in record.lines() if x.kind == "attempt"]
        assert [x.attempt for x in attempts] == [1]
        assert [r["run"] for r in site.fake.starts("fetch")] == ["r1"]


def first_file(site: Runs, uri: str) -> Path:
    return next(p for p in LocalArtifacts(site.home.path).path(uri).rglob("*") if p.is_file())


def test_a_result_whose_bytes_were_changed_is_not_taken_over(site: Runs) -> None:
    site.run()
    path = first_file(site, "artifact:p/r1/fetch/1/data")
    path.chmod(0o644)
    path.write_text("not what was fetched")
    assert site.run()[1] == ["fetch", "performance"]


def test_a_result_of_a_record_that_was_edited_is_not_taken_over(site: Runs) -> None:
    first, _ = site.run()
    first.path.write_text(
        first.path.read_text().replace('"status":"running"', '"status": "running"', 1)
    )
    assert site.run()[1] == ALL


def test_a_cleared_step_runs_anew(site: Runs) -> None:
    site.run()
    record, started = site.run()
    assert "fetch" not in started
    plan = site.home.records.plan(record.header().plan_digest)
    step = StepRun(site.home, plan, plan.step("fetch"), record, site.fake, generation=3)
    assert isinstance(step.take_up_or_start(), Outcome)  # a try of Airflow's own
    step = StepRun(site.home, plan, plan.step("fetch"), record, site.fake, generation=4)
    taken = step.take_up_or_start()
    assert isinstance(taken, Handle) and taken.attempt == 2


def fetching(sha256: str = "", uri: str = "https://data.example.org/a.zip") -> tuple[PlanStep, ...]:
    return steps(network=True, params={"uri": uri, "sha256": sha256})


def test_a_fetch_whose_source_may_have_changed_is_fetched_again(site: Runs) -> None:
    site.run(plan=fetching())
    assert site.run(plan=fetching())[1] == ["fetch", "performance"]


def test_a_fetch_that_is_checked_against_a_sha256_is_not(site: Runs) -> None:
    site.run(plan=fetching("a" * 64))
    assert site.run(plan=fetching("a" * 64))[1] == ["performance"]
    assert "fetch" in site.run(plan=fetching("b" * 64))[1]


def test_a_file_of_this_host_counts_by_its_bytes(site: Runs, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a").write_text("one")
    plan = steps(network=True, params={"uri": "${params.uri}", "sha256": ""})
    given: dict[str, Any] = {"plan": plan, "uri": f"file://{data}", "allowed": data}
    assert site.run(**given)[1] == ALL
    assert site.run(**given)[1] == ["performance"]
    (data / "a").write_text("two")
    assert site.run(**given)[1] == ["fetch", "performance"]


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[FileHashes, list[Path]]:
    """Hashes of a home, and the files that were read for them."""
    reads: list[Path] = []

    def counted(path: Path) -> str:
        reads.append(path)
        return real(path)

    real = hashes_module.file_sha256
    monkeypatch.setattr(hashes_module, "file_sha256", counted)
    monkeypatch.setattr(hashes_module, "_SETTLED_NS", -1)
    return FileHashes(tmp_path), reads


def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "b").mkdir(parents=True)
    for name in ("a", "b/c", "b/d"):
        (root / name).write_text(name)
    return root


def test_a_file_is_read_once(tmp_path: Path, hashed: tuple[FileHashes, list[Path]]) -> None:
    (hashes, reads), root = hashed, tree(tmp_path)
    assert hashes.tree(root) == tree_digest(root)[0]
    assert len(reads) == 3
    assert hashes.tree(root) == tree_digest(root)[0]
    assert len(reads) == 3
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("change", ["bytes", "same size", "times set back", "replaced", "renamed"])
def test_every_change_of_a_file_is_seen(
    tmp_path: Path, hashed: tuple[FileHashes, list[Path]], change: str
) -> None:
    (hashes, _), root = hashed, tree(tmp_path)
    before, path = hashes.tree(root), root / "b" / "c"
    stamp = path.stat()
    match change:
        case "bytes":
            path.write_text("something longer")
        case "same size":
            path.write_text("x/y")
        case "times set back":
            path.write_text("x/y")
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        case "replaced":
            (tmp_path / "new").write_text("x/y")
            (tmp_path / "new").replace(path)
        case "renamed":
            path.rename(root / "b" / "e")
    assert hashes.tree(root) == tree_digest(root)[0] != before


def test_what_changed_just_now_is_read_again(tmp_path: Path, monkeypatch: Any) -> None:
    hashes, root = FileHashes(tmp_path), tree(tmp_path)
    hashes.tree(root)
    assert hashes._known([hashes_module._key(root / "a")]) == {}


def test_a_broken_cache_is_an_empty_one(
    tmp_path: Path, hashed: tuple[FileHashes, list[Path]]
) -> None:
    (hashes, reads), root = hashed, tree(tmp_path)
    (tmp_path / FILE_NAME).write_text("this is no database, and longer than a hundred bytes" * 9)
    for _ in range(2):
        assert hashes.tree(root) == tree_digest(root)[0]
    assert len(reads) == 6
