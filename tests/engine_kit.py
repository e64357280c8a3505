"""A Docker engine of a test's own, which may be killed: in a network namespace of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from tempfile import mkdtemp

import docker
import docker.errors

from proctor.runtime import processes

NEEDED = ("dockerd", "unshare")


class Engine:
    """A dockerd without networks, whose whole state is in one folder."""

    def __init__(self) -> None:
        # Short: a socket's path may have 107 characters, and the engine adds its own names.
        self.folder = Path(mkdtemp(prefix="prt-"))
        self.pid_file = self.folder / "pid"
        self.address = f"unix://{self.folder}/sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> docker.DockerClient:
        self.pid_file.unlink(missing_ok=True)
        command = ["unshare", "-n", "dockerd", "--host", self.address, "--bridge", "none"]
        command += ["--iptables=false", "--ip6tables=false", "--ip-forward=false"]
        for option, name in (("data-root", "data"), ("exec-root", "exec"), ("pidfile", "pid")):
            command += [f"--{option}", str(self.folder / name)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            try:
                return docker.DockerClient(self.address)
            except docker.errors.DockerException:
                time.sleep(0.2)
        log_end = (self.folder / "log").read_text()[-3000:]
        raise AssertionError(f"the engine did not start:\n{log_end}")

    def end(self, number: int) -> None:
        assert self.process
        os.kill(int(self.pid_file.read_text()), number)
        self.process.wait(60)
        # Its containerd dies with it, a moment later; a new one cannot start before.
        inner = self.folder / "exec" / "containerd" / "containerd.pid"
        end = time.monotonic() + 30
        while inner.exists() and processes.entry(int(inner.read_text())):
            assert time.monotonic() < end, "containerd outlives its engine"
            time.sleep(0.1)
        inner.unlink(missing_ok=True)

    def remove(self) -> None:
        """End it, with all that it has."""
        if self.process and self.process.poll() is None:
            self.end(signal.SIGTERM)
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if line.split()[1].startswith(f"{self.folder}/"):
                subprocess.run(["umount", line.split()[1]], check=False)
        shutil.rmtree(self.folder)
