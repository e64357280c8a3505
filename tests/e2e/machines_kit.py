"""Machines of a test: network namespaces on one bridge, and a capture of what leaves each.

A machine has one interface beside loopback, and a route by which whatever wants to go elsewhere
leaves, too: it is seen, and ends at the bridge.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

INTERFACE = "eth0"
_NET, _GATEWAY = "10.77.0", "10.77.0.1"
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Machine:
    """A network namespace: processes, an address, a cable."""

    name: str
    address: str
    hub: str
    namespace: str
    captures: list[Capture] = field(default_factory=list)

    def command(self, words: Sequence[str]) -> list[str]:
        """A command as it is given there."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", *words]

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that this thread makes meanwhile are the machine's."""
        with Path(f"/proc/self/task/{threading.get_native_id()}/ns/net").open() as before:
            with Path(f"/run/netns/{self.namespace}").open() as here:
                _enter(here.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

    def plug(self, there: bool) -> None:
        """Put the cable in, or pull it."""
        ip("-n", self.hub, "link", "set", self.name, "up" if there else "down")

    def cut_power(self) -> None:
        """Kill every process there, in no order, until none is left; the capture goes on."""
        give_up = time.monotonic() + 60
        while found := self._processes():
            assert time.monotonic() < give_up, found
            for process in found:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL)
            time.sleep(0.2)

    def capture(self, file: Path) -> Capture:
        """Write down every packet of its interface from now on."""
        made = Capture(self, file)
        self.captures.append(made)
        return made

    @property
    def hardware_address(self) -> bytes:
        return bytes.fromhex(self._links()[INTERFACE].replace(":", ""))

    def interfaces(self) -> list[str]:
        return sorted(self._links())

    def _links(self) -> dict[str, str]:
        """Interface -> hardware address."""
        lines = ip("-n", self.namespace, "-brief", "link").splitlines()
        return {line.split("@")[0].split()[0]: line.split()[2] for line in lines}

    def _processes(self) -> list[psutil.Process]:
        ours = {each.process.pid for each in self.captures}
        found = []
        for line in ip("netns", "pids", self.namespace).split():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(int(line))
                if process.pid not in ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


class Capture:
    """tcpdump on a machine's interface."""

    def __init__(self, machine: Machine, file: Path) -> None:
        self.file = file
        words = ["tcpdump", "-i", INTERFACE, "-w", str(file), "-U", "-n", "-s", "0", "-Z", "root"]
        self.process = subprocess.Popen(
            machine.command([*words, "--immediate-mode"]), stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr
        said = self.process.stderr.readline()
        assert "listening on" in said, said

    def stop(self) -> None:
        """End it; nothing of what it saw is missing in the file."""
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=30)
        assert "\n0 packets dropped by kernel" in f"\n{said}", said


class Network:
    """A bridge, in a namespace of its own, and the machines on it."""

    def __init__(self) -> None:
        self._prefix = f"prt{os.getpid()}"
        self.hub = f"{self._prefix}-hub"
        self.machines: list[Machine] = []

    def __enter__(self) -> Network:
        ip("netns", "add", self.hub)
        ip("-n", self.hub, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.hub, "address", "add", f"{_GATEWAY}/24", "dev", "bridge")
        ip("-n", self.hub, "link", "set", "bridge", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self.machines:
            for capture in machine.captures:
                capture.process.kill()
            machine.cut_power()
            ip("netns", "delete", machine.namespace)
        ip("netns", "delete", self.hub)

    def add(self, name: str) -> Machine:
        """A machine; it speaks IPv4 alone, so that its kernel says nothing by itself."""
        namespace, address = f"{self._prefix}-{name}", f"{_NET}.{len(self.machines) + 2}"
        ip("netns", "add", namespace)
        machine = Machine(name, address, self.hub, namespace)
        self.machines.append(machine)
        with machine.inside():
            Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        peer = ("peer", "name", INTERFACE, "netns", namespace)
        ip("-n", self.hub, "link", "add", name, "type", "veth", *peer)
        ip("-n", self.hub, "link", "set", name, "master", "bridge", "up")
        ip("-n", namespace, "link", "set", "lo", "up")
        ip("-n", namespace, "link", "set", INTERFACE, "up")
        ip("-n", namespace, "address", "add", f"{address}/24", "dev", INTERFACE)
        ip("-n", namespace, "route", "add", "default", "via", _GATEWAY)
        return machine


def ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def _enter(handle: int) -> None:
    if _libc.setns(handle, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
