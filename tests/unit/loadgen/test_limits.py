"""What control groups allow, read from trees as the kernel makes them, of both versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proctor_steps.loadgen import limits
from proctor_steps.loadgen.limits import Limits

from .conftest import loadgen_run


def made(root: Path, groups: str, mounts: list[tuple[str, str]], files: dict[str, str]) -> Path:
    """A ``/proc/self`` and the folders that it speaks of.

    ``mounts``: root and mount point below ``root`` (its name is the controller; ``v2``: version 2).
    """
    proc = root / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(groups)
    lines = []
    for inside, name in mounts:
        kind = "cgroup2 cgroup2 rw" if name == "v2" else f"cgroup cgroup rw,{name}"
        lines.append(f"36 25 0:31 {inside} {root / name} ro,nosuid shared:7 - {kind}\n")
    (proc / "mountinfo").write_text("22 1 0:1 / / rw - ext4 /dev/vda rw\n" + "".join(lines))
    (proc / "status").write_text("Name:\tx\nVmHWM:\t    2048 kB\nCpus_allowed_list:\t0-3\n")
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")
    return proc


def test_version_2_takes_the_tightest_of_all_groups(tmp_path: Path) -> None:
    proc = made(
        tmp_path,
        "0::/site/step\n",
        [("/", "v2")],
        {
            "v2/site/step/cpu.max": "max 100000",
            "v2/site/cpu.max": "150000 100000",
            "v2/site/step/memory.max": "1073741824",
            "v2/site/memory.max": "max",
            "v2/site/cpuset.cpus.effective": "0,2",
        },
    )
    assert limits.read(proc) == Limits(2, "0,2", 1.5, 1 << 30)
    assert limits.peak_rss(proc) == 2048 * 1024


def test_version_2_in_a_container_of_its_own_namespace(tmp_path: Path) -> None:
    files = {"v2/cpu.max": "50000 100000", "v2/memory.max": "max"}
    proc = made(tmp_path, "0::/\n", [("/", "v2")], files)
    assert limits.read(proc) == Limits(2, "0-3", 0.5, None)


def test_version_1_in_a_container(tmp_path: Path) -> None:
    proc = made(
        tmp_path,
        "4:memory:/docker/abc\n3:cpuset:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/\n",
        [("/docker/abc", "memory"), ("/docker/abc", "cpuset"), ("/docker/abc", "cpu")],
        {
            "cpu/cpu.cfs_quota_us": "50000",
            "cpu/cpu.cfs_period_us": "100000",
            "cpuset/cpuset.cpus": "1",
            "memory/memory.limit_in_bytes": "268435456",
        },
    )
    assert limits.read(proc) == Limits(1, "1", 0.5, 1 << 28)


def test_version_1_without_limits(tmp_path: Path) -> None:
    proc = made(
        tmp_path,
        "4:memory:/\n1:cpu:/\n",
        [("/", "memory"), ("/", "cpu")],
        {
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": "9223372036854771712",
        },
    )
    assert limits.read(proc) == Limits(1, "0-3", None, None)


def test_a_path_from_outside_the_container_ends_at_its_mount(tmp_path: Path) -> None:
    files = {"v2/cpu.max": "max 100000", "cpu.max": "1 100000"}
    proc = made(tmp_path, "0::/../../elsewhere\n", [("/", "v2")], files)
    assert limits.read(proc).cpu_quota is None


@pytest.mark.parametrize("text", ["", "many 100000", "1 0", "50000"])
def test_what_cannot_be_read_is_unknown(text: str, tmp_path: Path) -> None:
    proc = made(tmp_path, "0::/\n", [("/", "v2")], {"v2/cpu.max": text, "v2/memory.max": "lots"})
    assert limits.read(proc) == Limits(2, "0-3", "unknown", "unknown")


def test_a_machine_without_control_groups(tmp_path: Path) -> None:
    assert limits.read(tmp_path) == Limits("unknown", "unknown", "unknown", "unknown")
    assert limits.peak_rss(tmp_path) == "unknown"


def test_this_process() -> None:
    assert limits.read().cpuset != "unknown"
    assert int(limits.peak_rss()) > 1 << 20


def test_a_quota_is_told(
    dataset: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"scenario": "Offline", "mode": "performance"}
    given |= {"performance_seconds": 0.2, "target_qps": 100.0}
    free = loadgen_run(tmp_path / "free", dataset, model, **given)
    assert free.run["sut"]["limits"]["cpuset"]
    assert free.run["sut"]["peak_rss_bytes"] > 1 << 24
    files = {"v2/cpu.max": "150000 100000", "v2/memory.max": "max"}
    proc = made(tmp_path, "0::/\n", [("/", "v2")], files)
    read = limits.read
    monkeypatch.setattr(limits, "read", lambda: read(proc))
    bound = loadgen_run(tmp_path / "bound", dataset, model, **given)
    assert bound.run["sut"]["limits"]["cpu_quota"] == 1.5
    told = {finding.rule: finding for finding in bound.result.findings}
    assert "1.5 processors" in told["cpu_quota"].message
