"""One instance, one person at it, one run of the demo, at the stages the tests ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from airflow_ui import COMMENT, Visitor, browser, demo_instance, wait_for_end, wait_for_gate
from playwright.sync_api import Browser

from proctor.site.instance import Instance


@pytest.fixture(scope="module")
def chromium_browser(chromium: str) -> Iterator[Browser]:
    with browser(chromium) as opened:
        yield opened


@pytest.fixture(scope="module")
def instance(chromium: str) -> Iterator[Instance]:
    with demo_instance() as started:
        yield started


@pytest.fixture(scope="module")
def visitor(instance: Instance, chromium_browser: Browser) -> Visitor:
    return Visitor.of(chromium_browser, instance).log_in(instance)


@pytest.fixture(scope="module")
def run(visitor: Visitor) -> str:
    """A run that a person started by the form: two scenarios, two seconds each."""
    return visitor.trigger(2, without=("MultiStream", "Server"))


@pytest.fixture(scope="module")
def at_gate(instance: Instance, run: str) -> str:
    wait_for_gate(instance, run)
    return run


@pytest.fixture(scope="module")
def approved(instance: Instance, visitor: Visitor, at_gate: str) -> str:
    """The run, approved in the UI and ended."""
    visitor.approve(at_gate, COMMENT)
    assert wait_for_end(instance, at_gate) == "success"
    return at_gate
