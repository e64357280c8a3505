"""What a host shows of itself at this moment; read by the orchestrator and by a step that measures.

A container sees the same of its host's /proc and /sys. What is not shown is ``"unknown"``, never
a guess.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean

from pydantic import JsonValue

UNKNOWN = "unknown"
_SYS = Path("/sys")
_PROC = Path("/proc")


def state() -> dict[str, JsonValue]:
    """Load averages, memory, and what the processors are up to.

    ``frequency_mhz`` is the mean over all processors, ``temperature_celsius`` that of the hottest
    sensor.
    """
    return {
        "load_average": known(lambda: [round(x, 2) for x in os.getloadavg()]),
        "memory_available_bytes": known(lambda: _memory("MemAvailable")),
        "memory_total_bytes": known(lambda: _memory("MemTotal")),
        "governor": known(_governor),
        "frequency_mhz": known(_frequency),
        "temperature_celsius": known(_temperature),
    }


def known(read: Callable[[], JsonValue]) -> JsonValue:
    """What a function reads; ``unknown`` where it finds nothing, or not what a kernel writes."""
    try:
        found = read()
    except (OSError, ValueError, LookupError):
        return UNKNOWN
    return UNKNOWN if found is None else found


def _memory(field: str) -> int:
    lines = (_PROC / "meminfo").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields[field].split()[0]) * 1024


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
