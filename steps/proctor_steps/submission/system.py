"""``systems/<system>.json``: what was measured, as far as it can be known.

What the submitter states wins. What the machine tells (/proc, /sys) fills the gaps. What neither
tells stays empty and is told: a description is never invented.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

# The 35 fields that the official checker wants to find, in its order.
FIELDS = (
    "division",
    "submitter",
    "status",
    "system_name",
    "number_of_nodes",
    "host_processor_model_name",
    "host_processors_per_node",
    "host_processor_core_count",
    "host_memory_capacity",
    "host_storage_capacity",
    "host_storage_type",
    "accelerators_per_node",
    "accelerator_model_name",
    "accelerator_memory_capacity",
    "framework",
    "operating_system",
    "system_type",
    "other_software_stack",
    "host_processor_frequency",
    "host_processor_caches",
    "host_memory_configuration",
    "host_processor_interconnect",
    "host_networking",
    "host_networking_topology",
    "accelerator_frequency",
    "accelerator_host_interconnect",
    "accelerator_interconnect",
    "accelerator_interconnect_topology",
    "accelerator_memory_configuration",
    "accelerator_on-chip_memories",
    "cooling",
    "hw_notes",
    "sw_notes",
    "host_network_card_count",
    "system_type_detail",
)

# Fields that the checker accepts empty; all others must say something.
MAY_BE_EMPTY = frozenset(
    {
        "host_processor_frequency",
        "host_processor_caches",
        "host_processor_interconnect",
        "accelerator_frequency",
        "accelerator_interconnect_topology",
        "accelerator_on-chip_memories",
        "hw_notes",
        "sw_notes",
        "system_type_detail",
    }
)

# What the official checker wants to find in measurements.json, each with something in it.
MEASUREMENTS = (
    "input_data_types",
    "retraining",
    "starting_weights_filename",
    "weight_data_types",
    "weight_transformations",
)

STATUSES = ("available", "preview", "rdi")
SYSTEM_TYPES = ("datacenter", "edge", "datacenter,edge", "edge,datacenter")


@dataclass(frozen=True)
class Description:
    """The fields, and what is wrong with them in words."""

    fields: dict[str, JsonValue]
    problems: tuple[str, ...]


def describe(
    stated: Mapping[str, JsonValue], known: Mapping[str, JsonValue], devices: bool
) -> Description:
    """Merge what is stated, what the run knows and what the machine tells.

    ``devices``: accelerators were handed to the run, so that they must be stated.
    """
    machine = discover()
    cpu_only = {} if devices else without_accelerator()
    fields: dict[str, JsonValue] = dict.fromkeys(FIELDS, "")
    for source in (cpu_only, machine, known, stated):
        fields.update({key: value for key, value in source.items() if value not in (None, "")})
    return Description(fields, tuple(_problems(fields)))


def without_accelerator() -> dict[str, JsonValue]:
    """A system of processors alone. The count is text: a number 0 counts as missing."""
    names = [name for name in FIELDS if name.startswith("accelerator_")]
    return {"accelerators_per_node": "0", **dict.fromkeys(names, "N/A")}


def _problems(fields: Mapping[str, JsonValue]) -> Iterable[str]:
    missing = [name for name in FIELDS if name not in MAY_BE_EMPTY and not fields[name]]
    if missing:
        yield "nothing is known of " + ", ".join(missing)
    if fields["status"] and str(fields["status"]).lower() not in STATUSES:
        yield f"status {fields['status']!r} is none of {', '.join(STATUSES)}"
    if fields["system_type"] and fields["system_type"] not in SYSTEM_TYPES:
        yield f"system_type {fields['system_type']!r} is none of {'; '.join(SYSTEM_TYPES)}"
    for name in ("number_of_nodes", "host_processors_per_node", "accelerators_per_node"):
        # The checker's table of results is computed from these three, and breaks on other text.
        if fields[name] and not str(fields[name]).isdigit():
            yield f"{name} {fields[name]!r} is no whole number"


def discover(root: Path = Path("/")) -> dict[str, JsonValue]:
    """What the machine tells of itself; a field that it does not tell is absent."""
    return {
        **_processors(_read(root / "proc/cpuinfo")),
        **_caches(root / "sys/devices/system/cpu/cpu0"),
        **_memory(_read(root / "proc/meminfo")),
        **_storage(root / "sys/block"),
        "operating_system": _operating_system(_read(root / "etc/os-release")),
        "number_of_nodes": 1,
    }


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _processors(cpuinfo: str) -> dict[str, JsonValue]:
    """Model, sockets and cores of one socket."""

    def values(key: str) -> list[str]:
        return re.findall(rf"^{key}\s*:\s*(.+?)\s*$", cpuinfo, re.MULTILINE)

    sockets = len(set(values("physical id"))) or 1
    cores = values("cpu cores")
    count = int(cores[0]) if cores else max((os.cpu_count() or 1) // sockets, 1)
    found: dict[str, JsonValue] = {
        "host_processors_per_node": sockets,
        "host_processor_core_count": count,
    }
    models = values("model name")
    return found | ({"host_processor_model_name": models[0]} if models else {})


def _caches(cpu: Path) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {}
    texts = []
    for index in sorted(cpu.glob("cache/index*")):
        level, kind, size = (_read(index / name).strip() for name in ("level", "type", "size"))
        suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
        if level and size:
            texts.append(f"L{level}{suffix} {size}")
    if texts:
        found["host_processor_caches"] = ", ".join(texts)
    highest = _read(cpu / "cpufreq/cpuinfo_max_freq").strip()
    if highest.isdigit():
        found["host_processor_frequency"] = f"{int(highest) / 1e6:.2f} GHz"
    return found


def _memory(meminfo: str) -> dict[str, JsonValue]:
    total = re.search(r"^MemTotal:\s*(\d+) kB", meminfo, re.MULTILINE)
    return {"host_memory_capacity": f"{int(total[1]) / 2**20:.1f} GiB"} if total else {}


def _storage(block: Path) -> dict[str, JsonValue]:
    """Size and kind of the disks; loop devices, memory disks and the like are none."""
    total, kinds = 0, set()
    for disk in sorted(block.glob("*")) if block.is_dir() else []:
        if not re.match(r"(sd|vd|xvd|hd|nvme|mmcblk)", disk.name):
            continue
        total += int(_read(disk / "size").strip() or 0) * 512
        kinds.add(_disk_kind(disk))
    if not total:
        return {}
    return {
        "host_storage_capacity": f"{total / 1e9:.0f} GB",
        "host_storage_type": ", ".join(sorted(kinds)),
    }


def _disk_kind(disk: Path) -> str:
    if disk.name.startswith("nvme"):
        return "NVMe SSD"
    if disk.name.startswith(("vd", "xvd")):
        return "virtual disk"
    if disk.name.startswith("mmcblk"):
        return "eMMC or SD card"
    return "HDD" if _read(disk / "queue/rotational").strip() == "1" else "SSD"


def _operating_system(release: str) -> str:
    name = re.search(r'^PRETTY_NAME="?(.*?)"?$', release, re.MULTILINE)
    kernel = f"{platform.system()} {platform.release()}"
    return f"{name[1]}, {kernel}" if name else kernel
