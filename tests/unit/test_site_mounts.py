"""Logical mounts: bound by the site or for one run, and told of before anything starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proctor.airflow.attempts import StepRun
from proctor.airflow.evidence import StepRefused
from proctor.cli import app
from proctor.plan.compile import compile
from proctor.plan.model import Input, Plan, PlannedService, PlanStep, Select, whole_run
from proctor.records.store import RunRecord
from proctor.runtime.base import Handle, Outcome, RequestRefused
from proctor.runtime.fake import FakeRuntime
from proctor.runtime.hashes import FILE_NAME, FileHashes, content_digest
from proctor.runtime.process import ProcessRuntime
from proctor.runtime.selfcheck import Bench, check_bound
from proctor.site import mounts
from proctor.site.home import Home, SourceRefused
from proctor.spec.load import parse_pipeline

SPEC = """
steps:
  - id: prepare
    type: container
    image: example/prep:1.0
    command: prepare
    mounts:
      input_volumes:
        data_path: {mount_path: /raw, type: directory}
        parameters_file: {mount_path: /parameters/parameters.yaml, type: file}
"""
DATA = Input(name="data_path", mount_path="/raw", bound="data_path")
PARAMETERS = Input(
    name="parameters_file", mount_path="/p.yaml", bound="parameters_file", type="file"
)
WANTED = {"data_path": DATA, "parameters_file": PARAMETERS}


class Site:
    """A home beside the data of its owner."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.home.create()
        self.scans, self.parameters = folder / "scans", folder / "parameters.yaml"
        self.scans.mkdir()
        (self.scans / "a.txt").write_text("A")
        self.parameters.write_text("size: 3\n")

    def profile(self, **bound: object) -> None:
        lines = "".join(f"  {name}: {path}\n" for name, path in bound.items())
        (self.home.path / "site.yaml").write_text(f"mounts:\n{lines}")

    def run(self, plan: Plan, run: str = "r", **data: Any) -> RunRecord:
        record = self.home.records.run(plan.pipeline, run)
        self.home.records.save_plan(plan)
        record.append("header", plan_digest=plan.digest, data={"params": {}, **data})
        return record

    def started(self, plan: Plan, record: RunRecord) -> Handle:
        run = StepRun(self.home, plan, plan.steps[0], record, FakeRuntime(self.home.path))
        handle = run.take_up_or_start()
        assert isinstance(handle, Handle)
        run.finish(handle)
        return handle


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def plan_of(*inputs: Input) -> Plan:
    step = PlanStep(id="s", step="s", image="proctor/steps", command=("x",), inputs=inputs)
    return Plan(pipeline="p", steps=(step,))


def identity(record: RunRecord) -> str:
    return next(line.identity for line in record.lines() if line.identity)


# --- what a spec asks for ------------------------------------------------------------------------


def test_an_input_without_from_is_a_logical_mount() -> None:
    plan = compile(parse_pipeline(SPEC, "x.yaml"))
    data, parameters = plan.steps[0].inputs
    assert (data.bound, data.sources, data.type) == ("data_path", (), "directory")
    assert (parameters.bound, parameters.type) == ("parameters_file", "file")
    assert plan.bound() == {"data_path": data, "parameters_file": parameters}


def test_only_what_a_run_selects_has_to_be_bound() -> None:
    chosen = PlanStep(
        id="a", step="a", image="i", inputs=(DATA,), select=(Select(param="which", value="a"),)
    )
    served = PlannedService(id="server", step="server", image="i", inputs=(PARAMETERS,), port=1)
    user = PlanStep(
        id="b",
        step="b",
        image="i",
        services=("server",),
        select=(Select(param="which", value="b"),),
    )
    stop = PlanStep(id="stop-server", step="stop-server", kind="stop", services=("server",))
    plan = Plan(pipeline="p", steps=(chosen, user, stop), services=(served,))
    assert set(plan.bound()) == {"data_path", "parameters_file"}
    assert set(plan.bound({"which": ["a"]})) == {"data_path"}
    assert set(plan.bound({"which": ["b"]})) == {"parameters_file"}


def test_check_and_plan_tell_the_names_without_a_site(tmp_path: Path) -> None:
    spec = tmp_path / "prep.yaml"
    spec.write_text(SPEC)
    told = CliRunner().invoke(app, ["check", str(spec)])
    assert told.stdout == f"{spec}: ok, 1 steps; a site binds data_path, parameters_file\n"
    shown = CliRunner().invoke(app, ["plan", str(spec)]).stdout
    assert "data_path: a directory" in shown
    assert "parameters_file: a file" in shown


