"""Whether the machine was quiet: each reason in which it speaks and in which it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from proctor_steps import hoststate
from proctor_steps.loadgen import others, pace, quiet
from proctor_steps.loadgen.others import NotTold
from proctor_steps.loadgen.pace import Pace, Probe
from proctor_steps.loadgen.pulse import Phase
from proctor_steps.loadgen.quiet import QUIET, Lookout, Machine, Probes, Stretch, disturbed

GIB = 1 << 30
CALM: dict[str, Any] = {
    "memory_available_bytes": 4 * GIB,
    "memory_total_bytes": 8 * GIB,
    "frequency_mhz": 3000.0,
    "temperature_celsius": 60.0,
}


def probe(one: float = 0.020, both: float | None = 0.025) -> Probe:
    def made(seconds: float, threads: int) -> Pace:
        return Pace(seconds=seconds, spread=0.01, repetitions=9, threads=threads)

    return Probe(one_core=made(one, 1), all_threads=made(both, 2) if both else None)


def reasons(*, then: Probe | None = None, **seen: Any) -> tuple[str, ...]:
    """Of a machine that is quiet but for what is given."""
    known: dict[str, Any] = {
        "before": CALM, "after": CALM, "processors": 2, "waited_s": 0.5, "others_before": 0.02,
        "others": 0.03, "stolen": 0.0,
        "worst": Stretch(after_s=20.0, seconds=10.0, processors=0.1),
    }  # fmt: skip
    probes = Probes(before=probe(), after=then or probe())
    return disturbed(Machine(**known | seen), probes)


def test_a_quiet_machine_has_no_reasons() -> None:
    assert reasons() == ()


@pytest.mark.parametrize(
    ("just_good", "too_much", "words"),
    [
        ({"others": 0.10}, {"others": 0.11}, "others took 0.11 of 2 processors during the run"),
        # One busy core among a hundred is seen, a hundredth of it is what such a machine does.
        (
            {"others": 0.48, "processors": 100},
            {"others": 1.0, "processors": 100},
            "others took 1.00 of 100 processors during the run (at most 0.5)",
        ),
        (
            {"others": 0.1, "stolen": 0.1},
            {"others": 0.3, "stolen": 0.28},
            "others took 0.30 of 2 processors during the run, 0.28 of it the hypervisor",
        ),
        (
            {"others_before": 0.25},
            {"others_before": 0.9, "waited_s": 10.1},
            "others took 0.90 of 2 processors just before the run, after a wait of 10 s",
        ),
        (
            {"worst": Stretch(after_s=40, seconds=10, processors=0.5)},
            {"worst": Stretch(after_s=40, seconds=10, processors=0.97)},
            "others took 0.97 of 2 processors for 10 s, 40 s into the run (at most 0.5)",
        ),
        # A short run is judged by its average.
        (
            {"worst": Stretch(after_s=40, seconds=2, processors=0.9)},
            {"worst": Stretch(after_s=40, seconds=5, processors=0.9)},
            "others took 0.90 of 2 processors for 5 s",
        ),
        (
            {"then": probe(one=0.0219)},
            {"then": probe(one=0.023)},
            "fixed work on one core took 20.0 ms before the run and 23.0 ms after it, +15%",
        ),
        (
            {"then": probe(both=0.0230)},
            {"then": probe(both=0.0200)},
            "fixed work on all 2 threads took 25.0 ms before the run and 20.0 ms after it, -20%",
        ),
        (
            {"before": CALM | {"memory_available_bytes": 0.5 * GIB}},
            {"before": CALM | {"memory_available_bytes": 0.25 * GIB}},
            "only 256 of 8,192 MiB of memory were free before the run (at least 5%)",
        ),
        (
            {"after": CALM | {"temperature_celsius": 90.0}},
            {"after": CALM | {"temperature_celsius": 96.5}},
            "the hottest sensor showed 96 °C after the run (at most 90)",
        ),
        (
            {"after": CALM | {"frequency_mhz": 2700.0}},
            {"after": CALM | {"frequency_mhz": 2400.0}},
            "the processors ran at 3000 MHz before the run and at 2400 after it",
        ),
    ],
)
def test_each_reason_speaks_beyond_its_limit_alone(
    just_good: dict[str, Any], too_much: dict[str, Any], words: str
) -> None:
    assert reasons(**just_good) == ()
    [reason] = reasons(**too_much)
    assert words in reason


def test_what_a_machine_does_not_tell_is_no_reason() -> None:
    nothing = dict.fromkeys(CALM, "unknown")
    told = {"others": None, "others_before": None, "worst": None, "why_unknown": "no /proc"}
    assert reasons(before=nothing, after=nothing, **told) == ()


def test_one_thread_has_no_pace_of_all() -> None:
    seen = Probes(before=probe(both=None), after=probe(both=None))
    machine = Machine(before=CALM, after=CALM, processors=1, waited_s=0)
    assert disturbed(machine, seen) == ()
    assert pace.probe(1, 0).all_threads is None


def test_fixed_work_is_timed_on_one_core_and_on_all_threads() -> None:
    found = pace.probe(2, 0.0)
    assert found.all_threads is not None
    assert (found.one_core.threads, found.all_threads.threads) == (1, 2)
    for each in (found.one_core, found.all_threads):
        assert each.repetitions >= 5
        assert each.seconds > 0
        assert each.spread >= 0


# -- what others take ----------------------------------------------------------------------------


@dataclass
class Host:
    """A /proc that tells what it is told to, and a clock."""

    proc: Path
    now: float = 100.0
    busy: float = 50.0
    stolen: float = 1.0
    own: float = 10.0

    def work(
        self, seconds: float, *, own: float = 0, foreign: float = 0, stolen: float = 0
    ) -> None:
        self.now += seconds
        self.own += own
        self.busy += own + foreign
        self.stolen += stolen
        self.write()

    def write(self) -> None:
        half = int(self.busy * others._TICKS / 2)
        steal = int(self.stolen * others._TICKS / 2)
        row = f"{half - 20} 5 5 9999 77 5 5 {steal} 3 0"
        rows = [
            "cpu  1 2 3 4 5 6 7 8 0 0",
            f"cpu0 {row}",
            f"cpu1 {row}",
            "cpu2 9 9 9 9 9 9 9 9 9 9",
        ]
        (self.proc / "stat").write_text("\n".join([*rows, "intr 1 2 3", "btime 1"]) + "\n")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mountinfo").write_text("22 1 0:1 / / rw - ext4 /dev/vda rw\n")
    made.write()
    monkeypatch.setattr(others, "_PROC", tmp_path)
    monkeypatch.setattr(others, "usable", lambda: {0, 1})
    monkeypatch.setattr(others, "_own", lambda child: made.own)
    monkeypatch.setattr(others.time, "monotonic", lambda: made.now)
    return made


def test_what_is_not_ours_is_others(host: Host) -> None:
    first = others.read()
    host.work(10, own=15, foreign=4, stolen=1)
    share = others.between(first, others.read())
    assert share.seconds == pytest.approx(10)
    assert share.processors == pytest.approx(0.5, abs=0.01)
    assert share.stolen == pytest.approx(0.1, abs=0.01)


def test_stolen_time_that_counts_as_ours_hides_nobody(host: Host) -> None:
    """Some kernels count what the hypervisor took into the time of whoever waited for it."""
    first = others.read()
    host.work(10, own=15)
    host.work(0, own=2, stolen=2)
    host.busy -= 2
    host.write()
    assert others.between(first, others.read()).processors == pytest.approx(0.2, abs=0.01)


def test_counts_of_another_machine_are_not_believed(host: Host) -> None:
    first = others.read()
    host.work(10, own=15)
    with pytest.raises(NotTold, match="counts less work than this step did"):
        others.between(first, replace(others.read(), busy=first.busy))


@pytest.mark.parametrize("stat", ["", "cpu0 one two\n", "cpu 1 2 3 4 5 6 7 8 9 0\n"])
def test_a_machine_that_does_not_tell(stat: str, host: Host) -> None:
    (host.proc / "stat").write_text(stat)
    with pytest.raises(NotTold, match="/proc does not tell it"):
        others.read()


def test_a_stat_that_is_mounted_over_is_not_this_hosts(host: Host) -> None:
    line = "99 22 0:55 /proc/stat /proc/stat rw - fuse.lxcfs lxcfs rw\n"
    (host.proc / "self" / "mountinfo").write_text(line)
    with pytest.raises(NotTold, match="mounted over"):
        others.read()


def test_a_childs_time_is_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(others, "_PROC", tmp_path)
    alone = others._own(0)
    (tmp_path / "7").mkdir()
    ticks = others._TICKS
    name = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 "
    (tmp_path / "7" / "stat").write_text(f"{name}{ticks} {2 * ticks} {3 * ticks} {4 * ticks} 20\n")
    assert others._own(7) - alone == pytest.approx(10, abs=1)


# -- around a run --------------------------------------------------------------------------------


@pytest.fixture
def sleeping(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Sleep moves the clock; while it sleeps, others take what was set."""
    load = [0.0]
    monkeypatch.setattr(
        quiet.time, "sleep", lambda seconds: host.work(seconds, foreign=load[0] * seconds)
    )
    monkeypatch.setattr(quiet.pace, "probe", lambda threads, seconds: probe())
    monkeypatch.setattr(hoststate, "state", lambda: dict(CALM))
    yield lambda processors: load.__setitem__(0, processors)


