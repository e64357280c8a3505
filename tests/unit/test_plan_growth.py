"""Reading, checking and compiling a spec is work in proportion to its size: 1,000 steps are usual.

What is counted are calls, which are the same on every machine; seconds are not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from proctor.plan.compile import compile
from proctor.spec.load import parse_pipeline

HEAD = "pipeline: growth\nsteps:\n"
WORK = (
    "  - {{id: s{n}, image: work:1, command: [work, '{n}'], outputs: {{made: directory}}{more}}}\n"
)


def chain(steps: int) -> str:
    """Each step reads what the one before has written."""
    more = ["", *(f", inputs: {{given: s{n}.made}}" for n in range(steps - 1))]
    return HEAD + "".join(WORK.format(n=n, more=text) for n, text in enumerate(more))


def fan(steps: int) -> str:
    """One step behind all others, which stand side by side."""
    before = ", ".join(f"s{n}" for n in range(steps - 1))
    alone = "".join(WORK.format(n=n, more="") for n in range(steps - 1))
    return HEAD + alone + WORK.format(n=steps - 1, more=f", after: [{before}]")


def gates(steps: int) -> str:
    """A chain with one approval in its middle: every step behind it must know of it."""
    lines = chain(steps).splitlines(keepends=True)
    middle = len(lines) // 2
    gate = "  - {id: gate, after: s1, approval: {}}\n"
    lines[middle] = lines[middle].replace("image:", "after: gate, image:")
    return "".join([*lines[:middle], gate, *lines[middle:]])


def calls(work: Callable[[], object]) -> int:
    """Calls of functions, of Python and of C alike."""
    count = 0

    def seen(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("spec", [chain, fan, gates])
def test_four_times_the_steps_are_four_times_the_work(spec: Callable[[int], str]) -> None:
    def plan(steps: int) -> int:
        text = spec(steps)
        return calls(lambda: compile(parse_pipeline(text, "growth.yaml")))

    plan(10)  # what is made once only
    assert plan(400) < 4.3 * plan(100)


def test_a_walk_per_step_would_be_seen() -> None:
    """The count does tell work that grows with the square."""

    def walk(steps: int) -> int:
        return calls(lambda: [len(str(k)) for _ in range(steps) for k in range(steps)])

    assert walk(400) > 10 * walk(100)
