"""How busy the host is at this moment: what a reader wants to know beside a measured figure.

Read before an exclusive step starts and after it has ended. What this host does not show is
``"unknown"``, never a guess.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean

from pydantic import JsonValue

from proctor.runtime.base import EngineError, Runtime

UNKNOWN = "unknown"
_SYS = Path("/sys")
_PROC = Path("/proc")


def state(runtime: Runtime) -> dict[str, JsonValue]:
    """Load averages, memory, containers, and what the processors are up to.

    ``containers_running`` counts everybody's. ``frequency_mhz`` is the mean over all processors,
    ``temperature_celsius`` that of the hottest sensor.
    """
    return {
        "load_average": _known(lambda: [round(x, 2) for x in os.getloadavg()]),
        "memory_available_bytes": _known(_memory_available),
        "containers_running": _known(runtime.containers_running),
        "governor": _known(_governor),
        "frequency_mhz": _known(_frequency),
        "temperature_celsius": _known(_temperature),
    }


def _known(read: Callable[[], JsonValue]) -> JsonValue:
    try:
        found = read()
    except (OSError, ValueError, LookupError, EngineError):
        return UNKNOWN
    return UNKNOWN if found is None else found


def _memory_available() -> int:
    lines = (_PROC / "meminfo").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024


def _governor() -> str:
    """One name where all processors have the same, else all of them."""
    found = {p.read_text().strip() for p in _cpufreq("scaling_governor")}
    return ", ".join(sorted(found)) or UNKNOWN


def _frequency() -> float:
    told = [int(p.read_text()) / 1000 for p in _cpufreq("scaling_cur_freq")]
    if not told:
        lines = (_PROC / "cpuinfo").read_text().splitlines()
        told = [float(x.split(":", 1)[1]) for x in lines if x.lower().startswith("cpu mhz")]
    return round(mean(told), 1)


def _cpufreq(name: str) -> Iterable[Path]:
    return (_SYS / "devices/system/cpu").glob(f"cpu[0-9]*/cpufreq/{name}")


def _temperature() -> float:
    zones = (_SYS / "class/thermal").glob("thermal_zone*/temp")
    sensors = (_SYS / "class/hwmon").glob("hwmon*/temp*_input")
    return round(max(int(p.read_text()) / 1000 for p in (*zones, *sensors)), 1)
