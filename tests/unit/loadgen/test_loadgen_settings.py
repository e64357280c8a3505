"""user.conf: LoadGen really takes what is written, and what it does not take is an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from proctor_steps import rounds
from proctor_steps.loadgen.settings import Wanted, min_queries, write_user_conf

# FromConfig works once per process.
_TAKE = """
import sys, mlperf_loadgen
from pathlib import Path
from proctor_steps.loadgen.settings import Wanted, make
wanted = Wanted(**eval(sys.argv[3]))
try:
    made = make(mlperf_loadgen, Path(sys.argv[1]), "yolo", sys.argv[2], "performance", wanted)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(made.min_duration_ms, made.min_query_count, made.qsl_rng_seed, made.offline_expected_qps,
      made.single_stream_expected_latency_ns, made.server_target_latency_ns,
      made.performance_sample_count_override, made.max_duration_ms)
"""


def take(conf: Path, scenario: str, wanted: dict[str, float]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _TAKE, str(conf), scenario, repr(wanted)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_written_takes_effect(tmp_path: Path) -> None:
    conf = tmp_path / "user.conf"
    wanted = {"min_duration_s": 2.5, "min_query_count": 1525, "target_qps": 43.25}
    write_user_conf(conf, "yolo", "Offline", Wanted(**wanted))  # type: ignore[arg-type]
    found = take(conf, "Offline", wanted)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split()[:4] == ["2500", "1525", "2085463073848966840", "43.25"]


def test_nothing_written_leaves_the_rounds_settings(tmp_path: Path) -> None:
    conf = tmp_path / "user.conf"
    write_user_conf(conf, "yolo", "SingleStream", Wanted(target_latency_ms=1e-3))
    found = take(conf, "SingleStream", {"target_latency_ms": 1e-3})
    assert found.returncode == 0, found.stderr
    duration, _, _, _, latency, _, samples, longest = found.stdout.split()
    assert (duration, latency, samples, longest) == ("600000", "1000.0", "64", "0")
    assert conf.stat().st_size > 0  # a submission's user.conf must not be empty


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("yolo.Offline.min_duration=2500\n", "did not take min_duration = 2500"),
        ("yolo.Offline.min_duration = abc\n", "FromConfig returned -22"),
        (None, "FromConfig returned -2"),
    ],
)
def test_a_user_conf_that_loadgen_does_not_take(
    text: str | None, message: str, tmp_path: Path
) -> None:
    conf = tmp_path / "user.conf"
    if text is not None:
        conf.write_text(text)
    found = take(conf, "Offline", {"min_duration_s": 2.5})
    assert found.returncode == 1
    assert "StepError" in found.stderr
    assert message in found.stderr


def test_the_least_samples_of_offline_come_from_the_round() -> None:
    yolo = rounds.load("v6.1").benchmark("yolo")
    assert min_queries(yolo, "Offline", "performance", None) == 1525
    assert min_queries(yolo, "Offline", "performance", 10) == 10
    assert min_queries(yolo, "SingleStream", "performance", None) is None
    assert min_queries(yolo, "Offline", "accuracy", None) is None
    assert min_queries(None, "Offline", "performance", None) is None
