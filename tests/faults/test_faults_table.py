"""The table of faults in short: what else strikes here once; `make faults` strikes more often."""

from __future__ import annotations

import random

import pytest
from scenarios import SCENARIOS

pytestmark = pytest.mark.docker

# Who dies is in test_kills.py; clock and network take minutes, and are in the table alone.
FAULTS = ("step container", "outputs read-only, not root")


@pytest.mark.parametrize("fault", FAULTS)
def test_the_same_command_ends_well_and_nothing_ran_twice(
    docker_engine: object, steps_image: None, machines_faults: None, fault: str
) -> None:
    found = SCENARIOS[fault](random.Random(f"short {fault}"), 1)
    assert [each.wrong for each in found] == [[] for _ in found]
