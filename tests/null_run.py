"""A short real LoadGen run of yolo with a system that answers at once; one process a run.

``python null_run.py OUT SCENARIO MODE [AUDIT]``: logs and user.conf into OUT.
"""

from __future__ import annotations

import sys
import time
from array import array
from pathlib import Path
from typing import Any

import mlperf_loadgen as loadgen

SECONDS = 0.3
SAMPLES = 1525  # of the COCO safe subset
USER_CONF = f"""\
yolo.SingleStream.target_latency = 1
yolo.MultiStream.target_latency = 1
yolo.Offline.target_qps = 3000
yolo.Offline.min_query_count = {SAMPLES}
yolo.SingleStream.min_duration = {SECONDS * 1000:.0f}
yolo.MultiStream.min_duration = {SECONDS * 1000:.0f}
yolo.Offline.min_duration = {SECONDS * 1000:.0f}
"""


def main(out: Path, scenario: str, mode: str, audit: str) -> None:
    """Run LoadGen once."""
    out.mkdir(parents=True)
    conf = out / "user.conf"
    conf.write_text(USER_CONF)
    settings = loadgen.TestSettings()
    assert settings.FromConfig(str(conf), "yolo", scenario, 1) == 0
    settings.scenario = getattr(loadgen.TestScenario, scenario)
    settings.mode = getattr(loadgen.TestMode, mode)
    logs = loadgen.LogSettings()
    logs.enable_trace = False
    logs.log_output.outdir = str(out)
    box = array("f", [0, 0.1, 0.1, 0.9, 0.9, 0.5, 1])
    address, size = box.buffer_info()

    def issue(queries: list[Any]) -> None:
        if mode == "PerformanceOnly":
            time.sleep(0.001 if scenario != "Offline" else 1.2 * SECONDS)
        done = [loadgen.QuerySampleResponse(q.id, address, size * box.itemsize) for q in queries]
        loadgen.QuerySamplesComplete(done)

    def nothing(_: Any = None) -> None:
        pass

    sut = loadgen.ConstructSUT(issue, nothing)
    qsl = loadgen.ConstructQSL(SAMPLES, SAMPLES, nothing, nothing)
    loadgen.StartTestWithLogSettings(sut, qsl, settings, logs, audit or "no-audit")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] if len(sys.argv) > 4 else "")
