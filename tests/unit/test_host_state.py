"""What the host was doing beside a measurement: read where it shows, unknown where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_attempts import Bench, fetch, plan_of

from proctor.records.summary import summarise
from proctor.runtime import hoststate
from proctor.runtime.base import EngineError
from proctor.runtime.fake import FakeRuntime
from proctor_steps import hoststate as shown


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
    monkeypatch.setattr(shown, "_SYS", tmp_path / "sys")
    monkeypatch.setattr(shown, "_PROC", tmp_path / "proc")
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
        "memory_total_bytes": 4096 * 1024,
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


RUN: dict[str, Any] = {"scenario": "Offline", "mode": "performance", "valid": True}


@pytest.mark.parametrize(
    ("running", "services", "run", "words"),
    [
        (0, 0, RUN | {"disturbed": []}, []),
        (1, 0, RUN | {"disturbed": []}, ["another container ran on this host beside the step"]),
        (3, 1, RUN | {"disturbed": ["it was hot"]}, ["it was hot", "2 other containers ran"]),
        (1, 1, RUN | {"disturbed": []}, []),  # the step's own service
        (None, 0, RUN | {"disturbed": []}, []),
        (2, 0, RUN | {"disturbed": None}, None),  # nobody looked: too short, or accuracy
        (2, 0, RUN, None),
    ],
)
def test_other_containers_beside_a_measurement_disturb_it(
    running: int | None, services: int, run: dict[str, Any], words: list[str] | None, tmp_path: Path
) -> None:
    before = {"containers_running": "unknown"}
    after = hoststate.state(Engine(tmp_path, running))
    given = {"metrics": {"loadgen": run, "x": 1}, "findings": [{"rule": "min_duration"}]}
    told = hoststate.with_containers(given, before, after, services)
    found = told["metrics"]["loadgen"].get("disturbed")
    assert (found is None) == (words is None)
    assert len(found or ()) == len(words or ())
    assert all(text.startswith(word) for text, word in zip(found or (), words or (), strict=True))
    added = [f for f in told["findings"] if f["rule"] == "disturbed"]
    assert len(added) == len(words or ()) - len(run.get("disturbed") or ())
    assert given["metrics"]["loadgen"] == run
    assert told["metrics"]["x"] == 1


def test_what_is_no_loadgen_run_is_left_alone(tmp_path: Path) -> None:
    state = hoststate.state(Engine(tmp_path, 5))
    for given in ({}, {"metrics": None}, {"metrics": {"loadgen": "x"}}, {"findings": None}):
        assert hoststate.with_containers(given, state, state, 0) == given


def test_a_container_beside_a_measured_attempt_is_in_its_record(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch(exclusive=True)))
    bench.fake = Engine(tmp_path, 1)
    act = {"outputs": {"data": {"x": "x"}}, "metrics": {"loadgen": RUN | {"disturbed": []}}}
    bench.fake.script({"fetch": act})
    bench.step().finish(bench.started())
    (result,) = summarise(bench.home.records, bench.record)["results"]
    (reason,) = result["metrics"]["disturbed"]
    assert "another container" in reason
    assert [f["rule"] for f in result["findings"]] == ["disturbed"]


def test_a_new_attempt_does_not_show_the_old_ones_host(tmp_path: Path) -> None:
    bench = Bench(tmp_path, plan_of(fetch(exclusive=True)))
    bench.step().finish(bench.started())
    bench.started(generation=4)
    [row] = summarise(bench.home.records, bench.record)["steps"]
    assert set(row["host"]) == {"before"}
