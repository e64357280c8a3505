"""The table of faults in short: what else strikes here once; `make faults` strikes more often."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from scenarios import SCENARIOS

from conftest import absent

pytestmark = pytest.mark.docker

# Who dies is in test_kills.py.
FAULTS = {
    "step container": 1,
    "outputs read-only, not root": 1,
    "clock jumps": 1,
    "network drops in a download": 2,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_same_command_ends_well_and_nothing_ran_twice(
    docker_engine: object, steps_image: None, fault: str
) -> None:
    tools = ("setpriv", "unshare", "mount")
    missing = [name for name in tools if not shutil.which(name)]
    if os.geteuid() or missing or not list(Path("/usr/lib").rglob("libfaketimeMT.so.1")):
        absent(f"root, libfaketime or one of {', '.join(tools)}")
    found = SCENARIOS[fault](random.Random(f"short {fault}"), FAULTS[fault])
    assert [each.wrong for each in found] == [[] for _ in found]
