"""What a machine tells of itself, field by field of a system description, and where it says so.

Read from /proc and /sys, which a container shows of its host; what a container has of its own
(the distribution, network interfaces) is called so or left out. Nothing is guessed: a field that
the machine does not tell is absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pydantic import JsonValue

from proctor_steps.submission import accelerators, memory
from proctor_steps.submission.facts import Fact, read, readable, size

# What may run a model, by the name of its distribution.
FRAMEWORKS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "torch",
    "tensorflow",
    "tensorrt",
    "vllm",
    "sglang",
    "jax",
    "tflite-runtime",
)
_DISK = re.compile(r"(sd|vd|xvd|hd)[a-z]+|nvme\d+n\d+|mmcblk\d+")
_LINKS = {"1": "Ethernet", "32": "InfiniBand"}  # ARPHRD_ of linux/if_arp.h


@dataclass(frozen=True)
class Machine:
    """``facts``: by field. ``container``: how it was seen that this is a container; else empty."""

    facts: dict[str, Fact]
    container: str = ""


def discover(root: Path = Path("/"), smi: str = "nvidia-smi") -> Machine:
    """Everything that the machine below ``root`` tells; ``smi``: NVIDIA's tool, "" for none."""
    container = _container(root)
    return Machine(
        {
            **_processors(root),
            **_caches(root / "sys/devices/system/cpu/cpu0"),
            **memory.facts(root),
            **_storage(root / "sys/block"),
            **_network(root / "sys/class/net", bool(container)),
            **accelerators.facts(root, smi),
            **_operating_system(root, bool(container)),
            **_product(root),
            "number_of_nodes": Fact(1, "this machine alone"),
        },
        container,
    )


def frameworks() -> str:
    """The inference frameworks that are installed beside this program, with their versions."""
    found = []
    for name in FRAMEWORKS:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def _container(root: Path) -> str:
    for name in (".dockerenv", "run/.containerenv"):
        if (root / name).exists():
            return f"/{name}"
    # The first process of a container is no init, and its control group says whose it is.
    group = re.search(r"docker|kubepods|libpod|lxc|containerd", read(root / "proc/1/cgroup"))
    return f"/proc/1/cgroup ({group[0]})" if group else ""


def _processors(root: Path) -> dict[str, Fact]:
    """Model, sockets and cores of one socket."""
    cpuinfo = read(root / "proc/cpuinfo")
    found = {}
    model = re.search(
        r"^(?:model name|cpu model|Model Name)\s*:\s*(.+?)\s*$", cpuinfo, re.MULTILINE
    )
    if model:
        found["host_processor_model_name"] = Fact(model[1], "/proc/cpuinfo")
    elif board := read(root / "proc/device-tree/model").strip("\0\n "):
        found["host_processor_model_name"] = Fact(board, "/proc/device-tree/model")
    cores = _topology(root / "sys/devices/system/cpu") or _listed_cores(cpuinfo)
    if cores:
        source = "/sys/devices/system/cpu" if _topology(root / "sys/devices/system/cpu") else ""
        source = source or "/proc/cpuinfo"
        found["host_processors_per_node"] = Fact(len(cores), source)
        found["host_processor_core_count"] = Fact(max(cores.values()), source)
    return found


def _topology(cpus: Path) -> dict[str, int]:
    """Cores of each socket, by the kernel's topology."""
    seen = set()
    for folder in cpus.glob("cpu[0-9]*/topology"):
        package, core = (read(folder / name).strip() for name in ("physical_package_id", "core_id"))
        if package and core:
            seen.add((package, core))
    sockets = {package for package, _ in seen}
    return {socket: sum(package == socket for package, _ in seen) for socket in sockets}


def _listed_cores(cpuinfo: str) -> dict[str, int]:
    """Cores of each socket, by /proc/cpuinfo; where it names no sockets, there is one."""

    def values(key: str) -> list[str]:
        return re.findall(rf"^{key}\s*:\s*(\d+)\s*$", cpuinfo, re.MULTILINE)

    sockets = sorted(set(values("physical id"))) or ["0"]
    cores, threads = values("cpu cores"), values("processor")
    if cores:
        return dict.fromkeys(sockets, int(cores[0]))
    return {"0": len(threads)} if threads and len(sockets) == 1 else {}


