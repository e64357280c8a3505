"""A data site's one command: what is looked at first, what is asked once, what is refused."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proctor.airflow.attempts import StepRun
from proctor.airflow.evidence import StepRefused
from proctor.cli import app
from proctor.plan.compile import compile
from proctor.plan.model import Plan
from proctor.runtime import choose, engine
from proctor.runtime.base import EngineError, RequestRefused
from proctor.runtime.fake import FakeRuntime
from proctor.site import commands, preflight, trust
from proctor.site.home import Home, HomeError
from proctor.site.preflight import Finding, Wanted, look
from proctor.spec.load import parse_pipeline

SPEC = """
pipeline: prepare
steps:
  - id: convert
    type: container
    image: example/prep:1.0
    command: convert
    network: true
    mounts:
      input_volumes:
        data_path: {mount_path: /raw, type: directory}
      output_volumes:
        made: {mount_path: /made, type: directory}
"""
ID = f"sha256:{'7' * 64}"
Usage = namedtuple("Usage", "total used free")


def plan_of(text: str = SPEC) -> Plan:
    return compile(parse_pipeline(text, "p.yaml"))


class Engine:
    """What the checks ask of the engine and its images."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here, self.answers, self.ahead = True, True, 0.0
        monkeypatch.setattr(engine, "check", self.check)
        monkeypatch.setattr(engine, "clock", lambda: time.time() + self.ahead)
        monkeypatch.setattr(choose, "make", lambda kind, home: self)

    def check(self) -> None:
        if not self.answers:
            raise EngineError("no Docker engine answers")

    def identity(self, image: str, local: str = "") -> str:
        if not self.here or (local and not local.endswith(ID)):
            raise RequestRefused(f"image {image!r} is not here")
        return ID


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with raw data, of a short name: PostgreSQL's socket will lie in it."""
    tmp_path = Path(tempfile.mkdtemp(prefix="proctor-site-"))
    (tmp_path / "scans" / "A").mkdir(parents=True)
    (tmp_path / "scans" / "A" / "one.dcm").write_text("scan")
    for path in (tmp_path, tmp_path / "scans", tmp_path / "scans" / "A"):
        path.chmod(0o755)
    (tmp_path / "scans" / "A" / "one.dcm").chmod(0o644)
    monkeypatch.setattr(preflight, "_file_system", lambda path: "ext4")
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Engine:
    return Engine(monkeypatch)


def found(site: Path, **more: Any) -> dict[str, Finding]:
    given: dict[str, Any] = {
        "plan": plan_of(),
        "output": site / "out",
        "bound": {"data_path": site / "scans"},
        "images": frozenset({"example/prep:1.0"}),
        "local": {},
        "reader": (10001, 10001),
    }
    return {each.what.partition(":")[0]: each for each in look(Wanted(**given | more))}


def test_where_all_is_there_nothing_is_bad(site: Path, docker: Engine) -> None:
    every = found(site)
    assert [each.what for each in every.values() if each.state == "bad"] == []
    assert every["data_path"].message == "1 files, 4 bytes"
    assert every["image example/prep"].message == f"here, {'7' * 12}"


def test_a_file_that_steps_cannot_read_is_named(site: Path, docker: Engine) -> None:
    (site / "scans" / "A" / "one.dcm").chmod(0o600)
    (site / "scans" / "B").mkdir(mode=0o700)
    told = found(site)["data_path"]
    assert told.state == "bad"
    assert "2 of its files and folders cannot be read" in told.message
    assert f"{site}/scans/A/one.dcm, {site}/scans/B" in told.message
    assert told.remedy.endswith(f"chmod -R a+rX {site}/scans")
    assert found(site, reader=(os.getuid(), os.getgid()))["data_path"].state == "good"


@pytest.mark.parametrize(
    ("mode", "reader", "enter", "may"),
    [
        (0o604, (1, 1), False, True), (0o640, (1, 5), False, True), (0o640, (1, 1), False, False),
        (0o400, (7, 1), False, True), (0o074, (7, 5), False, False), (0o754, (1, 1), True, False),
        (0o755, (1, 1), True, True),
    ],
)  # fmt: skip
def test_who_may_read_is_told_by_the_bits(
    mode: int, reader: tuple[int, int], enter: bool, may: bool
) -> None:
    kind = stat.S_IFDIR if enter else stat.S_IFREG
    status = os.stat_result((kind | mode, 0, 0, 1, 7, 5, 0, 0, 0, 0))
    assert preflight.may_read(status, reader, enter=enter) is may


def test_no_data_no_room_no_engine_no_port_all_at_once(
    site: Path, docker: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site / "scans" / "A" / "one.dcm").unlink()
    docker.answers = False
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 10**8))
    monkeypatch.setattr(preflight, "_file_system", lambda path: "tmpfs")

    def taken(self: socket.socket, address: object) -> None:
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(socket.socket, "bind", taken)
    every = found(site)
    bad = [name for name, each in every.items() if each.state == "bad"]
    assert bad == ["data_path", "output", "disk", "container engine", "web page"]
    assert every["disk"].message == "100.0 MB are free, 2.0 GB needed (the data twice, and 2.0 GB)"
    assert "in memory" in every["output"].message
    assert all(every[name].remedy for name in bad)


