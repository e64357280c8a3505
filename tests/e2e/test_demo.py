"""The demo from dataset to package, and what is left when it ends, however it ends."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from proctor_command import (
    interrupt,
    processes_of,
    proctor_run,
    start_proctor,
    wait_for_line,
    wait_until_started,
)
from typer.testing import CliRunner

from proctor.cli import app
from proctor.records.store import RecordStore

SHORT = {"performance_seconds": 2, "scenarios": "SingleStream,Offline"}
ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_ends_in_a_package_and_a_report(home: Path) -> None:
    done = proctor_run(home, "demo", SHORT, "--runtime", "process", "--yes")
    assert done.code == 0, done.output
    assert done.summary["state"] == "succeeded"
    assert set(done.accuracy()) == {"SingleStream", "Offline"}
    for row in done.accuracy().values():
        assert row["samples"] == row["expected_samples"] == 72
        assert row["value"] > 0.8
    for result in done.results("performance").values():
        missed = [r["rule"] for r in result["metrics"]["rules"] if r["met"] is False]
        assert "min_duration" in missed
        assert result["metrics"]["official"] is False
    assert "Not a valid MLPerf result" in done.output
    (approval,) = done.summary["approvals"]
    assert approval["answered_via"] == "cli-yes"
    assert approval["evidence_reviewed"] is False
    page = (done.folder / "report.html").read_text()
    assert "<svg" in page
    assert 'src="http' not in page
    with tarfile.open(done.folder / "submission.tar.gz") as archive:
        assert any(name.endswith("mlperf_log_detail.txt") for name in archive.getnames())
    record = RecordStore(home).run("demo", done.summary["run"])
    assert record.verify_chain() == []
    for name in ("submission.tar.gz", "provenance.json"):
        words = ["provenance", "verify", str(done.folder / name)]
        said = CliRunner().invoke(app, words)
        assert said.exit_code == 0, said.output
    assert processes_of(home) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupt_stops_everything_and_the_same_command_goes_on(
    home: Path, number: signal.Signals
) -> None:
    settings = {"performance_seconds": 15, "scenarios": "SingleStream"}
    flags = ("--runtime", "process", "--yes")
    running = start_proctor(home, "demo", settings, *flags)
    wait_for_line(running, "Performance run, SingleStream  running")
    wait_until_started(home, "performance.SingleStream")  # the task runs before its step does
    code, output = interrupt(running, number)
    assert code == 130, output
    assert processes_of(home) == []
    if number == signal.SIGTERM:
        return
    done = proctor_run(home, "demo", settings, *flags)
    assert done.code == 0, done.output
    assert "Takes up" in done.output
    attempts = {s["id"]: s["attempts"] for s in done.summary["steps"]}
    assert attempts["performance.SingleStream"] == 2
    assert attempts["accuracy.SingleStream"] == 1
    assert processes_of(home) == []


def test_a_failing_run_says_why_and_exits_with_1(home: Path, tmp_path: Path) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_text("<html>404 not found</html>")
    settings = SHORT | {"model_uri": f"file://{broken}"}
    done = proctor_run(home, "demo", settings, "--runtime", "process", "--yes")
    assert done.code == 1
    assert "fetch-model" in done.output
    assert "Traceback" not in done.output
    assert done.summary["state"] == "failed"
    assert processes_of(home) == []


def test_an_installed_wheel_runs_the_demo(home: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv = home.parent / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (packages,) = (venv / "lib").glob("python3*/site-packages")
    shutil.unpack_archive(wheel, packages, "zip")
    # Everything but Proctor itself comes from this environment, behind the wheel's own packages.
    (outer,) = (Path(sys.prefix) / "lib").glob("python3*/site-packages")
    (packages / "outer.pth").write_text(f"{outer}\n")
    python = str(venv / "bin" / "python")
    where = "import proctor, proctor_steps; print(proctor.__file__, proctor_steps.__file__)"
    found = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout
    assert found.count(str(packages)) == 2
    settings = {"performance_seconds": 1, "scenarios": "SingleStream"}
    done = proctor_run(home, "demo", settings, "--runtime", "process", "--yes", python=python)
    assert done.code == 0, done.output
    assert (done.folder / "submission.tar.gz").is_file()
