"""The system's description: what machines tell, what is stated, and what is wrong with it.

The machines are trees of files, as /proc and /sys have them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evidence_kit import Kit
from proctor_steps.stage import DataError
from proctor_steps.submission import machine, system
from proctor_steps.submission.facts import Fact
from proctor_steps.submission.package import STAGE

NAMES = {"runs": "accuracy_logs", "accuracy": "scores"}
PARAMS = {
    "submitter": "Example",
    "division": "closed",
    "system_name": "box-1",
    "benchmark": "yolo",
}

SERVER = {
    "proc/cpuinfo": "".join(
        f"processor\t: {i}\nmodel name\t: Fast CPU @ 2.0GHz\nphysical id\t: {i // 4}\n"
        "cpu cores\t: 2\nflags\t\t: fpu vme sse\n\n"
        for i in range(8)
    ),
    "proc/meminfo": "MemTotal:       16777216 kB\n",
    "proc/version": "Linux version 6.1.0-9 (who@where) #1 SMP\n",
    "proc/1/cgroup": "0::/init.scope\n",
    "etc/os-release": 'NAME="D"\nPRETTY_NAME="Distro 12"\n',
    "sys/block/nvme0n1/size": "500000000\n",
    "sys/block/nvme0c0n1/size": "500000000\n",
    "sys/block/loop0/size": "77\n",
    "sys/block/sda/size": "1000000000\n",
    "sys/block/sda/queue/rotational": "1\n",
    "sys/block/sr0/size": "2097151\n",
    "sys/devices/system/cpu/cpu0/cache/index0/level": "1\n",
    "sys/devices/system/cpu/cpu0/cache/index0/type": "Data\n",
    "sys/devices/system/cpu/cpu0/cache/index0/size": "48K\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "3500000\n",
    "sys/class/dmi/id/sys_vendor": "Maker Inc.\n",
    "sys/class/dmi/id/product_name": "To Be Filled By O.E.M.\n",
    "sys/class/net/lo/type": "772\n",
    "sys/class/net/docker0/type": "1\n",
}


def tree(root: Path, files: dict[str, str]) -> Path:
    """A machine of these files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def card(root: Path, interface: str, device: str, kind: str, speed: str) -> None:
    """A network interface with a device behind it."""
    folder, target = root / "sys/class/net" / interface, root / "sys/devices/pci" / device
    tree(folder, {"type": kind, "speed": speed})
    target.mkdir(parents=True, exist_ok=True)
    (folder / "device").symlink_to(target)


def told(root: Path, smi: str = "") -> dict[str, Any]:
    return machine.values(machine.discover(root, smi).facts)


def test_a_server_tells_what_it_can(tmp_path: Path) -> None:
    card(tree(tmp_path, SERVER), "eth0", "0000:3b:00.0", "1", "25000")
    card(tmp_path, "eth1", "0000:3b:00.1", "1", "25000")
    card(tmp_path, "ib0", "0000:5e:00.0", "32", "400000")
    card(tmp_path, "eth2", "virtio2", "1", "-1")
    found = told(tmp_path)
    assert found == {
        "host_processor_model_name": "Fast CPU @ 2.0GHz",
        "host_processors_per_node": 2,
        "host_processor_core_count": 2,
        "host_processor_caches": "L1d 48K",
        "host_processor_frequency": "3.50 GHz",
        "host_memory_capacity": "16.0 GiB",
        "host_storage_capacity": "768 GB",
        "host_storage_type": "HDD, NVMe SSD",
        "host_networking": "Ethernet, Ethernet 25 Gb/s, InfiniBand 400 Gb/s",
        "host_network_card_count": "3",
        "operating_system": "Distro 12, Linux 6.1.0-9",
        "hw_notes": "Maker Inc.",
        "number_of_nodes": 1,
    }
    sources = {name: fact.source for name, fact in machine.discover(tmp_path, "").facts.items()}
    assert sources["host_processor_caches"] == "/sys/devices/system/cpu/cpu0/cache"
    assert all(sources.values())


