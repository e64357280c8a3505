"""`proctor plan --explain`: what would run, and the first thing that differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_reuse import PARAMS, Runs, steps

from proctor.airflow.explain import explain
from proctor.plan.differences import first_difference
from proctor.plan.model import Plan


@pytest.fixture
def site(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def told(site: Runs, before: Any, plan: Any = None, **params: Any) -> dict[str, str]:
    made = Plan(pipeline="p", params=PARAMS, steps=plan or steps())
    site.fake.script({}, identities=site.identities, fingerprint=site.fingerprint)
    values = {"keep": "some", "seconds": 1.0, "uri": None} | params
    found = explain(site.home, made, values, site.fake, before)
    return {v.step: ("runs: " if v.runs else "") + v.why for v in found}


def test_where_nothing_changed_only_what_measures_runs(site: Runs) -> None:
    before, _ = site.run()
    files = sorted(p for p in site.home.path.rglob("*") if p.is_file())
    assert told(site, before) == {
        "fetch": "taken over from p/r1/fetch/1",
        "filter": "taken over from p/r1/filter/1",
        "accuracy": "taken over from p/r1/accuracy/1",
        "performance": "runs: always runs: it measures",
        "score": "taken over from p/r1/score/1",
    }
    after = sorted(p for p in site.home.path.rglob("*") if p.is_file())
    assert [p for p in after if p not in files] == []


def test_the_first_difference_is_named_and_what_follows_runs(site: Runs) -> None:
    before, _ = site.run()
    found = told(site, before, keep="others")
    assert found["fetch"] == "taken over from p/r1/fetch/1"
    assert found["filter"] == "runs: parameter keep was some, is others"
    assert found["accuracy"] == "runs: its input data comes from filter, which runs"
    assert found["score"] == "runs: its input logs comes from accuracy, which runs"
    measured = told(site, before, seconds=2.0)["performance"]
    assert measured == "runs: always runs: it measures; parameter seconds was 1.0, is 2.0"


def test_an_image_and_a_host_that_are_others(site: Runs) -> None:
    before, _ = site.run()
    site.identities["proctor/sut"] = "sut-2"
    site.fingerprint = {"cpu": "b"}
    found = told(site, before)
    assert found["accuracy"] == "runs: the image was sut-1, is sut-2"
    site.identities["proctor/sut"] = "sut-1"
    assert told(site, before)["accuracy"] == "runs: this host is another: cpu was a"


def test_what_never_counts_says_why(site: Runs) -> None:
    before, _ = site.run()
    assert told(site, before, steps(reuse="never"))["fetch"] == "runs: always runs: reuse is never"
    elsewhere = steps(network=True, params={"uri": "https://x.example/data"})
    assert (
        "its source names no digest, so that it may have changed"
        in told(site, before, elsewhere)["fetch"]
    )
    other = steps(id="get", step="get")
    renamed = (other[0], *(s for s in other[1:] if s.id == "unused"))
    assert told(site, before, renamed)["get"] == "taken over from p/r1/fetch/1"


def test_what_it_says_is_what_happens(site: Runs) -> None:
    before, _ = site.run()
    for change in ({}, {"keep": "others"}, {"seconds": 3.0}):
        said = {step for step, words in told(site, before, **change).items() if "runs:" in words}
        started = set(site.run(**change)[1])
        assert started <= said
        # Beyond, only steps whose input runs again and leaves the same bytes.
        assert said - started <= {"accuracy", "score"}


def test_every_kind_of_difference_has_words() -> None:
    was = {"command": ["a"], "inputs": {"x/": "1"}, "sources": {"uri": "1"}, "seed": 0}
    assert first_difference(was, was) == ""
    assert first_difference(was, was | {"command": ["b"]}) == 'the command was ["a"], is ["b"]'
    assert first_difference(was, was | {"inputs": {"x/": "2"}}) == "the bytes of input x are others"
    assert first_difference(was, was | {"sources": {"uri": "2"}}) == (
        "the bytes of source uri are others"
    )
    assert first_difference(was, was | {"seed": 1}) == "the seed was 0, is 1"
