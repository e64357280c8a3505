"""What the host was doing beside a measurement: read where it shows, unknown where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_attempts import Bench, fetch, plan_of

from proctor.records.summary import summarise
from proctor.runtime import hoststate
from proctor.runtime.base import EngineError
from proctor.runtime.fake import FakeRuntime


class Engine(FakeRuntime):
    def __init__(self, home: Path, running: int | None) -> None:
        super().__init__(home)
        self.running = running

    def containers_running(self) -> int | None:
        if self.running is None:
            raise EngineError("it does not answer")
        return self.running


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("sys", "proc"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(hoststate, "_SYS", tmp_path / "sys")
    monkeypatch.setattr(hoststate, "_PROC", tmp_path / "proc")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_what_a_host_shows_is_read(host: Path) -> None:
    write(host / "proc/meminfo", "MemTotal: 4096 kB\nMemAvailable:    1024 kB\n")
    for cpu, (governor, khz) in enumerate([("performance", 2000000), ("powersave", 3000000)]):
        folder = host / f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        write(folder / "scaling_governor", f"{governor}\n")
        write(folder / "scaling_cur_freq", f"{khz}\n")
    for zone, celsius in enumerate((41500, 63250)):
        write(host / f"sys/class/thermal/thermal_zone{zone}/temp", f"{celsius}\n")
    found = hoststate.state(Engine(host, 3))
    assert found.pop("load_average")
    assert found == {
        "memory_available_bytes": 1024 * 1024,
        "containers_running": 3,
        "governor": "performance, powersave",
        "frequency_mhz": 2500.0,
        "temperature_celsius": 63.2,
    }


def test_what_it_does_not_show_is_unknown_not_guessed(host: Path) -> None:
    write(host / "proc/meminfo", "nonsense: here\n")
    write(host / "sys/class/thermal/thermal_zone0/temp", "hot\n")
    found = hoststate.state(Engine(host, None))
    del found["load_average"]
    assert set(found.values()) == {hoststate.UNKNOWN}
    assert hoststate.state(FakeRuntime(host))["containers_running"] == hoststate.UNKNOWN


def test_the_frequency_is_taken_from_cpuinfo_where_there_is_no_governor(host: Path) -> None:
    write(host / "proc/cpuinfo", "cpu MHz\t\t: 2000.000\ncpu MHz\t\t: 2200.000\n")
    found = hoststate.state(FakeRuntime(host))
    assert (found["frequency_mhz"], found["governor"]) == (2100.0, hoststate.UNKNOWN)


def test_a_measured_attempt_is_recorded_with_the_host_before_and_after(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch(exclusive=True), fetch(id="other", step="other")))
    for id in ("fetch", "other"):
        bench.step(id).finish(bench.started(id))
    rows = {row["id"]: row for row in summarise(bench.home.records, bench.record)["steps"]}
    assert set(rows["fetch"]["host"]) == {"before", "after"}
    assert rows["fetch"]["host"]["before"]["memory_available_bytes"] > 0
    assert "host" not in rows["other"]


def test_a_new_attempt_does_not_show_the_old_ones_host(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch(exclusive=True)))
    bench.step().finish(bench.started())
    bench.started(generation=4)
    [row] = summarise(bench.home.records, bench.record)["steps"]
    assert set(row["host"]) == {"before"}
