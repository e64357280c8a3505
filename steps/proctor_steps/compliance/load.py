"""The load of a test's run: that of the performance run which it is compared with."""

from __future__ import annotations

from pathlib import Path

from proctor_steps.loadgen import log
from proctor_steps.rounds import LoadgenScenario
from proctor_steps.stage import DataError

# Parameter of `loadgen run` -> LoadGen's name for it, and what its unit is divided by.
_ASKED: dict[LoadgenScenario, dict[str, tuple[str, float]]] = {
    "SingleStream": {"expected_latency_ms": ("single_stream_expected_latency_ns", 1e6)},
    "MultiStream": {"expected_latency_ms": ("multi_stream_expected_latency_ns", 1e6)},
    "Server": {
        "target_qps": ("server_target_qps", 1.0),
        "server_target_latency_ms": ("server_target_latency_ns", 1e6),
    },
    "Offline": {"target_qps": ("offline_expected_qps", 1.0)},
}


def of_performance_run(folder: Path, scenario: LoadgenScenario) -> dict[str, float]:
    """What that run expected of the system, as parameters of ``loadgen run``.

    Raises:
        DataError: the logs in ``folder`` are of no performance run of this scenario.
    """
    detail = log.read(folder)
    if (detail.scenario, detail.mode) != (scenario, "performance"):
        raise DataError(
            f"the input performance is a run of {detail.scenario} in {detail.mode} mode; a test of "
            f"{scenario} is given the load of the performance run of {scenario}"
        )
    requested = detail.settings("requested")
    return {
        name: float(value) / unit
        for name, (key, unit) in _ASKED[scenario].items()
        if isinstance(value := requested.get(key), int | float) and value > 0
    }
