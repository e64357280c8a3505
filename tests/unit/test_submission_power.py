"""A session of MLPerf's power workflow: carried as it is, or left out and told why.

The session is made in the form that the workflow's client leaves; its figures are made up.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from evidence_kit import Kit
from power_kit import BEGIN, NAME, make_session, run, sha1, sign
from proctor_steps.stage import DataError
from proctor_steps.submission import power
from proctor_steps.submission.package import STAGE

NAMES = {"runs": "accuracy_logs", "accuracy": "scores"}
PARAMS = {
    "submitter": "Example",
    "division": "closed",
    "system_name": "box-1",
    "benchmark": "yolo",
}


@pytest.fixture
def session(tmp_path: Path) -> Path:
    return make_session(tmp_path / "session")


def told(session: Path) -> str:
    examined = power.examine(session, session / "run_1")
    return " | ".join(examined.problems)


def test_a_sound_session_has_its_figures(session: Path) -> None:
    examined = power.examine(session, session / "run_1")
    assert examined.problems == ()
    assert examined.samples == power.Samples(599, 120.0), "those before and after do not count"
    assert power.metric(session / "run_1", "Offline") == (120.0, "Watts")


def test_queries_of_streams_take_millijoules(tmp_path: Path) -> None:
    single = make_session(tmp_path / "s", scenario="SingleStream") / "run_1"
    assert power.metric(single, "SingleStream") == (120.0 * 600 * 1000 / 6000, "millijoules")
    # Inferred from SingleStream, a query of MultiStream holds eight samples.
    assert power.metric(single, "MultiStream")[0] == 8 * 120.0 * 600 * 1000 / 6000


def test_an_accuracy_run_has_no_power(session: Path) -> None:
    path = session / "run_1" / "mlperf_log_detail.txt"
    path.write_text(path.read_text().replace("PerformanceOnly", "AccuracyOnly"))
    with pytest.raises(DataError, match="mode accuracy"):
        power.metric(session / "run_1", "Offline")


@pytest.mark.parametrize("name", power.FILES)
@pytest.mark.parametrize("how", ["missing", "empty", "link"])
def test_each_file_is_wanted(session: Path, name: str, how: str) -> None:
    path = session / name
    path.unlink()
    if how == "empty":
        path.touch()
    if how == "link":
        path.symlink_to("/etc/hostname")
    assert told(session) == f"{name} is missing or empty"


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(session: Path) -> None:
        text = (session / name).read_text()
        assert old in text
        (session / name).write_text(text.replace(old, new))

    return change


def resigned(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """The change, with digests that fit it: another check has to find it."""

    def changed(session: Path) -> None:
        change(session)
        sign(session)

    return changed


def side(name: str, **values: Any) -> Callable[[Path], None]:
    return lambda session: sign(session, **{name: values})


MINUTES = timedelta(minutes=30)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (replace("run_1/spl.txt", "120.0", "100.0"), "run_1/spl.txt: its sha1 is not the one"),
        (replace("power/server.log", "s", "t"), "power/server.log: its sha1"),
        (side("client", results={}), "power/client.log: neither client.json nor server.json"),
        (side("client", uuid={"client": "c1", "server": "other"}), "different uuids (server)"),
        (side("server", session_name="other"), "client.json is of session"),
        (side("server", debug=True), "debug mode"),
        (side("client", phases={}), "phases.ranging does not tell"),
        (side("client", phases={"ranging": 7, "testing": [[1]]}), "phases.testing does not tell"),
        (side("client", messages=None, uuid=[]), "client.json: uuid is no object"),
        (resigned(replace("run_1/spl.txt", "11-0", "10-0")), "run_1/spl.txt: no sample above 0 W"),
        (resigned(replace("run_1/spl.txt", "120.0", "0.0")), "run_1/spl.txt: no sample above 0 W"),
        (resigned(replace("run_1/spl.txt", "120.0", "100.0")), "more than 5 % less than"),
        (resigned(replace("run_1/spl.txt", "Watts,120", "Watts,nan")), "spl.txt:12: no sample of"),
        (resigned(replace("ranging/spl.txt", "Time,", "time,")), "ranging/spl.txt: no sample"),
        (
            resigned(replace("power/ptd_logs.txt", "is activated", "is off")),
            "uncertainty checking was activated",
        ),
        (resigned(replace("power/ptd_logs.txt", NAME, "x")), "has no ranging of session"),
        (resigned(replace("run_1/mlperf_log_detail.txt", "power_end", "no")), "power_end"),
    ],
)
def test_what_does_not_fit_together_is_told(
    session: Path, change: Callable[[Path], None], text: str
) -> None:
    change(session)
    assert text in told(session)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", "[" * 100_000])
def test_a_session_file_that_is_none(session: Path, text: str) -> None:
    (session / "power/client.json").write_text(text or " ")
    assert "power/client.json: " in told(session)


def test_a_run_outside_of_the_session_is_told(session: Path) -> None:
    shutil.rmtree(session / "run_1")
    run(session / "run_1", BEGIN + MINUTES, 120.0)
    sign(session)
    assert "run_1: power_begin (11-03-2026 00:25:00.311) lies outside" in told(session)


def test_another_run_s_power_is_told(session: Path, tmp_path: Path) -> None:
    other = make_session(tmp_path / "other", scenario="Server") / "run_1"
    examined = power.examine(session, other)
    assert "run_1/mlperf_log_detail.txt is not that of the performance run" in " ".join(
        examined.problems
    )


def test_all_problems_come_at_once(session: Path) -> None:
    replace("power/ptd_logs.txt", NAME, "x")(session)
    sign(session, server={"debug": True, "session_name": "x"})
    assert len(power.examine(session, session / "run_1").problems) == 3


def test_a_log_without_queries_has_no_energy(session: Path) -> None:
    replace("run_1/mlperf_log_detail.txt", "6000", "0")(session)
    with pytest.raises(DataError, match="no query"):
        power.metric(session / "run_1", "SingleStream")


# in the package


@pytest.fixture
def kit(tmp_path: Path, session: Path) -> Kit:
    made = Kit(tmp_path / "kit").fill()
    for name in ("summary", "detail"):
        source = session / f"run_1/mlperf_log_{name}.txt"
        shutil.copyfile(source, made.folder("performance", "Offline") / source.name)
    return made


def package(kit: Kit) -> tuple[Any, Path]:
    result, out = kit.run(STAGE, "package", PARAMS, NAMES)
    assert result.status == "ok", result.message
    return result, out / "tree/closed/Example/results/box-1/yolo-99"


@pytest.mark.parametrize("one_folder", [True, False])
def test_a_session_is_carried_as_it_is(kit: Kit, session: Path, one_folder: bool) -> None:
    target = kit.folder("power", "" if one_folder else "Offline")
    shutil.copytree(session, target / "Offline" if one_folder else target, dirs_exist_ok=True)
    result, folder = package(kit)
    assert "power" not in [finding.rule for finding in result.findings]
    performance = folder / "Offline/performance"
    found = {p.relative_to(performance).as_posix() for p in performance.rglob("*") if p.is_file()}
    assert found == set(power.FILES), "and nothing that the official checker would refuse"
    assert all(sha1(performance / name) == sha1(session / name) for name in found)
    readme = (folder / "Offline/README.md").read_text()
    assert "| Power | 120.00 Watts, from 599 samples of the analyzer |" in readme
    assert not list(folder.rglob("SingleStream/**/spl.txt"))
    assert "| Power |" not in (folder / "SingleStream/README.md").read_text()


def test_a_session_with_a_problem_is_left_out_and_told(kit: Kit, session: Path) -> None:
    shutil.copytree(session, kit.folder("power", "Offline"), dirs_exist_ok=True)
    (kit.folder("power", "Offline") / "power/ptd_logs.txt").write_text("")
    result, folder = package(kit)
    (finding,) = [finding for finding in result.findings if finding.rule == "power"]
    assert finding.severity == "error"
    assert "Offline is left out: power/ptd_logs.txt is missing or empty" in finding.message
    assert not (folder / "Offline/performance/power").exists()
    assert not list(folder.rglob("spl.txt"))
    assert "| Power |" not in (folder / "Offline/README.md").read_text()