def test_the_kernel_s_topology_counts_cores(tmp_path: Path) -> None:
    """Four processors of an ARM board in two clusters: no sockets in /proc/cpuinfo."""
    cpus = {
        f"sys/devices/system/cpu/cpu{n}/topology/{name}": text
        for n in range(4)
        for name, text in (("physical_package_id", "0"), ("core_id", str(n)))
    }
    files = {"proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 50\n", **cpus}
    found = told(tree(tmp_path, {**files, "proc/device-tree/model": "Board 5\0"}))
    assert (found["host_processors_per_node"], found["host_processor_core_count"]) == (1, 4)
    assert found["host_processor_model_name"] == "Board 5"


def test_a_container_is_not_taken_for_its_host(tmp_path: Path) -> None:
    root = tree(tmp_path, {**SERVER, ".dockerenv": ""})
    found = machine.discover(root, "")
    assert found.container == "/.dockerenv"
    assert found.facts["operating_system"] == Fact(
        "Linux 6.1.0-9, container of Distro 12", "/proc/version; the container's os-release"
    )
    assert "host_networking" not in found.facts, "a container has interfaces of its own"
    group = tree(tmp_path / "k", {**SERVER, "proc/1/cgroup": "0::/kubepods/pod1/x\n"})
    assert machine.discover(group, "").container == "/proc/1/cgroup (kubepods)"


def test_a_virtual_machine_says_so(tmp_path: Path) -> None:
    cpuinfo = "processor : 0\nmodel name : V\nflags : fpu hypervisor sse\n"
    assert told(tree(tmp_path, {"proc/cpuinfo": cpuinfo}))["hw_notes"] == "virtual machine"


def module(megabytes: int, kind: int, speed: int, extended: int = 0) -> bytes:
    """An SMBIOS structure of type 17."""
    raw = bytearray(0x28)
    raw[0], raw[1], raw[0x12] = 17, 0x28, kind
    raw[0x0C:0x0E] = megabytes.to_bytes(2, "little")
    raw[0x15:0x17] = speed.to_bytes(2, "little")
    raw[0x1C:0x20] = extended.to_bytes(4, "little")
    return bytes(raw)


def test_memory_modules_by_the_firmware_s_table(tmp_path: Path) -> None:
    modules = [
        module(16384, 0x22, 4800),
        module(16384, 0x22, 4800),
        module(0, 0x22, 0),  # an empty slot
        module(0x7FFF, 0x1A, 3200, 65536),
        module(0xFFFF, 2, 0),  # unknown
        b"\x11\x28",  # cut off
    ]
    for number, raw in enumerate(modules):
        folder = tmp_path / f"sys/firmware/dmi/entries/17-{number}"
        folder.mkdir(parents=True)
        (folder / "raw").write_bytes(raw)
    found = told(tmp_path)["host_memory_configuration"]
    assert found == "2 x 16 GiB DDR5 4800 MT/s, 1 x 64 GiB DDR4 3200 MT/s"


def test_memory_modules_by_the_controllers_driver(tmp_path: Path) -> None:
    edac = "sys/devices/system/edac/mc/mc0/dimm"
    files = {
        f"{edac}0/size": "16384",
        f"{edac}0/dimm_mem_type": "Registered-DDR4",
        f"{edac}1/size": "0",
        f"{edac}1/dimm_mem_type": "Unknown",
    }
    assert told(tree(tmp_path, files))["host_memory_configuration"] == "1 x 16 GiB Registered-DDR4"


def smi(tmp_path: Path, text: str, code: int = 0) -> str:
    """A program that answers as nvidia-smi does."""
    path = tmp_path / "nvidia-smi"
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    path.chmod(0o755)
    return str(path)


def test_accelerators_by_nvidia_smi(tmp_path: Path) -> None:
    row = "NVIDIA H100 80GB HBM3, 81559, 1980, 5, 16"
    found = told(tmp_path, smi(tmp_path, f"{row}\n{row}"))
    assert found == {
        "accelerator_model_name": "NVIDIA H100 80GB HBM3",
        "accelerators_per_node": "2",
        "accelerator_memory_capacity": "79.6 GiB",
        "accelerator_frequency": "1980 MHz",
        "accelerator_host_interconnect": "PCIe Gen5 x16",
        "number_of_nodes": 1,
    }
    alone = told(tmp_path, smi(tmp_path, "NVIDIA GB10, [N/A], 3003, [N/A], [N/A]"))
    assert alone["accelerator_interconnect"] == "N/A"
    assert "accelerator_memory_capacity" not in alone, "what it does not know is not made up"


