"""How much memory a machine has, and on which modules."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from proctor_steps.submission.facts import Fact, read, size

# SMBIOS 3.7, 7.18.2 (memory device, type); others are left unnamed.
_KINDS = {0x18: "DDR3", 0x1A: "DDR4", 0x1D: "LPDDR3", 0x1E: "LPDDR4", 0x22: "DDR5", 0x23: "LPDDR5"}
_KINDS |= {0x20: "HBM", 0x21: "HBM2", 0x24: "HBM3"}


def facts(root: Path) -> dict[str, Fact]:
    """Capacity by the kernel; modules by the firmware's table, which root alone may read, or by
    the memory controllers' driver."""
    found = {}
    total = re.search(r"^MemTotal:\s*(\d+) kB", read(root / "proc/meminfo"), re.MULTILINE)
    if total:
        amount = size(int(total[1]) * 1024, 1024)
        found["host_memory_capacity"] = Fact(amount, "/proc/meminfo (what the kernel may use)")
    table, edac = root / "sys/firmware/dmi/entries", root / "sys/devices/system/edac/mc"
    if modules := [m for path in sorted(table.glob("17-*/raw")) if (m := _dmi(path))]:
        found["host_memory_configuration"] = Fact(_counted(modules), "/sys/firmware/dmi")
    elif modules := [m for path in sorted(edac.glob("mc*/dimm*")) if (m := _dimm(path))]:
        found["host_memory_configuration"] = Fact(_counted(modules), "/sys/devices/system/edac")
    return found


def _counted(modules: list[str]) -> str:
    return ", ".join(f"{count} x {module}" for module, count in Counter(modules).items())


def _dmi(path: Path) -> str:
    """``16 GiB DDR5 4800 MT/s`` of one memory device (SMBIOS type 17); "" for an empty slot."""
    try:
        raw = path.read_bytes()
    except OSError:
        return ""
    if len(raw) < 0x17 or raw[0] != 17:
        return ""
    amount = int.from_bytes(raw[0x0C:0x0E], "little")
    if amount == 0x7FFF and len(raw) >= 0x20:
        megabytes: float = int.from_bytes(raw[0x1C:0x20], "little") & 0x7FFFFFFF
    else:
        megabytes = (amount & 0x7FFF) / (1024 if amount & 0x8000 else 1)
    if amount in (0, 0xFFFF):
        return ""
    speed = int.from_bytes(raw[0x15:0x17], "little")
    parts = [f"{megabytes / 1024:g} GiB", _KINDS.get(raw[0x12], "")]
    parts.append(f"{speed} MT/s" if speed not in (0, 0xFFFF) else "")
    return " ".join(filter(None, parts))


def _dimm(folder: Path) -> str:
    megabytes, kind = read(folder / "size").strip(), read(folder / "dimm_mem_type").strip()
    if not megabytes.isdigit() or not int(megabytes):
        return ""
    return f"{int(megabytes) / 1024:g} GiB {'' if kind == 'Unknown' else kind}".strip()