def test_an_output_that_cannot_be_written_to(
    site: Path, docker: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert found(site)["output"].state == "bad"


def test_an_image_that_is_not_here_and_a_clock_that_is_wrong(site: Path, docker: Engine) -> None:
    docker.here, docker.ahead = False, 4000.0
    every = found(site)
    assert every["image example/prep"].state == "bad"
    assert "docker pull example/prep:1.0" in every["image example/prep"].remedy
    assert every["clock"].state == "bad"
    assert "4000 s away" in every["clock"].message


def test_a_step_may_want_more_memory_than_there_is(site: Path, docker: Engine) -> None:
    wide = plan_of(SPEC.replace("network: true", "resources: {memory: 4096GiB}"))
    assert found(site, plan=wide)["memory"].state == "unknown"
    narrow = plan_of(SPEC.replace("network: true", "resources: {memory: 16MiB}"))
    assert found(site, plan=narrow)["memory"].state == "good"


# --- what was agreed to --------------------------------------------------------------------------


def started(home: Home, plan: Plan) -> StepRun:
    record = home.records.run(plan.pipeline, "r")
    home.records.save_plan(plan)
    if not record.exists():
        record.append("header", plan_digest=plan.digest, data={"params": {}})
    return StepRun(home, plan, plan.step("convert"), record, FakeRuntime(home.path))


@pytest.fixture
def home(site: Path) -> Home:
    made = Home(site / "out" / ".proctor")
    made.create()
    (made.path / "site.yaml").write_text(f"mounts: {{data_path: {site}/scans}}\n")
    return made


def test_a_site_runs_only_what_it_has_agreed_to(home: Home) -> None:
    plan, pinned = plan_of(), {"example/prep:1.0": f"prep@{ID}"}
    trust.write(home, trust.Trust())
    with pytest.raises(StepRefused, match=r"agreed to no image for 'example/prep:1\.0'"):
        started(home, plan).parts()
    trust.write(home, trust.Trust(pinned))
    with pytest.raises(StepRefused, match="wants the network, and this site has not agreed"):
        started(home, plan).parts()
    trust.write(home, trust.Trust(pinned, frozenset({plan.digest})))
    assert started(home, plan).parts()


def test_a_changed_spec_is_asked_about_anew(home: Home) -> None:
    pinned = {"example/prep:1.0": f"prep@{ID}"}
    trust.write(home, trust.Trust(pinned, frozenset({plan_of().digest})))
    changed = plan_of(SPEC.replace("command: convert", "command: send"))
    with pytest.raises(StepRefused, match="has not agreed"):
        started(home, changed).parts()


def test_a_home_that_is_no_data_site_asks_for_nothing(home: Home) -> None:
    assert home.trust() is None
    assert started(home, plan_of()).parts()


@pytest.mark.parametrize("text", ["{", "[]", '{"images": {}}', '{"images": 3, "plans": []}'])
def test_an_agreement_that_cannot_be_read_allows_nothing(home: Home, text: str) -> None:
    (home.path / "trusted.json").write_text(text)
    with pytest.raises(HomeError, match=r"trusted\.json cannot be read"):
        home.trust()
    with pytest.raises(StepRefused, match=r"trusted\.json cannot be read"):
        started(home, plan_of()).parts()


# --- the command ---------------------------------------------------------------------------------


def command(site: Path, *more: str, answer: str = "") -> Any:
    spec = site / "prepare.yaml"
    if not spec.exists():
        spec.write_text(SPEC)
    words = ["site", "run", str(spec), "--data", str(site / "scans"), "--output", str(site / "out")]
    return CliRunner().invoke(app, [*words, *more], input=answer)


@pytest.fixture
def carried(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be run; nothing is."""
    calls: list[Any] = []

    def carry_out(*given: Any) -> bool:
        calls.append(given)
        return True

    monkeypatch.setattr(commands, "carry_out", carry_out)
    monkeypatch.setattr(commands, "choose_runtime", lambda *given: "docker")
    return calls


def test_it_agrees_only_when_somebody_says_so(
    site: Path, docker: Engine, carried: list[Any]
) -> None:
    told = command(site)
    assert told.exit_code == 2
    assert "somebody has to agree" in told.output
    assert carried == []
    told = command(site, "--agree")
    assert told.exit_code == 0, told.output
    home = Home(site / "out" / ".proctor")
    assert home.images() == {"example/prep:1.0": f"example/prep@{ID}"}
    assert home.trust() == trust.Trust(home.images(), frozenset({plan_of().digest}))
    assert (home.path / "trusted.json").stat().st_mode & 0o777 == 0o600
    (given,) = carried
    assert given[4] == {"data_path": str(site / "scans")}
    again = command(site)
    assert again.exit_code == 0, again.output
    assert "The spec wants to" not in again.output


def test_it_does_not_begin_where_something_is_missing(
    site: Path, docker: Engine, carried: list[Any]
) -> None:
    docker.here = False
    told = command(site, "--agree")
    assert told.exit_code == 2
    assert "docker pull example/prep:1.0" in told.output
    assert carried == []
    assert not (site / "out").exists()


def test_check_changes_nothing(site: Path, docker: Engine, carried: list[Any]) -> None:
    told = command(site, "--check")
    assert told.exit_code == 0, told.output
    assert "1 files" in told.output
    assert carried == []
    assert not (site / "out").exists()


def test_data_that_the_spec_does_not_take(site: Path, docker: Engine) -> None:
    told = command(site, "--labels", str(site / "scans"))
    assert told.exit_code == 2
    assert "--labels: the spec has no mount labels_path or labels; it has: data_path" in told.output