def _caches(cpu: Path) -> dict[str, Fact]:
    found, texts = {}, []
    for index in sorted(cpu.glob("cache/index*")):
        level, kind, amount = (read(index / name).strip() for name in ("level", "type", "size"))
        suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
        if level and amount:
            texts.append(f"L{level}{suffix} {amount}")
    if texts:
        text = ", ".join(texts)
        found["host_processor_caches"] = Fact(text, "/sys/devices/system/cpu/cpu0/cache")
    highest = read(cpu / "cpufreq/cpuinfo_max_freq").strip()
    if highest.isdigit():
        text = f"{int(highest) / 1e6:.2f} GHz"
        found["host_processor_frequency"] = Fact(text, "/sys/devices/system/cpu/cpu0/cpufreq")
    return found


def _storage(block: Path) -> dict[str, Fact]:
    """Size and kind of the disks; loop devices, memory disks and the like are none."""
    total, kinds = 0, set()
    for disk in sorted(block.glob("*")) if block.is_dir() else []:
        sectors = read(disk / "size").strip()
        if _DISK.fullmatch(disk.name) and sectors.isdigit() and int(sectors):
            total += int(sectors) * 512
            kinds.add(_disk_kind(disk))
    if not total:
        return {}
    return {
        "host_storage_capacity": Fact(size(total, 1000), "/sys/block"),
        "host_storage_type": Fact(", ".join(sorted(kinds)), "/sys/block"),
    }


def _disk_kind(disk: Path) -> str:
    if disk.name.startswith("nvme"):
        return "NVMe SSD"
    if disk.name.startswith(("vd", "xvd")):
        return "virtual disk"
    if disk.name.startswith("mmcblk"):
        return "eMMC or SD card"
    return "HDD" if read(disk / "queue/rotational").strip() == "1" else "SSD"


def _network(interfaces: Path, container: bool) -> dict[str, Fact]:
    """Cards that have hardware behind them. A container has interfaces of its own: they tell of
    the host's cards only where it shares the host's network, and then they have a device."""
    cards: dict[str, str] = {}
    for interface in sorted(interfaces.glob("*")) if interfaces.is_dir() else []:
        device = interface / "device"
        if not device.exists():
            continue
        kind = _LINKS.get(read(interface / "type").strip())
        if kind is None:
            continue
        speed = read(interface / "speed").strip()
        text = f"{kind} {_speed(int(speed))}" if speed.isdigit() and int(speed) else kind
        # The functions of a PCI device (0000:3b:00.0, .1) are ports of one card.
        cards.setdefault(re.sub(r"\.\d+$", "", device.resolve().name), text)
    if not cards:
        return {}
    kinds = sorted(set(cards.values()))
    where = "/sys/class/net" + (", as this container sees it" if container else "")
    return {
        "host_networking": Fact(", ".join(kinds), where),
        "host_network_card_count": Fact(str(len(cards)), where),
    }


def _speed(megabits: int) -> str:
    return f"{megabits / 1000:g} Gb/s" if megabits >= 1000 else f"{megabits} Mb/s"


def _operating_system(root: Path, container: bool) -> dict[str, Fact]:
    release = read(root / "etc/os-release")
    name = re.search(r'^PRETTY_NAME="?(.*?)"?$', release, re.MULTILINE)
    version = re.match(r"(\S+) version (\S+)", read(root / "proc/version"))
    kernel = f"{version[1]} {version[2]}" if version else ""
    if container:
        # The kernel is the host's; the distribution is that of the container's image.
        image = f"container of {name[1]}" if name else ""
        text, source = (
            ", ".join(filter(None, (kernel, image))),
            "/proc/version; the container's os-release",
        )
    else:
        text = ", ".join(filter(None, (name[1] if name else "", kernel)))
        source = "/etc/os-release, /proc/version"
    return {"operating_system": Fact(text, source)} if text else {}


def _product(root: Path) -> dict[str, Fact]:
    """Maker and model of the machine, and whether it is a virtual one."""
    named = [read(root / f"sys/class/dmi/id/{n}").strip() for n in ("sys_vendor", "product_name")]
    virtual = re.search(r"^flags\s*:.*\bhypervisor\b", read(root / "proc/cpuinfo"), re.MULTILINE)
    parts = [" ".join(filter(None, map(readable, named))), "virtual machine" if virtual else ""]
    text = ", ".join(filter(None, parts))
    return {"hw_notes": Fact(text, "/sys/class/dmi/id, /proc/cpuinfo")} if text else {}


def values(facts: Mapping[str, Fact]) -> dict[str, JsonValue]:
    """The facts without their sources."""
    return {name: fact.value for name, fact in facts.items()}


def without_accelerators(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    """The facts of the machine alone, for a run that was given none of its accelerators."""
    return {name: fact for name, fact in facts.items() if not is_accelerator(name)}


def is_accelerator(name: str) -> bool:
    """Whether a field tells of accelerators."""
    return name.startswith(("accelerator_", "accelerators_"))
