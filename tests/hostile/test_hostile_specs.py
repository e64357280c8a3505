"""Specs that reach for the host: each is refused with its place, and nothing is started."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_kit import NOT_STARTED, Programs

HEAD = """\
pipeline: p
{more}
steps:
  - id: one
    image: example/prep:1.0
    command: run
    {step}
"""

# What the step says, what the rest of the spec says, and what is answered.
REACHES = {
    "a path of the host": ("inputs: {x: /etc}", "", "spec.yaml:7:17: '/etc' names a place on the"),
    "up and out": ("inputs: {x: ../../etc}", "", "'../../etc' names a place on the host"),
    "a host path of MedPerf's": (
        "mounts: {input_volumes: {x: {mount_path: /x, type: file, host_path: /etc/shadow}}}", "",
        "'host_path' names a place on the host",
    ),
    "docker's own volumes": ("volumes: ['/:/host']", "", "'volumes' names a place on the host"),
    "the docker socket": (
        "volumes: ['/var/run/docker.sock:/var/run/docker.sock']", "",
        "'volumes' names a place on the host",
    ),
    "the docker socket as an input": (
        "inputs: {x: /var/run/docker.sock}", "", "'/var/run/docker.sock' names a place on the host",
    ),
    "the docker socket as a parameter": (
        "params: {x: '${params.x}'}", "params: {x: {type: uri, default: 'file:///var/run/docker.sock'}}",
        "'file:///var/run/docker.sock' names a place on the host",
    ),
    "an output above its place": (
        "outputs: {x: {mount_path: /x/../../etc}}", "", "'/x/../../etc' is no place for a mount",
    ),
    "an output that is published elsewhere": (
        "outputs: {x: directory}\n    publish: ['x/../../../keys/*']", "", "'x/../../../keys/*'",
    ),
    "privileged": ("privileged: true", "", "unknown key 'privileged' in a step"),
    "capabilities": ("cap_add: [SYS_ADMIN]", "", "unknown key 'cap_add' in a step"),
    "devices": ("devices: [/dev/sda]", "", "unknown key 'devices' in a step"),
    "root": ("user: root", "", "unknown key 'user' in a step"),
    "the host's processes": ("pid: host", "", "unknown key 'pid' in a step"),
    "the host's network": ("network: host", "", "'network' must be true or false, this is 'host'"),
    "the host's network, in docker's words": (
        "network_mode: host", "", "unknown key 'network_mode' in a step",
    ),
    "a way around the profiles": (
        "security_opt: [apparmor=unconfined]", "", "unknown key 'security_opt' in a step",
    ),
    "the environment": ("environment: {LD_PRELOAD: /x}", "", "unknown key 'environment' in a step"),
    "another's secret": ("secrets: [../keys/approvals]", "", "this is no name of a secret"),
    "a machine that leads out": ("runs_on: ../../x", "", "there is no host or queue '../../x'"),
    "an image that is a program": (
        "next: x", "services: {x: {image: /bin/sh, port: 1}}", "'/bin/sh' is no image name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REACHES)
def test_what_a_spec_cannot_say(programs: Programs, name: str) -> None:
    step, more, phrase = REACHES[name]
    (programs.root / "spec.yaml").write_text(HEAD.format(step=step, more=more))
    said = programs.proctor("check", "spec.yaml")
    said.refuses(phrase, code=NOT_STARTED)
    assert "spec.yaml:" in said.err
    home = programs.root / "home"
    programs.proctor("run", "spec.yaml", "--home", str(home)).refuses(phrase, code=NOT_STARTED)
    assert not home.exists()


@pytest.mark.parametrize("id", ["../../x", "..", "a/b", "/etc", "", "x" * 200, "a b", "-x"])
def test_ids_that_would_be_paths(programs: Programs, id: str) -> None:
    spec = f"steps:\n  - {{id: '{id}', image: proctor/steps, command: selfcheck act}}\n"
    (programs.root / "spec.yaml").write_text(spec)
    programs.proctor("check", "spec.yaml").refuses("spec.yaml:2:", code=NOT_STARTED)


@pytest.fixture
def engine_socket() -> Iterator[Path]:
    """A socket where a step would look for the engine's."""
    with (
        tempfile.TemporaryDirectory(prefix="s-", dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX) as server,
    ):
        server.bind(f"{folder}/docker.sock")
        yield Path(folder) / "docker.sock"


BINDS = """\
pipeline: p
steps:
  - id: one
    image: proctor/steps
    command: selfcheck act
    mounts: {{input_volumes: {{data_path: {{mount_path: /x, type: {type}}}}}}}
"""


def test_nobody_binds_a_socket_to_a_mount_by_mistake(
    programs: Programs, engine_socket: Path
) -> None:
    for kind in ("file", "directory"):
        (programs.root / "spec.yaml").write_text(BINDS.format(type=kind))
        words = ["run", "spec.yaml", "--home", str(programs.root / "home")]
        said = programs.proctor(*words, "--mount", f"data_path={engine_socket}")
        said.refuses(f"bound to {engine_socket}, which is no {kind}", code=NOT_STARTED)


def test_one_that_reaches_for_the_host_does_not_hide_the_others(programs: Programs) -> None:
    (programs.root / "bad.yaml").write_text(HEAD.format(step="privileged: true", more=""))
    (programs.root / "good.yaml").write_text(BINDS.format(type="file"))
    said = programs.proctor("check", "bad.yaml", "good.yaml")
    assert said.code == NOT_STARTED
    assert "good.yaml: ok" in said.out and "unknown key 'privileged'" in said.err