def watched(lookout: Lookout, host: Host, *loads: float) -> tuple[str, ...]:
    """A run of a stretch of 10 s for each load by others."""
    lookout.before()
    lookout.during(7, Phase.WARMING_UP)
    host.work(3, own=3)
    lookout.during(7, Phase.RUNNING)
    for load in loads:
        host.work(10, own=10, foreign=10 * load)
        lookout.during(7, Phase.RUNNING)
    lookout.during(0, Phase.FINISHED)
    return disturbed(*lookout.after())


def test_a_run_that_nothing_disturbs(host: Host, sleeping: Any) -> None:
    assert watched(Lookout(30, 2), host, 0.02, 0.05, 0.02) == ()


def test_a_loaded_core_is_told(host: Host, sleeping: Callable[[float], None]) -> None:
    sleeping(1.0)
    before, during = watched(Lookout(30, 2), host, 1.0, 1.0, 1.0)
    assert "just before the run, after a wait of 10 s" in before
    assert "others took 1.00 of 2 processors during the run" in during


def test_a_short_load_shows_in_its_stretch(host: Host, sleeping: Any) -> None:
    [reason] = watched(Lookout(300, 2), host, *(0.0,) * 20, 0.9, *(0.0,) * 9)
    assert "others took 0.90 of 2 processors for 10 s, 200 s into the run" in reason