@pytest.mark.parametrize("answer", [("no devices were found", 6), ("", 0), ("a, b", 0)])
def test_an_nvidia_smi_that_fails_is_none(tmp_path: Path, answer: tuple[str, int]) -> None:
    assert "accelerators_per_node" not in told(tmp_path, smi(tmp_path, *answer))
    assert "accelerators_per_node" not in told(tmp_path, str(tmp_path / "absent"))


def test_accelerators_by_their_drivers(tmp_path: Path) -> None:
    nvidia = "proc/driver/nvidia/gpus/0000:01:00.0/information"
    found = told(tree(tmp_path / "n", {nvidia: "Model: \t\t NVIDIA A2\nIRQ: 1\n"}))
    assert (found["accelerator_model_name"], found["accelerators_per_node"]) == ("NVIDIA A2", "1")
    nodes = "sys/class/kfd/kfd/topology/nodes"
    files = {
        f"{nodes}/0/properties": "cpu_cores_count 64\nsimd_count 0\n",
        f"{nodes}/1/properties": "cpu_cores_count 0\nsimd_count 1216\n",
        f"{nodes}/1/name": "gfx942\n",
        f"{nodes}/1/mem_banks/0/properties": "heap_type 1\nsize_in_bytes 206141652992\n",
    }
    found = told(tree(tmp_path / "a", files))
    assert found["accelerator_model_name"] == "AMD gfx942"
    assert found["accelerator_memory_capacity"] == "192 GiB"
    pci = "sys/bus/pci/devices/0000:0"
    files = {f"{pci}1:00.0/{n}": t for n, t in (("class", "0x120000"), ("vendor", "0x1da3"))}
    files |= {f"{pci}1:00.0/device": "0x1060", f"{pci}2:00.0/class": "0x030000"}
    found = told(tree(tmp_path / "p", files))
    assert found["accelerator_model_name"] == "PCI device 1da3:1060"
    assert found["accelerators_per_node"] == "1"


def test_what_may_not_be_read_is_absent(tmp_path: Path) -> None:
    tree(tmp_path, {**SERVER, "proc/meminfo": ""})
    (tmp_path / "proc/meminfo").unlink()
    (tmp_path / "proc/meminfo").mkdir()
    assert "host_memory_capacity" not in told(tmp_path)


def test_a_machine_that_tells_nothing_is_no_error(tmp_path: Path) -> None:
    assert told(tmp_path) == {"number_of_nodes": 1}
    odd = dict.fromkeys(SERVER, "\x00ÿ garbage")
    found = told(tree(tmp_path, odd))
    assert "host_processors_per_node" not in found and "host_storage_capacity" not in found


FULL = dict.fromkeys(system.FIELDS, "x") | {
    "status": "Available",
    "system_type": "edge",
    "division": "closed",
    "number_of_nodes": 1,
    "host_processors_per_node": "2",
    "accelerators_per_node": "0",
}


def problems(**changes: Any) -> str:
    return " | ".join(system.describe({**FULL, **changes}, {}, {}).problems)


def test_a_full_description_has_no_problem() -> None:
    assert problems() == ""
    assert problems(accelerators_per_node=0) == "", "the number 0 is written as text"
    assert problems(hw_notes="", system_type_detail="", boot_firmware_version="1") == ""


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"status": "soon"}, "status 'soon' is none of available"),
        ({"system_type": "cloud"}, "system_type 'cloud' is none of"),
        ({"system_type": "Edge"}, "system_type 'Edge' is none of"),
        ({"accelerators_per_node": "N/A"}, "accelerators_per_node 'N/A' is no whole number"),
        ({"number_of_nodes": "two"}, "number_of_nodes 'two' is no whole number"),
        ({"number_of_nodes": 1.5}, "number_of_nodes 1.5 is no whole number"),
        ({"number_of_nodes": "0"}, "number_of_nodes is 0"),
        ({"host_processors_per_node": "٣"}, "is no whole number"),
        ({"cooling": "  "}, "nothing is known of cooling"),
        ({"cooling": ["air"]}, 'cooling is ["air"]; write text or a number'),
        ({"is_network": "false"}, "is_network belongs to the network division alone"),
        ({"cooling": "", "colling": "air"}, "colling is no field of the description; did you mean"),
    ],
)
def test_each_thing_that_the_checker_refuses_is_told(changes: dict[str, Any], text: str) -> None:
    assert text in problems(**changes)