# --- what binds it -------------------------------------------------------------------------------


def test_what_is_given_for_the_run_goes_before_the_profile(site: Site, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("size: 4\n")
    site.profile(data_path=site.scans, parameters_file=site.parameters)
    assert mounts.bind(site.home, WANTED, {}) == {
        "data_path": site.scans, "parameters_file": site.parameters,
    }  # fmt: skip
    bound = mounts.bind(site.home, WANTED, {"parameters_file": str(other)})
    assert bound == {"data_path": site.scans, "parameters_file": other}


def test_every_mount_that_is_not_bound_is_told_with_both_remedies(site: Site) -> None:
    with pytest.raises(SourceRefused) as caught:
        mounts.bind(site.home, WANTED, {})
    assert str(caught.value).splitlines() == [
        "data_path: this site binds no directory to the mount; give "
        "--mount data_path=/path/to/the/directory to `proctor run`, or write "
        f"`data_path: /path/to/the/directory` below `mounts:` in {site.home.path}/site.yaml",
        "parameters_file: this site binds no file to the mount; give "
        "--mount parameters_file=/path/to/the/file to `proctor run`, or write "
        f"`parameters_file: /path/to/the/file` below `mounts:` in {site.home.path}/site.yaml",
    ]


def test_what_cannot_be_mounted(site: Site, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "key").symlink_to(site.home.path / "keys")
    os.mkfifo(tmp_path / "pipe")

    def told(wanted: Input, path: object) -> str:
        with pytest.raises(SourceRefused) as caught:
            mounts.bind(site.home, {wanted.bound: wanted}, {wanted.bound: str(path)})
        return str(caught.value)

    assert "which is not there" in told(DATA, tmp_path / "none")
    assert "which is no directory" in told(DATA, site.parameters)
    assert "which is no file" in told(PARAMETERS, site.scans)
    assert "which is no file" in told(PARAMETERS, tmp_path / "pipe")
    assert "cannot be followed" in told(DATA, tmp_path / "circle")
    for place in ("/", tmp_path, site.home.path, site.home.path / "keys", tmp_path / "key"):
        assert "Proctor's own home" in told(DATA, place)


def test_run_tells_all_of_it_before_anything_starts(site: Site, tmp_path: Path) -> None:
    spec = tmp_path / "prep.yaml"
    spec.write_text(SPEC)
    given = ["--mount", "data_pth=x", "--mount", f"parameters_file={site.scans}"]
    done = CliRunner().invoke(app, ["run", str(spec), "--home", str(site.home.path), *given])
    assert done.exit_code == 2
    assert "--mount data_pth: the spec has no such mount; did you mean 'data_path'?" in done.stderr
    assert "data_path: this site binds no directory" in done.stderr
    assert f"parameters_file: it is bound to {site.scans}, which is no file" in done.stderr
    bad = CliRunner().invoke(app, ["run", str(spec), "--mount", "x"])
    assert "--mount x: this is no NAME=VALUE" in bad.stderr
    assert not (site.home.path / "postgres").exists()


def test_run_tells_every_named_file_that_is_not_there_before_anything_starts(
    site: Site, tmp_path: Path
) -> None:
    spec = tmp_path / "files.yaml"
    spec.write_text(
        "pipeline: files\nparams:\n  a: {type: uri, required: true}\n"
        "  b: {type: uri, default: ''}\n"
        "steps:\n  - {id: fetch, image: proctor/steps, command: dataset fetch,"
        " params: {uri: '${params.a}'}}\n"
    )
    named = ["--set", f"a=file://{tmp_path}/none", "--set", f"b=file://{site.home.path}/keys"]
    done = CliRunner().invoke(app, ["run", str(spec), "--home", str(site.home.path), *named])
    assert done.exit_code == 2
    assert f"a: file://{tmp_path}/none: there is no such file or folder" in done.stderr
    assert f"b: file://{site.home.path}/keys: it is in, or holds, Proctor's own home" in done.stderr
    assert not (site.home.path / "postgres").exists()


# --- what a step gets ----------------------------------------------------------------------------


def test_a_step_gets_it_as_an_input(site: Site) -> None:
    site.profile(data_path=site.scans)
    plan = plan_of(DATA)
    handle = site.started(plan, site.run(plan))
    (request,) = FakeRuntime(site.home.path).starts()
    (given,) = request["inputs"]
    said = {key: value for key, value in given.items() if value}
    assert said == {
        "name": "data_path", "host_path": str(site.scans), "type": "directory",
        "mount_path": "/raw", "sha256": content_digest(site.scans),
    }  # fmt: skip
    assert handle.attempt == 1


def test_its_identity_holds_the_bytes(site: Site) -> None:
    site.profile(data_path=site.scans)
    plan = plan_of(DATA)
    runs = {name: site.run(plan, name) for name in ("first", "changed", "as-before")}
    site.started(plan, runs["first"])
    (site.scans / "a.txt").write_text("B")
    site.started(plan, runs["changed"])
    (site.scans / "a.txt").write_text("A")
    step = StepRun(site.home, plan, plan.steps[0], runs["as-before"], FakeRuntime(site.home.path))
    assert isinstance(step.take_up_or_start(), Outcome)  # taken over from the first
    identities = {name: identity(record) for name, record in runs.items()}
    assert identities["first"] == identities["as-before"] != identities["changed"]


def test_a_run_does_not_go_on_with_other_data_than_it_began_with(
    site: Site, tmp_path: Path
) -> None:
    site.profile(data_path=site.scans)
    plan = plan_of(DATA)
    record = site.run(plan, mounts={"data_path": str(site.scans)})
    (tmp_path / "others").mkdir()
    site.profile(data_path=tmp_path / "others")
    with pytest.raises(StepRefused, match="start a new run, or bind what it began with"):
        site.started(plan, record)
    site.profile(data_path=site.scans)
    site.started(plan, record)


def test_a_mount_that_is_not_bound_any_more_is_refused_with_the_remedy(site: Site) -> None:
    record = site.run(plan_of(DATA))
    with pytest.raises(StepRefused, match="give --mount data_path="):
        site.started(plan_of(DATA), record)
    (site.home.path / "site.yaml").write_text("mounts: [")
    with pytest.raises(StepRefused, match=r"site\.yaml:2:1: this is no YAML"):
        site.started(plan_of(DATA), record)


def test_what_cannot_be_read_is_refused(site: Site) -> None:
    os.mkfifo(site.scans / "pipe")
    site.profile(data_path=site.scans)
    record = site.run(plan_of(DATA))
    with pytest.raises(StepRefused, match="pipe is neither a file, a folder nor a link"):
        site.started(plan_of(DATA), record)


def test_links_in_it_count_by_where_they_lead(site: Site) -> None:
    hashes = FileHashes(site.home.path)
    before = hashes.content(site.scans)
    link = site.scans / "link"
    link.symlink_to("a.txt")
    linked = hashes.content(site.scans)
    link.unlink()
    link.symlink_to("/etc")
    assert len({before, linked, hashes.content(site.scans), content_digest(site.scans)}) == 3
    assert (site.home.path / FILE_NAME).parent == site.home.path


def test_a_process_reads_it_where_it_lies(tmp_path: Path) -> None:
    bench = Bench(ProcessRuntime(tmp_path / "home"), tmp_path / "home")
    try:
        check_bound(bench)
        gone = [{"name": "x", "host_path": str(tmp_path / "none"), "mount_path": "/x"}]
        with pytest.raises(RequestRefused, match="input 'x': there is no file or folder"):
            bench.start("gone", inputs=gone)
    finally:
        bench.clean()


# --- a subject's part of a run -------------------------------------------------------------------


def test_what_was_bound_for_a_run_holds_for_its_subjects(site: Site) -> None:
    whole = site.home.records.run("p", "2026-01-01T120000-ab12")
    part = site.home.records.run("p", f"{whole.run}~{'0a' * 8}")
    mounts.keep(whole, {"data_path": str(site.scans)})
    site.home.allow_for_run(whole, [site.scans])
    assert mounts.kept(part) == {"data_path": str(site.scans)}
    assert site.home.source(f"file://{site.scans}/a.txt", part) == site.scans / "a.txt"
    other = site.home.records.run("p", "2026-01-01T120000-ab13")
    assert mounts.kept(other) == {}


@pytest.mark.parametrize(
    ("run", "whole"),
    [
        (f"r~{'0a' * 8}", "r"), ("r", "r"), ("r~0a", "r~0a"), (f"r~{'0A' * 8}", f"r~{'0A' * 8}"),
        (f"a~b~{'0a' * 8}", "a~b"),
    ],
)  # fmt: skip
def test_the_run_that_an_id_belongs_to(run: str, whole: str) -> None:
    assert whole_run(run) == whole