def test_the_rest_of_a_run_is_no_stretch_of_its_own(host: Host, sleeping: Any) -> None:
    lookout = Lookout(300, 2)
    lookout.before()
    lookout.during(7, Phase.RUNNING)
    for _ in range(30):
        host.work(10, own=10)
        lookout.during(7, Phase.RUNNING)
    host.work(1, own=0.5, foreign=0.9)
    lookout.during(0, Phase.FINISHED)
    machine, probes = lookout.after()
    assert machine.worst is not None and machine.worst.seconds == pytest.approx(11)
    assert disturbed(machine, probes) == ()


def test_a_start_that_dies_down_is_waited_for(host: Host, monkeypatch: Any, sleeping: Any) -> None:
    loads = iter([1.0, 0.8, 0.1])

    def sleep(seconds: float) -> None:
        host.work(seconds, foreign=next(loads) * seconds)

    monkeypatch.setattr(quiet.time, "sleep", sleep)
    lookout = Lookout(30, 2)
    assert watched(lookout, host, 0.0) == ()
    assert lookout.after()[0].waited_s == pytest.approx(1.5)


def test_what_cannot_be_seen_is_told_as_unknown(host: Host, sleeping: Any) -> None:
    (host.proc / "self" / "mountinfo").write_text("9 2 0:5 / /proc/stat rw - fuse.lxcfs l rw\n")
    lookout = Lookout(30, 2)
    assert watched(lookout, host, 1.0) == ()
    machine, _ = lookout.after()
    assert (machine.others, machine.others_before) == (None, None)
    assert "mounted over" in machine.why_unknown


def test_a_service_cannot_be_told_from_others(host: Host, sleeping: Any) -> None:
    lookout = Lookout(30, 2, foreign="the system under test is a service")
    assert watched(lookout, host, 1.0) == ()
    assert lookout.after()[0].why_unknown == "the system under test is a service"


def test_a_run_too_short_to_be_seen(host: Host, sleeping: Any) -> None:
    lookout = Lookout(30, 2)
    lookout.before()
    lookout.during(7, Phase.LOADING_MODEL)
    lookout.during(0, Phase.FINISHED)
    assert "before anybody looked" in lookout.after()[0].why_unknown


def test_a_probe_takes_a_hundredth_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(
        quiet.pace, "probe", lambda threads, seconds: (asked.append(seconds), probe())[1]
    )
    for seconds in (10, 60, 600):
        lookout = Lookout(seconds, 2, foreign="not asked here")
        lookout.before()
        lookout.after()
    assert asked == pytest.approx([0.1, 0.1, 0.6, 0.6, 1.0, 1.0])


# -- this machine --------------------------------------------------------------------------------

BUSY = "import time\nuntil = time.monotonic() + 60\nwhile time.monotonic() < until: pass"


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no Linux")
def test_a_busy_process_beside_a_run_is_seen_here() -> None:
    """The real counts of this machine; a program that uses a core is others' work."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in os.sched_getaffinity(0)]
    lookout = Lookout(4, 2, limits=replace(QUIET, wait=1.0, every=1.0))
    try:
        lookout.before()
        child = subprocess.Popen([sys.executable, "-c", BUSY])
        try:
            for _ in range(4):
                lookout.during(child.pid, Phase.RUNNING)
                quiet.time.sleep(1)
        finally:
            child.kill()
            child.wait()
        lookout.during(0, Phase.FINISHED)
        machine, probes = lookout.after()
    finally:
        for each in busy:
            each.kill()
            each.wait()
    assert machine.others is not None and machine.others > 0.1, machine.why_unknown
    assert any("during the run" in reason for reason in disturbed(machine, probes))


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no Linux")
def test_a_child_that_was_waited_for_counts_as_ours_here() -> None:
    first = others.read()
    subprocess.run([sys.executable, "-c", "sum(range(30_000_000))"], check=True)
    last = others.read()
    assert last.own - first.own > 0.1
    assert last.busy >= first.busy