@pytest.mark.parametrize("name", [n for n in system.FIELDS if n not in system.MAY_BE_EMPTY])
def test_no_field_that_must_say_something_may_be_empty(name: str) -> None:
    assert f"nothing is known of {name}" in problems(**{name: ""}) or name in problems(**{name: ""})
    left = {key: value for key, value in FULL.items() if key != name}
    assert name in system.describe(left, {}, {}).missing()


def test_the_network_division_asks_for_more() -> None:
    described = system.describe({**FULL, "division": "network"}, {}, {})
    assert len(system.NETWORK_FIELDS) == 13
    assert described.fields["is_network"] == "true", "as text: the checker reads it as such"
    assert described.missing() == [n for n in system.NETWORK_FIELDS if n != "is_network"]
    full = {**FULL, "division": "network", **dict.fromkeys(system.NETWORK_FIELDS, "x")}
    assert "is_network is 'x'" in " ".join(system.describe(full, {}, {}).problems)
    assert system.describe({**full, "is_network": "true"}, {}, {}).problems == ()


def test_what_is_stated_counts_before_what_is_known() -> None:
    facts = {"cooling": Fact("none", "/sys"), "hw_notes": Fact("M", "/sys")}
    described = system.describe({"cooling": "air", "hw_notes": ""}, {"framework": "f 1"}, facts)
    assert described.fields["cooling"] == "air" and described.sources["cooling"] == "stated"
    assert described.sources["framework"] == "the run" and described.sources["hw_notes"] == "/sys"
    assert list(described.fields) == list(system.FIELDS)


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit(tmp_path / "kit").fill()


def package(kit: Kit, **params: Any) -> tuple[Any, Any]:
    """The result, and the system's description where the package was made."""
    result, out = kit.run(STAGE, "package", {**PARAMS, **params}, NAMES)
    path = out / "tree/closed/Example/systems/box-1.json"
    return result, json.loads(path.read_text()) if path.exists() else None


def test_a_file_of_stated_fields_goes_into_the_package(kit: Kit, tmp_path: Path) -> None:
    path = tmp_path / "system.json"
    path.write_text(json.dumps({"cooling": "water", "status": "preview", "submitter": "EXAMPLE"}))
    result, fields = package(kit, system_uri=path.as_uri(), system={"cooling": "air"})
    assert result.status == "ok", result.message
    assert (fields["cooling"], fields["status"]) == ("water", "preview")
    assert result.metrics["system_sources"]["cooling"] == "stated"
    assert result.metrics["system_sources"]["accelerator_model_name"] == (
        "the runs were given no accelerator"
    )


@pytest.mark.parametrize(
    ("text", "told_"),
    [
        ("[]", "holds a list"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"division": "open"}', "division is 'open' there"),
    ],
)
def test_a_file_that_does_not_fit_is_told(kit: Kit, tmp_path: Path, text: str, told_: str) -> None:
    path = tmp_path / "system.json"
    path.write_text(text)
    result, _ = package(kit, system_uri=path.as_uri())
    assert result.status == "data_error" and told_ in result.message
    result, _ = package(kit, system_uri=(tmp_path / "absent").as_uri())
    assert result.status == "data_error" and "no such file" in result.message
    with pytest.raises(DataError, match="cannot be read"):
        system.load_stated(tmp_path)


def test_image_digests_are_part_of_the_software(kit: Kit) -> None:
    image = f"proctor/sut-openvino@sha256:{'a' * 64}"
    kit.logs("Offline", "performance", sut={"backend": "openvino", "version": "1", "image": image})
    _, fields = package(kit)
    assert f"container image {image}" in fields["other_software_stack"]


def test_a_server_elsewhere_is_not_described_by_this_machine(kit: Kit) -> None:
    end = {"server": "triton", "same_host": False}
    kit.logs("Offline", "performance", sut={"backend": "openvino", "endpoint": end})
    result, fields = package(kit)
    assert "system_elsewhere" in [finding.rule for finding in result.findings]
    assert fields["host_processor_model_name"] == "" and fields["accelerators_per_node"] == ""
