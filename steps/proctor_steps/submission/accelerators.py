"""The accelerators of a machine: by NVIDIA's tool, else by the drivers' files, else by PCI."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from proctor_steps.submission.facts import Fact, read, size

_SMI_FIELDS = (
    "name",
    "memory.total",
    "clocks.max.sm",
    "pcie.link.gen.max",
    "pcie.link.width.max",
)
_SMI_SECONDS = 20
# PCI classes: 3D controllers (computing alone) and processing accelerators.
_PCI_CLASSES = ("0x0302", "0x1200")


def facts(root: Path, smi: str) -> dict[str, Fact]:
    """Fields that tell of accelerators; none where the machine shows none.

    ``smi``: NVIDIA's tool; it is asked only about the machine that this runs on.
    """
    found = _by_smi(smi) if smi else {}
    return found or _by_nvidia_driver(root) or _by_amd_driver(root) or _by_pci(root)


def _by_smi(smi: str) -> dict[str, Fact]:
    query = [smi, f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            query, capture_output=True, text=True, timeout=_SMI_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return {}
    rows = [[part.strip() for part in line.split(",")] for line in answer.splitlines()]
    rows = [row for row in rows if len(row) == len(_SMI_FIELDS)]
    if not rows:
        return {}
    names, memories, clocks, generations, widths = zip(*rows, strict=True)
    found = {"accelerator_model_name": _each(names)} | _count(len(rows))
    if all(text.isdigit() for text in memories):
        amounts = [size(int(text) << 20, 1024) for text in memories]
        found["accelerator_memory_capacity"] = _each(amounts)
    if all(text.isdigit() for text in clocks):
        found["accelerator_frequency"] = _each([f"{text} MHz" for text in clocks])
    if all(text.isdigit() for text in (*generations, *widths)):
        links = [f"PCIe Gen{g} x{w}" for g, w in zip(generations, widths, strict=True)]
        found["accelerator_host_interconnect"] = _each(links)
    return {name: Fact(text, "nvidia-smi") for name, text in found.items()}


def _by_nvidia_driver(root: Path) -> dict[str, Fact]:
    """Model and count: what the driver says without its tool."""
    models = []
    for path in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        if model := re.search(r"^Model:\s*(.+?)\s*$", read(path), re.MULTILINE):
            models.append(model[1])
    if not models:
        return {}
    found = {"accelerator_model_name": _each(models)} | _count(len(models))
    return {name: Fact(text, "/proc/driver/nvidia") for name, text in found.items()}


def _by_amd_driver(root: Path) -> dict[str, Fact]:
    """Compute nodes of AMD's driver; processors are nodes without SIMD units."""
    models, memories = [], []
    for node in sorted((root / "sys/class/kfd/kfd/topology/nodes").glob("*")):
        units = re.search(r"^simd_count (\d+)$", read(node / "properties"), re.MULTILINE)
        if units is None or not int(units[1]):
            continue
        bank = read(node / "mem_banks/0/properties")
        amount = re.search(r"^size_in_bytes (\d+)$", bank, re.MULTILINE)
        memories.append(size(int(amount[1]), 1024) if amount else "")
        models.append(f"AMD {read(node / 'name').strip()}".strip())
    if not models:
        return {}
    found = {"accelerator_model_name": _each(_product_names(root) or models)}
    found |= _count(len(models))
    if all(memories):
        found["accelerator_memory_capacity"] = _each(memories)
    return {name: Fact(text, "/sys/class/kfd, /sys/class/drm") for name, text in found.items()}


def _product_names(root: Path) -> list[str]:
    cards = sorted((root / "sys/class/drm").glob("card*/device/product_name"))
    return [name for path in cards if (name := read(path).strip())]


def _by_pci(root: Path) -> dict[str, Fact]:
    """Devices without a driver that tells more: their numbers, and no name made up for them."""
    found = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        if read(device / "class").strip().startswith(_PCI_CLASSES):
            numbers = [read(device / n).strip().removeprefix("0x") for n in ("vendor", "device")]
            found.append("PCI device " + ":".join(numbers))
    fields = {"accelerator_model_name": _each(found)} | _count(len(found)) if found else {}
    return {name: Fact(text, "/sys/bus/pci") for name, text in fields.items()}


def _count(count: int) -> dict[str, str]:
    """Their number as text; a single one is connected to no other."""
    alone = {"accelerator_interconnect": "N/A"} if count == 1 else {}
    return {"accelerators_per_node": str(count), **alone}


def _each(texts: Sequence[str]) -> str:
    """One text where all are alike, else each with its count."""
    kinds = Counter(texts)
    if len(kinds) == 1:
        return next(iter(kinds))
    return ", ".join(f"{count} x {text}" for text, count in kinds.items())
